"""How many rows are longer than a job takes, what is left of them, and what to say about it."""

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
    """Of `rows` rows, `longer` have more than `limit` tokens, the longest has `longest`. `lost` of those are left out:
    all where the policy is `drop`, those whose answer lies behind the limit where it is `truncate`.

    `asked`: the limit is the setting `max_tokens`, not the model's own. `estimated`: the rows are a sample's, scaled.
    """

    rows: int
    longer: int
    lost: int
    longest: int
    limit: int | None
    policy: str
    asked: bool
    estimated: bool = False

    @property
    def note(self) -> str | None:
        """What becomes of the rows that are too long, in a sentence."""
        if not self.longer:
            return None
        if self.policy == "truncate":
            kept = self.longer - self.lost
            told = f"{kept:,} are cut and {self.lost:,} are left out, since their answers lie behind that"
        else:
            told = "they are left out"
        return f"{self._longer}: {told} (data.too_long: {self.policy})."

    def refusal(self, part: str = "train") -> DataError | None:
        """The error where no row is left, or where long rows must stop the job; it names the settings."""
        if not self.longer or self.estimated:
            return None
        if self.policy == "stop":
            cures = f"Set data.too_long to drop or truncate. Or: {self._cure}"
            return DataError(f"too-long: {self._longer} ({part}), and data.too_long is stop.", remedy=cures)
        if self.lost < self.rows or part != "train":
            return None
        why = ", and their answers lie behind that" if self.policy == "truncate" else ""
        message = f"No row is left to train on: {self._longer}{why} (data.too_long: {self.policy})."
        return DataError(message, remedy=self._cure)

    @property
    def _longer(self) -> str:
        about = "About " if self.estimated else ""
        of = "backends.torch.max_tokens" if self.asked else "the most that the model takes"
        are = "is" if self.longer == 1 else "are"
        return f"{about}{self.longer:,} of {self.rows:,} rows {are} longer than {self.limit:,} tokens ({of})"

    @property
    def _cure(self) -> str:
        """What makes room for every row."""
        if self.asked:
            return f"Raise backends.torch.max_tokens to {self.longest} (the longest row), or shorten the rows."
        return f"Shorten the rows (the longest has {self.longest:,} tokens), or choose a model that takes more."


def loses_answer(example: Example, pieces: Sequence[Piece], limit: int) -> bool:
    """Whether a row that is cut to `limit` tokens has nothing left to learn (a pair: in one of its answers)."""
    arms: list[list[Piece]] = [[]]
    for piece in pieces:
        if isinstance(example, Preference) and not piece.tokens:  # a title
            arms.append([])
        arms[-1].append(piece)
    return not all(_is_weighed(arm, limit) for arm in arms if any(piece.tokens for piece in arm))


def _is_weighed(pieces: Sequence[Piece], limit: int) -> bool:
    at = 0
    for piece in pieces:
        if piece.weight and at < limit:
            return True
        at += piece.tokens
    return False
