"""Calls of tools within an answer's text."""

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
    """Reads the calls of one answer: in the form that the model's template writes, else between `<tool_call>` tags, as
    Hermes and Qwen write them, or from an answer that is one JSON object with `name` and `arguments` or `parameters`.

    `keeps_control`: texts must be given with the control tokens in them, since they are a part of the form.
    """

    def __init__(self, codec: Codec, options: GenerateOptions) -> None:
        self._codec, self._tools = codec, options.tools
        form = codec.calls
        self._forms: list[CallForm] = list(dict.fromkeys([*([form] if form else []), HERMES, BARE]))
        # Where an object may also be the answer itself, it is a call only of a tool that there is.
        self._known = options.schema is not None
        self.keeps_control = form is not None and bool(
            codec.find_control(f"{form.head}{form.mid}{form.close}{form.quote}")
        )

    @property
    def close(self) -> str:
        """The text with which a call ends; empty where nothing shows its end."""
        form = self._forms[0]
        ends = form.between is None or form.between.startswith(form.close)
        return form.close.split()[-1] if ends and form.close.strip() else ""

    def read(self, said: str) -> tuple[str, tuple[Mapping[str, Any], ...]] | None:
        """The text beside the calls, and the calls in the wire's shape; None where there are none."""
        for form in self._forms:
            own = form is self._forms[0]
            rest, calls = form.read(said if own else self.plain(said), self._tools, known=self._known)
            if calls:
                made = tuple(
                    {"id": f"call{number:05}", "type": "function", "function": one._asdict()}
                    for number, one in enumerate(calls)
                )
                return self.plain(rest), made
        return None

    def shown(self, said: str) -> str:
        """What of a growing text is certainly beside its calls, without white space at its end, which would go with a
        call.
        """
        if not said.strip():
            return ""
        return self.plain(said[: min(form.safe_length(said) for form in self._forms)]).rstrip()

    def begun(self, said: str) -> list[Function]:
        """The calls that a growing text holds so far: the name of each, and its arguments as far as they are shown. A
        call whose beginning is of another form ends the list: whether it is one shows at its end.
        """
        for form in self._forms:
            calls = form.read_growing(said, self._tools)
            if calls:
                return [(one.name, one.arguments) for one in calls]
        return []

    def plain(self, said: str) -> str:
        """The text without control tokens, where it was given with them."""
        return self._codec.without_control(said) if self.keeps_control else said
