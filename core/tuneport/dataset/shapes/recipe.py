"""How the rows of one file are read, and a row seen so: its columns as the roles that they play."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tuneport.dataset.example import Message
from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.read.strict_json import BAD, escape, parse
from tuneport.dataset.shapes import messages as turns
from tuneport.dataset.shapes.context import history_turns
from tuneport.dataset.shapes.parts import texts_of
from tuneport.dataset.shapes.passages import as_text, foreign_in
from tuneport.dataset.shapes.text_values import NO_VALUE, STARTS, python_value
from tuneport.dataset.shapes.tools import read_tools


class Recipe(msgspec.Struct, frozen=True):
    """How the rows of one file become examples: the shape's name, the column of each role, a system prompt to add."""

    shape: str
    columns: dict[str, str]
    system: str | None = None
    names: tuple[str, ...] = ()
    """All columns of the first rows."""
    rating: str | None = None
    """The column that says whether an answer is a good one."""
    turns: bool = False
    """Whether any of the first rows has a value in a column that makes prompts and completions turns."""


class Row:
    """A row seen through its recipe: asks for roles, reports what is missing."""

    def __init__(self, recipe: Recipe, values: Mapping[str, Any], report: RowReport) -> None:
        self.recipe = recipe
        self.values = values
        self.report = report

    def get(self, role: str) -> Any:
        """The value of a role, None where there is none."""
        column = self.recipe.columns.get(role)
        return None if column is None else self.values.get(column)

    def pointer(self, role: str) -> str:
        """Where the role's value stands."""
        return f"/{escape(self.recipe.columns.get(role, role))}"

    def at(self, role: str, index: int) -> str:
        """Where a turn of the role's list stands."""
        return self.report.turn(self.pointer(role), index)

    def text(self, role: str) -> str:
        """The text of a role that must be one. A whole number, such as a label's, is written out, which is noted."""
        value = self.get(role)
        if isinstance(value, str):
            if value[:2] in STARTS and (what := python_value(value)):
                self.report.add("python-text", f"{self.pointer(role)[1:]} holds {what}.", self.pointer(role))
            return value
        if isinstance(value, int):
            text = msgspec.json.encode(value).decode()
            self.report.add(
                "read-as-text", f'{self.pointer(role)[1:]} is {text}, read as "{text}".', self.pointer(role)
            )
            return text
        if value is None:
            self.report.add("missing-value", f"{self.pointer(role)[1:]} is missing.", self.pointer(role))
        else:
            self.report.add("not-text", f"{self.pointer(role)[1:]} is {kind(value)}.", self.pointer(role))
        return ""

    def parsed(self, role: str) -> Any:
        """A value that may stand there as a JSON text, as tables hold lists."""
        value = self.get(role)
        if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
            inner = RowReport(self.report.line)
            value = parse(value.encode("utf-8", "surrogatepass"), inner)
            for one in inner.found:
                self.report.add(one.code, one.message, self.pointer(role))
            return None if value is BAD else value
        return None if value == "" else value

    def history(self) -> tuple[Message, ...]:
        """The earlier turns of a row, which may be none."""
        value = self.parsed("history")
        found = history_turns(value, self.pointer("history"), self.report)
        return turns.read_sharegpt(value, self.pointer("history"), self.report) if found is None else tuple(found)

    def more(self, role: str, first: str, *, before: bool = False) -> str:
        """A text with that of an optional role behind it, or before it, and an empty line between."""
        value = self.get(role)
        second = "" if value is None or value in ("", [], {}) else self.beside(role)
        if second in NO_VALUE:
            said = f"{self.pointer(role)[1:]} is {second!r}, which is read as a part of the prompt."
            self.report.add("no-value", said, self.pointer(role))
        return "\n\n".join(filter(None, (second, first) if before else (first, second)))

    def beside(self, role: str) -> str:
        """The text of a role that may hold a list of passages or an object, which is noted."""
        value = self.get(role)
        if not isinstance(value, list | dict):
            return self.text(role)
        if foreign_in(value):  # bytes: said once, where values are settled
            return self.text(role)
        text, what = as_text(value)
        self.report.add(
            "read-as-text", f"{self.pointer(role)[1:]} is {kind(value)}, read as {what}.", self.pointer(role)
        )
        return text

    def answer(self, role: str) -> str:
        """The text of an answer, or the first where there are several, as in SQuAD."""
        value = self.get(role)
        if isinstance(value, dict) and isinstance(value.get("text"), list):
            value = value["text"]
        if not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            return self.text(role)
        where = self.pointer(role)
        if not value:
            self.report.add("missing-value", f"{where[1:]} holds no answer.", where)
            return ""
        if len(value) > 1 and len(set(value)) > 1:
            self.report.add("read-as-text", f"{where[1:]} holds {len(value)} answers; the first is read.", where)
        return str(value[0])

    def tools(self) -> tuple[dict[str, Any], ...]:
        filled = not isinstance(self.get("tools"), str)
        return read_tools(self.parsed("tools"), self.pointer("tools"), self.report, filled=filled)

    def system_prompt(self) -> str:
        """What the column of system prompts says of a row, which may be nothing."""
        value = self.get("system")
        if isinstance(value, list | dict) and (text := texts_of(value)) is not None:
            return text
        return self.text("system") if value is not None else ""

    def side(self, role: str, speaker: str) -> tuple[Message, ...]:
        """A prompt or a completion as turns: a text is one turn of the speaker's."""
        value = self.get(role)
        return (Message(role=speaker, content=value),) if isinstance(value, str) else self.messages(role)

    def messages(self, role: str) -> tuple[Message, ...]:
        value = self.parsed(role)
        value = [value] if isinstance(value, dict) and isinstance(value.get("role"), str) else value
        if value is None and not self.report.failed:
            self.report.add("missing-value", f"{self.pointer(role)[1:]} is missing.", self.pointer(role))
        return () if self.report.failed else turns.read_messages(value, self.pointer(role), self.report)


def kind(value: object) -> str:
    """A JSON value's kind, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    return "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"
