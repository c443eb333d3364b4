"""Rows that are longer than a job allows: how many, what happens to them, and the messages about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneport.errors import DataError
from tuneport.plugin import Preference

if TYPE_CHECKING:
    from tuneport.plugin import Example, Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Of `rows` rows, `longer` have more than `limit` tokens; the longest has `longest`. `lost` of them are left out:
    with the policy `drop` all of them, with `truncate` those whose answer is beyond the limit.

    `from_setting`: the limit is the setting `max_tokens`, not the model's own. `estimated`: the numbers are scaled from
    a sample.
    """

    rows: int
    longer: int
    lost: int
    longest: int
    limit: int | None
    policy: str
    from_setting: bool
    estimated: bool = False

    @property
    def note(self) -> str | None:
        """What happens to the rows that are too long, as a sentence."""
        if not self.longer:
            return None
        if self.policy == "truncate":
            kept = self.longer - self.lost
            outcome = f"{kept:,} are cut and {self.lost:,} are left out, because their answers are beyond that"
        else:
            outcome = "they are left out"
        return f"{self._longer_words}: {outcome} (data.too_long: {self.policy})."

    def refusal(self, part: str = "train") -> DataError | None:
        """The error if no row is left or if long rows must stop the job. It names the settings."""
        if not self.longer or self.estimated:
            return None
        if self.policy == "stop":
            remedy = f"Set data.too_long to drop or truncate. Or: {self._remedy}"
            return DataError(f"too-long: {self._longer_words} ({part}), and data.too_long is stop.", remedy=remedy)
        if self.lost < self.rows or part != "train":
            return None
        why = ", and their answers are beyond that" if self.policy == "truncate" else ""
        message = f"No row is left to train on: {self._longer_words}{why} (data.too_long: {self.policy})."
        return DataError(message, remedy=self._remedy)

    @property
    def _longer_words(self) -> str:
        about = "About " if self.estimated else ""
        of = "backends.torch.max_tokens" if self.from_setting else "the model's limit"
        are = "is" if self.longer == 1 else "are"
        return f"{about}{self.longer:,} of {self.rows:,} rows {are} longer than {self.limit:,} tokens ({of})"

    @property
    def _remedy(self) -> str:
        """How to make all rows fit."""
        if self.from_setting:
            return f"Raise backends.torch.max_tokens to {self.longest} (the longest row), or shorten the rows."
        return f"Shorten the rows (the longest has {self.longest:,} tokens), or choose a model with a higher limit."


def loses_answer(example: Example, pieces: Sequence[Piece], limit: int) -> bool:
    """Whether a row cut to `limit` tokens has nothing left to train on (for a pair: in one of its answers)."""
    arms: list[list[Piece]] = [[]]
    for piece in pieces:
        if isinstance(example, Preference) and not piece.tokens:  # a title
            arms.append([])
        arms[-1].append(piece)
    return not all(_has_weight(arm, limit) for arm in arms if any(piece.tokens for piece in arm))


def _has_weight(pieces: Sequence[Piece], limit: int) -> bool:
    at = 0
    for piece in pieces:
        if piece.weight and at < limit:
            return True
        at += piece.tokens
    return False
