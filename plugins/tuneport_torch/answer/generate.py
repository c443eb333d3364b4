"""Answer many prompts together: one left-padded batch after another over a key-value cache."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tuneport import GenerateOptions, Reply, TuneportError, UsageError
from tuneport_torch.answer.row import Row
from tuneport_torch.answer.sampling import choose
from tuneport_torch.engine.memory import out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tuneport_torch.text.tokens import Text

_MOST_ROWS = {"cpu": 64, "cuda": 256, "mps": 32}
_CACHE_BYTES = 2**30  # for keys and values on a CPU; on a GPU it is a share of what is free
_CACHE_SHARE = 0.4

Pick = Callable[[Tensor, list[int]], list[int]]
"""Chooses the next token of each row from its logits (B, V); the rows are given by their numbers."""


Told = str | Reply | TuneportError


def answer(
    model: PreTrainedModel, text: Text, prompts: Sequence[list[int]], options: Sequence[GenerateOptions]
) -> list[Reply]:
    """A reply for each prompt (token ids) by its own options, in order. But for rounding, an answer does not depend on
    what it is batched with, seeded or greedy. Raises UsageError for a prompt that the model cannot take, OptionError
    for options that cannot be followed.
    """
    rows = {number: _row(model, text, *one) for number, one in enumerate(zip(prompts, options, strict=True))}
    pending = _batches(model, rows)
    while pending:
        batch = pending.pop()
        try:
            for _ in _steps(model, text, {number: rows[number] for number in batch}):
                pass
        except Exception as error:
            if len(batch) == 1 or not out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            rows |= {number: _row(model, text, prompts[number], options[number]) for number in batch}
            pending += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        for number in batch:
            if (failed := rows[number].error) is not None:
                raise failed
    return [rows[number].reply() for number in range(len(prompts))]


def stream(
    model: PreTrainedModel, text: Text, prompts: Sequence[list[int]], options: Sequence[GenerateOptions]
) -> Iterator[tuple[int, Told]]:
    """The same answers piece by piece as they come, in batches like those of `answer`: (number of the prompt, piece),
    and after its last piece (number, Reply), or (number, error) for a prompt that cannot be answered. A piece is held
    back while it may be half a character, part of a stop text, or the call of a tool.
    """
    rows: dict[int, Row] = {}
    for number, one in enumerate(zip(prompts, options, strict=True)):
        try:
            rows[number] = _row(model, text, *one)
        except TuneportError as error:
            yield number, error
    pending = _batches(model, rows)
    while pending:
        batch = pending.pop()
        begun = False
        try:
            for told in _stream_batch(model, text, {number: rows[number] for number in batch}):
                begun = True
                yield told
        except Exception as error:
            if len(batch) == 1 or begun or not out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            rows |= {number: _row(model, text, prompts[number], options[number]) for number in batch}
            pending += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]


@torch.inference_mode()
def decode(
    model: PreTrainedModel, prompts: Mapping[int, list[int]], pick: Pick, pad_id: int
) -> Generator[dict[int, int], set[int] | None, None]:
    """Yield the next token of every live row, step by step; `send` the rows that are over, and they leave the batch.

    Goes on until no row is left. Prompts are padded on the left, by length: no id is taken for padding.
    """
    device, rows = model.device, list(prompts)
    longest = max(map(len, prompts.values()))
    pads = [longest - len(prompts[row]) for row in rows]
    ids_BT = torch.tensor([[pad_id] * pad + prompts[row] for pad, row in zip(pads, rows, strict=True)], device=device)
    pads_B = torch.tensor(pads, device=device)
    mask_BT = (torch.arange(longest, device=device) >= pads_B[:, None]).long()
    positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    cache = None
    while True:
        padded = None if not any(pads) else mask_BT
        out = model(
            input_ids=ids_BT,
            attention_mask=padded,
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        chosen = pick(out.logits[:, -1], rows)
        over = (yield dict(zip(rows, chosen, strict=True))) or set()
        positions_BT = positions_BT[:, -1:] + 1
        if over:
            keep = [place for place, row in enumerate(rows) if row not in over]
            if not keep:
                return
            rows, chosen, pads = ([one[place] for place in keep] for one in (rows, chosen, pads))
            keep_B = torch.tensor(keep, device=device)
            cache.batch_select_indices(keep_B)
            mask_BT, positions_BT = mask_BT[keep_B], positions_BT[keep_B]
        ids_BT = torch.tensor(chosen, device=device)[:, None]
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(rows), 1)], dim=1)


def _row(model: PreTrainedModel, text: Text, prompt: list[int], options: GenerateOptions) -> Row:
    return Row(text, prompt, _limit(model, prompt, options), options)


def _stream_batch(model: PreTrainedModel, text: Text, rows: Mapping[int, Row]) -> Iterator[tuple[int, Told]]:
    for step in _steps(model, text, rows):
        for number in step:
            row = rows[number]
            if row.error is not None:
                yield number, row.error
                continue
            if piece := row.piece():
                yield number, piece
            if row.reason:
                yield number, row.reply()


def _steps(model: PreTrainedModel, text: Text, rows: Mapping[int, Row]) -> Iterator[Iterable[int]]:
    """Let each row take in its next token, step by step, until every answer has ended; the numbers of those rows."""

    def pick(logits_BV: Tensor, numbers: list[int]) -> list[int]:
        return choose(logits_BV, [rows[number] for number in numbers])

    steps = decode(model, {number: row.prompt for number, row in rows.items()}, pick, text.pad_id)
    over: set[int] | None = None
    try:
        while any(not row.over for row in rows.values()):
            step = steps.send(over)
            for number, token in step.items():
                rows[number].add(token)
            yield step
            over = {number for number in step if rows[number].over}
    finally:
        steps.close()


def _limit(model: PreTrainedModel, prompt: list[int], options: GenerateOptions) -> int:
    """How many tokens the answer may have: those asked for, as far as the model's positions reach."""
    if not prompt:
        raise UsageError("The prompt has no tokens.", remedy="Pass a text that is not empty.")
    if options.max_tokens < 1:
        raise UsageError(f"max_tokens is {options.max_tokens}.", remedy="Ask for at least one token.")
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    room = positions - len(prompt) if positions else options.max_tokens
    if room < 1:
        raise UsageError(
            f"The prompt has {len(prompt):,} tokens; the model takes {positions:,} together with its answer.",
            remedy="Shorten the conversation.",
        )
    return min(options.max_tokens, room)


def _batches(model: PreTrainedModel, rows: Mapping[int, Row]) -> list[list[int]]:
    """Row numbers by length, so that little is padding, in batches whose keys and values fit. The longest come last and
    are taken first: what does not fit shows at once.
    """
    device = model.device.type
    memory = _CACHE_SHARE * torch.cuda.mem_get_info(model.device)[0] if device == "cuda" else _CACHE_BYTES
    most = memory / _cache_bytes_per_token(model)
    batches: list[list[int]] = []
    for number in sorted(rows, key=lambda one: (rows[one].most, one)):
        size = rows[number].most
        if batches and len(batches[-1]) < _MOST_ROWS.get(device, 32) and size * (len(batches[-1]) + 1) <= most:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches


def _cache_bytes_per_token(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)
