"""Options of an answer, and replies that arrive in chunks, as the wire has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tuneport.plugin import GenerateOptions, Reply, TokenLogprob
from tuneport_openai.wire.thinking import Splitter, reasoning_of
from tuneport_openai.wire.words import count_of

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

TAKES = frozenset({"schema", "tool_choice", "parallel_tool_calls", "logprobs", "frequency_penalty", "presence_penalty"})
"""The options beyond the usual ones that are passed on. A server that lacks one of them says so itself."""


def extra_fields(options: GenerateOptions) -> dict[str, Any]:
    """The request's fields for the options in `TAKES`; options at their default are left out."""
    body: dict[str, Any] = {}
    if options.schema is True:
        body["response_format"] = {"type": "json_object"}
    elif isinstance(options.schema, Mapping):
        named = {"name": "answer", "schema": dict(options.schema), "strict": _is_strict(options.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    if isinstance(options.tool_choice, Mapping):
        body["tool_choice"] = {"type": "function", "function": {"name": options.tool_choice["name"]}}
    elif options.tool_choice != "auto":
        body["tool_choice"] = options.tool_choice
    if options.tools and not options.parallel_tool_calls:
        body["parallel_tool_calls"] = False
    if options.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": options.logprobs}
    for name in ("frequency_penalty", "presence_penalty"):
        if value := getattr(options, name):
            body[name] = value
    return body


def logprobs_of(logprobs: Any) -> tuple[TokenLogprob, ...] | None:
    """The log-probabilities of a choice or of a chunk's choice; None where the server sent none."""
    content = getattr(logprobs, "content", None)
    if content is None:
        return None
    return tuple(_logprob(one, tuple(_logprob(other) for other in one.top_logprobs or ())) for one in content)


class Collected:
    """A reply that arrives in chunks: `add` returns each chunk's text, `rest` what was held back, `reply` the complete
    reply. `started`: there was a choice. `ended`: a chunk said why the answer ended.
    """

    def __init__(self, splitter: Splitter) -> None:
        self.started = self.ended = False
        self._splitter = splitter
        self._reasoning: list[str] = []
        self._text: list[str] = []
        self._reason = "stop"
        self._calls: dict[int, dict[str, Any]] = {}
        self._logprobs: list[TokenLogprob] = []
        self._usage: Any = None

    def add(self, chunk: ChatCompletionChunk) -> str:
        """Add a chunk; returns its text, which may be empty."""
        self._usage = getattr(chunk, "usage", None) or self._usage
        for choice in (getattr(chunk, "choices", None) or [])[:1]:
            self.started = True
            self.ended = self.ended or bool(choice.finish_reason)
            self._reason = choice.finish_reason or self._reason
            self._logprobs += logprobs_of(getattr(choice, "logprobs", None)) or ()
            if choice.delta is None:
                continue
            for one in choice.delta.tool_calls or ():
                empty = {"id": one.id, "type": "function", "function": {"name": "", "arguments": ""}}
                call = self._calls.setdefault(one.index, empty)
                if one.function is not None:
                    call["function"]["name"] += one.function.name or ""
                    call["function"]["arguments"] += one.function.arguments or ""
            self._reasoning.append(reasoning_of(choice.delta) or "")
            if choice.delta.content:
                return self._keep(self._splitter.feed(choice.delta.content))
        return ""

    def rest(self) -> str:
        """The text that is still held back, after the last chunk."""
        return self._keep(self._splitter.end(cut=self._reason == "length"))

    def _keep(self, piece: str) -> str:
        self._text.append(piece)
        return piece

    def reply(self, options: GenerateOptions, redact: Callable[[str], str]) -> Reply:
        """The complete reply, after the last chunk; `redact` removes secrets that came in several pieces."""
        calls = [self._calls[index] for index in sorted(self._calls)]
        for call in calls:
            call["function"] = {name: redact(value) for name, value in call["function"].items()}
        reasoning = "".join(self._reasoning) or self._splitter.thinking
        return Reply(
            text=redact("".join(self._text)),
            thinking=None if reasoning is None else redact(reasoning),
            finish_reason=self._reason if self._reason in ("stop", "length", "tool_calls") else "stop",
            prompt_tokens=count_of(getattr(self._usage, "prompt_tokens", None)),
            completion_tokens=count_of(getattr(self._usage, "completion_tokens", None)),
            tool_calls=tuple(calls),
            logprobs=tuple(self._logprobs) if options.logprobs is not None and self._logprobs else None,
        )


def _logprob(one: Any, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    raw = bytes(one.bytes) if one.bytes is not None else one.token.encode("utf-8", "replace")
    return TokenLogprob(token=one.token, bytes=raw, logprob=one.logprob, top=top)


def _is_strict(schema: Mapping[str, Any]) -> bool:
    """Whether the vendor takes the schema as a strict one: objects are closed, and all their properties are required.
    Strict, it refuses other schemas; not strict, it follows them as well as it can.
    """
    waiting: list[Any] = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, Mapping):
            if "properties" in one and isinstance(one["properties"], Mapping) and one.get("type") == "object":
                closed = one.get("additionalProperties") is False
                if not closed or set(one.get("required") or ()) != set(one["properties"]):
                    return False
            waiting += one.values()
    return schema.get("type") == "object"
