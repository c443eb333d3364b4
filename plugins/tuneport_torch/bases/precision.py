"""The number type in which a device computes fastest without losing accuracy that matters."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal


def fastest(device: str) -> Literal["float32", "bfloat16", "float16"]:
    """bfloat16 if the hardware has it, float16 on older NVIDIA GPUs, float32 elsewhere.

    A CPU without bfloat16 instructions emulates it, more slowly than it computes in float32.
    """
    if device == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if device == "cpu" and cpu_has_bfloat16() else "float32"


def expect_bfloat16(device: str) -> bool:
    """Whether a device is expected to compute in bfloat16, as far as it is known without PyTorch."""
    return device == "cuda" or (device == "cpu" and cpu_has_bfloat16())


@cache
def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 (AVX-512 BF16, AMX, or ARM's BF16), as Linux lists its features."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith(("flags", "Features"))), [])
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))
