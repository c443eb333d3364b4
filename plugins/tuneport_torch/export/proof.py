"""Whether a model that was written answers as the live one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneport.errors import BackendError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_SAME = 1e-3  # the most that a logit may differ after reloading the same numbers: kernels may round differently
_ROUNDING = 0.05  # nats; rounding to 16 bit usually costs under 0.001, to 8 bit under 0.01


def logits(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """(T, V), float32, of the ids that the model has rows for."""
    import torch

    rows = len(model.get_input_embeddings().weight)  # a tokenizer may be longer
    ids = [one for one in ids if one < rows]
    with torch.inference_mode():
        logits_BTV: torch.Tensor = model(input_ids=torch.tensor([ids]), use_cache=False).logits
    return logits_BTV[0].float()


def check(live_TV: torch.Tensor, rounded_TV: torch.Tensor, reloaded_TV: torch.Tensor, dtype: str) -> None:
    """Raise BackendError unless the written model is the one that was rounded, and rounding changed no answers."""
    import torch

    off = (rounded_TV - reloaded_TV).abs().max().item()
    live, rounded = live_TV.log_softmax(-1), rounded_TV.log_softmax(-1)
    cost = torch.nn.functional.kl_div(rounded, live, log_target=True, reduction="batchmean").item()
    if not cost <= _ROUNDING:
        raise BackendError(
            f"Rounded to {dtype} the model answers otherwise ({cost:.3g} nats per token).",
            remedy="Nothing was written. Choose a wider --dtype, such as bf16 or f32, or export the adapter.",
        )
    if not off <= _SAME:
        raise BackendError(
            f"What was written, loaded again, does not answer as the live model: a logit differs by {off:.3g}.",
            remedy="Nothing is left of it. Export the adapter instead, and report this with the base model's name.",
        )
