"""Causal attention of short documents on a CPU, with its gradient, over rectangles of documents of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

_BLOCK = 96  # rows of a block of queries, which reads no key after its last row


@dataclass(frozen=True, slots=True)
class Group:
    """Neighboring documents of similar length as a rectangle (documents x longest): their tokens in the pack, the
    places in the pack from which its cells are read, and the cells that are real (None: all).
    """

    tokens: slice
    read: Tensor
    real: Tensor | None
    documents: int
    longest: int
    masks: dict[Any, Tensor] = field(default_factory=dict)

    def cells(self, all_THd: Tensor) -> Tensor:
        """The rectangle of the values of a pack's tokens: (documents, longest, heads, d). Shorter documents are padded
        at their end with arbitrary values, because no real query sees them under a causal mask.
        """
        cells = all_THd[self.tokens] if self.real is None else all_THd.index_select(0, self.read)
        return cells.reshape(self.documents, self.longest, *cells.shape[1:])

    def spread(self, grad_THd: Tensor) -> Tensor:
        """Like `cells`, with zeros in cells without a token."""
        grad = grad_THd[self.tokens]
        if self.real is not None:
            zeros = grad.new_zeros(self.documents * self.longest, *grad.shape[1:])
            grad = zeros.index_copy_(0, self.real, grad)
        return grad.reshape(self.documents, self.longest, *grad.shape[1:])

    def put(self, cells_nLHd: Tensor, all_THd: Tensor) -> None:
        """Write the real cells to the places of their tokens in the pack."""
        if self.real is None:
            all_THd[self.tokens].copy_(cells_nLHd.flatten(0, 1))
        else:
            torch.index_select(cells_nLHd.flatten(0, 1), 0, self.real, out=all_THd[self.tokens])

    def blocks(self, window: int | None, repeat: int, dtype: torch.dtype) -> Iterator[tuple[slice, slice, Tensor]]:
        """Blocks of queries: their rows (each position has one for each of `repeat` heads), the keys that they may see,
        and a bias for the scores: 0, or -inf for keys that they do not see.
        """
        count = max(1, round(self.longest / _BLOCK))
        edges = [self.longest * number // count for number in range(count + 1)]
        for begin, end in pairwise(edges):
            first = 0 if window is None else max(0, begin - window + 1)
            key = (begin, end, window, repeat, dtype)
            if key not in self.masks:
                seen = visible_keys(self.longest, window, self.read.device)[begin:end, first:end]
                mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
                self.masks[key] = mask.repeat_interleave(repeat, 0)
            yield slice(begin * repeat, end * repeat), slice(first, end), self.masks[key]


def visible_keys(length: int, window: int | None, device: torch.device) -> Tensor:
    """Which positions (columns) a position (row) sees: itself and earlier ones within the window."""
    position = torch.arange(length, device=device)
    back = position[:, None] - position[None, :]
    return back >= 0 if window is None else (back >= 0) & (back < window)


def short_attention(
    query_HTd: Tensor, key_GTd: Tensor, value_GTd: Tensor, groups: Sequence[Group], scale: float, window: int | None
) -> Tensor:
    """Attention within each document, (T, H, d), with explicit scores: up to about 500 tokens, that is two to five
    times as fast on a CPU as the fused kernel. Heads that share a key are concatenated, so that no key is copied.
    """
    out: Tensor = _ShortAttention.apply(  # type: ignore[no-untyped-call]  # torch's own
        query_HTd, key_GTd, value_GTd, groups, scale, window
    )
    return out


class _ShortAttention(torch.autograd.Function):
    """With shares P = softmax(scale Q K' + mask): dV = P' dO, dS = P (dO V' - rowsum(P dO V')), dQ = scale dS K,
    dK = scale dS' Q. Written by hand because autograd would add the gradients of all groups over full packs.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query_HTd: Tensor,
        key_GTd: Tensor,
        value_GTd: Tensor,
        groups: Sequence[Group],
        scale: float,
        window: int | None,
    ) -> Tensor:
        heads, tokens, width = query_HTd.shape
        sharing, repeat = len(key_GTd), heads // len(key_GTd)
        out_THd = query_HTd.new_empty(tokens, heads, width)
        kept: list[Tensor] = []
        with torch.autocast(query_HTd.device.type, enabled=False):
            for group in groups:
                query, key, value = (
                    _by_key(group.cells(x.transpose(0, 1)), sharing) for x in (query_HTd, key_GTd, value_GTd)
                )
                kept += [query, key, value]
                outs = []
                for rows, seen, mask in group.blocks(window, repeat, query.dtype):
                    shares = torch.baddbmm(mask, query[:, rows], key[:, seen].mT, alpha=scale).softmax(-1)
                    outs.append(torch.bmm(shares, value[:, seen]))
                    kept.append(shares)
                group.put(_by_head(_concatenate(outs), group.documents, repeat), out_THd)
        ctx.save_for_backward(*kept)
        ctx.groups, ctx.scale, ctx.window, ctx.sharing = groups, scale, window, sharing
        return out_THd

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        kept = iter(ctx.saved_tensors)
        (grad_THd,) = outer
        tokens, heads, width = grad_THd.shape
        repeat = heads // ctx.sharing
        grads = [grad_THd.new_empty(tokens, count, width) for count in (heads, ctx.sharing, ctx.sharing)]
        for group in ctx.groups:
            query, key, value = next(kept), next(kept), next(kept)
            grad = _by_key(group.spread(grad_THd), ctx.sharing)
            grad_key, grad_value, grad_queries = torch.zeros_like(key), torch.zeros_like(value), []
            for rows, seen, _ in group.blocks(ctx.window, repeat, query.dtype):
                shares, by = next(kept), grad[:, rows]
                grad_value[:, seen] += torch.bmm(shares.mT, by)
                by_shares = torch.bmm(by, value[:, seen].mT)
                by_scores = torch._softmax_backward_data(by_shares, shares, -1, shares.dtype)  # noqa: SLF001 - no other name
                grad_queries.append(torch.bmm(by_scores, key[:, seen]).mul_(ctx.scale))
                grad_key[:, seen] += torch.bmm(by_scores.mT, query[:, rows]).mul_(ctx.scale)
            found = ((_concatenate(grad_queries), repeat), (grad_key, 1), (grad_value, 1))
            for (part, each), total in zip(found, grads, strict=True):
                group.put(_by_head(part, group.documents, each), total)
        return *(total.transpose(0, 1) for total in grads), None, None, None


def _concatenate(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _by_key(cells_nLHd: Tensor, sharing: int) -> Tensor:
    """(documents x keys, longest x heads of a key, d), contiguous."""
    documents, longest, heads, width = cells_nLHd.shape
    parts = cells_nLHd.view(documents, longest, sharing, heads // sharing, width).transpose(1, 2)
    return parts.reshape(documents * sharing, longest * (heads // sharing), width)


def _by_head(parts: Tensor, documents: int, repeat: int) -> Tensor:
    """The inverse of `_by_key`: (documents, longest, heads, d)."""
    _, rows, width = parts.shape
    cells = parts.view(documents, -1, rows // repeat, repeat, width).transpose(1, 2)
    return cells.reshape(documents, rows // repeat, -1, width)
