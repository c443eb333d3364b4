"""Prepares a model for training: its device, its number types, its adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tuneport_torch.bases import lora
from tuneport_torch.bases.loading import round_weights
from tuneport_torch.config import TorchSettings
from tuneport_torch.engine.compiled import compile_forward
from tuneport_torch.engine.forward import Forward, choose_forward
from tuneport_torch.resolved import Resolved


def prepare(model: Any, settings: TorchSettings, resolved: Resolved, emit: Callable[..., None]) -> Forward:
    """Put a model on its device with its adapter, in the right number types. Returns its forward pass."""
    device, dtype = torch.device(resolved.device), getattr(torch, resolved.precision)
    exact = dtype == torch.float32
    if exact or settings.mode == "full":  # master weights in float32: in bfloat16 small updates are lost
        model.float()
    elif device.type == "cuda":  # frozen weights in their stored type: half the memory and traffic
        round_weights(model, "bfloat16")
    if settings.quantize != "none":  # first, so that the device needs no memory for the full model
        _adapt(model, settings)
        for layer in lora.adapter_layers(model).values():
            layer.quantize(device)
    model.to(device)
    forward = choose_forward(model, resolved.packing, dtype, emit)
    if settings.mode == "full":
        model.requires_grad_(requires_grad=True)
    elif settings.quantize == "none":
        _adapt(model, settings)
    if settings.mode == "lora" and not exact:
        lora.cast_frozen(model, dtype)
    forward.open()
    if resolved.compile:
        compile_forward(forward, emit)
    return forward


def _adapt(model: Any, settings: TorchSettings) -> None:
    adapter = settings.adapter
    lora.attach(model, rank=adapter.rank, alpha=adapter.alpha, dropout=adapter.dropout, targets=adapter.targets)
