"""The loss at the positions that have a target, without ever holding the logits of a whole batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Head:
    """A causal model's way from hidden states to logits: `softcap(hidden @ weight_VD.T * scale + bias_V)`."""

    weight_VD: Tensor
    bias_V: Tensor | None
    scale: float
    softcap: float | None
    dtype: torch.dtype


def read_head(model: Any, dtype: torch.dtype) -> Head:
    """The output head of a transformers model, computing in `dtype`; a frozen one is cast once and for all."""
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
    """The sum over targets of weight x negative log-likelihood, in nats: a float32 scalar, divided by nothing yet."""
    loss: Tensor = _HeadLoss.apply(  # type: ignore[no-untyped-call]  # torch's own
        hidden_ND, head.weight_VD, head.bias_V, target_N, weight_N, head
    )
    return loss


def head_logits(hidden_ND: Tensor, head: Head) -> Tensor:
    """Logits in float32, of shape (N, V)."""
    return _capped(_raw_logits(hidden_ND.to(head.dtype), head.weight_VD.to(head.dtype), head.bias_V, head), head)


class _HeadLoss(torch.autograd.Function):
    """Computes its gradients in the forward pass, chunk by chunk: the logits are made once and never kept.

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
        # Autocast is off: every dtype below is meant.
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
                logits_NV = _capped(raw_NV, head)
                logprob_NV = torch.log_softmax(logits_NV, dim=-1)
                target = target_N[part, None]
                scale_N1 = weight_N[part, None]
                loss -= (logprob_NV.gather(1, target) * scale_N1).sum()
                if not (wants_hidden or wants_weight or wants_bias):
                    continue
                grad_NV = logprob_NV.exp_()
                grad_NV[torch.arange(len(target), device=target.device), target[:, 0]] -= 1.0
                grad_NV.mul_(scale_N1)
                if head.softcap is not None:
                    grad_NV.mul_(1 - (logits_NV / head.softcap) ** 2)
                if grad_bias is not None:
                    grad_bias += grad_NV.sum(0)
                if head.scale != 1.0:
                    grad_NV.mul_(head.scale)
                grad = grad_NV.to(head.dtype)
                if grad_hidden is not None:
                    torch.mm(grad, weight, out=grad_hidden[part])
                if grad_weight is not None:
                    grad_weight += grad.t() @ hidden[part]
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


def _raw_logits(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, head: Head) -> Tensor:
    logits_NV = hidden_ND @ weight_VD.t()
    if head.scale != 1.0:
        logits_NV = logits_NV * head.scale
    return logits_NV if bias_V is None else logits_NV + bias_V


def _capped(raw_NV: Tensor, head: Head) -> Tensor:
    logits_NV = raw_NV.float()
    return logits_NV if head.softcap is None else torch.tanh(logits_NV / head.softcap) * head.softcap


def _rows_at_once(weight_VD: Tensor) -> int:
    """Rows of a chunk: its logits stay within a CPU's cache, or within half a gigabyte of a GPU's memory."""
    elements = 2**23 if weight_VD.device.type == "cpu" else 2**27
    return max(16, elements // len(weight_VD))
