"""Builds the grammar of an answer: a JSON Schema or tool calls, in llguidance's dialect of Lark."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tuneport.errors import OptionError
from tuneport.plugin import GenerateOptions, read_schema
from tuneport_torch.text.callform import ANY_NAME, HERMES, CallForm
from tuneport_torch.text.callgrammar import calls_rules, can_write

if TYPE_CHECKING:
    from tuneport_torch.text.codec import Codec
    from tuneport_torch.text.thinking import Thinking

Block = Literal["none", "allowed", "opened"]
"""Whether a thinking block may come before the answer, or the prompt has opened one."""

OPENS = "<tool_call>"
"""The text before a call in the form of Hermes and Qwen."""

# One line break with indentation between two tokens of JSON allows pretty output, but no endless whitespace.
_STYLE = {"whitespace_pattern": r"\n? {0,16}"}
_ANY_ARGUMENTS = {"type": "object"}


def grammar_of(options: GenerateOptions, template: str, codec: Codec | None = None) -> str | None:
    """The grammar, in llguidance's dialect of Lark, that an answer with these options must follow; None if it is free.

    Tools are called in the form of the model's chat template if such calls can be constrained, otherwise as JSON.
    """
    answer = None if options.schema is None else json_rule(options.schema)
    free = answer is None and not options.must_call  # except within a call, once the model starts one
    tools = [tool.get("function", tool) for tool in options.tools]
    form = _form(template, codec)
    if free and not (any(tool.get("strict") for tool in tools) and _is_recognizable(form, codec)):
        return None
    if not tools:
        return f"start: {answer}\n"
    if isinstance(options.tool_choice, Mapping):
        tools = [tool for tool in tools if tool["name"] == options.tool_choice["name"]]
    many = options.parallel_tool_calls and not isinstance(options.tool_choice, Mapping)
    bound = [_parameters(tool) if tool.get("strict") or not free else _ANY_ARGUMENTS for tool in tools]
    opens = form.first
    start = "calls" if options.must_call or answer is None else f"calls | {answer}"
    if free:
        start, form = "FREE | before calls", replace(form, head=form.head.lstrip().removeprefix(opens))
    literal = _text if codec is None else partial(_tags, codec=codec)
    given = [(tool["name"], schema) for tool, schema in zip(tools, bound, strict=True)]
    rules = calls_rules(form, given, many=many, literal=literal, any_json=json_rule)
    return "\n".join([f"start: {start}", *rules, *(_free_text_rules(opens) if free else ()), ""])


def _form(template: str, codec: Codec | None) -> CallForm:
    """The form of calls: the template's own, or JSON with the keys that the template's instructions name."""
    form = codec.calls if codec is not None else None
    if form is not None and can_write(form):
        return form
    if form is None and OPENS in template:
        return HERMES
    key = "parameters" if '"parameters": ' in template and '"arguments": ' not in template else "arguments"
    return CallForm("object", "", arguments=(key,))


def _is_recognizable(form: CallForm, codec: Codec | None) -> bool:
    """Whether the start of a call is a text without control tokens, so that it can be recognized."""
    if form.bare or ANY_NAME in form.head:
        return False
    thinking = codec.thinking if codec is not None else None
    return codec is None or not (codec.find_control(form.first) or (thinking is not None and thinking.before_call))


def allow_block(grammar: str, codec: Codec, thinking: Thinking, block: Block, *, calls: bool = False) -> str:
    """The grammar for an answer that may follow a thinking block. The block is free text up to its closing tag, or with
    `calls` up to what the template writes between thinking and a call.
    """
    if not thinking.closes:
        return grammar
    first = codec.calls.first if codec.calls is not None else ""
    closes = thinking.closes
    if calls and thinking.before_call and first and can_write(codec.calls):  # type: ignore[arg-type]  # it has a first
        closes = thinking.before_call[: thinking.before_call.rindex(first)].rstrip()
    opens = " | ".join(_tags(f"{lead}{thinking.opens}", codec) for lead in ("", " ", "\n"))  # as templates write them
    begins = "" if block == "opened" else f"({opens}) "
    if codec.find_control(closes):
        inside = f"thought: {begins}THOUGHT {_tags(closes, codec)}\nTHOUGHT: /(.|\\n)*/"
    else:
        inside = f"thought[stop={_text(closes)}]: {begins}/(.|\\n)*/"
    whole = grammar.replace("start: ", "wanted: ", 1)
    start = "thought SPACE wanted" if block == "opened" else "thought SPACE wanted | wanted"
    return f"start: {start}\n{inside}\nSPACE: /[ \\n]{{0,4}}/\n{whole}"


def _free_text_rules(opens: str) -> tuple[str, str]:
    """Rules for any text without a call, and for any text up to the start of the first call."""
    literal = re.escape(opens).replace("/", "\\/").replace("\n", "n")
    return f"FREE: /(.|\\n)*/ & ~/(.|\\n)*{literal}(.|\\n)*/", f"before[suffix={_text(opens)}]: /(.|\\n)*/"


def _tags(tag: str, codec: Codec) -> str:
    """A tag in the grammar's notation: control tokens by id, and the text between them."""
    parts, at = [], 0
    for start, end, number in codec.find_control(tag):
        parts += [_text(tag[at:start])] if start > at else []
        parts.append(f"<[{number}]>")
        at = end
    return " ".join([*parts, *([_text(tag[at:])] if at < len(tag) else [])])


def _parameters(tool: Mapping[str, Any]) -> dict[str, Any]:
    try:
        schema = read_schema({"type": "object", **(tool.get("parameters") or {})})
    except OptionError as error:
        message = f"The parameters of the tool {tool['name'][:64]!r}: {error.message}"
        raise OptionError(message, option="tools", remedy=error.remedy) from error
    assert isinstance(schema, dict)
    return schema


def _text(text: str) -> str:
    """A literal of the grammar."""
    return json.dumps(text)


def json_rule(schema: Mapping[str, Any] | bool) -> str:
    full = {"type": "object"} if schema is True else dict(schema)  # type: ignore[arg-type]  # False is not an option
    return f"%json {json.dumps({**full, 'x-guidance': _STYLE})}"
