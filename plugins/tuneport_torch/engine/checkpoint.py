"""Checkpoints of tensors, a `NAME.safetensors` for each group. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.local import Checkpoints, Saved

if TYPE_CHECKING:
    from torch import Tensor


class Store(Checkpoints):
    """The checkpoints of one training."""

    def save_tensors(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
        """Save groups of tensors by name, and `state`. Raises OSError or safetensors' error on a full disk."""
        return self.save(step, lambda folder: _write_tensors(folder, tensors), state)


def read_tensors(saved: Saved, name: str) -> dict[str, Tensor]:
    """The tensors that were saved under that name, on the CPU."""
    from safetensors.torch import load_file

    return load_file(saved.folder / f"{name}.safetensors")


def _write_tensors(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    from safetensors.torch import save_file

    for name, named in tensors.items():
        save_file(
            {key: tensor.detach().cpu().contiguous() for key, tensor in named.items()}, folder / f"{name}.safetensors"
        )
