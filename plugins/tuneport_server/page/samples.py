"""Answers of a tuned model and its base to a few rows: requested on a job's page, and stored with the job."""

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
from tuneport.plugin import Completion, Conversation, Dataset, Example, Preference, html
from tuneport_server.page.frame import button, quiet, tuned_name
from tuneport_server.routes import answers, models
from tuneport_server.server import Server, owned_of, server_of
from tuneport_server.store import Owned, Row
from tuneport_server.wire import WireError, bad

_ROWS = 3
_TOKENS = 128  # of each answer: enough to see what a model has learned

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer, or an error; `cut` if the limit in tokens ended it."""

    text: str = ""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    error: str = ""
    cut: bool = False


@dataclass(frozen=True, slots=True)
class _Sample:
    """A row's question and reference, and both answers. Samples of older servers lack the other fields."""

    question: str
    reference: str
    base: str
    tuned: str
    failed: Sequence[str] = ()  # "base" and "tuned": those whose text is an error
    cut: Sequence[str] = ()  # the same: those that reached the limit in tokens


async def ask_all(
    request: Request, questions: Sequence[tuple[str, Messages]], max_tokens: int | None = None, temperature: float = 0.0
) -> list[Answer]:
    """Ask models by their names, all at the same time."""
    return await asyncio.gather(
        *(_ask(request, name, messages, max_tokens, temperature) for name, messages in questions)
    )


async def make(request: Request, row: Row) -> None:
    """Ask a job's model and its base for answers to a few rows, and store them. Raises WireError."""
    server, owned, name = server_of(request), owned_of(request), tuned_name(row)
    if name is None:
        raise bad("The job has no model yet.")
    rows = await server.threads.run(request, _read_rows, server, owned, row)
    if not rows:
        raise bad("The job's files were deleted, so there are no rows to ask about.")
    names = (row["model"], name)
    replies = await ask_all(request, [(one, question) for question, _ in rows for one in names], _TOKENS)
    stored = [
        _sample(question, reference, *replies[2 * place : 2 * place + 2])
        for place, (question, reference) in enumerate(rows)
    ]
    text = json.dumps([asdict(one) for one in stored])
    await run_in_threadpool(owned.update_job, row["id"], samples=text)


def show(owned: Owned, row: Row) -> html.Html:
    """Return the part of a job's page with its samples, or a button for them; empty if there is no model."""
    if tuned_name(row) is None:
        return html.Html("")
    stored = [_Sample(**one) for one in json.loads(row["samples"] or "[]")]
    file = owned.file(_file_of(row))
    whose = "rows of the validation file" if row["validation_file"] else "training rows"
    ask = (
        button("Answer again" if stored else f"Answer {_ROWS} {whose}", f"/jobs/{row['id']}/samples")
        if file
        else html.Html("")
    )
    if not stored:
        text = "Compare answers of the tuned model and its base." if file else "The file was deleted."
        return html.join((html.tag("h2", "Samples"), html.tag("div", quiet(text), ask, class_="card")))
    cards = [
        html.tag(
            "article",
            _part("Question", one.question),
            html.tag(
                "div",
                _part("Expected", one.reference),
                _answer(row["model"], one, "base"),
                _answer("tuned", one, "tuned"),
                class_="answers thirds",
            ),
            class_="card",
        )
        for one in stored
    ]
    return html.join((html.tag("h2", "Samples"), quiet(f"{whose.capitalize()}."), *cards, ask))


def cut_message(tokens: int) -> str:
    """Return why an answer ends in the middle."""
    return f"Cut at the limit of {tokens:,} tokens."


def cut_notice(tokens: int) -> html.Html:
    """Return the same as a part of a page."""
    return html.tag("p", cut_message(tokens), class_="warn")


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


def _answer(name: str, one: _Sample, side: str) -> html.Html:
    """Return an answer, marked by whether it equals the expected one, without white space around both."""
    text = one.base if side == "base" else one.tuned
    if side in one.failed:
        return html.tag("section", html.tag("h3", name), html.tag("p", text, class_="error"))
    right = text.strip() == one.reference.strip()
    mark = html.tag(
        "span",
        "✓" if right else "✗",
        role="img",
        aria_label="as expected" if right else "not as expected",
        title="as expected" if right else "not as expected",
        class_="right" if right else "wrong-answer",
    )
    return html.tag(
        "section",
        html.tag("h3", name, " ", mark),
        html.tag("pre", text),
        cut_notice(_TOKENS) if side in one.cut else "",
    )


def _part(name: str, text: str) -> html.Html:
    return html.tag("section", html.tag("h3", name), html.tag("pre", text))


async def _ask(request: Request, name: str, messages: Messages, max_tokens: int | None, temperature: float) -> Answer:
    try:
        ref = await run_in_threadpool(models.resolve, server_of(request), owned_of(request), name)
        reply = await answers.answer(request, ref, messages, max_tokens, temperature)
    except WireError as error:
        return Answer(error=error.message)
    return Answer(text=reply.text, tool_calls=reply.tool_calls, cut=reply.finish_reason == "length")


def _read_rows(server: Server, owned: Owned, row: Row) -> list[tuple[Messages, str]]:
    """Read questions and their expected answers from a job's file."""
    file = owned.file(_file_of(row))
    if file is None or file["refused"]:
        return []
    try:
        with server.vault.borrow(file["id"]) as path:
            found = [_question(one) for one in islice(Dataset.load(path, "jsonl"), 20 * _ROWS)]
    except FileNotFoundError:
        return []
    except TuneportError as error:
        raise bad(error.message) from error
    return [one for one in found if one is not None][:_ROWS]


def _question(example: Example) -> tuple[Messages, str] | None:
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
