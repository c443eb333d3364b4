"""The state in a checkpoint besides the weights, and how it is restored."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from tuneport.errors import TuneportError
from tuneport.local import Saved
from tuneport_torch.config import TorchSettings
from tuneport_torch.engine.checkpoint import Store, read_tensors
from tuneport_torch.resolved import Resolved


@dataclass
class Progress:
    """The counters of a training run. The step determines which rows come next."""

    step: int = 0
    tokens: int = 0
    train_loss: float | None = None
    valid_loss: float | None = None
    best_step: int | None = None
    best_loss: float | None = None
    worse_evaluations: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    tokens_per_batch: int = 0
    recompute: bool = False


def facts(
    data: Mapping[str, Any], settings: TorchSettings, plan: Resolved, seed: int, dtype: torch.dtype
) -> dict[str, Any]:
    """What must be the same to resume from a checkpoint (`data` describes the rows), and what should be the same to get
    the same bits.
    """
    return {
        "must": {
            **data,
            "seed": seed,
            "mode": settings.mode,
            "adapter": settings.adapter.model_dump(mode="json") if settings.mode == "lora" else None,
            "schedule": settings.schedule,
            **plan.schedule(),
        },
        "should": {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "precision": str(dtype),
            "compile": plan.compile,
        },
    }


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Why the last bits may differ from an uninterrupted run. Raises TuneportError if the checkpoint is of
    another run.
    """
    other = [name for name, value in now["must"].items() if saved["must"].get(name) != value]
    if other:
        raise TuneportError(
            f"The checkpoint is of another run: {', '.join(other)} differ.",
            remedy="Start the run again from the beginning: tuneport run … --again",
        )
    return [
        f"{name} is {value}, but was {saved['should'].get(name)}: the last bits may differ from an uninterrupted run."
        for name, value in now["should"].items()
        if saved["should"].get(name) != value
    ]


def tensors(trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """All tensors of a checkpoint: weights, optimizer and random generators. They are not copies."""
    return {
        "weights": {name: weight.detach() for name, weight in trained.items()},
        "optimizer": optimizer_tensors(trained, optimizer),
        "random": random_tensors(next(iter(trained.values())).device),
    }


def optimizer_tensors(trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state of each weight, by `weight's name / state's name`."""
    return {
        f"{name}/{key}": value
        for name, weight in trained.items()
        for key, value in optimizer.state.get(weight, {}).items()
    }


def random_tensors(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's random generators: the CPU's, and the device's if it has one."""
    tensors = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["device"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        tensors["device"] = torch.mps.get_rng_state()
    return tensors


def set_random(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the states from `random_tensors`."""
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "device" in tensors:
        torch.cuda.set_rng_state(tensors["device"], device)
    elif device.type == "mps" and "device" in tensors:
        torch.mps.set_rng_state(tensors["device"])


def python_random() -> list[Any]:
    """The state of Python's random generator, JSON-ready."""
    version, numbers, gauss = random.getstate()
    return [version, list(numbers), gauss]


def load_weights(saved: Mapping[str, Tensor], trained: Mapping[str, nn.Parameter]) -> None:
    """Copy saved weights into the model's."""
    with torch.no_grad():
        for name, weight in trained.items():
            weight.copy_(saved[name])


def resume(
    store: Store,
    now: Mapping[str, Any],
    trained: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    emit: Callable[..., None],
) -> Progress | None:
    """Restore everything from the newest intact checkpoint and return its progress; None if there is none. `now` are
    the facts of this run. Problems of newer checkpoints are reported.
    """
    saved = store.newest_intact(lambda why: emit("log", why, level="warning"))
    if saved is None:
        return None
    for note in differences(saved.state["facts"], now):
        emit("log", note, level="warning")
    weights, counts = read_tensors(saved, "weights"), saved.state["progress"]
    alike = all(weights[name].shape == weight.shape for name, weight in trained.items() if name in weights)
    if weights.keys() != trained.keys() or not alike or counts.keys() - asdict(Progress()).keys():
        raise TuneportError(
            f"The checkpoint at step {saved.step} was written by another version of tuneport: it has other weights.",
            remedy="Resume with that version, or start the run again from the beginning: tuneport run … --again",
        )
    load_weights(weights, trained)
    _restore(saved, trained, optimizer)
    return Progress(**counts)


def _restore(saved: Saved, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Restore the optimizer and the random generators."""
    device = next(iter(trained.values())).device
    for key, value in read_tensors(saved, "optimizer").items():
        name, _, part = key.rpartition("/")
        optimizer.state[trained[name]][part] = value.to(device, copy=True)  # not a view of the file
    version, numbers, gauss = saved.state["python_random"]
    random.setstate((version, tuple(numbers), gauss))
    set_random(read_tensors(saved, "random"), device)


def is_storage_error(error: BaseException) -> bool:
    """Whether an error is about storage: Python's OSError, or safetensors' form of it."""
    return isinstance(error, OSError) or (isinstance(error, SafetensorError) and "os error" in str(error).lower())
