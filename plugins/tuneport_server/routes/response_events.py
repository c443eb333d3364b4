"""The events of a streamed response, in the wire's order, and the items of its output."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from tuneport.plugin import AnswerPiece, Reply
from tuneport_server.answering.questions import Delivery, Question
from tuneport_server.routes.answers import Streamed, logprob_of, logprobs_of, tokens_of
from tuneport_server.wire import WireError

_FAILURES = {400: "invalid_prompt", 429: "rate_limit_exceeded"}


def message(answer: Reply | None, id_: str | None = None) -> dict[str, Any]:
    """Return the output item of an answer's text; an empty one in progress if there is no answer yet."""
    content = [] if answer is None else [_part(answer.text, logprobs_of(answer) or [])]
    return {
        "id": id_ or f"msg_{secrets.token_hex(16)}",
        "type": "message",
        "role": "assistant",
        "status": "in_progress" if answer is None else _status(answer),
        "content": content,
    }


def call(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return the output item of a tool call, which is given as on the chat wire."""
    return {
        "id": f"fc_{secrets.token_hex(16)}",
        "type": "function_call",
        "status": "completed",
        "call_id": one["id"],
        "name": one["function"]["name"],
        "arguments": one["function"]["arguments"],
    }


def finish(head: Mapping[str, Any], answer: Reply, output: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the complete response with its answer. An answer that was cut at its limit makes it incomplete."""
    status = _status(answer)
    cut = {"incomplete_details": {"reason": "max_output_tokens"}} if status == "incomplete" else {}
    done = {"completed_at": int(time.time())} if status == "completed" else {}
    return {**head, **cut, **done, "status": status, "output": output, "usage": _usage(answer)}


async def events(
    head: Mapping[str, Any], first: Delivery, deliveries: asyncio.Queue[Delivery], question: Question
) -> AsyncIterator[bytes]:
    """Yield the server-sent events of a response, from what the model delivers."""
    stream = _Stream()
    try:
        yield stream.event("response.created", response=head)
        yield stream.event("response.in_progress", response=head)
        item = first
        while isinstance(item, tuple):
            for event in stream.piece(item[1]):
                yield event
            item = await deliveries.get()
        if isinstance(item, WireError):
            for event in stream.fail(head, item):
                yield event
            return
        for event in stream.end(head, item[0]):
            yield event
    finally:
        question.gone.set()


class _Stream:
    """What a stream has sent so far. Its events are numbered. Its items follow one another: each begins when the one
    before it has ended.
    """

    def __init__(self) -> None:
        self._number = 0
        self._streamed = Streamed()
        self._item: dict[str, Any] | None = None  # the one in progress
        self._output: list[dict[str, Any]] = []

    def event(self, kind: str, **fields: Any) -> bytes:
        value = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        data = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def piece(self, piece: AnswerPiece) -> Iterator[bytes]:
        """Yield the events of a piece of the answer."""
        logprobs = [logprob_of(one) for one in piece.logprobs]
        in_message = self._item is not None and self._item["type"] == "message"
        if piece.text or (logprobs and in_message):
            yield from self._text(piece.text, logprobs)
        for delta in self._streamed.take(piece):
            if delta.name is not None:
                yield from self._end("completed")
                yield from self._begin(call({"id": delta.id, "function": {"name": delta.name, "arguments": ""}}))
            if delta.arguments and self._item is not None:
                self._item["arguments"] += delta.arguments
                yield self.event("response.function_call_arguments.delta", **self._place(), delta=delta.arguments)

    def end(self, head: Mapping[str, Any], answer: Reply) -> Iterator[bytes]:
        yield from self.piece(self._streamed.rest(answer))
        if self._item is None and not self._output:
            yield from self._text("", [])
        yield from self._end(_status(answer))
        response = finish(head, answer, self._output)
        yield self.event(f"response.{response['status']}", response=response)

    def fail(self, head: Mapping[str, Any], error: WireError) -> Iterator[bytes]:
        code = _FAILURES.get(error.status, "server_error")
        yield self.event("error", code=code, message=error.message, param=error.param)
        failed = {**head, "status": "failed", "error": {"code": code, "message": error.message}}
        yield self.event("response.failed", response=failed)

    def _text(self, text: str, logprobs: list[dict[str, Any]]) -> Iterator[bytes]:
        if self._item is None or self._item["type"] != "message":
            yield from self._end("completed")
            yield from self._begin(message(None))
            yield self.event("response.content_part.added", **self._place(), part=_part("", []))
            self._item["content"] = [_part("", [])]  # type: ignore[index]  # it began just now
        assert self._item is not None
        part = self._item["content"][0]
        part["text"] += text
        part["logprobs"] += logprobs
        if text:
            plain = [_without_bytes(one) for one in logprobs]
            yield self.event("response.output_text.delta", **self._place(), delta=text, logprobs=plain)

    def _begin(self, item: dict[str, Any]) -> Iterator[bytes]:
        self._item = {**item, "status": "in_progress"}
        yield self.event("response.output_item.added", output_index=len(self._output), item=self._item)

    def _end(self, status: str) -> Iterator[bytes]:
        """End the item in progress, if there is one."""
        item = self._item
        if item is None:
            return
        item["status"] = status
        if item["type"] == "message":
            part = item["content"][0]
            plain = [_without_bytes(one) for one in part["logprobs"]]
            yield self.event("response.output_text.done", **self._place(), text=part["text"], logprobs=plain)
            yield self.event("response.content_part.done", **self._place(), part=part)
        else:
            named = {"name": item["name"], "arguments": item["arguments"]}
            yield self.event("response.function_call_arguments.done", **self._place(), **named)
        yield self.event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        self._item = None

    def _place(self) -> dict[str, Any]:
        assert self._item is not None
        part = {"content_index": 0} if self._item["type"] == "message" else {}
        return {"item_id": self._item["id"], "output_index": len(self._output), **part}


def _part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _status(answer: Reply) -> str:
    return "incomplete" if answer.finish_reason == "length" else "completed"


def _without_bytes(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a token's log probability as events have it."""
    top = [{"token": other["token"], "logprob": other["logprob"]} for other in one["top_logprobs"]]
    return {"token": one["token"], "logprob": one["logprob"], "top_logprobs": top}


def _usage(answer: Reply) -> dict[str, Any] | None:
    tokens = tokens_of([answer])
    if tokens is None:
        return None
    read, written = tokens
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }
