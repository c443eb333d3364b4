"""What a tuned model and its base answer to a few rows: asked for on a job's page, kept beside the job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from tuneport.errors import TuneportError
from tuneport.plugin import Completion, Conversation, Example, Preference
from tuneport_server import asking, models
from tuneport_server.background.start_job import open_file
from tuneport_server.page.frame import button, nothing
from tuneport_server.page.markup import Html, join, tag
from tuneport_server.routes.files import borrowed, find_file
from tuneport_server.server import Server, owner_of, server_of
from tuneport_server.store import Row
from tuneport_server.wire import WireError, bad

_ROWS = 3
_TOKENS = 128  # of each answer: enough to see what a model has learnt

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, or why it could not; `cut` where its limit in tokens ended it."""

    text: str = ""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    error: str = ""
    cut: bool = False


@dataclass(frozen=True, slots=True)
class _Sample:
    """A row's question and reference, and both answers; samples kept by older servers lack the rest."""

    question: str
    reference: str
    base: str
    tuned: str
    failed: Sequence[str] = ()  # of "base" and "tuned", those whose text is an error
    cut: Sequence[str] = ()  # of the same, those that reached the limit in tokens


def tuned(row: Row) -> str | None:
    """The name of a job's model, where there is one."""
    return row["tuned"] if row["status"] == "succeeded" and not row["removed"] else None


async def ask_all(
    request: Request, asked: Sequence[tuple[str, Messages]], max_tokens: int | None = None, temperature: float = 0.0
) -> list[Answer]:
    """Ask models, by their names, all at once."""
    return await asyncio.gather(*(_ask(request, name, messages, max_tokens, temperature) for name, messages in asked))


async def make(request: Request, row: Row) -> None:
    """Let the job's model and its base answer a few rows, and keep what they say. Raises WireError."""
    server, name = server_of(request), tuned(row)
    if name is None:
        raise bad("There is no model to ask yet.")
    rows = await server.pool.run(request, _rows, server, row)
    if not rows:
        raise bad("The job's files were deleted: there is no row to ask about.")
    names = (row["model"], name)
    answers = await ask_all(request, [(one, question) for question, _ in rows for one in names], _TOKENS)
    kept = [
        _sample(question, reference, *answers[2 * place : 2 * place + 2])
        for place, (question, reference) in enumerate(rows)
    ]
    text = json.dumps([asdict(one) for one in kept])
    await run_in_threadpool(server.store.update, "jobs", row["id"], samples=text)


def shown(server: Server, row: Row) -> Html:
    """The part of a job's page that shows its samples, or offers to make them; nothing where there is no model."""
    if tuned(row) is None:
        return Html("")
    kept = [_Sample(**one) for one in json.loads(row["samples"] or "[]")]
    file = find_file(server, row["owner"], _file_of(row))
    whose = "rows of the validation file" if row["validation_file"] else "rows that it was trained on"
    ask = button("Ask again" if kept else f"Ask {_ROWS} {whose}", f"/jobs/{row['id']}/samples") if file else Html("")
    if not kept:
        said = nothing(
            "What the tuned model and its base answer to the same questions." if file else "The file is gone."
        )
        return join((tag("h2", "Samples"), tag("div", said, ask, class_="card")))
    cards = [
        tag(
            "article",
            _part("Question", one.question),
            tag(
                "div",
                _part("Expected", one.reference),
                _answer(row["model"], one, "base"),
                _answer("tuned", one, "tuned"),
                class_="answers thirds",
            ),
            class_="card",
        )
        for one in kept
    ]
    return join((tag("h2", "Samples"), nothing(f"{whose.capitalize()}."), *cards, ask))


def cut_words(tokens: int) -> str:
    """Why an answer ends in the middle."""
    return f"Cut at the limit of {tokens:,} tokens."


def cut_notice(tokens: int) -> Html:
    """The same as a part of a page."""
    return tag("p", cut_words(tokens), class_="warn")


def _sample(question: Messages, reference: str, base: Answer, tuned: Answer) -> _Sample:
    both = {"base": base, "tuned": tuned}
    return _Sample(
        question[-1]["content"],
        reference,
        base.error or base.text,
        tuned.error or tuned.text,
        [side for side, one in both.items() if one.error],
        [side for side, one in both.items() if one.cut],
    )


def _answer(name: str, one: _Sample, side: str) -> Html:
    """An answer, marked by whether it is the expected one but for white space around it."""
    said = one.base if side == "base" else one.tuned
    if side in one.failed:
        return tag("section", tag("h3", name), tag("p", said, class_="error"))
    right = said.strip() == one.reference.strip()
    mark = tag(
        "span",
        "✓" if right else "✗",
        role="img",
        aria_label="as expected" if right else "not as expected",
        title="as expected" if right else "not as expected",
        class_="right" if right else "wrong-answer",
    )
    return tag("section", tag("h3", name, " ", mark), tag("pre", said), cut_notice(_TOKENS) if side in one.cut else "")


def _part(name: str, said: str) -> Html:
    return tag("section", tag("h3", name), tag("pre", said))


async def _ask(request: Request, name: str, messages: Messages, max_tokens: int | None, temperature: float) -> Answer:
    server, owner = server_of(request), owner_of(request)
    try:
        ref = await run_in_threadpool(models.resolve, server, owner, name)
        reply = await asking.answer(request, ref, messages, max_tokens, temperature)
    except WireError as error:
        return Answer(error=error.message)
    return Answer(text=reply.text, tool_calls=reply.tool_calls, cut=reply.finish_reason == "length")


def _rows(server: Server, row: Row) -> list[tuple[Messages, str]]:
    """Questions, and what is to be answered to each."""
    file = find_file(server, row["owner"], _file_of(row))
    if file is None or file["refused"]:
        return []
    try:
        with borrowed(server, _file_of(row)) as path:
            found = [_asked(one) for one in islice(open_file(path), 20 * _ROWS)]
    except FileNotFoundError:
        return []
    except TuneportError as error:
        raise bad(error.message) from error
    return [one for one in found if one is not None][:_ROWS]


def _asked(example: Example) -> tuple[Messages, str] | None:
    match example:
        case Completion(prompt, completion):
            return [{"role": "user", "content": prompt}], completion
        case Preference(prompt=prompt, chosen=chosen):
            turns, answer = prompt, chosen
        case Conversation(messages=turns):
            place = max((place for place, one in enumerate(turns) if one.role == "assistant"), default=0)
            turns, answer = turns[:place], turns[place : place + 1]
    if not turns or not answer or turns[-1].role != "user":
        return None
    return [{"role": one.role, "content": one.text} for one in turns], answer[0].text


def _file_of(row: Row) -> str:
    return str(row["validation_file"] or row["training_file"])
