"""The remedies that `fix` can apply, by code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tuneport.errors import UsageError
from tuneport.spelling import did_you_mean

Action = Literal["changed", "dropped"]


@dataclass(frozen=True, slots=True)
class Remedy:
    """What `fix` does about a code, in words; an `opt_in` remedy is applied only when the user names it."""

    action: Action
    effect: str
    opt_in: bool = False


REMEDIES: Mapping[str, Remedy] = {
    "bad-weight": Remedy("changed", "makes it 1 where it is above 0, else 0; removes what is not a number"),
    "weight-not-on-assistant": Remedy("changed", "removes the weight"),
    "unknown-key": Remedy("changed", "removes the key"),
    "read-as-text": Remedy("changed", "writes it as a text"),
    "read-as-tool": Remedy("changed", "writes the usual form"),
    "read-as-tool-call": Remedy("changed", "writes the usual form, with ids"),
    "read-as-turn": Remedy("changed", "writes the usual form"),
    "null-left-out": Remedy("changed", "leaves the keys out"),
    "mojibake": Remedy("changed", "decodes the text in the right encoding, where all of it can be decoded"),
    "control-character": Remedy("changed", "removes them, and terminal color codes completely"),
    "html-entities": Remedy("changed", "writes the characters that they represent", opt_in=True),
    "invisible-character": Remedy("changed", "removes them", opt_in=True),
    "edge-whitespace": Remedy("changed", "strips the text, except where prompt and completion meet"),
    "empty-content": Remedy("changed", "removes the turn", opt_in=True),
    "consecutive-roles": Remedy("changed", "joins the turns with an empty line between, where both are text"),
    "last-not-assistant": Remedy("changed", "removes the turns after the last answer", opt_in=True),
    "names-as-row": Remedy("dropped", "drops the row"),
    "total-line": Remedy("dropped", "drops the row", opt_in=True),
    "duplicate": Remedy("dropped", "keeps the first of the rows"),
    "near-duplicate": Remedy("dropped", "keeps the first of the rows, and drops duplicates too", opt_in=True),
    "conflicting-answers": Remedy("dropped", "keeps the rows with the answer that comes first", opt_in=True),
    "leaked-row": Remedy("dropped", "drops the row here; `--against FILE` names the held-out data", opt_in=True),
}
"""Every remedy by code. A row with an error that remains is always dropped: no file could store it as it is."""
SAFE = frozenset(code for code, remedy in REMEDIES.items() if not remedy.opt_in)
"""The codes whose remedies lose nothing; `safe` among the remedies means all of them."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one row, with long texts cut; `pointer` is a JSON pointer into the row as it was read.

    `message` says why a row was dropped.
    """

    line: int | None
    pointer: str | None
    code: str
    action: Action
    before: str | None = None
    after: str | None = None
    message: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {name: getattr(self, name) for name in self.__slots__}


def choose_remedies(remedies: Iterable[str] | None) -> frozenset[str]:
    """The codes whose remedies to apply; by default the safe ones. Raises UsageError for a code without a remedy."""
    if remedies is None:
        return SAFE
    chosen = frozenset([remedies] if isinstance(remedies, str) else remedies)
    if "safe" in chosen:
        chosen = chosen - {"safe"} | SAFE
    for code in sorted(chosen - REMEDIES.keys()):
        raise UsageError(
            f"There is no remedy for {code!r}.",
            remedy=f"{did_you_mean(code, REMEDIES)}Remedies are safe, {', '.join(REMEDIES)}.",
        )
    return chosen | {"duplicate"} if "near-duplicate" in chosen else chosen
