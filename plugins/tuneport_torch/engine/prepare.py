"""Prepares a model for training: its device, its number types, its adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tuneport_torch.bases import lora
from tuneport_torch.bases.loading import round_weights
from tuneport_torch.bases.precision import fastest
from tuneport_torch.config import TorchSettings
from tuneport_torch.engine.compiled import compile_forward
from tuneport_torch.engine.forward import Forward, choose_forward


def pick_device(setting: str) -> torch.device:
    """The device for the setting on this machine."""
    if setting != "auto":
        return torch.device(setting)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def compute_type(setting: str, device: torch.device) -> torch.dtype:
    """The number type of the forward and backward pass. Never float16, whose range is too small for gradients."""
    if setting == "auto":
        setting = fastest(device.type)
    return torch.bfloat16 if setting == "bfloat16" else torch.float32


def prepare(
    model: Any, settings: TorchSettings, device: torch.device, dtype: torch.dtype, emit: Callable[..., None]
) -> Forward:
    """Put a model on its device with its adapter, in the right number types. Returns its forward pass."""
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
    forward = choose_forward(model, settings.packing, dtype, emit)
    if settings.mode == "full":
        model.requires_grad_(requires_grad=True)
    elif settings.quantize == "none":
        _adapt(model, settings)
    if settings.mode == "lora" and not exact:
        lora.cast_frozen(model, dtype)
    forward.open()
    if settings.compile is True:
        compile_forward(forward, emit)
    return forward


def _adapt(model: Any, settings: TorchSettings) -> None:
    adapter = settings.adapter
    lora.attach(model, rank=adapter.rank, alpha=adapter.alpha, dropout=adapter.dropout, targets=adapter.targets)
