"""What a backend takes: the rules that a dataset is checked against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tuneport.dataset.findings.diagnostic import Diagnostic
from tuneport.dataset.roles import ROLES
from tuneport.doors import AUTHORS, public

if TYPE_CHECKING:
    from tuneport.dataset.example import Example

Shape = Literal["conversation", "completion", "preference"]
LEARNED_BY: Mapping[str, frozenset[Shape]] = {
    "sft": frozenset({"conversation", "completion"}),
    "dpo": frozenset({"preference"}),
    "orpo": frozenset({"preference"}),
}
"""The shapes that a method learns from, whatever the backend; a rules says what one backend takes."""


@public(AUTHORS)
@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text as the model sees it, and the weight of its tokens in the loss (0: context only; negative: it is to
    become less likely, as a rejected answer is).
    """

    text: str
    weight: float
    tokens: int


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class DataRules:
    """A backend's own rules about data, for one base model where that matters.

    `shapes` says which shapes each method takes. `count_tokens` gives the training length of each example in tokens (of
    a preference that of its longer answer, prompt included), `preview` what is trained on, piece by piece; both are
    absent where no tokenizer can be had. `check_row` adds rules of the backend's own: it gets an example and yields
    diagnostics without file and line, which the reader fills in. `has_template` says whether the base has a chat
    template, which plain prompts and completions do without. `together` gives the rules for rows that are trained
    together, where how one is written depends on the others; it reads them once.
    """

    shapes: Mapping[str, frozenset[Shape]] = field(default_factory=lambda: {"sft": LEARNED_BY["sft"]})
    roles: frozenset[str] = frozenset(ROLES)
    tools: bool = True
    images: bool = False
    min_rows: int = 1
    max_tokens: int | None = None
    max_bytes: int | None = None
    count_tokens: Callable[[Sequence[Example]], list[int]] | None = None
    preview: Callable[[Example], list[Piece]] | None = None
    check_row: Callable[[Example], Sequence[Diagnostic]] | None = None
    notes: tuple[str, ...] = ()
    has_template: Callable[[], bool] | None = None
    together: Callable[[Iterable[Example]], DataRules] | None = None

    def for_rows(self, examples: Iterable[Example]) -> DataRules:
        """The rules for these rows, trained together."""
        return self if self.together is None else self.together(examples)
