"""The log-probabilities of preference pairs before the first step, stored next to the checkpoints."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from tuneport.plugin import replace_file

if TYPE_CHECKING:
    from torch import Tensor

    from tuneport.local import Stop
    from tuneport_torch.engine.dpo import Dpo
    from tuneport_torch.engine.forward import Forward
    from tuneport_torch.engine.memory import Memory
    from tuneport_torch.protocols import Control

_KEEP_SECONDS = 60.0


class Reference:
    """The log-probabilities of all pairs' answers under the model before the first step.

    The reference never changes, so it is measured once. That saves a forward pass per epoch and needs no second model,
    for adapters as well as for full training. `reference.safetensors` is used again if it is of the same pairs and the
    same arithmetic (`facts`). NaN means not measured yet.
    """

    def __init__(self, folder: Path, parts: Mapping[str, Dpo], facts: Mapping[str, Any]) -> None:
        self._path = folder / "reference.safetensors"
        self._parts = parts
        digests = {name: part.facts()["rows"] for name, part in parts.items()}
        self._facts = json.dumps({**digests, **facts}, sort_keys=True)
        self._kept_at = time.monotonic()
        for name, known in self._read().items():
            parts[name].reference_P2 = known

    @torch.no_grad()
    def measure(
        self,
        work: Sequence[tuple[Dpo, Sequence[int]]],
        forward: Forward,
        memory: Memory,
        autocast: Callable[[], torch.autocast],
        control: Control,
    ) -> Stop | None:
        """Measure and store the missing values of these pairs, step by step; why it stopped early, or None."""
        limits = memory.progress
        missing = [
            (pairs, batch)
            for pairs, examples in work
            if bool(pairs.reference_P2[list(examples)].isnan().any())
            for batch in pairs.split(forward, examples, limits.tokens_per_batch)
        ]
        if not missing:
            return None
        control.emit("log", "Measuring the reference: the untrained model's log-probability of every answer.")

        def fill(pairs: Dpo, batch: Sequence[int]) -> None:
            for some in pairs.split(forward, batch, limits.tokens_per_batch):
                with autocast():
                    pairs.reference_P2[some] = pairs.logprobs(forward, pairs.pack(forward, some)).cpu()

        stop: Stop | None = None
        for number, (pairs, batch) in enumerate(missing, start=1):
            if stop := control.should_stop():
                break
            memory.fit(partial(fill, pairs, batch), partial(pairs.split, forward, batch), pairs.lengths)
            if time.monotonic() - self._kept_at > _KEEP_SECONDS:
                self._keep()
                control.emit("log", f"Measured the reference on {number} of {len(missing)} batches.")
        self._keep()
        return stop

    def _keep(self) -> None:
        tensors = {name: part.reference_P2 for name, part in self._parts.items()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(self._path) as stream:
            stream.write(save(tensors, metadata={"facts": self._facts, "sha256": _sha256(tensors)}))
        self._kept_at = time.monotonic()

    def _read(self) -> Mapping[str, Tensor]:
        try:
            with safe_open(self._path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in self._parts}
        except (OSError, SafetensorError):
            return {}
        usable = metadata.get("facts") == self._facts and metadata.get("sha256") == _sha256(tensors)
        return tensors if usable else {}


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
