"""Finds how a chat template writes tool calls, by rendering some."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tuneport.errors import TuneportError
from tuneport_torch.text.callform import ANY_ID, ANY_NAME, CallForm

if TYPE_CHECKING:
    from tuneport_torch.text.template import ChatTemplate

_ASKED, _SAID = "Which one is asked?", "zqAnswerqz"
_FIRST, _SECOND = "zqfirstqz", "zqsecondqz"
_KEY, _OTHER = "zqkeyqz", "zqotherqz"
_VALUE, _OTHER_VALUE = "zqvalueqz", "zqlastqz"
_ONE, _TWO = {_KEY: _VALUE}, {_KEY: _VALUE, _OTHER: _OTHER_VALUE}
_HARD = {_KEY: "it's\n2 < 3", _OTHER: "x"}
_IDS = ("callcall1", "callcall2")
_DECODER = json.JSONDecoder()
Cut = Callable[[str], str]


def find_calls(template: ChatTemplate, without_end: Cut) -> CallForm | None:
    """How the template writes calls; None if it writes none, or in an unknown way. `without_end` removes the end of
    turn from the end of a text.
    """
    if "tool" not in template.source:
        return None
    with suppress(TuneportError):  # a template that breaks its limits is reported where a row needs it
        return _Probe(template, without_end).form()
    return None


class _Probe:
    """Renders one question and answers with calls."""

    def __init__(self, template: ChatTemplate, without_end: Cut) -> None:
        self._without_end = without_end
        asked = {"role": "user", "content": _ASKED}
        answers: dict[str, dict[str, Any]] = {
            "two": _turn("", (_FIRST, _TWO)),
            "with text": _turn(_SAID, (_FIRST, _TWO)),
            "hard": _turn("", (_FIRST, _HARD)),
            "none": _turn("", (_FIRST, {})),
            "many": _turn("", (_FIRST, _ONE), (_SECOND, _ONE)),
            "plain": {"role": "assistant", "content": _SAID},
        }
        rows = [{"messages": [asked, answer], "tools": _TOOLS} for answer in answers.values()]
        prompt = {"messages": [asked], "tools": _TOOLS, "prompt": True}
        found = template.rows([*rows, prompt])
        self._texts = {name: one.get("text", "") for name, one in zip([*answers, "prompt"], found, strict=True)}

    def form(self) -> CallForm | None:
        """The form, proven by parsing what the template wrote."""
        text = self._texts["two"]
        if _FIRST not in text:
            return None
        found = self._find_object(text) or self._find_named(text)
        if found is None:
            return None
        form, start, end = found
        head = self._find_head(text, start)
        if head is None:
            return None
        form = replace(form, head=head, close=self._find_close(text[end:]))
        form = replace(form, between=self._find_between(form))
        if form.kind == "python" and "it's\n2 < 3" in self._texts["hard"]:
            form = replace(form, raw=True)
        form = replace(form, head=_generalize(form.head), mid=_generalize(form.mid), close=_generalize(form.close))
        return form if self._parses_all(form) else None

    def _find_object(self, text: str) -> tuple[CallForm, int, int] | None:
        """A call that is one JSON object: its form, and where it starts and ends."""
        for brace in re.finditer(r"\{", text):
            if text.find(_FIRST, brace.start()) < 0:
                return None
            try:
                value, end = _DECODER.raw_decode(text, brace.start())
            except (ValueError, RecursionError):
                continue
            name, arguments = _path(value, lambda one: one == _FIRST), _path(value, _is_two)
            if name and arguments:
                return CallForm("object", "", name=name, arguments=arguments), brace.start(), end
        return None

    def _find_named(self, text: str) -> tuple[CallForm, int, int] | None:
        """A call that is a name followed by its arguments: its form, and where it starts and ends."""
        key = text.find(_KEY, text.index(_FIRST))
        value, other = text.find(_VALUE, key), text.find(_OTHER, key)
        last = text.find(_OTHER_VALUE, other)
        if not 0 <= key < value < other < last:
            return None
        start = text.rindex(_FIRST, 0, key)
        gap = text[start + len(_FIRST) : key]
        joins, between = text[key + len(_KEY) : value], text[value + len(_VALUE) : other]
        after = last + len(_OTHER_VALUE)
        if text[other + len(_OTHER) : last] != joins:
            return None
        if (brace := gap.find("{")) >= 0:
            at = start + len(_FIRST) + brace
            with suppress(ValueError, RecursionError):
                found, end = _DECODER.raw_decode(text, at)
                if _is_two(found):
                    return CallForm("json", "", gap[:brace]), start, end
        if gap.endswith("{") and (quote := joins.lstrip(": ")) and text.startswith(f"{quote}}}", after):
            return CallForm("bare keys", "", gap[:-1], quote=quote), start, after + len(quote) + 1
        if gap.endswith("(") and (quote := joins.lstrip("= ")) in ("'", '"') and text.startswith(f"{quote})", after):
            return CallForm("python", "", gap, quote=quote), start, after + 2
        opens = _common_end(gap, between)
        ends = between[: len(between) - len(opens)]
        if not opens.strip() or not ends.strip() or not joins.strip() or not text.startswith(ends, after):
            return None
        mid = gap[: len(gap) - len(opens)]
        return CallForm("pairs", "", mid, opens=opens, joins=joins, ends=ends), start, after + len(ends)

    def _find_head(self, text: str, start: int) -> str | None:
        """The text before a first call, whether the answer starts with the call or with text."""
        prompt, answer_text = self._texts["prompt"], self._texts["with text"]
        head = None
        if text.startswith(prompt) and prompt:
            head = text[len(prompt) : start]
        after = answer_text.rfind(_SAID) + len(_SAID)
        place = answer_text.find(text[start : start + 1] + text[start + 1 : text.index(_KEY)], after)
        if _SAID in answer_text and place >= 0:
            lead = answer_text[after:place]
            head = _common_end(text[:start] if head is None else head, lead)
        return head

    def _find_close(self, tail: str) -> str:
        plain = self._texts["plain"].rpartition(_SAID)[2]
        if plain and tail.endswith(plain):
            return tail.removesuffix(plain).rstrip()
        return self._without_end(tail).rstrip()

    def _find_between(self, form: CallForm) -> str | None:
        """The text between two calls, if the template writes two."""
        text = self._texts["many"]
        if text.count(_KEY) != 2 or _SECOND not in text:
            return None
        at = text.index(_KEY)
        start = text.rindex(_FIRST, 0, at)
        following = text.rindex(_SECOND, 0, text.rindex(_KEY))
        if form.kind == "object":
            start, following = _brace(text, start, _FIRST), _brace(text, following, _SECOND)
        found = form.read_one(text, start) if start >= 0 else None
        return None if found is None or following < found[1] else _generalize(text[found[1] : following])

    def _parses_all(self, form: CallForm) -> bool:
        """Whether the form parses all calls that the template wrote."""
        tools = [{"name": _FIRST}, {"name": _SECOND}]
        wanted = {
            "two": [(_FIRST, _TWO)],
            "hard": [(_FIRST, _HARD)],
            "none": [(_FIRST, {})],
            "many": [(_FIRST, _ONE), (_SECOND, _ONE)],
        }
        for name, calls in wanted.items():
            text = self._texts[name]
            if not text or (name == "many" and form.between is None):
                continue
            answer_text = text[text.index(_ASKED) + len(_ASKED) :]
            if form.bare:
                prompt = self._texts["prompt"]
                answer_text = self._without_end(text[len(prompt) :]) if text.startswith(prompt) else answer_text
            read = [(one.name, json.loads(one.arguments)) for one in form.read(answer_text, tools)[1]]
            if read != calls and name != "none":
                return False
        return True


def _turn(text: str, *calls: tuple[str, dict[str, str]]) -> dict[str, Any]:
    made = [
        {"id": name, "type": "function", "function": {"name": tool, "arguments": arguments}}
        for name, (tool, arguments) in zip(_IDS, calls, strict=False)
    ]
    return {"role": "assistant", "content": text, "tool_calls": made}


def _tool(name: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"zqdefinedqz": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": schema}}


_TOOLS = [_tool("zqtoolqz")]  # with another name, so that only the answer contains the name in the calls


def _is_two(value: Any) -> bool:
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            return bool(json.loads(value) == _TWO)
    return bool(value == _TWO)


def _path(value: Any, wanted: Callable[[Any], bool]) -> tuple[str, ...]:
    """The keys that lead to a value; empty if there is none."""
    for key, one in value.items() if isinstance(value, dict) else ():
        if wanted(one):
            return (key,)
        if below := _path(one, wanted):
            return (key, *below)
    return ()


def _brace(text: str, place: int, name: str) -> int:
    """The start of the outermost JSON object that contains the name at that place; -1 if there is none."""
    for brace in re.finditer(r"\{", text[:place]):
        with suppress(ValueError, RecursionError):
            value, end = _DECODER.raw_decode(text, brace.start())
            if end > place and _path(value, lambda one: one == name):
                return brace.start()
    return -1


def _generalize(text: str) -> str:
    """A text of a form with placeholders for names and ids."""
    for one in (_FIRST, _SECOND):
        text = text.replace(one, ANY_NAME)
    for one in _IDS:
        text = text.replace(one, ANY_ID)
    return text


def _common_end(one: str, other: str) -> str:
    size = 0
    while size < min(len(one), len(other)) and one[-1 - size] == other[-1 - size]:
        size += 1
    return one[len(one) - size :]
