"""Each setting that has "auto" has one rule, one function, and a place in what a training uses."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from tuneport_torch import TorchSettings, autos
from tuneport_torch.resolved import Resolved, explain, resolve

SETTINGS = [name for name, field in TorchSettings.model_fields.items() if field.default == "auto"]
USUAL: dict[str, Any] = {"epochs": 2, "rows": 10, "tokens": 500, "hidden_size": 64, "device": "cpu", "threads": 4}


def test_every_auto_has_a_rule_and_a_resolved_value() -> None:
    assert len(SETTINGS) == 16
    assert set(autos.RULES) == {*SETTINGS, "epochs"}
    names = {"warmup_steps" if name == "warmup" else name for name in autos.RULES}
    assert names <= {field.name for field in fields(Resolved)}
    assert not {"auto"} & set(map(str, vars_of(resolve(TorchSettings(), **USUAL)).values()))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_settings_description_has_its_rule(name: str) -> None:
    assert autos.describe(name) in (TorchSettings.model_fields[name].description or "")


def vars_of(resolved: Resolved) -> dict[str, Any]:
    return {field.name: getattr(resolved, field.name) for field in fields(resolved)}


@pytest.mark.parametrize(
    "details",
    [
        {"threads": 3, "compile": True},  # as jobs of the first versions kept them
        {"resolved": {"threads": 3, "compile": True}},
        {"threads": 9, "compile": False, "resolved": {"threads": 3, "compile": True}},
    ],
)
def test_a_resumed_job_keeps_the_threads_and_the_compiling_of_its_first_run(details: dict[str, Any]) -> None:
    for settings in (TorchSettings(), TorchSettings(threads=7, compile=False)):
        resumed = resolve(settings, **USUAL, details=details)
        assert (resumed.threads, resumed.compile) == (3, True)
    first = resolve(TorchSettings(), **USUAL)
    assert (first.threads, first.compile) == (4, False)


def test_what_is_asked_for_is_what_is_used() -> None:
    asked = TorchSettings(
        learning_rate=1e-3,
        beta=0.3,
        warmup=5,
        tokens_per_step=64,
        tokens_per_batch=32,
        packing=False,
        max_tokens=99,
        precision="bfloat16",
        threads=2,
        activation_checkpointing=True,
        compile=True,
        evaluate_every=7,
        patience=None,
        checkpoint_every=8,
        slots=3,
    )
    resolved = resolve(asked, **USUAL)
    values, why = explain(asked, resolved, epochs=2, method="dpo", device="cpu", model="CPU")
    for name in SETTINGS:
        if name not in ("device", "warmup", "patience"):
            assert values[name] == getattr(asked, name), name
            assert why[name] == "as requested"
    assert (values["warmup_steps"], why["warmup_steps"]) == (5, "as requested")
    assert "patience" not in values  # it never stops early
    assert why["device"] == f"{autos.describe('device')} (CPU)"


def test_a_checkpoint_depends_on_the_schedule_alone() -> None:
    """Checkpoints of the first versions hold exactly these names: with another one they could not be continued."""
    assert list(resolve(TorchSettings(), **USUAL).schedule()) == [
        "epochs",
        "steps_per_epoch",
        "total_steps",
        "tokens_per_step",
        "tokens_per_batch",
        "learning_rate",
        "warmup_steps",
        "evaluate_every",
        "patience",
    ]
