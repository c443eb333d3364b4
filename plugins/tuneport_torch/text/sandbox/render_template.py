"""Render chat templates in a process with limits: a template is a third-party program that comes with a model.

Runs as a script, started by template.py. It imports jinja2, the standard library and neighbors that import no more.
Jinja's sandbox stops a template from reaching Python; the limits set here stop it from looping and from filling memory.
Requests and answers are JSON, framed as in child_process.py. The process ends with its input.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any

import jinja2

from tuneport_torch.text.sandbox.jinja_environment import GenerationTag, make_environment
from tuneport_torch.text.sandbox.message_forms import (
    FIELDS,
    MARK,
    equivalent_forms,
    find_losses,
    mark_end,
    replace_content,
    result_role,
    writes_python,
)
from tuneport_torch.text.sandbox.turn_proof import OPENS_DIFFERENTLY, Proof, common_prefix, has_trailer, stop_after


class Renderer:
    """A compiled template, and the variables for every rendering."""

    def __init__(self, source: str, variables: dict[str, Any]) -> None:
        environment = make_environment()
        self.template = environment.from_string(source)
        self.tag: GenerationTag = environment.generation_tag  # type: ignore[attr-defined]  # set by the extension
        self.variables = variables
        self.result_role = result_role(source)
        self.row_variables: dict[str, Any] = {}  # those of the current row

    def text(self, messages: list[Any], tools: list[Any], *, prompt: bool) -> str:
        """The rendered text; with `prompt` it ends where the assistant starts to write."""
        self.tag.written, self.tag.marked = [], []
        given = {**self.variables, **self.row_variables, "messages": messages, "tools": tools or None}
        given["add_generation_prompt"] = prompt
        for piece in self.template.generate(**given):
            self.tag.written.append(piece)
        return "".join(self.tag.written)

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """Render one conversation: its text, what of it is `lost`, and the tagged spans or the places of `turns`.

        The result is of the first equivalent form that the template renders completely, or else of the first that it
        renders at all.
        """
        self.row_variables = row.get("variables") or {}
        refusal: Exception | None = None
        accepted: dict[str, Any] | None = None
        for number, turns in enumerate(equivalent_forms(row["messages"], self.result_role)):
            try:
                answer = self._form(row, turns, plain=number == 0)
            except Exception as error:  # noqa: BLE001 - whatever it raises, it does not accept this form
                refusal = refusal or error
                continue
            if not answer["lost"]:
                return answer
            accepted = accepted or answer
        if accepted is None:
            raise refusal or ValueError("no form")
        return accepted

    def _form(self, row: dict[str, Any], turns: list[Any], *, plain: bool) -> dict[str, Any]:
        tools, prompt = row.get("tools", []), row.get("prompt", False)

        def write(turns: list[Any], prompt: bool = prompt) -> str:
            return self.text(turns, tools, prompt=prompt)

        text = written = write(turns)
        answer: dict[str, Any] = {"text": text}
        tagged = self.tag.spans(text)
        lost = find_losses(turns, text, write)
        if writes_python(turns, text):
            raise TypeError("It writes objects in Python's notation, not as JSON.")
        answer["lost"] = lost
        if "block" in row and not prompt:
            text, tagged = self.behind_prompt(text, tagged, turns, tools, row["block"])
            answer["text"] = text
        stops = row.get("stops", []) if not prompt and self.never_ends(tuple(row.get("stops", []))) else []
        if turns and turns[-1]["role"] == "assistant":
            text = answer["text"] = text + self._next_stop(turns, written, write, stops)
        if "turns" not in row:
            return answer

        def prompt_before(turn: int) -> str:
            """The prompt before a turn. In use, the form is chosen for those turns alone."""
            if plain:
                return write(turns[:turn], True)
            asking = {
                "messages": row["messages"][:turn],
                "tools": tools,
                "variables": self.row_variables,
                "prompt": True,
            }
            text: str = self.row(asking)["text"]
            return text

        if tagged and len(tagged) == len(row["turns"]):
            spans = zip(tagged, row["turns"], strict=True)
            answer["tagged"] = [_without_prompt(span, text, prompt_before(turn)) for span, turn in spans]
            return answer
        proof = Proof(write, prompt_before, turns, text, written=written, trailer=self.trailer, stops=stops)
        answer["turns"] = [proof.turn(turn) for turn in row["turns"]]
        return answer

    def behind_prompt(
        self, text: str, tagged: list[tuple[int, int]], messages: list[Any], tools: list[Any], block: dict[str, str]
    ) -> tuple[str, list[tuple[int, int]]]:
        """The text in which the last answer follows the prompt's thinking block, and the tagged spans in it.

        A template may open the block in the prompt and not write it for a given answer: then the prompt's opening
        stays, followed by the thinking, the end of the block and the answer. It may write no thinking there at all:
        then a block is put before the answer. Or it may leave out earlier thinking once a call is answered: then the
        prompt, which contains it, comes first. The prompt's text is in no tagged span.
        """
        opens, closes, thought = block["opens"], block["closes"], block["thought"].strip()
        space = "\n\n" if closes.startswith("</") else ""
        before = self.text(messages[:-1], tools, prompt=True)
        if opens and before.rstrip().endswith(opens) and not text.startswith(before):
            start = before.rstrip().removesuffix(opens)
            if not text.startswith(start):
                return text, tagged
            rest = text[len(start) :]
            if closes in rest and (rest.startswith(opens) or (thought and thought in rest.partition(closes)[0])):
                rest = rest.partition(closes)[2].lstrip("\n")
            # The tagged spans would be wrong; the turns are proven instead.
            return f"{before}{thought}\n{closes}\n\n{rest}", []
        if not text.startswith(before) and any(name in turn for turn in messages[:-1] for name in FIELDS):
            asked = before.removeprefix(self.text(messages[:-1], tools, prompt=False)).strip()
            place = text.rfind(asked, 0, self._first_word(text, messages, tools)) if asked else -1
            if place >= 0:
                text, tagged = before + text[place + len(asked) :].removeprefix(_space(before)), []
        if not text.startswith(before):
            return text, tagged
        rest = text[len(before) :]
        if opens and closes and thought and thought not in rest and not rest.lstrip().startswith(opens):
            return f"{before}{opens}\n{thought}\n{closes}{space}{rest}", []
        if tagged and tagged[-1][0] <= len(before) < tagged[-1][1]:
            tagged = [*tagged[:-1], (len(before), tagged[-1][1])]
        return text, tagged

    def _first_word(self, text: str, messages: list[Any], tools: list[Any]) -> int:
        """The place of the last turn's first words in the text."""
        changed = {
            key: MARK + value if isinstance(value, str) and (key == "content" or key in FIELDS) else value
            for key, value in mark_end(messages[-1]).items()
        }
        return common_prefix(text, self.text([*messages[:-1], changed], tools, prompt=False))

    @cache  # noqa: B019 - there is one renderer per process
    def never_ends(self, stops: tuple[str, ...]) -> bool:
        """Whether only the start of the next turn, a stop token, ends an answer."""

        def write(turns: list[Any], prompt: bool = False) -> str:
            return self.text(turns, [], prompt=prompt)

        for turns in equivalent_forms(
            [{"role": "user", "content": "Say 0"}, {"role": "assistant", "content": "Say 1"}]
        ):
            try:
                text = write(turns)
                return not text.rstrip().endswith(stops) and bool(self._next_stop(turns, text, write, stops))
            except Exception:  # noqa: BLE001, S112 - try the next form
                continue
        return False

    def _next_stop(self, turns: list[Any], text: str, write: Callable[..., str], stops: Iterable[str]) -> str:
        """The text after the last turn through the stop token that starts the next; empty if there is none."""
        if not stops:
            return ""
        calls = turns[-1].get("tool_calls")
        follows = {"role": self.result_role, "tool_call_id": calls[-1].get("id")} if calls else {"role": "user"}
        bare = [{key: value for key, value in turn.items() if key not in FIELDS} for turn in turns]
        end = len(text) if bare == turns else len(text := write(bare, False))  # earlier thinking may be left out
        longer = write([*bare, replace_content({**turns[0], **follows}, "?")], False)
        return stop_after(longer, end, stops) if longer.startswith(text) else ""

    @cached_property
    def trailer(self) -> bool:
        """Whether this template writes something after a complete conversation."""
        roles = ("user", "assistant", "user")
        for turns in equivalent_forms([{"role": role, "content": f"Say {at}"} for at, role in enumerate(roles)]):
            try:
                if find_losses(
                    turns, self.text(turns, [], prompt=False), lambda some: self.text(some, [], prompt=False)
                ):
                    continue
                return has_trailer(lambda some, prompt: self.text(some, [], prompt=prompt), turns)
            except Exception:  # noqa: BLE001, S112 - try the next form
                continue
        return False


