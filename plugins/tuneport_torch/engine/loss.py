"""The loss at positions that have a target, computed without the logits of a complete batch in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Head:
    """A model's output head, from hidden states to logits: `softcap(hidden @ weight_VD.T * scale + bias_V)`."""

    weight_VD: Tensor
    bias_V: Tensor | None
    scale: float
    softcap: float | None
    dtype: torch.dtype


def read_head(model: Any, dtype: torch.dtype) -> Head:
    """The output head of a transformers model, computing in `dtype`. A frozen weight is cast once."""
    linear = model.get_output_embeddings()
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"the output head of {type(model).__name__} is not a plain linear layer")
    weight, bias = linear.weight, linear.bias
    if not weight.requires_grad:
        weight = weight.detach().to(dtype)
    config = model.config.get_text_config()
    scale = 1.0
    if getattr(config, "logit_scale", None) is not None:  # Cohere
        scale *= config.logit_scale
    if getattr(config, "logits_scaling", None) is not None:  # Granite
        scale /= config.logits_scaling
    return Head(weight, bias, scale, getattr(config, "final_logit_softcapping", None), dtype)  # softcap: Gemma


def weighted_loss(hidden_ND: Tensor, head: Head, target_N: Tensor, weight_N: Tensor) -> Tensor:
    """The sum over targets of weight x negative log-likelihood, in nats: a float32 scalar, not a mean."""
    loss: Tensor = _HeadLoss.apply(  # type: ignore[no-untyped-call]  # torch's own
        hidden_ND, head.weight_VD, head.bias_V, target_N, weight_N, head
    )
    return loss


def head_logits(hidden_ND: Tensor, head: Head) -> Tensor:
    """Logits in float32, of shape (N, V)."""
    return _softcap(_raw_logits(hidden_ND.to(head.dtype), head.weight_VD.to(head.dtype), head.bias_V, head), head)


class _HeadLoss(torch.autograd.Function):
    """Computes its gradients in the forward pass, chunk by chunk: the logits are computed once and not kept.

    The gradient by the logits is weight x (softmax - onehot), through the soft cap's derivative 1 - (capped / cap)^2.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        target_N: Tensor,
        weight_N: Tensor,
        head: Head,
    ) -> Tensor:
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        # Autocast is off: every dtype below is explicit.
        with torch.autocast(hidden_ND.device.type, enabled=False):
            hidden = hidden_ND.to(head.dtype)
            weight = weight_VD.to(head.dtype)
            loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
            grad_hidden = torch.empty_like(hidden) if wants_hidden else None
            grad_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if wants_weight else None
            grad_bias = torch.zeros_like(bias_V, dtype=torch.float32) if wants_bias and bias_V is not None else None
            rows = _rows_at_once(weight)
            for start in range(0, len(hidden), rows):
                part = slice(start, start + rows)
                raw_NV = _raw_logits(hidden[part], weight, bias_V, head)
                for few in _cache_parts(raw_NV):
                    where = slice(start + few.start, start + few.stop)
                    loss += _to_gradient(raw_NV[few], target_N[where, None], weight_N[where, None], head, grad_bias)
                if grad_hidden is not None:
                    torch.mm(raw_NV, weight, out=grad_hidden[part])
                if grad_weight is not None:
                    grad_weight += raw_NV.t() @ hidden[part]
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = hidden_ND.dtype, weight_VD.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        hidden_dtype, weight_dtype = ctx.dtypes
        (by,) = outer
        return (
            None if grad_hidden is None else (grad_hidden.float() * by).to(hidden_dtype),
            None if grad_weight is None else (grad_weight * by).to(weight_dtype),
            None if grad_bias is None else grad_bias * by,
            None,
            None,
            None,
        )


def _to_gradient(raw_NV: Tensor, target_N1: Tensor, weight_N1: Tensor, head: Head, grad_bias: Tensor | None) -> Tensor:
    """Replace raw logits by their gradient, in place, and return the loss. In float32, rounded once."""
    logits_NV = _softcap(raw_NV, head)
    slope_NV = None if head.softcap is None else 1 - (logits_NV / head.softcap) ** 2
    logits_NV.sub_(logits_NV.amax(-1, keepdim=True))
    at_target_N1 = logits_NV.gather(1, target_N1)
    share_NV = logits_NV.exp_()
    total_N1 = share_NV.sum(-1, keepdim=True)
    share_NV.mul_(weight_N1 / total_N1).scatter_add_(1, target_N1, -weight_N1)
    if slope_NV is not None:
        share_NV.mul_(slope_NV)
    if grad_bias is not None:
        grad_bias += share_NV.sum(0)
    if head.scale != 1.0:
        share_NV.mul_(head.scale)
    raw_NV.copy_(share_NV)
    return ((total_N1.log() - at_target_N1) * weight_N1).sum()


def _raw_logits(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, head: Head) -> Tensor:
    logits_NV = hidden_ND @ weight_VD.t()
    if head.scale != 1.0:
        logits_NV = logits_NV * head.scale
    return logits_NV if bias_V is None else logits_NV + bias_V


def _softcap(raw_NV: Tensor, head: Head) -> Tensor:
    logits_NV = raw_NV.float()
    return logits_NV if head.softcap is None else torch.tanh(logits_NV / head.softcap) * head.softcap


def _rows_at_once(weight_VD: Tensor) -> int:
    """Rows whose logits are in memory at once: tens of megabytes on a CPU, half a gigabyte on a GPU."""
    elements = 2**24 if weight_VD.device.type == "cpu" else 2**27
    return max(16, elements // len(weight_VD))


def _cache_parts(raw_NV: Tensor) -> Iterator[slice]:
    """Parts of a chunk that fit into a CPU's cache, because they are used several times; on a GPU, all of it."""
    rows = len(raw_NV) if raw_NV.device.type != "cpu" else max(1, 2**19 // raw_NV.shape[1])
    return (slice(start, min(start + rows, len(raw_NV))) for start in range(0, len(raw_NV), rows))
