"""Scores a model on rows: loss and accuracy at the targets, without all logits in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tuneport.errors import DataError
from tuneport.plugin import Score
from tuneport_torch.engine.loss import head_logits, read_head
from tuneport_torch.text.refusals import Unrenderable
from tuneport_torch.text.render import Rendered, Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tuneport.plugin import Example
    from tuneport_torch.engine.loss import Head

_ROWS_AT_ONCE = 512
_TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 65536, "mps": 8192}
_LOGITS_AT_ONCE = 2**24


def score(model: PreTrainedModel, renderer: Renderer, examples: Iterable[Example]) -> Score:
    """Loss and next-token accuracy over all tokens, counted by their weights: the loss that training minimizes.

    Raises DataError for a row that cannot be rendered or is longer than the model's positions.
    """
    head = read_head(model, model.dtype)
    rest, totals, read, tokens = iter(examples), torch.zeros(3, dtype=torch.float64), 0, 0
    while some := list(islice(rest, _ROWS_AT_ONCE)):
        rows = [_check_row(model, one, read + at) for at, one in enumerate(renderer.try_render(some), start=1)]
        read += len(some)
        tokens += sum(weight > 0 for row in rows for weight in row.weights[1:])
        for batch in _batches(rows, _TOKENS_AT_ONCE.get(model.device.type, 4096)):
            totals += _batch_totals(model, head, batch)
    loss, right, weight = totals.tolist()
    if not weight:
        raise DataError("There is nothing to score: no row has a token with a loss weight.")
    return Score(loss=loss / weight, token_accuracy=right / weight, tokens=tokens, examples=read)


@torch.inference_mode()
def _batch_totals(model: PreTrainedModel, head: Head, rows: Sequence[Rendered]) -> Tensor:
    """(sum of weight x nll, sum of weight x right, sum of weight) over the rows' targets."""
    longest = max(len(row.ids) for row in rows)
    # No real token sees padding on the right, so no mask is needed, and any id will do.
    ids_BT = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows], device=model.device)
    weights_BT = torch.tensor([row.weights + [0.0] * (longest - len(row.weights)) for row in rows], device=model.device)
    hidden_BTD = model.get_decoder()(input_ids=ids_BT, use_cache=False).last_hidden_state
    where_N2 = (weights_BT[:, 1:] > 0).nonzero()
    row_N, before_N = where_N2.unbind(1)
    totals = torch.zeros(3, dtype=torch.float64)
    chunk = max(16, _LOGITS_AT_ONCE // len(head.weight_VD))
    for start in range(0, len(where_N2), chunk):
        row, before = row_N[start : start + chunk], before_N[start : start + chunk]
        logprob_NV = head_logits(hidden_BTD[row, before], head).log_softmax(-1)
        target_N, weight_N = ids_BT[row, before + 1], weights_BT[row, before + 1]
        nll_N = -logprob_NV.gather(1, target_N[:, None])[:, 0]
        right_N = logprob_NV.argmax(-1) == target_N
        totals += torch.stack([(nll_N * weight_N).sum(), (right_N * weight_N).sum(), weight_N.sum()]).double().cpu()
    return totals


def _check_row(model: PreTrainedModel, row: Rendered | Unrenderable, number: int) -> Rendered:
    if isinstance(row, Unrenderable):
        raise DataError(f"Row {number} cannot be scored: {row.message}", remedy=row.remedy) from row
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions and len(row.ids) > positions:
        raise DataError(
            f"Row {number} has {len(row.ids):,} tokens; the model's limit is {positions:,}.",
            remedy="Remove or shorten it.",
        )
    return row


def _batches(rows: Sequence[Rendered], most: int) -> list[list[Rendered]]:
    """Batches of rows of similar length, with at most `most` tokens including padding (or one row)."""
    batches: list[list[Rendered]] = []
    for row in sorted(rows, key=lambda one: len(one.ids)):
        if batches and len(row.ids) * (len(batches[-1]) + 1) <= most:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
