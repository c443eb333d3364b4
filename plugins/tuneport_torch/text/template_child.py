"""Render chat templates in a process with limits: a template comes with a model and is a stranger's program.

Runs as a script, started by template.py, and imports jinja2 and the standard library alone. Jinja's sandbox stops a
template from reaching Python; the limits set here stop it from looping and from filling memory. Requests and answers
are JSON, in the messages of child.py. The process ends with its input.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

TODAY = "26 Jul 2024"
"""The date that templates see. A real one would make training, use and export render differently from day to day."""


class GenerationTag(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}`: a template's own word on what the assistant writes."""

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
        """Where the marked texts stand; none at all when one is not where it seemed, as in a tag inside a macro."""
        if any(not text.startswith(marked, start) for start, marked in self.marked):
            return []
        return [(start, start + len(marked)) for start, marked in self.marked]


def environment() -> ImmutableSandboxedEnvironment:
    """Jinja as chat templates expect it, with the globals that the field's templates use."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols]
    )

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)

    def strftime_now(layout: str) -> str:
        from datetime import datetime

        return datetime.strptime(TODAY, "%d %b %Y").strftime(layout)

    made.filters["tojson"] = tojson
    made.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    return made


class Renderer:
    """One template, compiled, and the variables that every rendering of it gets."""

    def __init__(self, source: str, variables: dict[str, Any]) -> None:
        made = environment()
        self.template = made.from_string(source)
        self.tag: GenerationTag = made.generation_tag  # type: ignore[attr-defined]  # put there by the extension
        self.variables = variables
        self.asked: dict[str, Any] = {}  # the variables of the row at hand

    def text(self, messages: list[Any], tools: list[Any], *, prompt: bool) -> str:
        """The rendered text; with `prompt` it ends where the assistant begins to write."""
        self.tag.written, self.tag.marked = [], []
        given = {
            **self.variables,
            **self.asked,
            "messages": messages,
            "tools": tools or None,
            "add_generation_prompt": prompt,
        }
        for piece in self.template.generate(**given):
            self.tag.written.append(piece)
        return "".join(self.tag.written)

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """One conversation: its text, the tagged spans, or for each of `turns` where it starts and ends, or why not."""
        messages, tools = row["messages"], row.get("tools", [])
        self.asked = row.get("variables") or {}
        text = self.text(messages, tools, prompt=row.get("prompt", False))
        tagged = self.tag.spans(text)
        if "block" in row and messages and not row.get("prompt"):
            text, tagged = self.behind_prompt(text, tagged, messages, tools, row["block"])
        answer: dict[str, Any] = {"text": text}
        if tagged:
            answer["tagged"] = tagged
        elif "turns" in row:
            answer["turns"] = [self.turn(text, messages, tools, turn) for turn in row["turns"]]
        return answer

    def behind_prompt(
        self, text: str, tagged: list[tuple[int, int]], messages: list[Any], tools: list[Any], block: dict[str, str]
    ) -> tuple[str, list[tuple[int, int]]]:
        """The text whose last answer follows the prompt's thinking block, and where the tagged spans stand then.

        A template may open the block in the prompt and not write it for a given answer. The prompt's opening stays, the
        thinking and the end of the block follow it, then the answer. What the prompt holds is in no tagged span.
        """
        opens, closes = block["opens"], block["closes"]
        before = self.text(messages[:-1], tools, prompt=True)
        if text.startswith(before):
            if tagged and tagged[-1][0] <= len(before) < tagged[-1][1]:
                tagged = [*tagged[:-1], (len(before), tagged[-1][1])]
            return text, tagged
        start = before.rstrip().removesuffix(opens)
        if not opens or not before.rstrip().endswith(opens) or not text.startswith(start):
            return text, tagged
        rest = text[len(start) :]
        if rest.startswith(opens) and closes in rest:
            rest = rest.partition(closes)[2].lstrip("\n")
        # Its own tags would be at the wrong places; the turns are proven instead.
        return f"{before}{block['thought']}\n{closes}\n\n{rest}", []

    def turn(self, text: str, messages: list[Any], tools: list[Any], turn: int) -> tuple[int, int] | str:
        """Where message number `turn` stands in the whole text, proven by two prefixes of it; else the reason."""
        before = self.text(messages[:turn], tools, prompt=True)
        whole = turn + 1 == len(messages)
        through = text if whole else self.text(messages[: turn + 1], tools, prompt=False)
        if not text.startswith(through):
            return "the template writes this turn differently once others follow it"
        if not through.startswith(before):
            return "the template opens this turn differently from how it asks the model for it"
        return len(before), len(through)


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """End this process, by the kernel's hand, when what is inside takes more processor time than that."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def confine(memory_bytes: int) -> None:
    """Give up what rendering does not need: memory beyond the limit, new files, new processes."""
    limits = ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0))
    for what, limit in (*limits, (resource.RLIMIT_NPROC, 0)):
        try:
            resource.setrlimit(what, (limit, limit))
        except (ValueError, OSError):
            continue  # a platform without that limit still has the others


def serve() -> None:
    """The first message: template, variables and limits. Every other: a batch of rows."""
    first = json.loads(read())
    confine(first["memory_bytes"])
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    reply: Any
    renderer = None
    try:
        with cpu_limit(first["seconds"]):
            renderer = Renderer(first["template"], first["variables"])
        reply = {"ready": True}
    except (jinja2.TemplateError, MemoryError, RecursionError) as error:
        reply = {"error": f"{type(error).__name__}: {error}"}
    write(json.dumps(reply).encode())
    while renderer is not None and (message := read()):
        rows = json.loads(message)
        with cpu_limit(first["seconds"] + first["seconds_per_row"] * len(rows)):
            reply = [_guarded(renderer, row) for row in rows]
            answer = json.dumps(reply).encode()
        write(answer)


def read() -> bytes:
    """The next message; empty at the end of the input."""
    return sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(8), "little"))


def write(message: bytes) -> None:
    """Send a message."""
    sys.stdout.buffer.write(len(message).to_bytes(8, "little"))
    sys.stdout.buffer.write(message)
    sys.stdout.buffer.flush()


def _guarded(renderer: Renderer, row: dict[str, Any]) -> dict[str, Any]:
    try:
        return renderer.row(row)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's template raises is its answer for that row
        return {"error": str(error) or type(error).__name__}


if __name__ == "__main__":
    serve()
