"""How many rows and tokens a model can answer in one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MOST_ROWS = {"cpu": 64, "cuda": 256, "mps": 32}
_CACHE_BYTES = 2**30  # for keys and values on a CPU; on a GPU it is a share of the free memory
_CACHE_SHARE = 0.4


def max_rows(model: PreTrainedModel) -> int:
    """The maximum number of rows in a batch."""
    return _MOST_ROWS.get(model.device.type, 32)


def cache_capacity(model: PreTrainedModel) -> float:
    """The number of tokens whose keys and values fit into the memory for them."""
    device = model.device.type
    memory = _CACHE_SHARE * torch.cuda.mem_get_info(model.device)[0] if device == "cuda" else _CACHE_BYTES
    return memory / _cache_bytes_per_token(model)


def _cache_bytes_per_token(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)