def _without_prompt(span: tuple[int, int], text: str, asked: str) -> tuple[int, int] | str:
    """A tagged span without the prompt (some templates tag the header too), or why there is none."""
    if not text.startswith(asked) or span[1] <= len(asked):
        return OPENS_DIFFERENTLY
    return max(span[0], len(asked)), span[1]


def _space(text: str) -> str:
    """The white space at the end of a text."""
    return text[len(text.rstrip()) :]


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Let the kernel end this process if the block takes more processor time."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def confine(memory_bytes: int) -> None:
    """Give up what rendering does not need: more memory, new files, new processes."""
    limits = ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0))
    for what, limit in (*limits, (resource.RLIMIT_NPROC, 0)):
        try:
            resource.setrlimit(what, (limit, limit))
        except (ValueError, OSError):
            continue  # a platform without that limit still has the others


def serve() -> None:
    """Read template, variables and limits from the first message, and render a batch of rows for each later one."""
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
            reply = [_try_row(renderer, row) for row in rows]
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


def _try_row(renderer: Renderer, row: dict[str, Any]) -> dict[str, Any]:
    try:
        return renderer.row(row)
    except Exception as error:  # noqa: BLE001 - whatever the template raises is its answer for that row
        return {"error": str(error) or type(error).__name__}


if __name__ == "__main__":
    serve()
