"""Chooses the next token of each row of a batch, by the row's own options."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tuneport.errors import TuneportError
from tuneport_torch.answer.row import AnswerRow


def choose(logits_BV: Tensor, rows: Sequence[AnswerRow]) -> list[int]:
    """The next token of each row, which depends only on the row's logits, options and earlier tokens.

    Log-probabilities come from the model's own logits. Then penalties change the logits and constraints remove tokens
    before sampling. A row without a possible token fails; its token is arbitrary.
    """
    changed_BV = _apply_options(logits_BV, rows)
    chosen_B = changed_BV.argmax(-1)
    places = [place for place, row in enumerate(rows) if row.options.temperature > 0]
    if places:
        drawn_N = _sample(changed_BV[places], [rows[place] for place in places])
        chosen_B[torch.tensor(places, device=chosen_B.device)] = drawn_N
    chosen = chosen_B.tolist()
    _rank(logits_BV, rows, chosen)
    return chosen


def nucleus(probabilities_BV: Tensor, top_p_B: Tensor) -> Tensor:
    """Zero for tokens outside the smallest set of likeliest ones whose probabilities reach the row's `top_p`."""
    sorted_BV, order_BV = probabilities_BV.sort(-1, descending=True)
    before_BV = sorted_BV.cumsum(-1) - sorted_BV
    kept_BV = before_BV < top_p_B.clamp(min=0.0)[:, None] + 1e-9
    kept_BV |= (top_p_B >= 1)[:, None]
    return torch.zeros_like(sorted_BV).scatter(-1, order_BV, sorted_BV * kept_BV)


def _apply_options(logits_BV: Tensor, rows: Sequence[AnswerRow]) -> Tensor:
    """The logits after penalties and constraints; the same tensor if no row has any."""
    penalized = [
        place for place, row in enumerate(rows) if row.options.frequency_penalty or row.options.presence_penalty
    ]
    bound = [place for place, row in enumerate(rows) if row.constraint is not None and not row.is_over]
    if not penalized and not bound:
        return logits_BV
    changed_BV = logits_BV.float().clone()
    for place in penalized:
        rows[place].penalize(changed_BV[place])
    for place in bound:
        constraint = rows[place].constraint
        assert constraint is not None
        try:
            allowed_V = _unpack_bits(constraint.bits(), logits_BV.shape[-1], logits_BV.device)
        except TuneportError as error:
            rows[place].fail(error)
            continue
        changed_BV[place].masked_fill_(~allowed_V, float("-inf"))
    return changed_BV


def _unpack_bits(bits: bytes, size: int, device: torch.device) -> Tensor:
    """A bool for each of `size` tokens, from a bit for each token of the tokenizer, lowest first."""
    packed_N = torch.frombuffer(bytearray(bits), dtype=torch.uint8).to(device)
    flat = ((packed_N[:, None] >> torch.arange(8, device=device, dtype=torch.uint8)) & 1).flatten().bool()
    return flat[:size] if len(flat) >= size else torch.nn.functional.pad(flat, (0, size - len(flat)))


def _sample(logits_NV: Tensor, rows: Sequence[AnswerRow]) -> Tensor:
    device = logits_NV.device
    # Types are explicit, because torch's default changes while another thread loads a model.
    real = torch.float32
    temperature_N = torch.tensor([row.options.temperature for row in rows], device=device, dtype=real)
    probabilities_NV = torch.softmax(logits_NV.float() / temperature_N[:, None], -1)
    if any(row.options.top_p < 1 for row in rows):
        top_p_N = torch.tensor([row.options.top_p for row in rows], device=device, dtype=real)
        probabilities_NV = nucleus(probabilities_NV, top_p_N)
    below_NV = probabilities_NV.cumsum(-1)
    # One random number per row and step, from the row's own sequence, so that answers do not depend on the batch.
    random_N = torch.tensor([row.draw() for row in rows], dtype=real).to(device)
    at_N1 = (random_N * below_NV[:, -1])[:, None]
    drawn_N1 = torch.searchsorted(below_NV, at_N1, right=True).clamp(max=below_NV.shape[-1] - 1)
    # Rounding may lead past the last token with a probability; then the likeliest is used.
    likeliest_N = probabilities_NV.argmax(-1)
    return torch.where(probabilities_NV.gather(-1, drawn_N1)[:, 0] > 0, drawn_N1[:, 0], likeliest_N)


def _rank(logits_BV: Tensor, rows: Sequence[AnswerRow], chosen: Sequence[int]) -> None:
    """Store the log-probabilities of the chosen and the likeliest tokens in rows that want them."""
    places = [place for place, row in enumerate(rows) if row.options.logprobs is not None]
    if not places:
        return
    logprobs_NV = logits_BV[places].float().log_softmax(-1)
    most = max(rows[place].options.logprobs or 0 for place in places)
    values_NK, ids_NK = logprobs_NV.topk(min(most, logprobs_NV.shape[-1]))
    tops = [list(zip(*one, strict=True)) for one in zip(ids_NK.tolist(), values_NK.tolist(), strict=True)]
    for number, place in enumerate(places):
        row = rows[place]
        row.ranked.append((logprobs_NV[number, chosen[place]].item(), tops[number][: row.options.logprobs or 0]))
