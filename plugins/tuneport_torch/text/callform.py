"""The form of tool calls in an answer, as one chat template writes them, and how they are read out of a text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal, NamedTuple

from tuneport_torch.text.callvalues import ArgumentReader, tagged_value

Kind = Literal["object", "json", "pairs", "python", "bare keys"]

ANY_NAME, ANY_ID = "\ue0f3", "\ue0f4"
"""What stands in a form's texts for a name of a tool and for the id of a call."""

_NAME = r"[^\s<>{}()\[\]\"'`|｜,]{1,128}"
_TEXT_OR_BRACE = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[{}]', re.DOTALL)
_KEYS = {"name": ("name",), "arguments": ("arguments", "parameters")}
_LONGEST_HEAD = 512  # characters in which a beginning shows whether it is one of a call
_MOST_HEADS = 64  # in one answer: each may be looked at up to the end of the text
_DECODER = json.JSONDecoder()


class Call(NamedTuple):
    """A call in a text: its tool, and its arguments as JSON."""

    name: str
    arguments: str


@dataclass(frozen=True)
class CallForm:
    """How a template writes calls: `head`, then the first call, `between` it and the next, `close` behind the last.

    A call is a JSON object with the tool's name under the keys `name` and its arguments under `arguments` (the kind
    "object"), or the name, `mid`, and the arguments: as JSON, as Python's keyword arguments up to `)`, as an object
    whose keys are bare and whose texts are in `quote`, or as "pairs": `opens` key `joins` value `ends` for each.
    `between` is None where the template writes one call alone. With `raw`, texts in quotes are not escaped.
    """

    kind: Kind
    head: str
    mid: str = ""
    between: str | None = None
    close: str = ""
    name: tuple[str, ...] = ("name",)
    arguments: tuple[str, ...] = ("arguments",)
    opens: str = ""
    joins: str = ""
    ends: str = ""
    quote: str = '"'
    raw: bool = False

    @property
    def bare(self) -> bool:
        """Whether nothing but the call itself shows where it begins, so that it can only be the complete answer."""
        return not self.head.strip("[{( \n")

    @property
    def first(self) -> str:
        """The text with which calls begin."""
        return self.head.partition(ANY_NAME)[0].strip()

    def read(self, said: str, tools: Sequence[Mapping[str, Any]], *, known: bool = False) -> tuple[str, list[Call]]:
        """The text beside the calls in a text, and the calls; the complete text where there is none. A last call that
        is cut is neither a call nor something to read. With `known`, a bare object calls one of these tools or none.
        """
        known = known or self.kind != "object"
        texts: list[str] = []
        calls: list[Call] = []
        end = 0
        for start, at in self._heads(said):
            if start < end:
                continue
            found, behind = self._calls(said, at, tools)
            named = not known or all(one.name in _names(tools) for one in found)
            if found and self.bare and (said[behind:].strip() or not named):
                return said, []
            if found:
                texts.append(said[end:start].strip() if texts else said[end:start].rstrip())
                calls += found
                end = behind
        if not calls:
            return said, []
        rest = said[end:].partition(self.first)[0] if self.first else said[end:]
        return "\n".join(filter(None, [*texts, rest.strip()])), calls

    def begun(self, said: str, tools: Sequence[Mapping[str, Any]]) -> list[Call]:
        """The calls that a growing text holds so far. Of the last, the arguments are as far as they are written where
        they are JSON; a call of another kind is in the list once it is complete.
        """
        if self.bare and self.kind != "object":
            return []
        for _, at in self._heads(said):
            calls = [*self._growing(said, at, tools)] if self.kind in ("object", "json") else []
            if self.kind not in ("object", "json"):
                calls, _ = self._calls(said, at, tools)
            if calls:
                return calls
        return []

    def shown(self, said: str) -> int:
        """How many first characters of a growing text are certainly before its calls."""
        if self.bare:
            return 0 if not said.strip() or said.lstrip()[0] in "[{" else len(said)
        start = said.find(self.first)
        while start >= 0:
            if self._head.match(said, start) or len(said) - start < _LONGEST_HEAD:
                return start
            start = said.find(self.first, start + 1)
        first = self.first
        return len(said) - next((size for size in range(len(first), 0, -1) if said.endswith(first[:size])), 0)

    def one(self, said: str, at: int, tools: Sequence[Mapping[str, Any]] = ()) -> tuple[Call, int] | None:
        """The call that begins at that place, behind the head, and where it ends."""
        try:
            return self._object(said, at) if self.kind == "object" else self._named(said, at, tools)
        except (ValueError, RecursionError):
            return None

    def _heads(self, said: str) -> Iterator[tuple[int, int]]:
        if self.bare:
            found = self._head.match(said)
            yield from [(0, found.end())] if found else []
            return
        for found in islice(self._head.finditer(said), _MOST_HEADS):
            yield found.span()

    def _calls(self, said: str, at: int, tools: Sequence[Mapping[str, Any]]) -> tuple[list[Call], int]:
        calls: list[Call] = []
        end = at
        while found := self.one(said, at, tools):
            following = self._between.match(said, found[1]) if self._between else None
            closing = self._close.match(said, found[1])
            if following is None and closing is None:
                break  # it is cut
            calls.append(found[0])
            end = closing.end() if closing else found[1]
            if following is None or not self._is_begun(said, following.end()):
                break
            at = following.end()
        return calls, end

    def _is_begun(self, said: str, at: int) -> bool:
        """Whether there is a beginning of a call at that place."""
        return said.startswith("{", at) if self.kind == "object" else re.compile(_NAME).match(said, at) is not None

    def _growing(self, said: str, at: int, tools: Sequence[Mapping[str, Any]]) -> Iterator[Call]:
        names = _names(tools)
        while begun := self._begins.match(said, at):
            try:
                name = str(json.loads(begun[1])) if self.kind == "object" else begun[1]
            except ValueError:
                return
            if name not in names:
                return
            end = object_end(said, begun.end())
            yield Call(name, said[begun.end() : end])
            after = None if end is None else _behind_object(said, end) if self.kind == "object" else end
            following = self._between.match(said, after) if self._between and after is not None else None
            if following is None:
                return
            at = following.end()

    def _object(self, said: str, at: int) -> tuple[Call, int] | None:
        value, end = _DECODER.raw_decode(said, at)
        name, arguments = _under(value, self.name, "name"), _under(value, self.arguments, "arguments")
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return None
        begun = self._begins.match(said, at)
        stop = object_end(said, begun.end()) if begun else None
        written = said[begun.end() : stop] if begun and stop is not None else None
        return Call(name, written or json.dumps(arguments, ensure_ascii=False)), end

    def _named(self, said: str, at: int, tools: Sequence[Mapping[str, Any]]) -> tuple[Call, int] | None:
        begun = self._begins.match(said, at)
        if begun is None:
            return None
        at = begun.end()
        if self.kind == "json":
            value, end = _DECODER.raw_decode(said, at)
            return (Call(begun[1], said[at:end]), end) if isinstance(value, dict) else None
        if self.kind == "pairs":
            given, end = self._pairs(said, at, _parameters(begun[1], tools))
        else:
            reader = ArgumentReader(said, self.quote, raw=self.raw)
            given, end = reader.keywords(at) if self.kind == "python" else reader.object(at)
        return Call(begun[1], json.dumps(given, ensure_ascii=False)), end

    def _pairs(self, said: str, at: int, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        given: dict[str, Any] = {}
        while pair := self._pair.match(said, at):
            given[pair[1]] = tagged_value(pair[2], parameters.get(pair[1]))
            at = pair.end()
        return given, at

    @cached_property
    def _head(self) -> re.Pattern[str]:
        return re.compile(_loose(self.head.lstrip()) or r"\s*")

    @cached_property
    def _between(self) -> re.Pattern[str] | None:
        return None if self.between is None else re.compile(r"\s*" + _loose(self.between))

    @cached_property
    def _close(self) -> re.Pattern[str]:
        return re.compile(r"\s*" + _loose(self.close))

    @cached_property
    def _begins(self) -> re.Pattern[str]:
        """A call up to its arguments."""
        if self.kind != "object":
            more = {"json": r"(?=\{)", "bare keys": r"(?=\{)"}.get(self.kind, "")
            return re.compile(rf"({_NAME}){_loose(self.mid)}{more}")
        name, arguments = (
            "|".join(map(re.escape, dict.fromkeys([path[-1], *_KEYS[what]])))
            for path, what in ((self.name, "name"), (self.arguments, "arguments"))
        )
        text = r'"(?:[^"\\]|\\.)*"'
        before = rf'\s*\{{\s*(?:{text}\s*:\s*(?:{text}\s*,|\{{)\s*)*?"(?:{name})"\s*:\s*'
        return re.compile(rf'{before}({text})\s*,\s*"(?:{arguments})"\s*:\s*(?=\{{)')

    @cached_property
    def _pair(self) -> re.Pattern[str]:
        more, joins, ends = map(_exact, (self.opens, self.joins, self.ends))
        behind = _loose(self.close) if self.close.strip() else ""
        return re.compile(rf"{more}([^<>\n]*?){joins}(.*?){ends}(?={more}|\s*{behind})", re.DOTALL)


def object_end(said: str, start: int) -> int | None:
    """Where the JSON object that begins at `start` ends, or None where it is not ended yet."""
    depth = 0
    for one in _TEXT_OR_BRACE.finditer(said, start):
        depth += {"{": 1, "}": -1}.get(one[0], 0)
        if depth == 0:
            return one.end()
    return None


def _behind_object(said: str, end: int) -> int | None:
    """Where the object ends whose arguments end at `end`."""
    for one in _TEXT_OR_BRACE.finditer(said, end):
        if one[0] == "}":
            return one.end()
        if one[0] == "{":
            return None
    return None


def _under(value: Any, path: Sequence[str], what: str) -> Any:
    """What an object has under these keys, or under another that means the same."""
    for key in path[:-1]:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        return None
    return next((value[key] for key in (path[-1], *_KEYS[what]) if key in value), None)


def _names(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    return [tool.get("function", tool).get("name", "") for tool in tools]


def _parameters(name: str, tools: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    for tool in tools:
        function = tool.get("function", tool)
        if function.get("name") == name:
            properties = (function.get("parameters") or {}).get("properties")
            return properties if isinstance(properties, Mapping) else {}
    return {}


def _loose(text: str) -> str:
    """A form's text as a pattern, with any white space where the template writes some."""
    return _pattern(text, r"\s*")


def _exact(text: str) -> str:
    """The same, where white space next to a value is the value's own beyond what the template writes."""
    return "".join(f"{re.escape(one)}?" if one.isspace() else re.escape(one) for one in text)


def _pattern(text: str, space: str) -> str:
    pieces = filter(None, re.split(rf"(\s+|[{ANY_NAME}{ANY_ID}])", text))
    known = {ANY_NAME: _NAME, ANY_ID: r"[\w-]*"}
    return "".join(space if one.isspace() else known.get(one, re.escape(one)) for one in pieces)


HERMES = CallForm("object", "<tool_call>\n", between="\n</tool_call>\n<tool_call>\n", close="\n</tool_call>")
"""Calls as Hermes and Qwen write them, and as many models that were trained with other templates do too."""

BARE = CallForm("object", "")
"""An answer that is one JSON object, as Llama 3.1 writes calls."""
