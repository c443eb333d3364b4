"""The three types of examples that rows become: conversations, preferences and completions."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from tuneport.doors import public

Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")


@public()
class Message(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One turn of a conversation, in the form of OpenAI's API.

    `content` is a text, a list of parts (`{"type": "text", "text": …}`, `{"type": "image_url", …}`), or None where
    there are `tool_calls`. `weight` is for assistant turns: 0 leaves the turn out of the loss, 1 (the default) trains
    on it. `reasoning_content` is the assistant's reasoning before its answer.
    """

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    weight: int | float | None = None
    reasoning_content: str | None = None

    @property
    def text(self) -> str:
        """The content as text, without parts that are not text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(str(part.get("text", "")) for part in self.content or () if part.get("type") == "text")

    def to_dict(self) -> dict[str, Any]:
        """The message as a dictionary, without absent fields."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built


@public()
class Conversation(msgspec.Struct, frozen=True, omit_defaults=True, tag="conversation", tag_field="shape"):
    """Messages in order; the assistant's turns are trained on. `tools` describe functions with JSON Schema."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    parallel_tool_calls: bool | None = None


@public()
class Completion(msgspec.Struct, frozen=True, tag="completion", tag_field="shape"):
    """A plain text and its continuation, without a chat template; the loss is on `completion`."""

    prompt: str
    completion: str


@public()
class Preference(msgspec.Struct, frozen=True, omit_defaults=True, tag="preference", tag_field="shape"):
    """A prompt with a better and a worse answer."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()


Example = Conversation | Completion | Preference

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder: msgspec.json.Decoder[Example] = msgspec.json.Decoder(Example)


def canonical(example: Example) -> bytes:
    """The canonical JSON text of an example in UTF-8: fields in declared order, other keys sorted, no defaults."""
    return _encoder.encode(example)


def from_canonical(line: bytes) -> Example:
    """The example that `canonical` wrote."""
    return _decoder.decode(line)


def digest(example: Example) -> bytes:
    """SHA-256 of the canonical text: 32 bytes that identify the content."""
    return hashlib.sha256(canonical(example)).digest()
