"""Jinja as chat templates expect it: generation tags, and the usual functions.

Runs in the template's process, so it imports only jinja2 and the standard library.
"""

from __future__ import annotations

import json
import re
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

TODAY = "26 Jul 2024"
"""The date that templates see. With a real one, training, use and export would render differently from day to day."""


_NOT_ASCII = re.compile("[^\x00-\x7f\ue0f0-\ue0f2]")  # except the marks around control tokens


class GenerationTag(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}`, by which a template marks what the assistant writes."""

    tags = {"generation"}  # noqa: RUF012 - the name and type that jinja wants

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.written: list[str] = []
        self.marked: list[tuple[int, str]] = []
        environment.extend(generation_tag=self)

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: jinja2.runtime.Macro) -> str:
        text = str(caller())
        self.marked.append((sum(map(len, self.written)), text))
        return text

    def spans(self, text: str) -> list[tuple[int, int]]:
        """The places of the marked texts; none at all if one is not where expected, as with a tag inside a macro."""
        if any(not text.startswith(marked, start) for start, marked in self.marked):
            return []
        return [(start, start + len(marked)) for start, marked in self.marked]


def make_environment() -> ImmutableSandboxedEnvironment:
    """Jinja as chat templates expect it, with the usual global functions."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols]
    )

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
        text = json.dumps(value, ensure_ascii=False, indent=indent, **more)
        return _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text) if ensure_ascii else text

    def strftime_now(layout: str) -> str:
        from datetime import datetime

        return datetime.strptime(TODAY, "%d %b %Y").strftime(layout)

    made.filters["tojson"] = tojson
    made.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    return made
