"""What a plan estimates, and how far off it may be."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from torch_jobs import request
from tuneport import Ref
from tuneport.local import Device
from tuneport.plugin import TrainRequest, home
from tuneport.workflow.pruning import prune
from tuneport_torch import TorchBackend, TorchSettings, pace
from tuneport_torch.autos import RULES, compiling
from tuneport_torch.bases import resolve


def test_tokens_and_steps_of_a_small_set_are_counted(tiny_llama: Path, own_home: Path) -> None:
    asked = request(tiny_llama, "plan")
    plan = TorchBackend().plan(asked)
    counts = TorchBackend().rules(str(tiny_llama)).count_tokens(list(asked.train))
    assert plan.tokens.value == 2 * sum(counts)
    assert (plan.tokens.source, plan.tokens.error) == ("counted", None)
    assert plan.rows == 60
    assert plan.validation_rows == 6
    assert plan.epochs.value == 2
    assert plan.steps.value == 2 * -(-sum(counts) // 64)
    assert plan.usd.value == 0
    assert plan.seconds.error
    assert plan.memory.value > 0.4e9


def test_a_large_set_is_sampled_and_says_its_error(tiny_llama: Path, own_home: Path) -> None:
    few, many = request(tiny_llama, "few"), request(tiny_llama, "many", count=3000)
    plan = TorchBackend().plan(many)
    assert plan.tokens.source == "sample of 1,000 rows"
    assert plan.tokens.error.startswith("±")
    exact = 2 * sum(TorchBackend().rules(str(tiny_llama)).count_tokens(list(many.train)))
    assert abs(plan.tokens.value - exact) < 0.05 * exact
    assert plan.tokens.value > TorchBackend().plan(few).tokens.value


def test_money_is_hours_times_what_an_hour_costs(tiny_llama: Path, own_home: Path) -> None:
    plan = TorchBackend().plan(request(tiny_llama, "paid", usd_per_hour=3600.0))
    assert plan.usd.value == pytest.approx(plan.seconds.value)
    assert "3600 USD per hour" in plan.usd.source


def clock_of(*seconds: float) -> Callable[[], float]:
    """A clock that shows these, one after another."""
    return iter(seconds).__next__


def test_earlier_trainings_of_this_machine_set_the_pace(tiny_llama: Path, own_home: Path) -> None:
    base, settings, device = resolve(str(tiny_llama)), TorchSettings(), Device("cpu", "CPU, 2 threads", 8 << 30)
    assert "arithmetic" in pace.estimate(base, settings, device).source
    with pace.measure(base, settings, device, "first", clock_of(5, 105)) as measured:
        measured.tokens = 50_000
    expected = pace.estimate(base, settings, device)
    assert expected.tokens_per_second == pytest.approx(500)
    assert expected.source == "measured by one such training here"
    assert "scaled" in pace.estimate(base, TorchSettings(mode="full"), device).source
    assert "arithmetic" in pace.estimate(base, settings, Device("cuda:0", "NVIDIA H100 80GB HBM3", 0)).source


def _off(found: pace.Pace | None) -> float:
    """By what factor the pace may be off, as its error says."""
    assert found is not None
    parsed = re.fullmatch(r"±(\d+)%|up to ([\d.]+) times off", found.error)
    assert parsed is not None
    return 1 + int(parsed[1]) / 100 if parsed[1] else float(parsed[2])


def test_the_error_of_a_pace_is_what_was_measured_and_one_training_is_not_enough(
    tiny_llama: Path, own_home: Path
) -> None:
    base, settings, device = resolve(str(tiny_llama)), TorchSettings(), Device("cpu", "CPU, 2 threads", 8 << 30)
    kept = {
        "base": base.fingerprint,
        "parameters": base.facts.parameters,
        "mode": settings.mode,
        "device": device.model,
    }

    def after(*paces: float) -> pace.Pace | None:
        written = [{**kept, "tokens_per_second": one} for one in paces]
        (home("paces", "torch") / "rates.json").write_text(json.dumps(written))
        return pace.estimate(base, settings, device)

    assert _off(after(100.0)) > 2  # it may have been a busy day
    alike, apart = after(400.0, 410.0, 405.0, 395.0, 400.0), after(100.0, 400.0, 200.0, 390.0, 110.0)
    assert _off(alike) < _off(after(400.0, 410.0)) < _off(after(400.0))
    assert _off(apart) > 3 > _off(alike)
    assert _off(after(*[400.0] * 10)) < 1.5
    assert alike is not None
    assert alike.tokens_per_second == pytest.approx(402, abs=1)
    assert alike.source == "measured by 5 such trainings here"
    slow_once = after(100.0, *[400.0] * 10)
    assert slow_once is not None
    assert slow_once.tokens_per_second == pytest.approx(400)  # ten later ones have outdone the first


def test_a_base_that_is_not_here_yet_has_unknowns_and_notes(own_home: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    asked = request(Path("/nowhere"), "plan")
    asked = TrainRequest(
        intent="i", name="plan", base=Ref("torch", "acme/not-here"), train=asked.train, settings=TorchSettings()
    )
    plan = TorchBackend().plan(asked)
    assert plan.memory.value is None
    assert plan.seconds.value is None
    assert plan.tokens.error == "±40%"
    assert any("downloads it first" in note for note in plan.notes)


def test_memory_and_time_of_a_base_that_is_often_chosen_are_estimated_before_its_download(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    asked = request(Path("/nowhere"), "plan")
    found = []
    for name in ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen3-14B"):
        plan = TorchBackend().plan(replace(asked, base=Ref("torch", name)))
        assert plan.memory.value is not None
        assert plan.seconds.value is not None
        assert any("downloads it first" in note for note in plan.notes)
        found.append((plan.memory.value, plan.seconds.value))
    assert found == sorted(found)
    assert found[-1][0] > 14.7e9 * 2  # its weights alone


def test_layers_are_compiled_where_a_gpu_has_long_enough_to_train(tiny_llama: Path, own_home: Path) -> None:
    def compiled(kind: str, seconds: float, *, asked: object = "auto", quantize: str = "none", **known: bool) -> bool:
        return compiling(asked, kind=kind, quantize=quantize, seconds=seconds, **known)

    assert compiled("cuda", 1300)
    assert not compiled("cuda", 1100)
    assert not compiled("cuda", 1300, quantize="nf4")
    assert not compiled("cuda", 1300, asked=False)
    assert not compiled("cpu", 1e9)
    assert compiled("cpu", 1, asked=True)
    assert compiled("cpu", 1, earlier=True)
    assert not compiled("cuda", 1300, earlier=False)
    assert "compiled first" in " ".join(TorchBackend().plan(request(tiny_llama, "compiled", compile=True)).notes)
    assert "compiled first" not in " ".join(TorchBackend().plan(request(tiny_llama, "not compiled")).notes)


def test_a_paused_and_resumed_job_is_one_measurement_that_prune_does_not_forget(
    tiny_llama: Path, own_home: Path
) -> None:
    base, settings, device = resolve(str(tiny_llama)), TorchSettings(), Device("cpu", "CPU, 2 threads", 8 << 30)
    for number in range(3):  # each part too short to count
        with pace.measure(base, settings, device, "paused", clock_of(number, number + 8)) as measured:
            measured.tokens = 4_000
    expected = pace.estimate(base, settings, device)
    assert expected.source == "measured by one such training here"
    assert expected.tokens_per_second == pytest.approx(500)
    for _ in range(30):  # jobs that were over at once
        with pace.measure(base, settings, device, uuid.uuid4().hex, clock_of(0, 0.1)) as measured:
            measured.tokens = 4_000
    prune()
    assert pace.estimate(base, settings, device) == expected


def test_paces_that_an_older_version_kept_among_the_caches_are_read(tiny_llama: Path, own_home: Path) -> None:
    base, settings, device = resolve(str(tiny_llama)), TorchSettings(), Device("cpu", "CPU, 2 threads", 8 << 30)
    kept = {"base": base.fingerprint, "parameters": 1, "mode": settings.mode, "device": device.model}
    (home("cache", "torch") / "rates.json").write_text(json.dumps([{**kept, "tokens_per_second": 321.0}]))
    assert pace.estimate(base, settings, device).tokens_per_second == pytest.approx(321)


def test_what_auto_came_to_has_a_reason(tiny_llama: Path, own_home: Path) -> None:
    asked = request(tiny_llama, "why", learning_rate=3e-4, tokens_per_step="auto")
    plan = TorchBackend().plan(asked)
    named = ("learning_rate", "epochs", "total_steps", "tokens_per_step", "rank", "precision", "device", "compile")
    assert set(named) <= set(plan.reasons)
    assert set(plan.reasons) <= set(plan.resolved)
    assert {*RULES, "warmup_steps"} - {"warmup"} <= {*plan.resolved, "beta"}
    assert (plan.resolved["learning_rate"], plan.reasons["learning_rate"]) == (3e-4, "as requested")
    assert plan.reasons["tokens_per_step"].startswith("auto: ")
    assert plan.reasons["precision"] == "as requested"
    assert plan.reasons["rank"] == "default"
    free = TorchBackend().plan(request(tiny_llama, "free", learning_rate="auto", precision="auto"))
    assert free.reasons["learning_rate"].startswith("auto: ")
    assert str(free.resolved["precision"]) in ("float32", "bfloat16")
