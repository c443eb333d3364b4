"""One question over the OpenAI wire, without the openai package."""

from __future__ import annotations

from collections.abc import Sequence
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

    Raises BackendError for an answer that is not of the wire.
    """
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
    answer = http.once("POST", path, body)
    try:
        return _reply(answer)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise BackendError(
            f"{http.endpoint.title} sent an answer that is not of the OpenAI wire ({type(error).__name__}).",
            remedy="Ask again.",
        ) from error


def _turn(turn: dict[str, Any]) -> dict[str, Any]:
    """A message as the wire takes it: the weight is for training, and past thinking belongs to past answers."""
    return {name: value for name, value in turn.items() if name not in ("weight", "reasoning_content")}


def _reply(answer: Any) -> Reply:
    choice = answer["choices"][0]
    message, reason, usage = choice["message"], choice.get("finish_reason"), answer.get("usage") or {}
    text = message.get("content") or ""
    if not isinstance(text, str):
        raise TypeError("the content is not text")
    return Reply(
        text=text,
        thinking=message.get("reasoning_content") or "",
        finish_reason=reason if reason in _REASONS else "stop",
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        tool_calls=tuple(dict(one) for one in message.get("tool_calls") or ()),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
