"""Answer many prompts together: one left-padded batch after another over a key-value cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from tuneport.errors import TuneportError, UsageError
from tuneport.plugin import AnswerPiece, GenerateOptions, Reply
from tuneport_torch.answer.batch import Batch
from tuneport_torch.answer.room import cache_room, most_rows
from tuneport_torch.answer.row import Row, tell
from tuneport_torch.engine.memory import out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tuneport_torch.text.codec import Codec

Told = str | Reply | TuneportError


def answer(
    model: PreTrainedModel, codec: Codec, prompts: Sequence[list[int]], options: Sequence[GenerateOptions]
) -> list[Reply]:
    """A reply for each prompt (token ids) by its own options, in order. But for rounding, an answer does not depend on
    what it is batched with, seeded or greedy. Raises UsageError for a prompt that the model cannot take, OptionError
    for options that cannot be followed.
    """
    rows = {number: make_row(model, codec, *one) for number, one in enumerate(zip(prompts, options, strict=True))}
    pending = _batches(model, rows)
    while pending:
        batch = pending.pop()
        try:
            for _ in _steps(model, codec, {number: rows[number] for number in batch}):
                pass
        except Exception as error:
            if len(batch) == 1 or not out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            rows |= {number: make_row(model, codec, prompts[number], options[number]) for number in batch}
            pending += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        for number in batch:
            if (failed := rows[number].error) is not None:
                raise failed
    return [rows[number].reply() for number in range(len(prompts))]


def stream(
    model: PreTrainedModel, codec: Codec, prompts: Sequence[list[int]], options: Sequence[GenerateOptions]
) -> Iterator[tuple[int, Told]]:
    """The same answers piece by piece as they come, in batches like those of `answer`: (number of the prompt, piece),
    and after its last piece (number, Reply), or (number, error) for a prompt that cannot be answered. A piece is held
    back while it may be half a character, part of a stop text, or the call of a tool.
    """
    rows: dict[int, Row] = {}
    for number, one in enumerate(zip(prompts, options, strict=True)):
        try:
            rows[number] = make_row(model, codec, *one)
        except TuneportError as error:
            yield number, error
    pending = _batches(model, rows)
    while pending:
        batch = pending.pop()
        begun = False
        try:
            for told in _stream_batch(model, codec, {number: rows[number] for number in batch}):
                begun = True
                yield told
        except Exception as error:
            if len(batch) == 1 or begun or not out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            rows |= {number: make_row(model, codec, prompts[number], options[number]) for number in batch}
            pending += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]


def make_row(model: PreTrainedModel, codec: Codec, prompt: list[int], options: GenerateOptions) -> Row:
    """The row of a prompt (token ids). Raises UsageError for one that the model cannot take, OptionError for options
    that cannot be followed.
    """
    return Row(codec, prompt, _limit(model, prompt, options), options)


def _stream_batch(model: PreTrainedModel, codec: Codec, rows: Mapping[int, Row]) -> Iterator[tuple[int, Told]]:
    numbers = {row: number for number, row in rows.items()}
    for step in _steps(model, codec, rows):
        for row in step:
            for told in tell(row):
                if not isinstance(told, AnswerPiece):
                    yield numbers[row], told
                elif told.text:
                    yield numbers[row], told.text


def _steps(model: PreTrainedModel, codec: Codec, rows: Mapping[int, Row]) -> Iterator[list[Row]]:
    """Let each row take in its next token, step by step, until every answer has ended; the rows that did."""
    batch = Batch(model, list(rows.values()), codec.pad_id)
    while batch.rows:
        yield batch.step()


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
    room, most = cache_room(model), most_rows(model)
    batches: list[list[int]] = []
    for number in sorted(rows, key=lambda one: (rows[one].most, one)):
        size = rows[number].most
        if batches and len(batches[-1]) < most and size * (len(batches[-1]) + 1) <= room:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches
