"""Answer many prompts together: one left-padded batch after another over a key-value cache."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tuneport import GenerateOptions, Reply, UsageError
from tuneport_torch.engine.memory import out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tuneport_torch.text.tokens import Text

_MOST_ROWS = {"cpu": 64, "cuda": 256, "mps": 32}
_CACHE_BYTES = 2**30  # for keys and values on a CPU; on a GPU it is a share of what is free
_CACHE_SHARE = 0.4

Pick = Callable[[Tensor, list[int]], list[int]]
"""Chooses the next token of each row from its logits (B, V); the rows are given by their numbers."""


def answer(model: PreTrainedModel, text: Text, prompts: Sequence[list[int]], options: GenerateOptions) -> list[Reply]:
    """A reply for each prompt (token ids), in order. But for rounding, an answer does not depend on what it is batched
    with, seeded or greedy. Raises UsageError for a prompt that the model cannot take.
    """
    limits = [_limit(model, prompt, options) for prompt in prompts]
    replies: dict[int, Reply] = {}
    pending = _batches(model, prompts, limits)
    while pending:
        rows = pending.pop()
        try:
            replies |= _answer_batch(model, text, {row: (prompts[row], limits[row]) for row in rows}, options)
        except Exception as error:
            if len(rows) == 1 or not out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            pending += [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    return [replies[row] for row in range(len(prompts))]


def stream(
    model: PreTrainedModel, text: Text, prompts: Sequence[list[int]], options: GenerateOptions
) -> Iterator[tuple[int, str | Reply]]:
    """The same answers piece by piece as they come, in batches like those of `answer`: (number of the prompt, piece),
    and after its last piece (number, Reply). A piece is held back while it may be half a character or part of a stop
    text.
    """
    limits = [_limit(model, prompt, options) for prompt in prompts]
    pending = _batches(model, prompts, limits)
    while pending:
        rows = pending.pop()
        begun = False
        try:
            for told in _stream_batch(model, text, {row: (prompts[row], limits[row]) for row in rows}, options):
                begun = True
                yield told
        except Exception as error:
            if len(rows) == 1 or begun or not out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            pending += [rows[: len(rows) // 2], rows[len(rows) // 2 :]]


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


def _answer_batch(
    model: PreTrainedModel, text: Text, prompts: Mapping[int, tuple[list[int], int]], options: GenerateOptions
) -> dict[int, Reply]:
    answers = {row: _Answer(text, prompt, limit, options) for row, (prompt, limit) in prompts.items()}
    for step in _steps(model, text, answers, options):
        for row, token in step.items():
            answers[row].add(token)
    return {row: one.reply() for row, one in answers.items()}


def _stream_batch(
    model: PreTrainedModel, text: Text, prompts: Mapping[int, tuple[list[int], int]], options: GenerateOptions
) -> Iterator[tuple[int, str | Reply]]:
    answers = {row: _Answer(text, prompt, limit, options) for row, (prompt, limit) in prompts.items()}
    for step in _steps(model, text, answers, options):
        for row, token in step.items():
            answers[row].add(token)
            if piece := answers[row].piece():
                yield row, piece
            if answers[row].reason:
                yield row, answers[row].reply()


def _steps(
    model: PreTrainedModel, text: Text, answers: Mapping[int, _Answer], options: GenerateOptions
) -> Iterator[dict[int, int]]:
    """The next token of each row, step by step, until every answer has ended."""
    steps = decode(model, {row: one.prompt for row, one in answers.items()}, _pick(options), text.pad_id)
    over: set[int] | None = None
    try:
        while any(not one.reason for one in answers.values()):
            step = steps.send(over)
            yield step
            over = {row for row in step if answers[row].reason}
    finally:
        steps.close()


class _Answer:
    """One answer while it is made: its tokens, why it ended (empty until then), and how much of its text was shown."""

    def __init__(self, text: Text, prompt: list[int], limit: int, options: GenerateOptions) -> None:
        self.prompt = prompt
        self.reason = ""
        self._text, self._limit, self._options = text, limit, options
        # As many last tokens as can hold a stop text, at worst a byte each.
        self._window = 4 + max((len(stop.encode()) for stop in options.stop), default=0)
        self._ids: list[int] = []
        self._spent = 0
        self._said = ""  # the text of the tokens before `_read`, which are those that end no character in the middle
        self._context = self._read = self._shown = 0

    def add(self, token: int) -> None:
        """Take the next token in."""
        self._spent += 1
        if token in self._text.stop_ids:
            self.reason = "stop"
            return
        self._ids.append(token)
        stops = self._options.stop
        if stops and _first_stop(self._text.decode(self._ids[-self._window :]), stops) is not None:
            self.reason = "stop"
        elif len(self._ids) >= self._limit:
            self.reason = "length"

    def piece(self) -> str:
        """What of the text may be shown and was not yet; all that is left once the answer has ended."""
        if self.reason:
            said = self._whole()
            shown = len(said)
        else:
            # The text of a token depends on the one before it, not on all: decoding stays as cheap as it began.
            before = self._text.decode(self._ids[self._context : self._read])
            now = self._text.decode(self._ids[self._context :])
            if not now.endswith("\ufffd"):
                self._said += now[len(before) :]
                self._context, self._read = self._read, len(self._ids)
            said = self._said
            shown = len(said) - _unsafe(said, self._options.stop)
        piece = said[self._shown : shown]
        self._shown = max(self._shown, shown)
        return piece

    def reply(self) -> Reply:
        """The whole answer."""
        said = self._whole()
        rest, calls = tool_calls(said) if self._options.tools else (said, ())
        return Reply(
            text=rest,
            finish_reason="tool_calls" if calls else self.reason,
            prompt_tokens=len(self.prompt),
            completion_tokens=self._spent,
            tool_calls=calls,
        )

    def _whole(self) -> str:
        said = self._text.decode(self._ids)
        return said[: _first_stop(said, self._options.stop)]


_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


def tool_calls(said: str) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """The text beside tool calls, and the calls in the wire's shape: those between `<tool_call>` tags, as Hermes and
    Qwen write them, or an answer that is one JSON object with `name` and `arguments` or `parameters`. Else the text.
    """
    found = _CALL.findall(said) or ([said] if said.lstrip().startswith("{") else [])
    calls = [_call(raw, number) for number, raw in enumerate(found)]
    if not calls or None in calls:
        return said, ()
    rest = _CALL.sub("", said).strip() if _CALL.search(said) else ""
    return rest, tuple(call for call in calls if call is not None)


def _call(raw: str, number: int) -> Mapping[str, Any] | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    arguments = value.get("arguments", value.get("parameters")) if isinstance(value, dict) else None
    if not isinstance(arguments, dict) or not isinstance(value.get("name"), str):
        return None
    function = {"name": value["name"], "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": f"call_{number}", "type": "function", "function": function}


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


def _batches(model: PreTrainedModel, prompts: Sequence[list[int]], limits: Sequence[int]) -> list[list[int]]:
    """Row numbers by length, so that little is padding, in batches whose keys and values fit. The longest come last and
    are taken first: what does not fit shows at once.
    """
    device = model.device.type
    memory = _CACHE_SHARE * torch.cuda.mem_get_info(model.device)[0] if device == "cuda" else _CACHE_BYTES
    most = memory / _cache_bytes_per_token(model)
    batches: list[list[int]] = []
    for row in sorted(range(len(prompts)), key=lambda one: (len(prompts[one]) + limits[one], one)):
        size = len(prompts[row]) + limits[row]
        if batches and len(batches[-1]) < _MOST_ROWS.get(device, 32) and size * (len(batches[-1]) + 1) <= most:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _cache_bytes_per_token(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)


def _pick(options: GenerateOptions) -> Pick:
    if options.temperature <= 0:
        return lambda logits_BV, _: logits_BV.argmax(-1).tolist()
    seed = options.seed if options.seed is not None else torch.seed()
    generators: dict[int, torch.Generator] = {}

    def sample(logits_BV: Tensor, rows: list[int]) -> list[int]:
        probabilities_BV = _nucleus(torch.softmax(logits_BV.float() / options.temperature, -1), options.top_p)
        below_BV = probabilities_BV.cumsum(-1)
        for row in rows:
            if row not in generators:
                generators[row] = torch.Generator().manual_seed((seed + row) % 2**63)
        # One random number a row and step, from the row's own generator: its answer is its own in any batch. The type
        # is given, because torch's default is another one while another thread loads a model.
        drawn = torch.tensor(
            [torch.rand((), generator=generators[row], dtype=torch.float32).item() for row in rows], dtype=torch.float32
        )
        at_B1 = (drawn.to(below_BV.device) * below_BV[:, -1])[:, None]
        return torch.searchsorted(below_BV, at_B1, right=True)[:, 0].clamp(max=below_BV.shape[-1] - 1).tolist()

    return sample


def _nucleus(probabilities_BV: Tensor, top_p: float) -> Tensor:
    """Zero for tokens outside the smallest set of likeliest ones whose probabilities reach `top_p`."""
    if top_p >= 1:
        return probabilities_BV
    sorted_BV, order_BV = probabilities_BV.sort(-1, descending=True)
    before_BV = sorted_BV.cumsum(-1) - sorted_BV
    return torch.zeros_like(sorted_BV).scatter(-1, order_BV, sorted_BV * (before_BV < max(top_p, 0.0) + 1e-9))


def _first_stop(said: str, stops: Sequence[str]) -> int | None:
    places = [place for stop in stops if stop and (place := said.find(stop)) >= 0]
    return min(places, default=None)


def _unsafe(said: str, stops: Sequence[str]) -> int:
    """How many last characters may not be shown yet, because a stop text may begin with them."""
    unsafe = 0
    for stop in stops:
        for size in range(min(len(stop), len(said)), unsafe, -1):
            if said.endswith(stop[:size]):
                unsafe = size
                break
    return unsafe
