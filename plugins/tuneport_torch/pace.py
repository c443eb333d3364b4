"""How fast this machine trains, in tokens per second: measured by earlier jobs, else estimated from arithmetic."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tuneport.local import count_threads
from tuneport.plugin import home, open_regular, write_file

if TYPE_CHECKING:
    from tuneport.local import Device
    from tuneport_torch.bases import Base
    from tuneport_torch.config import TorchSettings

_FILE = "rates.json"
_KEPT = 100
_SHORT_KEPT = 20  # of jobs that may be resumed
_LOOKED_AT = 10  # of a kind, the newest: machines and settings change
_DOUBT = 0.35  # the usual spread of one machine's pace, idle or busy: standard deviation of the logarithm
_DOUBT_WEIGHS = 2  # as many measurements
_SCALING = 0.3  # what scaling from another model's size adds to the spread
_WORTH_KEEPING_SECONDS = 20.0  # of training, in all its parts: shorter ones measure their own warming up
_CPU_FLOPS_PER_THREAD = 50e9  # what trainings reached on a core with AVX-512 in bfloat16; without, about half
# Dense bfloat16 peaks by their makers' data sheets (T4: float16), by what the driver calls the card.
_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "4090": 165e12, "L4": 121e12, "T4": 65e12}
_OTHER_GPU = 80e12
_REACHED = 0.25  # share of the peak that trainings of small models reach


@dataclass(frozen=True, slots=True)
class Pace:
    """Tokens per second (prompts included), the source of the figure, and how far it may be off."""

    tokens_per_second: float
    source: str
    error: str


@dataclass(slots=True)
class Measured:
    """What a training reports when it is over: the tokens that it was trained on since it started or resumed, and the
    time that something other than training on them took.
    """

    tokens: int = 0
    seconds_aside: float = 0.0


@contextmanager
def measure(
    base: Base, settings: TorchSettings, device: Device, job: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[Measured]:
    """Time a training and keep its pace for later plans. The parts of a job that was paused and resumed are one
    measurement.
    """
    result, started = Measured(), clock()
    yield result
    seconds = clock() - started - result.seconds_aside
    if result.tokens and seconds > 0:
        _add(
            {
                "job": job,
                "base": base.fingerprint,
                "parameters": base.facts.parameters,
                "mode": settings.mode,
                "device": device.model,
                "tokens": result.tokens,
                "seconds": seconds,
            }
        )


def estimate(base: Base, settings: TorchSettings, device: Device) -> Pace | None:
    """The pace to expect; None for a base of unknown size that was never trained here."""
    alike = [one for one in _measurements() if one["device"] == device.model]
    same = [one for one in alike if one["base"] == base.fingerprint and one["mode"] == settings.mode]
    if same:
        return _from_measured([one["tokens_per_second"] for one in same], "such")
    if base.facts.parameters is None:
        return None
    work = flops_per_token(base.facts.parameters, settings.mode)
    scaled = [
        one["tokens_per_second"] * flops_per_token(one["parameters"], one["mode"]) / work
        for one in alike
        if one["parameters"]
    ]
    if scaled:
        return _from_measured(scaled, "other, scaled by size,", _SCALING)
    return Pace(_flops(device) / work, f"estimated by arithmetic for {device.model}", "up to three times off")


def _from_measured(paces: Sequence[float], kind: str, more_spread: float = 0.0) -> Pace:
    """The mean of the newest paces (of their logarithms), and how far the next may be from it: twice the standard
    deviation of a prediction. Its variance starts at the usual one and is learned from the measurements, as the mean of
    a scaled inverse chi-squared posterior (Gelman et al., Bayesian Data Analysis, section 3.2).
    """
    logs = [math.log(pace) for pace in paces[-_LOOKED_AT:]]
    middle, count = statistics.fmean(logs), len(logs)
    squares = sum((one - middle) ** 2 for one in logs) + _DOUBT_WEIGHS * _DOUBT**2
    variance = squares / (_DOUBT_WEIGHS + count - 1) * (1 + 1 / count)
    factor = math.exp(2 * math.sqrt(variance + more_spread**2))
    error = f"±{factor - 1:.0%}" if factor < 1.5 else f"up to {factor:.1f} times off"
    source = f"measured by one {kind} training here" if count == 1 else f"measured by {count} {kind} trainings here"
    return Pace(math.exp(middle), source, error)


def flops_per_token(parameters: int, mode: str) -> float:
    """Operations of one training step per token: forward 2 and gradient of the activations 2 for each parameter, and of
    the weights 2 more where all are trained (Kaplan et al. 2020, section 2.1).
    """
    return (6.0 if mode == "full" else 4.0) * parameters


def _flops(device: Device) -> float:
    if device.name == "cpu":
        return _CPU_FLOPS_PER_THREAD * count_threads()
    return _REACHED * next((peak for name, peak in _PEAKS.items() if name in device.model), _OTHER_GPU)


def _measurements() -> list[dict[str, Any]]:
    """The measurements that are long enough to mean something, oldest first, each with its `tokens_per_second`."""
    return [
        {"tokens_per_second": one["tokens"] / one["seconds"], **one} if "seconds" in one else one
        for one in _read_paces()
        if one.get("seconds", math.inf) > _WORTH_KEEPING_SECONDS  # older ones say their pace alone
    ]


def _read_paces() -> list[dict[str, Any]]:
    for path in (_path(), home("cache") / "torch" / _FILE):  # they stood among the caches once, where `prune` removes
        try:
            with open_regular(path) as file:
                known: list[dict[str, Any]] = msgspec.json.decode(file.read())
        except (OSError, msgspec.DecodeError):
            continue
        return known
    return []


def _add(part: dict[str, Any]) -> None:
    """Keep a measurement; one of a job that was measured before is added to it."""
    known = _read_paces()
    for one in known:
        if one.get("job") == part["job"] and one["device"] == part["device"]:
            part = {**part, **{key: part[key] + one[key] for key in ("tokens", "seconds")}}
    others = [one for one in known if one.get("job") != part["job"] or one["device"] != part["device"]]
    short = [one for one in others if one.get("seconds", math.inf) <= _WORTH_KEEPING_SECONDS][-_SHORT_KEPT:]
    others = [one for one in others if one in short or one.get("seconds", math.inf) > _WORTH_KEEPING_SECONDS]
    write_file(_path(), msgspec.json.encode([*others, part][-_KEPT:]))


def _path() -> Path:
    return home("paces", "torch") / _FILE
