"""Which of this machine's devices PyTorch can use, found without importing it."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
from functools import cache
from pathlib import Path

from tuneport.local import Device, count_threads, cpu, list_gpus
from tuneport_torch import autos
from tuneport_torch.autos import Auto, Kind

ENVIRONMENT = {"GOMP_SPINCOUNT": "20000"}
"""Variables for processes that compute with PyTorch. Threads that wait for each other then sleep soon instead of
spinning. On a busy machine spinning takes the time that the others need, and makes training several times slower;
sleeping at once halves the speed of an idle one. This is between, for GNU's OpenMP, which PyTorch uses on Linux
(figures in docs/performance.md).
"""


def device_kind(setting: Kind | Auto) -> Kind:
    """The kind of device that the setting `device` chooses on this machine."""
    return autos.device(setting, has_cuda=setting == "auto" and has_cuda(), has_apple_gpu=has_apple_gpu())


def list_devices(kind: Kind) -> list[Device]:
    """The devices of a kind; the CPU and an Apple GPU are one each."""
    if kind == "cuda":
        return list_gpus()
    return [cpu() if kind == "cpu" else Device("mps", "Apple GPU", cpu().memory)]


def has_cuda() -> bool:
    """Whether there is an NVIDIA GPU and the installed PyTorch is built for it."""
    return _is_built_for_cuda() and bool(list_gpus())


def usual_threads() -> int:
    """The number of CPU threads that PyTorch chooses, found without importing it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else count_threads()


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
