"""What Fireworks takes, and what its GPUs cost by a dated table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from tuneport.plugin import Capabilities, Conversation, DataRules, Diagnostic, Example, Preference

MOST_ROWS = 3_000_000
_SHAPES = {
    "sft": frozenset({"conversation"}),
    "dpo": frozenset({"preference"}),
    "orpo": frozenset({"preference"}),
}


def check_row(example: Example) -> Sequence[Diagnostic]:
    """What Fireworks would refuse about a row."""
    return list(_problems(example))


def make_capabilities() -> Capabilities:
    """What the service has."""
    rules = DataRules(shapes=_SHAPES, min_rows=3, check_row=check_row)  # type: ignore[arg-type]  # literals in a mapping
    return Capabilities(
        methods=frozenset(_SHAPES),
        verbs=frozenset({"cancel", "resume"}),
        learning_rate="absolute",
        rules=rules,
        auto_epochs="Fireworks' default",
        seed=False,
        export_kinds=("adapter",),
    )


@cache
def prices() -> dict[str, Any]:
    """The dated table of prices in US dollars for a GPU's hour."""
    table: dict[str, Any] = json.loads(files("tuneport_fireworks").joinpath("prices.json").read_text())
    return table


def _problems(example: Example) -> Iterator[Diagnostic]:
    if isinstance(example, Preference):
        for part, turns in (("preferred_output", example.chosen), ("non_preferred_output", example.rejected)):
            if len(turns) != 1 or turns[0].role != "assistant":
                yield _error(
                    "arm-not-one-answer", f"{part} is not one assistant turn.", "Move the rest into the input.", part
                )
    if not isinstance(example, Conversation):
        return
    for place, turn in enumerate(example.messages):
        if turn.role == "system" and place:
            yield _error(
                "system-not-first", "A system turn is not the first.", "Move it to the front.", f"messages/{place}"
            )
        if turn.weight not in (None, 0, 1):
            yield _error(
                "weight-not-taken", f"The weight is {turn.weight:g}.", "Write 0 or 1.", f"messages/{place}/weight"
            )


def _error(code: str, message: str, remedy: str, pointer: str) -> Diagnostic:
    return Diagnostic(code=code, severity="error", message=message, remedy=remedy, pointer=f"/{pointer}")
