"""Updates the weights by their gradients without reading a number from the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def adamw(trained: dict[str, nn.Parameter], weight_decay: float, device: torch.device) -> torch.optim.AdamW:
    """The optimizer of the trained weights. Only matrices have weight decay."""
    matrices = [weight for weight in trained.values() if weight.ndim >= 2]
    others = [weight for weight in trained.values() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=device.type in ("cpu", "cuda"))


def update(
    optimizer: torch.optim.AdamW, trained: Sequence[nn.Parameter], rate: float, max_norm: float, loss: Tensor
) -> Tensor:
    """Take a step with gradients clipped to `max_norm`. Returns their norm before clipping.

    If the loss or the norm is not finite, weights and moments do not change by a bit. The fused kernel decides that on
    the device, by the same `found_inf` that torch's gradient scaler uses.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    norm = nn.utils.clip_grad_norm_(trained, max_norm)
    skipped = ~(loss.isfinite() & norm.isfinite())
    if optimizer.defaults["fused"]:
        optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]  # read by its step, declared nowhere
        optimizer.step()
    elif not skipped:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
