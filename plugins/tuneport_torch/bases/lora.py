"""Low-rank adapters: trained in float32 over a frozen model, written in PEFT's format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from tuneport.errors import UnsupportedError, UsageError
from tuneport_torch.bases.adapter import PARTS, PREFIX, WEIGHTS, damaged_adapter, read_lora, read_weights
from tuneport_torch.bases.lora_layer import LoraLinear
from tuneport_torch.bases.quantized import NF4Linear

Targets = Literal["all-linear"] | Sequence[str]


def attach(
    model: Any, *, rank: int = 16, alpha: float = 32.0, dropout: float = 0.0, targets: Targets = "all-linear"
) -> list[str]:
    """Freeze a model and add adapters to its linear layers. Returns the names of those layers.

    `targets` are endings of layer names; "all-linear" means all but the output head. Raises UsageError for an ending
    that no layer has, and for the output head, whose plain weight the loss reads.
    """
    head = model.get_output_embeddings()
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear | Conv1D)}
    if targets == "all-linear":
        chosen = [name for name, layer in layers.items() if layer is not head]
    else:
        for target in targets:
            if not any(_ends(name, target) for name in layers):
                endings = ", ".join(sorted({name.rpartition(".")[2] for name in layers}))
                raise UsageError(f"No linear layer is called {target!r}.", remedy=f"The model's layers are: {endings}.")
        chosen = [name for name in layers if any(_ends(name, target) for target in targets)]
        if any(layers[name] is head for name in chosen):
            raise UsageError("The output head cannot have an adapter.", remedy="Leave it out of adapter.targets.")
    model.requires_grad_(requires_grad=False)
    for name in chosen:
        model.set_submodule(name, LoraLinear(layers[name], rank, alpha, dropout))
    return chosen


def merge(model: Any) -> None:
    """Add every adapter to its frozen weight, in float32, and restore the plain layers. Raises TypeError for 4-bit
    weights, because the sum would be rounded to 4 bits again.
    """
    for name, layer in list(adapter_layers(model).items()):
        if isinstance(layer.base, NF4Linear):
            raise TypeError(f"{name} is quantized: load the adapter over the original base, and merge that")
        with torch.no_grad():
            weight = layer.base.weight
            weight.copy_((weight.float() + layer.delta()).to(weight.dtype))
        model.set_submodule(name, layer.base)


def cast_frozen(model: nn.Module, dtype: torch.dtype) -> None:
    """Round the frozen weights under the adapters once. Autocast rounds them to the same numbers at every use, so this
    changes no result; it saves that work, and half of the weights' memory.
    """
    for layer in adapter_layers(model).values():
        layer.base.to(dtype)


def adapter_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """The layers that have an adapter, by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLinear)}


def save_peft(model: nn.Module, folder: Path, base_name: str, revision: str | None = None) -> None:
    """Write the adapter in PEFT's format, so that `PeftModel.from_pretrained(base, folder)` returns the same model."""
    from safetensors.torch import save_file

    layers = adapter_layers(model)
    if not layers:
        raise UsageError("The model has no adapter.", remedy="Train with mode: lora, or export the complete model.")
    first = next(iter(layers.values()))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "revision": revision,
        "inference_mode": True,
        "r": first.rank,
        "lora_alpha": first.alpha,
        "lora_dropout": first.dropout,
        "target_modules": sorted(layers),
        "fan_in_fan_out": first.transposed,
        "bias": "none",
    }
    tensors = {
        f"{PREFIX}{name}.{part}.weight": getattr(layer, part).detach().cpu().contiguous()
        for name, layer in layers.items()
        for part in PARTS
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_peft(model: Any, folder: Path) -> None:
    """Attach an adapter in PEFT's format. Raises UnsupportedError for all but plain LoRA."""
    from safetensors.torch import load_file

    settings = read_lora(folder)
    names = _layer_names(model, settings.r, folder)
    tensors = load_file(folder / WEIGHTS)
    attach(model, rank=settings.r, alpha=settings.alpha, dropout=settings.lora_dropout, targets=names)
    layers = adapter_layers(model)
    with torch.no_grad():
        for name in names:
            for part in PARTS:
                getattr(layers[name], part).copy_(tensors[f"{PREFIX}{name}.{part}.weight"])


def _layer_names(model: Any, rank: int, folder: Path) -> list[str]:
    """The layers that an adapter's file is for. Raises UnavailableError unless it contains both parts of each, in the
    shapes that the layer and the rank require.
    """
    shapes = read_weights(folder).shapes
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear | Conv1D)}
    head, wanted = model.get_output_embeddings(), {}
    names = sorted({key.removeprefix(PREFIX).rpartition(".lora_")[0] for key in shapes})
    for name in names:
        layer = layers.get(name)
        if layer is None:
            raise damaged_adapter(folder, f"the model under it has no linear layer {name[:200]!r}")
        if layer is head:
            raise UnsupportedError(
                f"The adapter in {folder} changes the output head, {name[:200]}.",
                remedy="Merge it into its base with peft (merge_and_unload), and use the merged folder.",
            )
        inputs, outputs = layer.weight.shape if isinstance(layer, Conv1D) else layer.weight.shape[::-1]
        wanted[f"{PREFIX}{name}.lora_A.weight"] = (rank, inputs)
        wanted[f"{PREFIX}{name}.lora_B.weight"] = (outputs, rank)
    if shapes != wanted or not names:
        odd = next((key for key in sorted({*shapes, *wanted}) if shapes.get(key) != wanted.get(key)), "no tensors")
        raise damaged_adapter(folder, f"{odd[:200]} does not fit the model and the rank {rank}")
    return names


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
