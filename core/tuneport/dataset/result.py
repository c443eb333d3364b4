"""What a check found: every row accounted for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tuneport.dataset.findings.diagnostic import Diagnostic, Severity
from tuneport.dataset.findings.findings import Findings
from tuneport.dataset.rules import LEARNED_BY, DataRules
from tuneport.dataset.scan.scan import Scan
from tuneport.dataset.shapes.context import about_thoughts, telling
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.shapes.shapes import ALIASES, TURN_ROLES, takes_of
from tuneport.dataset.stats import Stats
from tuneport.doors import public
from tuneport.printable import one_line
from tuneport.units import many

if TYPE_CHECKING:
    from tuneport.dataset.dataset import Dataset


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What a check found; `read` is always `used` + `rejected`.

    `diagnostics` holds the first findings of each code, by line; `counts` how many there are of each. `dataset` has the
    rows that are used.
    """

    file: str
    format: str
    read: int
    used: int
    rejected: int
    fingerprint: str
    diagnostics: tuple[Diagnostic, ...]
    counts: Mapping[str, int]
    stats: Stats
    dataset: Dataset = field(repr=False)
    severities: Mapping[Severity, int] = field(repr=False)

    @property
    def errors(self) -> int:
        """How many errors there are."""
        return self.severities.get("error", 0)

    @property
    def warnings(self) -> int:
        """How many warnings there are."""
        return self.severities.get("warning", 0)

    @property
    def notes(self) -> int:
        """How many notes there are."""
        return self.severities.get("note", 0)

    @property
    def ok(self) -> bool:
        """Whether no error stands."""
        return not self.errors

    def __repr__(self) -> str:
        counts = f"{many(self.errors, 'error')}, {many(self.warnings, 'warning')}, {many(self.notes, 'note')}"
        return one_line(f"<CheckResult {self.file}: {self.used:,} of {many(self.read, 'row')} used; {counts}>")

    def _repr_html_(self) -> str:
        """For a notebook: the counts, then the first finding of each code."""
        from tuneport.html import card, grid

        first = {one.code: one for one in reversed(self.diagnostics)}
        rows = [
            [one.severity, code, f"{self.counts[code]:,}", one.line or "", one.message, one.remedy or ""]
            for code, one in reversed(first.items())
        ]
        facts = [("read", f"{self.read:,}"), ("used", f"{self.used:,}"), ("rejected", f"{self.rejected:,}")]
        heads = ["severity", "code", "times", "first line", "message", "remedy"]
        return card(repr(self).strip("<>"), facts, *([grid(heads, rows)] if rows else []))

    def to_dict(self) -> dict[str, Any]:
        """The object of `tuneport check --json`; `stats.findings` counts the findings by code."""
        return {
            "file": self.file,
            "format": self.format,
            "read": self.read,
            "used": self.used,
            "rejected": self.rejected,
            "fingerprint": self.fingerprint,
            "diagnostics": [one.to_dict() for one in self.diagnostics],
            "stats": {**self.stats.to_dict(), "findings": dict(self.counts)},
        }


def file_findings(recipe: Recipe | None, found: Scan, rules: DataRules | None, method: str, findings: Findings) -> None:
    """What is to be said of the file as a whole."""
    if not found.used:
        findings.add("no-rows", "No row can be used." if found.read else "There is no row in the file.")
    if recipe is not None:
        used = {*recipe.columns.values(), recipe.rating}
        unused = [name for name in recipe.names if name not in used]
        missed = telling(unused)
        if missed:
            names = ", ".join(missed)
            findings.add(
                "context-column-unused",
                f"Not used, and the rows may mean something else without: {names}.",
                remedy=_context_remedy(recipe, missed),
            )
        unused = [name for name in unused if str(name) not in missed]
        if unused:
            findings.add("unused-columns", f"Not used: {', '.join(map(str, unused))}.", remedy=_columns_remedy(recipe))
    for code, message in readings(recipe, found.tally.shapes, rules):
        findings.add(code, message)
    if rules is None:
        _other_methods(found.tally.shapes, method, findings)
        return
    for note in rules.notes:
        findings.add("base-note", note)
    if rules.max_bytes is not None and found.size > rules.max_bytes:
        findings.add("file-too-large", f"The rows have {found.size:,} bytes; {rules.max_bytes:,} are the most.")


_MEANINGS = {
    "system": "the system prompt",
    "history": "earlier turns, which are trained on too",
    "context": "a part of the prompt",
    "reasoning": "what is thought before the answer",
}


def readings(recipe: Recipe | None, shapes: Collection[str], rules: DataRules | None) -> Iterator[tuple[str, str]]:
    """Findings on how rows are understood, code and message: what columns beside the answer mean, and whether prompts
    and completions are plain text or turns.
    """
    columns = recipe.columns if recipe is not None else {}
    meant = [f"{columns[role]} is {meaning}" for role, meaning in _MEANINGS.items() if role in columns]
    if meant:
        yield "read-as-context", f"In these rows {', '.join(meant)}."
    if recipe is not None and recipe.shape == "prompt/completion" and "completion" not in shapes:
        beside = " and ".join(columns[role] for role in sorted(TURN_ROLES & columns.keys()))
        if beside:
            yield "read-as-turns", f"Prompt and completion are a user's and an assistant's turn, because of {beside}."
    if "completion" in shapes and rules is not None and rules.has_template is not None and rules.has_template():
        yield "plain-text", "The rows are trained as plain text, without the chat template that the model has."


def _other_methods(shapes: Mapping[str, int], method: str, findings: Findings) -> None:
    """Without a rules nothing is refused; but the method alone tells which rows it cannot learn from."""
    for shape, rows in shapes.items() if method in LEARNED_BY else ():
        others = [name for name, learnt in LEARNED_BY.items() if shape in learnt]
        if method not in others:
            are = f"{rows:,} rows are {shape}s" if rows != 1 else f"1 row is a {shape}"
            findings.add(
                "needs-other-method", f"{are}: {method} does not learn from these, {' or '.join(others)} does."
            )


def _context_remedy(recipe: Recipe, telling: Sequence[str]) -> str:
    """How to use the columns that are left out, as far as rows of this shape can."""
    takes = takes_of(recipe.shape)
    ways = [role for role in _MEANINGS if role in takes and role not in recipe.columns]
    thought = next((str(name) for name in telling if about_thoughts(str(name))), None)
    if thought is not None and "reasoning" in ways:
        return f"Train on it as the assistant's thoughts: --column reasoning={thought}. Or remove it from the file."
    ways = [way for way in ways if way != "reasoning"]
    if "context" not in takes or not ways or thought is not None:
        return "Write it into the messages that it belongs to. Or remove it from the file."
    best = "context" if "context" in ways else ways[0]
    return f"Name it as {' or '.join(ways)}: --column {best}={telling[0]}. Or remove it from the file."


def _columns_remedy(recipe: Recipe) -> str:
    now = ", ".join(f"{role}={column}" for role, column in recipe.columns.items())
    others = [role for role in recipe.columns if role in ALIASES]
    return (
        f"Read as {now}. Name other columns if one of them is meant." if others else "Nothing to do, if that is meant."
    )
