"""Checks that a written model answers like the trained one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneport.errors import BackendError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_SAME = 1e-3  # the maximum difference of a logit after reloading the same numbers: kernels may round differently
_ROUNDING = 0.05  # nats; rounding to 16 bit usually costs under 0.001, to 8 bit under 0.01


def logits(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """Logits, (T, V), float32, of the ids for which the model has embeddings."""
    import torch

    rows = len(model.get_input_embeddings().weight)  # a tokenizer may have more ids
    ids = [one for one in ids if one < rows]
    with torch.inference_mode():
        logits_BTV: torch.Tensor = model(input_ids=torch.tensor([ids]), use_cache=False).logits
    return logits_BTV[0].float()


def check(live_TV: torch.Tensor, rounded_TV: torch.Tensor, reloaded_TV: torch.Tensor, dtype: str) -> None:
    """Raise BackendError unless the written model is the rounded one, and rounding changed no answers."""
    import torch

    difference = (rounded_TV - reloaded_TV).abs().max().item()
    live, rounded = live_TV.log_softmax(-1), rounded_TV.log_softmax(-1)
    cost = torch.nn.functional.kl_div(rounded, live, log_target=True, reduction="batchmean").item()
    if not cost <= _ROUNDING:
        raise BackendError(
            f"Rounding to {dtype} changes the model's answers ({cost:.3g} nats per token).",
            remedy="Nothing was written. Choose a wider --dtype, such as bf16 or f32, or export the adapter.",
        )
    if not difference <= _SAME:
        raise BackendError(
            f"The exported model's answers differ from the trained model's: a logit differs by {difference:.3g}.",
            remedy="Nothing was written. Export the adapter instead, and report this with the base model's name.",
        )
