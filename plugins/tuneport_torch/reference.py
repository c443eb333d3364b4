"""What the model gave the answers of preference pairs before its first step, kept beside the checkpoints."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from tuneport_torch.folder import writing

if TYPE_CHECKING:
    from torch import Tensor

    from tuneport_torch.dpo import Pairs

_KEEP_SECONDS = 60.0


class Reference:
    """The log-probabilities of all pairs' answers under the model as it stands before the first step.

    They are measured once and not in every epoch: the reference never changes, so that saves a forward pass an epoch
    and needs no second model, whether an adapter is trained or all weights are. What is kept in `reference.safetensors`
    is taken up again, as long as it is of the same pairs and the same arithmetic (`facts`); NaN is not measured yet.
    """

    def __init__(self, folder: Path, parts: Mapping[str, Pairs], facts: Mapping[str, Any]) -> None:
        self._path = folder / "reference.safetensors"
        self._parts = parts
        digests = {name: part.facts()["rows"] for name, part in parts.items()}
        self._facts = json.dumps({**digests, **facts}, sort_keys=True)
        self._kept_at = time.monotonic()
        for name, known in self._read().items():
            parts[name].reference_P2 = known

    def knows(self, part: Pairs, examples: Sequence[int]) -> bool:
        """Whether all of these were measured."""
        return not bool(part.reference_P2[list(examples)].isnan().any())

    def keep(self, *, now: bool = False) -> None:
        """Write what is known: once a minute, or at once. Raises OSError."""
        if not now and time.monotonic() - self._kept_at < _KEEP_SECONDS:
            return
        tensors = {name: part.reference_P2 for name, part in self._parts.items()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with writing(self._path) as stream:
            stream.write(save(tensors, metadata={"facts": self._facts, "sha256": _sha256(tensors)}))
        self._kept_at = time.monotonic()

    def _read(self) -> Mapping[str, Tensor]:
        try:
            with safe_open(self._path, framework="pt") as file:
                told = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in self._parts}
        except (OSError, SafetensorError):
            return {}
        whole = told.get("facts") == self._facts and told.get("sha256") == _sha256(tensors)
        return tensors if whole else {}


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
