"""The form in which a chat template writes tool calls, and how to parse them from an answer."""

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
"""Placeholders in a form's texts for the name of a tool and for the id of a call."""

_NAME = r"[^\s<>{}()\[\]\"'`|｜,]{1,128}"
_TEXT_OR_BRACE = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[{}]', re.DOTALL)
_KEYS = {"name": ("name",), "arguments": ("arguments", "parameters")}
_LONGEST_HEAD = 512  # characters by which the start of a call can be recognized
_MOST_HEADS = 64  # in one answer, because each may be parsed up to the end of the text
_DECODER = json.JSONDecoder()


class Call(NamedTuple):
    """A call in a text: its tool, and its arguments as JSON."""

    name: str
    arguments: str


@dataclass(frozen=True)
class CallForm:
    """How a template writes calls: `head`, then the first call, `between` two calls, and `close` after the last.

    A call of the kind "object" is a JSON object with the tool's name under the keys `name` and its arguments under
    `arguments`. Other kinds are the name, `mid`, and the arguments: as JSON, as Python's keyword arguments up to `)`,
    as an object with bare keys and texts in `quote`, or as "pairs": `opens` key `joins` value `ends` for each.
    `between` is None if the template writes only one call. With `raw`, quoted texts are not escaped.
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
        """Whether nothing marks the start of a call, so that a call can only be the complete answer."""
        return not self.head.strip("[{( \n")

    @property
    def first(self) -> str:
        """The text at the start of calls."""
        return self.head.partition(ANY_NAME)[0].strip()

    def read(self, text: str, tools: Sequence[Mapping[str, Any]], *, known: bool = False) -> tuple[str, list[Call]]:
        """The text outside of calls, and the calls; the complete text if there are none. A truncated last call is
        dropped. With `known`, a bare object is a call only if it names one of these tools.
        """
        known = known or self.kind != "object"
        texts: list[str] = []
        calls: list[Call] = []
        end = 0
        for start, at in self._heads(text):
            if start < end:
                continue
            found, after = self._read_calls(text, at, tools)
            named = not known or all(one.name in _names(tools) for one in found)
            if found and self.bare and (text[after:].strip() or not named):
                return text, []
            if found:
                texts.append(text[end:start].strip() if texts else text[end:start].rstrip())
                calls += found
                end = after
        if not calls:
            return text, []
        rest = text[end:].partition(self.first)[0] if self.first else text[end:]
        return "\n".join(filter(None, [*texts, rest.strip()])), calls

    def read_growing(self, text: str, tools: Sequence[Mapping[str, Any]]) -> list[Call]:
        """The calls in a growing text so far. The last call may have incomplete arguments if they are JSON; a call of
        another kind is included when it is complete.
        """
        if self.bare and self.kind != "object":
            return []
        for _, at in self._heads(text):
            calls = [*self._growing_calls(text, at, tools)] if self.kind in ("object", "json") else []
            if self.kind not in ("object", "json"):
                calls, _ = self._read_calls(text, at, tools)
            if calls:
                return calls
        return []

    def safe_length(self, text: str) -> int:
        """The number of first characters of a growing text that are certainly before any call."""
        if self.bare:
            return 0 if not text.strip() or text.lstrip()[0] in "[{" else len(text)
        start = text.find(self.first)
        while start >= 0:
            if self._head.match(text, start) or len(text) - start < _LONGEST_HEAD:
                return start
            start = text.find(self.first, start + 1)
        first = self.first
        return len(text) - next((size for size in range(len(first), 0, -1) if text.endswith(first[:size])), 0)

    def read_one(self, text: str, at: int, tools: Sequence[Mapping[str, Any]] = ()) -> tuple[Call, int] | None:
        """The call that starts at `at`, after the head, and where it ends."""
        try:
            return self._read_object(text, at) if self.kind == "object" else self._read_named(text, at, tools)
        except (ValueError, RecursionError):
            return None

    def _heads(self, text: str) -> Iterator[tuple[int, int]]:
        if self.bare:
            found = self._head.match(text)
            yield from [(0, found.end())] if found else []
            return
        for found in islice(self._head.finditer(text), _MOST_HEADS):
            yield found.span()

    def _read_calls(self, text: str, at: int, tools: Sequence[Mapping[str, Any]]) -> tuple[list[Call], int]:
        calls: list[Call] = []
        end = at
        while found := self.read_one(text, at, tools):
            following = self._between.match(text, found[1]) if self._between else None
            closing = self._close.match(text, found[1])
            if following is None and closing is None:
                break  # it is incomplete
            calls.append(found[0])
            end = closing.end() if closing else found[1]
            if following is None or not self._starts_call(text, following.end()):
                break
            at = following.end()
        return calls, end

    def _starts_call(self, text: str, at: int) -> bool:
        """Whether a call may start at `at`."""
        return text.startswith("{", at) if self.kind == "object" else re.compile(_NAME).match(text, at) is not None

    def _growing_calls(self, text: str, at: int, tools: Sequence[Mapping[str, Any]]) -> Iterator[Call]:
        names = _names(tools)
        while start := self._begins.match(text, at):
            try:
                name = str(json.loads(start[1])) if self.kind == "object" else start[1]
            except ValueError:
                return
            if name not in names:
                return
            end = object_end(text, start.end())
            yield Call(name, text[start.end() : end])
            after = None if end is None else _enclosing_end(text, end) if self.kind == "object" else end
            following = self._between.match(text, after) if self._between and after is not None else None
            if following is None:
                return
            at = following.end()

    def _read_object(self, text: str, at: int) -> tuple[Call, int] | None:
        value, end = _DECODER.raw_decode(text, at)
        name, arguments = _under(value, self.name, "name"), _under(value, self.arguments, "arguments")
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return None
        start = self._begins.match(text, at)
        stop = object_end(text, start.end()) if start else None
        written = text[start.end() : stop] if start and stop is not None else None
        return Call(name, written or json.dumps(arguments, ensure_ascii=False)), end

    def _read_named(self, text: str, at: int, tools: Sequence[Mapping[str, Any]]) -> tuple[Call, int] | None:
        start = self._begins.match(text, at)
        if start is None:
            return None
        at = start.end()
        if self.kind == "json":
            value, end = _DECODER.raw_decode(text, at)
            return (Call(start[1], text[at:end]), end) if isinstance(value, dict) else None
        if self.kind == "pairs":
            given, end = self._read_pairs(text, at, _parameters(start[1], tools))
        else:
            reader = ArgumentReader(text, self.quote, raw=self.raw)
            given, end = reader.keywords(at) if self.kind == "python" else reader.object(at)
        return Call(start[1], json.dumps(given, ensure_ascii=False)), end

    def _read_pairs(self, text: str, at: int, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        given: dict[str, Any] = {}
        while pair := self._pair.match(text, at):
            given[pair[1]] = tagged_value(pair[2], parameters.get(pair[1]))
            at = pair.end()
        return given, at

    @cached_property
    def _head(self) -> re.Pattern[str]:
        return re.compile(_match_loosely(self.head.lstrip()) or r"\s*")

    @cached_property
    def _between(self) -> re.Pattern[str] | None:
        return None if self.between is None else re.compile(r"\s*" + _match_loosely(self.between))

    @cached_property
    def _close(self) -> re.Pattern[str]:
        return re.compile(r"\s*" + _match_loosely(self.close))

    @cached_property
    def _begins(self) -> re.Pattern[str]:
        """Matches a call up to its arguments."""
        if self.kind != "object":
            more = {"json": r"(?=\{)", "bare keys": r"(?=\{)"}.get(self.kind, "")
            return re.compile(rf"({_NAME}){_match_loosely(self.mid)}{more}")
        name, arguments = (
            "|".join(map(re.escape, dict.fromkeys([path[-1], *_KEYS[what]])))
            for path, what in ((self.name, "name"), (self.arguments, "arguments"))
        )
        text = r'"(?:[^"\\]|\\.)*"'
        before = rf'\s*\{{\s*(?:{text}\s*:\s*(?:{text}\s*,|\{{)\s*)*?"(?:{name})"\s*:\s*'
        return re.compile(rf'{before}({text})\s*,\s*"(?:{arguments})"\s*:\s*(?=\{{)')

    @cached_property
    def _pair(self) -> re.Pattern[str]:
        more, joins, ends = map(_match_exactly, (self.opens, self.joins, self.ends))
        after = _match_loosely(self.close) if self.close.strip() else ""
        return re.compile(rf"{more}([^<>\n]*?){joins}(.*?){ends}(?={more}|\s*{after})", re.DOTALL)


def object_end(text: str, start: int) -> int | None:
    """The end of the JSON object that starts at `start`; None if it is incomplete."""
    depth = 0
    for one in _TEXT_OR_BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(one[0], 0)
        if depth == 0:
            return one.end()
    return None


def _enclosing_end(text: str, end: int) -> int | None:
    """The end of the object whose arguments end at `end`."""
    for one in _TEXT_OR_BRACE.finditer(text, end):
        if one[0] == "}":
            return one.end()
        if one[0] == "{":
            return None
    return None


def _under(value: Any, path: Sequence[str], what: str) -> Any:
    """The value under these keys, or under keys that mean the same."""
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


def _match_loosely(text: str) -> str:
    """A form's text as a pattern, with any whitespace where the template writes some."""
    return _pattern(text, r"\s*")


def _match_exactly(text: str) -> str:
    """The same, but whitespace beyond the template's belongs to the value."""
    return "".join(f"{re.escape(one)}?" if one.isspace() else re.escape(one) for one in text)


def _pattern(text: str, space: str) -> str:
    pieces = filter(None, re.split(rf"(\s+|[{ANY_NAME}{ANY_ID}])", text))
    known = {ANY_NAME: _NAME, ANY_ID: r"[\w-]*"}
    return "".join(space if one.isspace() else known.get(one, re.escape(one)) for one in pieces)


HERMES = CallForm("object", "<tool_call>\n", between="\n</tool_call>\n<tool_call>\n", close="\n</tool_call>")
"""Calls as Hermes and Qwen write them, and many models with other templates too."""

BARE = CallForm("object", "")
"""An answer that is one JSON object, as Llama 3.1 writes calls."""
