"""The chat templates that the package `trl` brings, a tokenizer for each, and one row of each kind."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path

from tiny_models import make_tokenizer
from tuneport import AnswerPiece, Conversation, GenerateOptions, Message, Reply
from tuneport_torch.answer.row import AnswerRow
from tuneport_torch.text.codec import Codec
from tuneport_torch.text.refusals import Unrenderable
from tuneport_torch.text.render import Renderer

CONTROL = re.compile(
    r"<\|[^|<>\s']{1,40}\|>|<｜[^｜\s']{1,40}｜>|<\|[a-z_]+>|<[a-z_]+\|>|</?s>|<(?:start|end)_of_\w+>|<sop>|\[gMASK\]|\[/?INST\]"
)
"""What is a control token in these templates; `<think>`, `<tool_call>` and their like are ordinary words."""

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def folder() -> Path | None:
    """Where trl keeps its templates; None where it is not installed. It is never imported."""
    found = importlib.util.find_spec("trl")
    places = found.submodule_search_locations if found is not None else None
    return Path(places[0]) / "chat_templates" if places else None


def version() -> str:
    """The version of trl."""
    return importlib.metadata.version("trl")


def names() -> list[str]:
    """The templates, by name."""
    here = folder()
    return sorted(one.stem for one in here.glob("*.jinja")) if here is not None else []


def rows() -> dict[str, Conversation]:
    """One row of each kind."""
    system = Message("system", "Be brief.")
    single = (Message("user", "Two and two?"), Message("assistant", "four"))
    many = (*single, Message("user", "And one?"), Message("assistant", "five"), *single[:1], Message("assistant", "4!"))
    thought = (Message("user", "Two and two?"), Message("assistant", "<think>\n2 + 2 = 4.\n</think>\n\nfour"))
    again = (Message("user", "And one?"), Message("assistant", "<think>\n4 + 1 = 5.\n</think>\n\nfive"))
    return {
        "single turn": Conversation(single),
        "system": Conversation((system, *single)),
        "many turns": Conversation(many),
        "system, many": Conversation((system, *many)),
        "later system": Conversation((*single, system, *many[2:4])),
        "thinking": Conversation(thought),
        "thinking, many": Conversation((*thought, *again)),
        "tools": _tools("abc123XYZ"),
        "tools, short ids": _tools("1"),
    }


def call_rows() -> dict[str, Conversation]:
    """Rows that end in calls."""
    hard = {"city": 'Oslo\'s "old" town\n<a> & é', "n": 7, "deep": {"list": [1, "x", None, True]}, "share": 0.5}
    asked = Message("user", "Rain in Oslo?")
    return {
        "call": Conversation((asked, _calls({"city": "Oslo"})), tools=(TOOL,)),
        "hard": Conversation((asked, _calls(hard)), tools=(TOOL,)),
        "two": Conversation((asked, _calls({"city": "Oslo"}, {"city": "7"})), tools=(TOOL,)),
        "said": Conversation((asked, _calls({"city": "Oslo"}, content="I look.")), tools=(TOOL,)),
        "thought": Conversation((asked, _calls({"city": "Oslo"}, reasoning_content="Oslo is far.")), tools=(TOOL,)),
    }


def _calls(*arguments: dict[str, object], **more: str) -> Message:
    calls = [
        {"id": f"abc12345{at}", "type": "function", "function": {"name": "weather", "arguments": json.dumps(one)}}
        for at, one in enumerate(arguments)
    ]
    return Message("assistant", tool_calls=calls, **more)


def _tools(name: str) -> Conversation:
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    call = {"id": name, "type": "function", "function": function}
    turns = (
        Message("user", "Rain in Oslo?"),
        Message("assistant", tool_calls=[call]),
        Message("tool", "dry", tool_call_id=name),
        Message("assistant", "It is dry."),
    )
    return Conversation(turns, tools=(TOOL,))


@cache
def _tokenizer():
    return make_tokenizer()


STOPS = {"glm4moe": ("<|endoftext|>", "<|user|>", "<|observation|>")}
"""The tokens at which the models of a template stop, by their generation_config.json, where the template needs them."""


def renderer(source: str, place: Path, stops: Sequence[str] = ()) -> Renderer:
    """A renderer for a template, with a tiny tokenizer that knows the control tokens which the template names."""
    tokenizer = deepcopy(_tokenizer())
    tokenizer.add_special_tokens({"bos_token": "<|bos|>", "eos_token": "<|eos|>"})
    tokens = sorted(set(CONTROL.findall(source)) - set(tokenizer.all_special_tokens))
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    tokenizer.chat_template = None
    tokenizer.save_pretrained(place)
    (place / "chat_template.jinja").write_text(source, encoding="utf-8")
    codec = Codec(place)
    known = [token for token in map(codec.token_id, stops) if token is not None]
    return Renderer(Codec(place, known) if known else codec)


@cache
def outcomes() -> dict[str, dict[str, tuple[list[str], int] | Unrenderable]]:
    """What becomes of each row with each template."""
    here = folder()
    found: dict[str, dict[str, tuple[list[str], int] | Unrenderable]] = {}
    for name in names():
        with tempfile.TemporaryDirectory() as place:
            source = (here / f"{name}.jinja").read_text(encoding="utf-8")
            one = renderer(source, Path(place), STOPS.get(name, ()))
            try:
                found[name] = {kind: outcome(one, row) for kind, row in rows().items()}
            finally:
                one.codec.close()
    return found


def outcome(one: Renderer, row: Conversation) -> tuple[list[str], int] | Unrenderable:
    """The texts that are trained on and how many turns are left out, or the refusal."""
    try:
        rendered = one.render(row)
    except Unrenderable as refusal:
        return refusal
    return [piece.text for piece in one.pieces_of(rendered) if piece.weight], rendered.turns_left_out


def answered(one: Renderer, row: Conversation) -> tuple[Reply, list[AnswerPiece]] | Unrenderable:
    """What becomes of a row's last answer where a model writes exactly what it is trained to write: the reply, and its
    pieces. Or the refusal.
    """
    try:
        prompt, wanted = _last_answer(one, row)
    except Unrenderable as refusal:
        return refusal
    answer = AnswerRow(one.codec, prompt, 9999, GenerateOptions(tools=row.tools, max_tokens=9999))
    pieces = []
    for token in wanted:
        answer.add(token)
        pieces.append(answer.piece())
    assert answer.reason == "stop"
    return answer.reply(), pieces


def must_call(one: Renderer, row: Conversation) -> Reply | str:
    """The same where the model must call a tool: the reply, or the text behind which a token is not allowed."""
    prompt, wanted = _last_answer(one, row)
    answer = AnswerRow(
        one.codec, prompt, 9999, GenerateOptions(tools=row.tools, max_tokens=9999, tool_choice="required")
    )
    for at, token in enumerate(wanted):
        assert answer.constraint is not None
        if not answer.constraint.bits()[token // 8] >> token % 8 & 1:
            return one.codec.decode(wanted[: at + 1], keep_control=True)
        answer.add(token)
        if answer.is_over:
            break
    return answer.reply()


def _last_answer(one: Renderer, row: Conversation) -> tuple[list[int], list[int]]:
    """The tokens before the last answer, and those of it."""
    rendered = one.render(row)
    one.codec.stop_ids += one.new_stop_ids  # as a training does once its rows are rendered
    last = len(rendered.ids) - next(at for at, weight in enumerate(reversed(rendered.weights)) if weight)
    start = max(at for at, weight in enumerate(rendered.weights[:last]) if not weight) + 1
    return rendered.ids[:start], rendered.ids[start:last]
