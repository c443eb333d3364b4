"""Differentiable log-probabilities of targets, computed without the logits of a complete batch in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tuneport_torch.engine.loss import Head, head_logits, weighted_loss

_LOGITS_AT_ONCE = {"cpu": 2**23, "cuda": 2**27}  # elements: a CPU's cache, or half a gigabyte of a GPU's memory


def target_logprobs(hidden_ND: Tensor, head: Head, target_N: Tensor) -> Tensor:
    """The log-probability, in nats, of each target after its hidden state: float32, of shape (N,).

    Unlike in `loss.weighted_loss`, the factors of the gradients may depend on all log-probabilities, as when answers
    are compared. They are unknown in the forward pass, so the logits are computed twice.
    """
    logprob_N: Tensor = _TargetLogprobs.apply(  # type: ignore[no-untyped-call]  # torch's own
        hidden_ND, head.weight_VD, head.bias_V, target_N, head
    )
    return logprob_N


class _TargetLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, target_N: Tensor, head: Head
    ) -> Tensor:
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, target_N)
        ctx.head = head
        chunk = max(16, _LOGITS_AT_ONCE.get(hidden_ND.device.type, 2**27) // len(weight_VD))
        logprob_N = torch.empty(len(target_N), dtype=torch.float32, device=hidden_ND.device)
        with torch.autocast(hidden_ND.device.type, enabled=False):
            for start in range(0, len(target_N), chunk):
                part = slice(start, start + chunk)
                logits_NV = head_logits(hidden_ND[part], head)
                logprob_N[part] = logits_NV.gather(1, target_N[part, None])[:, 0] - logits_NV.logsumexp(-1)
        return logprob_N

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        """The gradient of sum(by x log-probability) is that of the weighted loss with the weights -by."""
        *inputs, target_N = ctx.saved_tensors
        leaves: list[Any] = [
            None if one is None else one.detach().requires_grad_(wants)
            for one, wants in zip(inputs, ctx.needs_input_grad, strict=False)
        ]
        hidden_ND, weight_VD, bias_V = leaves
        with torch.enable_grad():
            loss = weighted_loss(hidden_ND, replace(ctx.head, weight_VD=weight_VD, bias_V=bias_V), target_N, -outer[0])
        wanted = [leaf is not None and leaf.requires_grad for leaf in leaves]
        found = iter(torch.autograd.grad(loss, [leaf for leaf, wants in zip(leaves, wanted, strict=True) if wants]))
        return (*(next(found) if wants else None for wants in wanted), None, None)
