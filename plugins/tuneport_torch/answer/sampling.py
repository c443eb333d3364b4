"""Which token comes next in each row of a batch, each by its own options."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tuneport.errors import TuneportError
from tuneport_torch.answer.row import Row


def choose(logits_BV: Tensor, rows: Sequence[Row]) -> list[int]:
    """The next token of each row. A row's choice depends on its own logits, options and earlier tokens alone.

    Log-probabilities are taken from the model's own logits. Then penalties change them, and constraints take away the
    tokens that may not come, before anything is drawn. A row that has no token left is failed; its token is any.
    """
    changed_BV = _changed(logits_BV, rows)
    chosen_B = changed_BV.argmax(-1)
    places = [place for place, row in enumerate(rows) if row.options.temperature > 0]
    if places:
        drawn_N = _drawn(changed_BV[places], [rows[place] for place in places])
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


def _changed(logits_BV: Tensor, rows: Sequence[Row]) -> Tensor:
    """The logits after penalties and constraints; the very same tensor where no row has any."""
    punished = [
        place for place, row in enumerate(rows) if row.options.frequency_penalty or row.options.presence_penalty
    ]
    bound = [place for place, row in enumerate(rows) if row.constraint is not None and not row.over]
    if not punished and not bound:
        return logits_BV
    changed_BV = logits_BV.float().clone()
    for place in punished:
        rows[place].penalize(changed_BV[place])
    for place in bound:
        constraint = rows[place].constraint
        assert constraint is not None
        try:
            allowed_V = _unpacked(constraint.bits(), logits_BV.shape[-1], logits_BV.device)
        except TuneportError as error:
            rows[place].fail(error)
            continue
        changed_BV[place].masked_fill_(~allowed_V, float("-inf"))
    return changed_BV


def _unpacked(bits: bytes, size: int, device: torch.device) -> Tensor:
    """A truth for each of `size` tokens from a bit for each that the tokenizer knows, lowest first."""
    packed_N = torch.frombuffer(bytearray(bits), dtype=torch.uint8).to(device)
    flat = ((packed_N[:, None] >> torch.arange(8, device=device, dtype=torch.uint8)) & 1).flatten().bool()
    return flat[:size] if len(flat) >= size else torch.nn.functional.pad(flat, (0, size - len(flat)))


def _drawn(logits_NV: Tensor, rows: Sequence[Row]) -> Tensor:
    device = logits_NV.device
    # Types are given, because torch's default is another one while another thread loads a model.
    real = torch.float32
    temperature_N = torch.tensor([row.options.temperature for row in rows], device=device, dtype=real)
    probabilities_NV = torch.softmax(logits_NV.float() / temperature_N[:, None], -1)
    if any(row.options.top_p < 1 for row in rows):
        top_p_N = torch.tensor([row.options.top_p for row in rows], device=device, dtype=real)
        probabilities_NV = nucleus(probabilities_NV, top_p_N)
    below_NV = probabilities_NV.cumsum(-1)
    # One random number a row and step, from the row's own sequence: its answer is its own in any batch.
    random_N = torch.tensor([row.draw() for row in rows], dtype=real).to(device)
    at_N1 = (random_N * below_NV[:, -1])[:, None]
    drawn_N1 = torch.searchsorted(below_NV, at_N1, right=True).clamp(max=below_NV.shape[-1] - 1)
    # Rounding may lead behind the last token that has a probability; the likeliest has one.
    likeliest_N = probabilities_NV.argmax(-1)
    return torch.where(probabilities_NV.gather(-1, drawn_N1)[:, 0] > 0, drawn_N1[:, 0], likeliest_N)


def _rank(logits_BV: Tensor, rows: Sequence[Row], chosen: Sequence[int]) -> None:
    """Give the rows that want them the log-probabilities of what was chosen and of the likeliest tokens."""
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
