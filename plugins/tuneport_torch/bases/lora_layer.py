"""A linear layer with a low-rank adapter. Their sum and its gradient are one function."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from tuneport_torch.bases.quantized import NF4Linear


class LoraLinear(nn.Module):
    """A frozen linear layer plus `scale * dropout(x) @ A.T @ B.T`. B starts at zero, so at first nothing changes.

    A and B are float32; the product is computed in the frozen layer's compute type.
    """

    def __init__(self, base: nn.Linear | Conv1D, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.transposed = isinstance(base, Conv1D)  # GPT-2's layers keep their weights as (inputs, outputs)
        inputs, outputs = base.weight.shape if self.transposed else base.weight.shape[::-1]
        device = base.weight.device
        self.base: nn.Linear | Conv1D | NF4Linear = base
        self.rank, self.alpha = rank, alpha
        self.scale = alpha / rank
        self.dropout = dropout
        self.lora_A = nn.Parameter(torch.empty(rank, inputs, dtype=torch.float32, device=device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, rank, dtype=torch.float32, device=device))
        self.siblings: Siblings | None = None
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """The frozen layer's weight, through which some models read a layer's type or device."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        """The frozen layer's output plus the adapter's share."""
        if self.siblings is not None:
            return self.siblings.output(self, x)
        dropped = F.dropout(x, self.dropout) if self.dropout and self.training else None
        return _product(x, dropped, (self,))[0]

    def frozen_weight(self, kind: torch.dtype) -> Tensor:
        """The frozen weight, (outputs, inputs), in the given type."""
        weight = self.base.weight.to(kind)
        return weight.t() if isinstance(self.base, Conv1D) else weight

    def quantize(self, device: torch.device) -> None:
        """Store the frozen weight in 4 bits on that device."""
        self.base = NF4Linear(self.frozen_weight(self.base.weight.dtype), self.base.bias, device)

    def delta(self) -> Tensor:
        """What the adapter adds to the frozen weight, in float32 and in that weight's shape."""
        product = self.scale * (self.lora_B @ self.lora_A)
        return product.t() if self.transposed else product


class Siblings(threading.local):
    """Layers that get the same input one after another, such as those of query, key and value: the first one computes
    the outputs of all, so the input is cast and its gradient summed only once. Each thread has its own state.
    """

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self.layers = tuple(layers)
        self._given: tuple[Tensor, int] | None = None
        self._outputs: dict[LoraLinear, Tensor] = {}

    def output(self, layer: LoraLinear, x: Tensor) -> Tensor:
        """The layer's output, from the product of all layers if they all get this same input."""
        written = x._version  # noqa: SLF001 - the only way to see whether a tensor was written to
        same = self._given is not None and self._given[0] is x and self._given[1] == written
        if not same or layer not in self._outputs:
            self._outputs = dict(zip(self.layers, _product(x, None, self.layers), strict=True))
            self._given = x, written
        out = self._outputs.pop(layer)
        if not self._outputs:
            self._given = None
        return out


_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def join(model: nn.Module) -> Callable[[], None]:
    """Let layers that read the same input compute together. Returns a function that undoes it."""
    joined: list[LoraLinear] = []
    for parent in model.modules():
        for names in _TOGETHER:
            layers = [layer for name in names if isinstance(layer := getattr(parent, name, None), LoraLinear)]
            if len(layers) > 1 and not any(layer.dropout for layer in layers):
                siblings = Siblings(layers)
                for layer in layers:
                    layer.siblings = siblings
                joined += layers

    def undo() -> None:
        for layer in joined:
            layer.siblings = None

    return undo


def _compute_type(x: Tensor, base: nn.Linear | Conv1D | NF4Linear) -> torch.dtype:
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return base.dtype if isinstance(base, NF4Linear) else base.weight.dtype


def _product(x: Tensor, dropped: Tensor | None, layers: tuple[LoraLinear, ...]) -> tuple[Tensor, ...]:
    adapters = [part for layer in layers for part in (layer.lora_A, layer.lora_B)]
    kind = _compute_type(x, layers[0].base)
    outputs: tuple[Tensor, ...] = _LoraProduct.apply(  # type: ignore[no-untyped-call]  # torch's own
        x, dropped, layers, kind, *adapters
    )
    return outputs


class _LoraProduct(torch.autograd.Function):
    """`x @ W.T + bias + scale * x' @ A.T @ B.T` for each layer, computed in `kind`, where x' is x after dropout.

    Written by hand because autograd would keep and copy several times as much: here x is cast once for all products,
    the adapters' shares are added in place, and the frozen weights are neither copied nor given a gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        layers: tuple[LoraLinear, ...],
        kind: torch.dtype,
        *adapters: Tensor,
    ) -> tuple[Tensor, ...]:
        with torch.autocast(x.device.type, enabled=False):
            x_TI = x.reshape(-1, x.shape[-1]).to(kind)
            via_TI = x_TI if dropped is None else dropped.reshape(-1, x.shape[-1]).to(kind)
            a_RI = torch.cat(adapters[::2]).to(kind)  # R: the ranks of all layers, concatenated
            bs_OR = [b.to(kind) for b in adapters[1::2]]
            down_TR = via_TI @ a_RI.t()
            outputs = []
            for layer, b_OR, down in zip(layers, bs_OR, _by_rank(down_TR, layers), strict=True):
                bias = layer.base.bias
                out_TO = F.linear(x_TI, layer.frozen_weight(kind), None if bias is None else bias.to(kind))
                outputs.append(out_TO.addmm_(down, b_OR.t(), alpha=layer.scale).view(*x.shape[:-1], -1))
        ctx.save_for_backward(via_TI, down_TR, a_RI, *bs_OR)
        ctx.layers, ctx.kind, ctx.shape, ctx.type, ctx.dropped = layers, kind, x.shape, x.dtype, dropped is not None
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        via_TI, down_TR, a_RI, *bs_OR = ctx.saved_tensors
        layers: tuple[LoraLinear, ...] = ctx.layers
        grads_TO = [grad.reshape(-1, grad.shape[-1]).to(ctx.kind) for grad in outer]
        back_TR = torch.cat(
            [(grad @ b).mul_(layer.scale) for layer, grad, b in zip(layers, grads_TO, bs_OR, strict=True)], -1
        )
        grad_a_RI = torch.split((back_TR.t() @ via_TI).float(), [layer.rank for layer in layers])
        downs = _by_rank(down_TR, layers)
        grad_bs = [
            (grad.t() @ down).mul_(layer.scale).float()
            for layer, grad, down in zip(layers, grads_TO, downs, strict=True)
        ]
        grad_x = grad_dropped = None
        if ctx.needs_input_grad[0]:
            grad_x = grads_TO[0] @ layers[0].frozen_weight(ctx.kind)
            for layer, grad in zip(layers[1:], grads_TO[1:], strict=True):
                grad_x.addmm_(grad, layer.frozen_weight(ctx.kind))
            if not ctx.dropped:
                grad_x.addmm_(back_TR, a_RI)
            grad_x = grad_x.view(ctx.shape).to(ctx.type)
        if ctx.dropped and ctx.needs_input_grad[1]:
            grad_dropped = (back_TR @ a_RI).view(ctx.shape).to(ctx.type)
        adapters = [grad for pair in zip(grad_a_RI, grad_bs, strict=True) for grad in pair]
        return grad_x, grad_dropped, None, None, *adapters


def _by_rank(all_TR: Tensor, layers: Sequence[LoraLinear]) -> tuple[Tensor, ...]:
    return torch.split(all_TR, [layer.rank for layer in layers], -1)
