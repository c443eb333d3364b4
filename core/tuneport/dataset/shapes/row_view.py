"""A row seen through its recipe: its columns by the roles that they have in a shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tuneport.dataset.example import Message
from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.strict_json import BAD, escape, parse
from tuneport.dataset.read.values import find_bytes
from tuneport.dataset.shapes.context import history_turns
from tuneport.dataset.shapes.messages import read_messages, read_sharegpt
from tuneport.dataset.shapes.parts import text_of_parts
from tuneport.dataset.shapes.passages import to_text
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.shapes.text_values import NO_VALUE, STARTS, describe_python_value
from tuneport.dataset.shapes.tools import read_tools


class RowView:
    """Reads the values of a row by role, and reports what is missing or has the wrong type."""

    def __init__(self, recipe: Recipe, values: Mapping[str, Any], report: RowReport) -> None:
        self.recipe = recipe
        self.values = values
        self.report = report

    def get(self, role: str) -> Any:
        """The value of a role, or None."""
        column = self.recipe.columns.get(role)
        return None if column is None else self.values.get(column)

    def pointer(self, role: str) -> str:
        """The JSON pointer of the role's value."""
        return f"/{escape(self.recipe.columns.get(role, role))}"

    def turn_pointer(self, role: str, index: int) -> str:
        """The JSON pointer of a turn in the role's list."""
        return self.report.turn_pointer(self.pointer(role), index)

    def text(self, role: str) -> str:
        """The text of a role that must be one. An integer, such as a label's, becomes a text, which is noted."""
        value = self.get(role)
        if isinstance(value, str):
            if value[:2] in STARTS and (kind := describe_python_value(value)):
                self._add("python-text", role, f"is {kind}.")
            return value
        if isinstance(value, int):
            text = msgspec.json.encode(value).decode()
            self._add("read-as-text", role, f'is {text}, read as "{text}".')
            return text
        if value is None:
            self._add("missing-value", role, "is missing.")
        else:
            self._add("not-text", role, f"is {json_kind(value)}.")
        return ""

    def parse(self, role: str) -> Any:
        """A value, parsed where it is a JSON text, as tables store lists."""
        value = self.get(role)
        if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
            inner = RowReport(self.report.line)
            value = parse(value.encode("utf-8", "surrogatepass"), inner)
            for one in inner.found:
                self.report.add(one.code, one.message, self.pointer(role))
            return None if value is BAD else value
        return None if value == "" else value

    def history(self) -> tuple[Message, ...]:
        """The earlier turns of a row, possibly none."""
        value = self.parse("history")
        pairs = history_turns(value, self.pointer("history"), self.report)
        return tuple(pairs) if pairs is not None else read_sharegpt(value, self.pointer("history"), self.report)

    def join(self, role: str, text: str, *, before: bool = False) -> str:
        """A text with that of an optional role after it, or `before` it, and an empty line between."""
        value = self.get(role)
        other = "" if value is None or value in ("", [], {}) else self.passages(role)
        if other in NO_VALUE:
            self._add("no-value", role, f"is {other!r}, which is read as part of the prompt.")
        return "\n\n".join(filter(None, (other, text) if before else (text, other)))

    def passages(self, role: str) -> str:
        """The text of a role that may be a list of passages or an object, which is noted."""
        value = self.get(role)
        if not isinstance(value, list | dict) or find_bytes(value):  # bytes are reported once, in `read_example`
            return self.text(role)
        text, form = to_text(value)
        self._add("read-as-text", role, f"is {json_kind(value)}, read as {form}.")
        return text

    def answer(self, role: str) -> str:
        """The text of an answer, or the first of several, as in SQuAD."""
        value = self.get(role)
        if isinstance(value, dict) and isinstance(value.get("text"), list):
            value = value["text"]
        if not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            return self.text(role)
        if not value:
            self._add("missing-value", role, "has no answer.")
            return ""
        if len(set(value)) > 1:
            self._add("read-as-text", role, f"has {len(value)} answers. The first is read.")
        return str(value[0])

    def tools(self) -> tuple[dict[str, Any], ...]:
        """The row's tools."""
        filled = not isinstance(self.get("tools"), str)
        return read_tools(self.parse("tools"), self.pointer("tools"), self.report, filled=filled)

    def system_prompt(self) -> str:
        """The text of the column of system prompts, possibly empty."""
        value = self.get("system")
        if isinstance(value, list | dict) and (text := text_of_parts(value)) is not None:
            return text
        return self.text("system") if value is not None else ""

    def turns(self, role: str, speaker: str) -> tuple[Message, ...]:
        """A prompt or a completion as turns: a text is one turn of the speaker."""
        value = self.get(role)
        return (Message(role=speaker, content=value),) if isinstance(value, str) else self.messages(role)

    def messages(self, role: str) -> tuple[Message, ...]:
        """The messages of a role's list."""
        value = self.parse(role)
        value = [value] if isinstance(value, dict) and isinstance(value.get("role"), str) else value
        if value is None and not self.report.failed:
            self._add("missing-value", role, "is missing.")
        return () if self.report.failed else read_messages(value, self.pointer(role), self.report)

    def _add(self, code: str, role: str, predicate: str) -> None:
        pointer = self.pointer(role)
        self.report.add(code, f"{pointer[1:]} {predicate}", pointer)


def json_kind(value: object) -> str:
    """A JSON value's kind, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    return "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"
