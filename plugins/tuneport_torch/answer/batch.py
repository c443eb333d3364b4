"""A batch of answers over one key-value cache. Rows may join and leave between two steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from tuneport_torch.answer.row import AnswerRow
from tuneport_torch.answer.sampling import choose

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Batch:
    """Reads the prompts of its rows, then adds one token to each row per step. A finished row leaves the batch.

    Rows are aligned at their last tokens: the columns before a row's first token are padding, which no token sees.
    """

    def __init__(self, model: PreTrainedModel, rows: Sequence[AnswerRow], pad_id: int) -> None:
        self.rows = list(rows)
        self._model = model
        longest = max(len(row.tokens) for row in rows)
        self.pads = [longest - len(row.tokens) for row in rows]
        padded = [[pad_id] * pad + row.tokens for pad, row in zip(self.pads, rows, strict=True)]
        self.unread_BT = torch.tensor(padded, device=model.device)
        self.columns = 0  # columns in the cache
        self.cache: Any = None

    @property
    def is_reading(self) -> bool:
        """Whether a prompt has unread tokens before its last one."""
        return self.columns == 0 or self.unread_BT.shape[1] > 1

    @torch.inference_mode()
    def step(self, most: int | None = None) -> list[AnswerRow]:
        """Read all unread columns, or `most` of them. Returns the rows that got a token, if any."""
        ids_BT = self.unread_BT[:, :most]
        end = self.columns + ids_BT.shape[1]
        pads_B1 = torch.tensor(self.pads, device=ids_BT.device)[:, None]
        columns_T = torch.arange(end, device=ids_BT.device)
        out = self._model(
            input_ids=ids_BT,
            attention_mask=(columns_T >= pads_B1).long() if any(self.pads) else None,
            position_ids=(columns_T[self.columns :] - pads_B1).clamp(min=0),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache, self.columns = out.past_key_values, end
        self.unread_BT = self.unread_BT[:, ids_BT.shape[1] :]
        if self.unread_BT.shape[1]:
            return []
        grown = self.rows
        chosen = choose(out.logits[:, -1], grown)
        for row, token in zip(grown, chosen, strict=True):
            row.add(token)
        self.unread_BT = torch.tensor(chosen, device=ids_BT.device)[:, None]
        self.leave([row for row in grown if row.is_over])
        return grown

    @torch.inference_mode()
    def leave(self, gone: Sequence[AnswerRow]) -> None:
        """Remove rows."""
        keep = [place for place, row in enumerate(self.rows) if row not in gone]
        if len(keep) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in keep]
        self.pads = [self.pads[place] for place in keep]
        if not keep:
            self.cache = None
            return
        keep_B = torch.tensor(keep, device=self.unread_BT.device)
        self.unread_BT = self.unread_BT[keep_B]
        if self.cache is not None:
            self.cache.batch_select_indices(keep_B)
            self._trim()

    def can_join(self, other: Batch) -> bool:
        """Whether both batches have read their prompts and can be merged."""
        read = not (self.is_reading or other.is_reading)
        return read and all(is_plain(one.cache) for one in (self, other))

    @torch.inference_mode()
    def join(self, other: Batch) -> None:
        """Add the rows of another batch."""
        longest = max(self.columns, other.columns)
        pads = [pad + longest - one.columns for one in (self, other) for pad in one.pads]
        for ours, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            if not ours.is_initialized:  # a layer that shares the keys and values of another one
                continue
            size = max(ours.keys.shape[-2], theirs.keys.shape[-2])
            ours.keys = torch.cat([_pad_left(ours.keys, size), _pad_left(theirs.keys, size)])
            ours.values = torch.cat([_pad_left(ours.values, size), _pad_left(theirs.values, size)])
            _set_length(ours, longest)
        self.rows, self.pads, self.columns = [*self.rows, *other.rows], pads, longest
        self.unread_BT = torch.cat([self.unread_BT, other.unread_BT])

    def _trim(self) -> None:
        """Drop columns that are padding in every row, so that a batch is never longer than its longest row."""
        spare = min(*self.pads, self.columns)
        if not spare or self.is_reading or not is_plain(self.cache):
            return
        self.columns -= spare
        self.pads = [pad - spare for pad in self.pads]
        for layer in self.cache.layers:
            if layer.is_initialized:
                size = min(layer.keys.shape[-2], self.columns)  # a layer with a window has fewer
                layer.keys, layer.values = layer.keys[..., -size:, :], layer.values[..., -size:, :]
                _set_length(layer, self.columns)


def is_plain(cache: Any) -> bool:
    """Whether a cache has only keys and values, a column per token, and no other state."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    known = (DynamicLayer, DynamicSlidingWindowLayer)
    return type(cache) is DynamicCache and all(type(layer) in known for layer in cache.layers)


def _pad_left(states_BHTD: torch.Tensor, size: int) -> torch.Tensor:
    return torch.nn.functional.pad(states_BHTD, (0, 0, size - states_BHTD.shape[-2], 0))


def _set_length(layer: Any, columns: int) -> None:
    """Set the length that a layer with a window has seen."""
    if layer.is_sliding:
        layer.cumulative_length = columns
