"""Which of this machine's devices PyTorch can use, found without importing it."""

from __future__ import annotations

import importlib.util
import platform
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tuneport.local import Device, DevicePool, cpu, list_gpus

if TYPE_CHECKING:
    from tuneport_torch.config import TorchSettings

Kind = Literal["cpu", "cuda", "mps"]


def list_devices(kind: Kind) -> list[Device]:
    """The devices of a kind; the CPU and an Apple GPU are one each."""
    if kind == "cuda":
        return list_gpus()
    return [cpu() if kind == "cpu" else Device("mps", "Apple GPU", cpu().memory)]


def has_cuda() -> bool:
    """Whether there is an NVIDIA GPU and the installed PyTorch is built for it."""
    return _is_built_for_cuda() and bool(list_gpus())


def has_apple_gpu() -> bool:
    """Whether this is a Mac with a GPU that PyTorch can use."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


@cache
def _is_built_for_cuda() -> bool:
    """Whether the installed torch is built for CUDA, by its version file."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        text = Path(spec.origin).with_name("version.py").read_text("utf-8")
    except OSError:
        return False
    return re.search(r"^cuda\s*(:[^=]+)?=\s*['\"]", text, re.MULTILINE) is not None
