"""Questions over the OpenAI API, without the openai package."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from tuneport.contract.answers import GenerateOptions, Reply
from tuneport.doors import HOSTED, public
from tuneport.errors import BackendError

if TYPE_CHECKING:
    from tuneport.dataset import Message
    from tuneport.hosted.http import Http

_REASONS = ("stop", "length", "tool_calls")


@public(HOSTED)
def ask_openai_wire(http: Http, path: str, model: str, prompt: Sequence[Message], options: GenerateOptions) -> Reply:
    """The answer of `model` at a chat completions endpoint. Sent once: `HostedModel` repeats it.

    Raises BackendError for an answer that is not in the API's format.
    """
    body = _body(model, prompt, options)
    answer = http.once("POST", path, body)
    try:
        return _reply(answer)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise _not_of_the_wire(http, error) from error


@public(HOSTED)
def stream_openai_wire(
    http: Http, path: str, model: str, prompt: Sequence[Message], options: GenerateOptions
) -> Generator[str, None, Reply]:
    """The pieces of the answer as they come, the first of which is empty, and at the end the reply. Sent once.

    Raises BackendError for an answer that is not in the API's format, InDoubt for one that breaks off.
    """
    body = {**_body(model, prompt, options), "stream": True}
    shown = http.redact.pieces()  # a model may repeat the key over several pieces
    texts: list[str] = []
    thoughts: list[str] = []
    calls: dict[int, dict[str, Any]] = {}
    reason = None
    is_first = True
    for chunk in http.stream(path, body):
        try:
            choice = chunk["choices"][0] if chunk["choices"] else {}
            delta = choice.get("delta") or {}
            text, thought = delta.get("content") or "", delta.get("reasoning_content") or ""
            for part in delta.get("tool_calls") or ():
                _collect_call(calls, part)
            reason = choice.get("finish_reason") or reason
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise _not_of_the_wire(http, error) from error
        if is_first:
            yield ""
            is_first = False
        thoughts.append(thought)
        if piece := shown.feed(text):
            texts.append(piece)
            yield piece
    if rest := shown.end():
        texts.append(rest)
        yield rest
    return Reply(
        text="".join(texts),
        thinking=http.redact("".join(thoughts)) or None,
        finish_reason=reason if reason in _REASONS else "stop",
        tool_calls=tuple(calls[place] for place in sorted(calls)),
    )


def _body(model: str, prompt: Sequence[Message], options: GenerateOptions) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": [_turn(one.to_dict()) for one in prompt],
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
    }
    if options.stop:
        body["stop"] = list(options.stop)
    if options.seed is not None:
        body["seed"] = options.seed
    if options.tools:
        body["tools"] = [dict(one) for one in options.tools]
    return body


def _collect_call(calls: dict[int, dict[str, Any]], part: dict[str, Any]) -> None:
    """Add a part of a tool call to those that have come."""
    call = calls.setdefault(part["index"], {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call["id"] = part.get("id") or call["id"]
    for name in ("name", "arguments"):
        call["function"][name] += (part.get("function") or {}).get(name) or ""


def _not_of_the_wire(http: Http, error: Exception) -> BackendError:
    return BackendError(
        f"{http.endpoint.title} sent an answer that is not in the OpenAI API format ({type(error).__name__}).",
        remedy="Ask again.",
    )


def _turn(turn: dict[str, Any]) -> dict[str, Any]:
    """A message as the API takes it: the weight is for training, and past thinking belongs to past answers."""
    return {name: value for name, value in turn.items() if name not in ("weight", "reasoning_content")}


def _reply(answer: Any) -> Reply:
    choice = answer["choices"][0]
    message, reason, usage = choice["message"], choice.get("finish_reason"), answer.get("usage") or {}
    text = message.get("content") or ""
    if not isinstance(text, str):
        raise TypeError("the content is not text")
    return Reply(
        text=text,
        thinking=message.get("reasoning_content") or None,
        finish_reason=reason if reason in _REASONS else "stop",
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        tool_calls=tuple(dict(one) for one in message.get("tool_calls") or ()),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
