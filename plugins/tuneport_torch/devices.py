"""Which of this machine's devices PyTorch can use, found without importing it."""

from __future__ import annotations

import importlib.util
import platform
import re
import sys
from functools import cache
from pathlib import Path
from typing import Literal

from tuneport.local import Device, cpu, list_gpus

Kind = Literal["cpu", "cuda", "mps"]

ENVIRONMENT = {"GOMP_SPINCOUNT": "20000"}
"""Variables for processes that compute with PyTorch. Threads that wait for each other then sleep soon instead of
spinning. On a busy machine spinning takes the time that the others need, and makes training several times slower;
sleeping at once halves the speed of an idle one. This is between, for GNU's OpenMP, which PyTorch uses on Linux
(figures in docs/performance.md).
"""


def device_kind(setting: str) -> Kind:
    """The kind of device that the setting `device` chooses. auto: a CUDA GPU if there is one, else an Apple GPU, else
    the CPU.
    """
    if setting in ("cpu", "cuda", "mps"):
        return setting  # type: ignore[return-value]  # the line above says so
    return "cuda" if has_cuda() else "mps" if has_apple_gpu() else "cpu"


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
