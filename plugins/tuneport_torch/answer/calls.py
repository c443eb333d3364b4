"""Reads tool calls from an answer's text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tuneport_torch.text.callform import BARE, HERMES, CallForm

if TYPE_CHECKING:
    from tuneport.plugin import GenerateOptions
    from tuneport_torch.text.codec import Codec

Function = tuple[str, str]
"""The name of a called tool, and its arguments as JSON."""


class CallReader:
    """Reads the calls of one answer: in the form of the model's template, or else between `<tool_call>` tags as Hermes
    and Qwen write them, or from an answer that is one JSON object with `name` and `arguments` or `parameters`.

    `keeps_control`: pass texts with their control tokens, because these are part of the form.
    """

    def __init__(self, codec: Codec, options: GenerateOptions) -> None:
        self._codec, self._tools = codec, options.tools
        form = codec.calls
        self._forms: list[CallForm] = list(dict.fromkeys([*([form] if form else []), HERMES, BARE]))
        # If an object may also be the answer itself, it is a call only if it names an existing tool.
        self._known = options.schema is not None
        self.keeps_control = form is not None and bool(
            codec.find_control(f"{form.head}{form.mid}{form.close}{form.quote}")
        )

    @property
    def close(self) -> str:
        """The text at the end of a call; empty if there is none."""
        form = self._forms[0]
        ends = form.between is None or form.between.startswith(form.close)
        return form.close.split()[-1] if ends and form.close.strip() else ""

    def read(self, text: str) -> tuple[str, tuple[Mapping[str, Any], ...]] | None:
        """The text outside of calls, and the calls in the wire format; None if there are none."""
        for form in self._forms:
            own = form is self._forms[0]
            rest, calls = form.read(text if own else self.plain(text), self._tools, known=self._known)
            if calls:
                wire_calls = tuple(
                    {"id": f"call{number:05}", "type": "function", "function": one._asdict()}
                    for number, one in enumerate(calls)
                )
                return self.plain(rest), wire_calls
        return None

    def safe_text(self, text: str) -> str:
        """The part of a growing text that is certainly outside of calls, without whitespace at its end, which would
        belong to a call.
        """
        if not text.strip():
            return ""
        return self.plain(text[: min(form.safe_length(text) for form in self._forms)]).rstrip()

    def read_growing(self, text: str) -> list[Function]:
        """The calls in a growing text so far: the name of each, and its arguments as far as they are complete. A call
        that starts in another form ends the list, because only its end shows whether it is a call.
        """
        for form in self._forms:
            calls = form.read_growing(text, self._tools)
            if calls:
                return [(one.name, one.arguments) for one in calls]
        return []

    def plain(self, text: str) -> str:
        """The text without control tokens, if it may contain them."""
        return self._codec.without_control(text) if self.keeps_control else text
