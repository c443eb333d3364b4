"""Checks that a model's files can be what its config says, before anything of that size is built."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.errors import UnavailableError
from tuneport_torch.bases.files import DamagedModel
from tuneport_torch.bases.headers import Header

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_LAYERS = re.compile(r"(num|n|encoder|decoder)_\w*layers?\Z|num_layers?\Z|block_count\Z")
_EXPERTS = re.compile(r"(num|n)_\w*experts?\Z|expert_count\Z")
_WIDTHS = re.compile(
    r"(hidden|intermediate|vocab|moe_intermediate)_size\Z|(num|n)_(\w+_)?heads?\Z|head_dim\Z|n_embd\Z|n_inner\Z"
    r"|d_model\Z|d_ff\Z|ffn_dim\Z|\w+_lora_rank\Z|embedding_length\Z|feed_forward_length\Z|head_count(_kv)?\Z"
)
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_MOST_TIMES = 2  # the weights in the files; beyond that, loading would invent most of the model
_MOST_TIMES_PACKED = 32  # the same for quantized files, which pack up to 16 weights into one number
_SMALL = 2**22  # weights that never matter
_BUFFERS = 2**25


def check_sizes(config: Mapping[str, Any], headers: Sequence[Header], path: Path) -> None:
    """Raise UnavailableError if a config's counts are larger than the weights allow: every layer has a tensor, every
    expert a tensor or a row of one, and no width is larger than the number of all weights.
    """
    tensors = sum(len(header.shapes) for header in headers)
    if not tensors:
        return
    parameters = sum(header.parameters for header in headers)
    longest = max((axis for header in headers for shape in header.shapes.values() for axis in shape), default=0)
    for name, value in _numbers(config):
        key = name.rpartition(".")[2]
        for pattern, most in ((_LAYERS, tensors), (_EXPERTS, max(tensors, longest)), (_WIDTHS, parameters)):
            if pattern.match(key) and not -1 <= value <= most:
                raise UnavailableError(
                    f"{path} says {name} is {_format(value)}, but the weights are {tensors:,} tensors with "
                    f"{parameters:,} numbers.",
                    remedy="Download or copy the model again.",
                )


def _format(value: float) -> str:
    if isinstance(value, float) or abs(value) < 2**63:
        return f"{value:.4g}"
    return f"a number of {len(str(value)):,} digits"  # too large for a float


def _numbers(config: Mapping[str, Any], under: str = "", levels: int = 4) -> Iterator[tuple[str, int | float]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and levels:
            yield from _numbers(value, f"{under}{key}.", levels - 1)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int | float) and not isinstance(one, bool):
                yield f"{under}{key}", one


def check_memory(name: str, parameters: int, dtype: str) -> None:
    """Raise UnavailableError for weights that do not fit into this machine's memory."""
    import psutil

    room = psutil.virtual_memory().total + psutil.swap_memory().total
    needed = parameters * _BYTES[dtype]
    if needed > room:
        raise UnavailableError(
            f"{name} needs {needed / 1e9:,.0f} GB of memory as {dtype}; this machine has {room / 1e9:,.0f} GB.",
            remedy="Choose a smaller model, or a machine with more memory.",
        )


def check_built(name: str, config: PreTrainedConfig, held: int, *, trust_remote_code: bool) -> None:
    """Raise DamagedModel if the model that a config describes has many more weights than its files: the rest would be
    random numbers that fill the memory. The model is built on torch's meta device, which stores no numbers.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            copy.deepcopy(config), attn_implementation="eager", trust_remote_code=trust_remote_code
        )
    packed = getattr(config, "quantization_config", None) is not None
    weights = sum(weight.numel() for weight in model.parameters())
    buffers = sum(buffer.numel() for buffer in model.buffers())
    if weights > (_MOST_TIMES_PACKED if packed else _MOST_TIMES) * held + _SMALL or buffers > 4 * held + _BUFFERS:
        raise DamagedModel(
            f"The config of {name} describes a model of {weights:,} weights; its files hold {held:,}.",
            remedy="Download or copy the model again.",
        )
