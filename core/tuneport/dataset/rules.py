"""A backend's rules, which a dataset is checked against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tuneport.dataset.example import ROLES, Example
from tuneport.dataset.findings.diagnostic import Diagnostic
from tuneport.doors import AUTHORS, public

ExampleShape = Literal["conversation", "completion", "preference"]
LEARNED_BY: Mapping[str, frozenset[ExampleShape]] = {
    "sft": frozenset({"conversation", "completion"}),
    "dpo": frozenset({"preference"}),
    "orpo": frozenset({"preference"}),
}
"""The shapes of examples that a method learns from on any backend; rules say what one backend accepts."""


@public(AUTHORS)
@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text as the model sees it, its number of tokens, and their weight in the loss.

    Weight 0 is context only. A negative weight makes the text less likely, such as a rejected answer.
    """

    text: str
    weight: float
    tokens: int


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class DataRules:
    """A backend's rules about data, for one base model where they depend on it.

    - `shapes`: the shapes of examples that each method accepts.
    - `roles`, `tools`, `images`: what messages may have.
    - `min_rows`, `max_tokens` (of one row) and `max_bytes` (of all rows as JSON lines): limits; None for no limit.
    - `count_tokens`: the training length of each example in tokens; for a preference, that of its longer answer with
      the prompt. None without a tokenizer.
    - `preview`: what is trained on, piece by piece. None without a tokenizer.
    - `check_row`: further checks of an example. Its diagnostics need no file and line, which the core fills in.
    - `notes`: texts that a check shows.
    - `has_template`: whether the base has a chat template, which plain prompts and completions do not use.
    - `together`: the rules for rows that are trained together, where the text of one depends on the others. It reads
      the rows once.
    """

    shapes: Mapping[str, frozenset[ExampleShape]] = field(default_factory=lambda: {"sft": LEARNED_BY["sft"]})
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
