"""A frozen linear layer whose weight is kept in 4 bits: QLoRA's base (Dettmers et al. 2023), through bitsandbytes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_BLOCK = 64  # weights that share a scale


class NF4Linear(nn.Module):
    """NormalFloat4 with a scale for each 64 weights, the scales themselves in 8 bits: 0.52 bytes per weight. The weight
    is dequantized whenever it is used, and never trained.
    """

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None, device: torch.device) -> None:
        super().__init__()
        from bitsandbytes.functional import quantize_4bit

        self.dtype, self.device = weight_OI.dtype, device
        self.bias = bias_O
        self._packed, self._state = quantize_4bit(
            weight_OI.detach().to(device).contiguous(), blocksize=_BLOCK, compress_statistics=True, quant_type="nf4"
        )

    @property
    def weight(self) -> Tensor:
        """The weight, (outputs, inputs), rounded to 4 bits, in its original type."""
        from bitsandbytes.functional import dequantize_4bit

        weight: Any = dequantize_4bit(self._packed, self._state)
        weight_OI: Tensor = weight
        return weight_OI
