"""Exact attention over packed documents, each of which sees only itself, without a mask over the pack."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

from tuneport_torch.engine.rectangles import Group, short_attention, visible_keys

varlen_attn: Any
try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn = None
_VARLEN_OPTIONS = frozenset(inspect.signature(varlen_attn).parameters) if varlen_attn is not None else frozenset()

NAME = "tuneport_packed"
_SHORT = 512
_NO_SUCH = ("s_aux", "position_bias", "cache")  # arguments of other attention functions that change the result


class NotPackableError(Exception):
    """The model needs another attention than the one computed here."""


class Documents:
    """Where the documents of a pack start and end. `starts` has one more number than there are documents (int32)."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths, self.device = tuple(lengths), device
        self.longest = max(lengths)
        self.starts = to_device(torch.tensor([0, *lengths]).cumsum(0).to(torch.int32), device)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The rectangles for computing attention without a fused kernel."""
        return _groups(self.lengths, self.device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device; to a GPU from pinned memory, so that the copy does not wait for the GPU's pending work."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    documents: Documents | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **other: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each document. query (1, heads, T, d), key and value (1, heads or fewer, T, d); returns
    (1, T, heads, d). Registered with transformers as NAME; the model passes `documents` to it.
    """
    if documents is None or attention_mask is not None or any(other.get(name) is not None for name in _NO_SUCH):
        raise NotPackableError(f"{type(module).__name__} needs more than causal attention within documents")
    if query.dtype != value.dtype:  # rotary embedding leaves float32 under autocast
        query, key = query.to(value.dtype), key.to(value.dtype)
    if varlen_attn is not None and query.is_cuda and query.dtype == torch.bfloat16 and softcap is None and not dropout:
        return _varlen(query, key, value, documents, scaling, sliding_window), None
    return _in_rectangles(query[0], key[0], value[0], documents, scaling, dropout, sliding_window, softcap)[None], None


AttentionInterface.register(NAME, packed_attention)


# Its loops depend on the lengths, which differ from batch to batch.
@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch's own
def _in_rectangles(
    query_HTd: Tensor,
    key_GTd: Tensor,
    value_GTd: Tensor,
    documents: Documents,
    scaling: float | None,
    dropout: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Attention without a fused kernel, (T, H, d)."""
    if query_HTd.device.type == "cpu" and softcap is None and not dropout and documents.longest <= _SHORT:
        scale = query_HTd.shape[-1] ** -0.5 if scaling is None else scaling
        return short_attention(query_HTd, key_GTd, value_GTd, documents.groups, scale, window)
    parts = [
        _rectangle(group, query_HTd, key_GTd, value_GTd, scaling, dropout, window, softcap)
        for group in documents.groups
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _rectangle(
    group: Group,
    query_HTd: Tensor,
    key_GTd: Tensor,
    value_GTd: Tensor,
    scaling: float | None,
    dropout: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Attention of a group, (T', H, d) in the order of the pack. Shorter documents are padded at their end with
    arbitrary values, because no real query sees them under a causal mask.
    """
    query, key, value = (
        x.index_select(1, group.read).view(len(x), group.documents, group.longest, -1).transpose(0, 1)
        for x in (query_HTd, key_GTd, value_GTd)
    )
    short = query.device.type == "cpu" and group.longest <= _SHORT
    if softcap is not None or short:
        out = _plain(query, key, value, visible_keys(group.longest, window, query.device), scaling, dropout, softcap)
    else:
        repeat = len(query_HTd) // len(key_GTd)
        if repeat > 1:
            key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
        mask = None if window is None or group.longest <= window else visible_keys(group.longest, window, query.device)
        out = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling, is_causal=mask is None
        )
    out = out.transpose(1, 2).flatten(0, 1)
    return out if group.real is None else out.index_select(0, group.real)


def _plain(
    query_nHLd: Tensor,
    key_nGLd: Tensor,
    value_nGLd: Tensor,
    allowed_LL: Tensor,
    scaling: float | None,
    dropout: float,
    softcap: float | None,
) -> Tensor:
    """Attention with explicit scores, for short documents: on a CPU, two to five times as fast as the fused kernel up
    to about 500 tokens. Heads that share a key are concatenated, so that no key is copied.
    """
    documents, heads, length, width = query_nHLd.shape
    groups = key_nGLd.shape[1]
    query = query_nHLd.reshape(documents * groups, heads // groups * length, width)
    key, value = (x.reshape(documents * groups, length, width) for x in (key_nGLd, value_nGLd))
    bias = torch.zeros_like(allowed_LL, dtype=query.dtype).masked_fill_(~allowed_LL, float("-inf"))
    bias = bias.repeat(heads // groups, 1)
    scale = width**-0.5 if scaling is None else scaling
    if softcap is None:
        scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=scale)
    else:
        scores = torch.tanh(torch.bmm(query, key.transpose(1, 2)) * (scale / softcap)) * softcap + bias
    shares = F.dropout(scores.softmax(-1), dropout)
    return torch.bmm(shares, value).view(documents, heads, length, width)


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, documents: Documents, scaling: float | None, window: int | None
) -> Tensor:
    """The fused kernel for documents of any length, in bfloat16 on CUDA."""
    options: dict[str, Any] = {"scale": scaling}
    if "window_size" in _VARLEN_OPTIONS:
        options["window_size"] = (-1 if window is None else window - 1, 0)
    else:
        options["is_causal"] = True
    query_THd, key_TGd, value_TGd = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    if "enable_gqa" in _VARLEN_OPTIONS:
        options["enable_gqa"] = True
    else:
        repeat = query_THd.shape[1] // key_TGd.shape[1]
        key_TGd, value_TGd = key_TGd.repeat_interleave(repeat, 1), value_TGd.repeat_interleave(repeat, 1)
    starts, longest = documents.starts, documents.longest
    out: Tensor = varlen_attn(query_THd, key_TGd, value_TGd, starts, starts, longest, longest, **options)
    return out[None]


def _groups(lengths: Sequence[int], device: torch.device) -> tuple[Group, ...]:
    """Split the documents of a pack into groups whose rectangles are about three quarters full. A kernel call costs as
    much as several thousand cells, so fewer groups are better.
    """
    cuts, count, longest, squares = [0], 0, 0, 0
    for document, length in enumerate(lengths):
        longest, squares, count = max(longest, length), squares + length**2, count + 1
        if count > 1 and longest**2 * count > 1.3 * squares + 4096:
            cuts.append(document)
            longest, squares, count = length, length**2, 1
    groups, first = [], 0
    for begin, end in zip(cuts, [*cuts[1:], len(lengths)], strict=True):
        within = torch.tensor(lengths[begin:end])
        groups.append(_group(within, first, device))
        first += int(within.sum())
    return tuple(groups)


def _group(lengths: Tensor, first: int, device: torch.device) -> Group:
    longest = int(lengths.max())
    starts = first + lengths.cumsum(0) - lengths
    cell = torch.arange(longest)
    read = (starts[:, None] + cell.minimum(lengths[:, None] - 1)).flatten()
    real = (cell < lengths[:, None]).flatten()
    tokens = slice(first, first + int(lengths.sum()))
    return Group(
        tokens,
        to_device(read, device),
        None if bool(real.all()) else to_device(real.nonzero()[:, 0], device),
        len(lengths),
        longest,
    )
