"""Lets a tuned model and its base answer the same rows, and grades the answers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Protocol

from tuneport.dataset import Completion, Example
from tuneport.doors import AUTHORS, public
from tuneport.errors import DataError
from tuneport.evaluate import graders
from tuneport.evaluate.comparison import Comparison
from tuneport.evaluate.exchange import answer_bytes, answer_text, prompt_and_reference
from tuneport.evaluate.fitting import AUTO, fit_grader
from tuneport.evaluate.recorded import RecordTally
from tuneport.evaluate.tally import Answer, Tally

if TYPE_CHECKING:
    from tuneport.contract.answers import Reply
    from tuneport.contract.model import Model
    from tuneport.contract.schemas import Shape
    from tuneport.evaluate.record import Record
    from tuneport.terminal.progress import Progress

CHUNK_ROWS = 64


class Examples(Protocol):
    """Rows that can be counted and read more than once: a Dataset, or a list of examples."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Example]: ...


def compare_models(
    tuned: Model,
    base: Model | None,
    holdout: Examples,
    grader: str | graders.Grade | graders.Grader = AUTO,
    *,
    max_tokens: int | None = None,
    schema: Shape | None = None,
    record: Record | None = None,
    keep: int = 50,
    progress: Progress | None = None,
) -> Comparison:
    """Let both models answer every row at temperature 0, and grade the answers.

    The grader `auto` is the one that fits the answers. With `schema`, a JSON Schema, a pydantic class or True (any JSON
    object), both models must follow it, so that the comparison is about what they answer, not about who writes valid
    JSON. `max_tokens` limits an answer; by default there is room for one and a half times the longest reference. The
    answers of a `record` are graded too, on the rows that it has. At most `keep` rows of each outcome are kept with
    their texts, so memory is bounded whatever the size of `holdout`. `progress` is called with (rows answered, rows in
    all, "base" or "tuned"). The base model answers first and is closed before the tuned one starts, so that only one of
    them is in memory. Raises DataError if there is nothing to compare.
    """
    fit = fit_grader(holdout, len(holdout))
    judge = graders.grader(fit.grader if grader == AUTO else grader)
    judge.load()
    if not len(holdout):
        raise DataError(
            "There are no rows to compare on.",
            remedy="Hold out rows before training (data.holdout: 0.1), or use a file of other rows.",
        )
    limit = max_tokens or answer_room(holdout)
    form = {} if schema is None else {"schema": schema}
    tally, recorded = Tally(keep), RecordTally(keep)
    with tempfile.TemporaryFile() as spool:
        if base is not None:
            for _, answer in _grade_answers(base, holdout, judge, limit, form, "base", progress):
                spool.write(json.dumps(asdict(answer)).encode() + b"\n")
            if base is not tuned:
                base.close()
            spool.seek(0)
        for example, answer in _grade_answers(tuned, holdout, judge, limit, form, "tuned", progress):
            tally.add(example, answer, _read_answer(spool) if base is not None else None)
            if record is not None and (kept := record.answer_to(example)) is not None:
                other = Answer(kept.text, judge(example, kept.text), kept.cut)
                recorded.add(len(tally.tuned), example, answer, other)
    found = tally.comparison(judge.name, limit, str(tuned.ref), str(base.ref) if base is not None else None)
    if record is not None:
        found = replace(found, recorded=recorded.result(record.model, str(tuned.ref)))
        if found.recorded is None:
            found = replace(found, notes=(*found.notes, f"{record.model} answered none of these rows."))
    return replace(found, misfit=fit.misfit(judge.name))


@public(AUTHORS)
def answer_room(examples: Iterable[Example]) -> int:
    """Enough tokens for the longest reference with its thinking, times one and a half, from 32 to 1024. One token is
    counted for every two bytes; common tokenizers need one for three or four.
    """
    longest = max(answer_bytes(one) for one in examples)
    return max(32, min(1024, longest // 2 + 16))


def _read_answer(spool: IO[bytes]) -> Answer:
    return Answer(**json.loads(spool.readline()))


def _grade_answers(
    model: Model,
    holdout: Examples,
    judge: graders.Grader,
    limit: int,
    form: Mapping[str, Any],
    side: str,
    progress: Progress | None,
) -> Iterator[tuple[Example, Answer]]:
    rows, done, total = iter(holdout), 0, len(holdout)
    if progress is not None:
        progress(0, total, side)  # the model loads next, which takes time
    while chunk := list(islice(rows, CHUNK_ROWS)):
        for example, reply in zip(chunk, ask_chunk(model, chunk, limit, form), strict=True):
            text = answer_text(reply)
            yield example, Answer(text, judge(example, text), reply.finish_reason == "length")
        done += len(chunk)
        if progress is not None:
            progress(done, total, side)


def ask_chunk(model: Model, chunk: list[Example], limit: int, form: Mapping[str, Any]) -> Iterator[Reply]:
    """The replies to a chunk of rows, in order. Rows with the same options are sent to the model together."""
    together: dict[str, list[int]] = {}
    options: dict[str, dict[str, Any]] = {}
    for place, example in enumerate(chunk):
        wanted: dict[str, Any] = {}
        if isinstance(example, Completion) and model.can_continue:
            wanted["raw"] = True
        elif not isinstance(example, Completion) and example.tools:
            wanted["tools"] = example.tools
        key = json.dumps(wanted, sort_keys=True)
        options[key] = wanted
        together.setdefault(key, []).append(place)
    replies: dict[int, Reply] = {}
    for key, places in together.items():
        prompts = [prompt_and_reference(chunk[place])[0] for place in places]
        answered = model.reply_many(prompts, max_tokens=limit, temperature=0.0, **form, **options[key])
        replies.update(zip(places, answered, strict=True))
    return (replies[place] for place in range(len(chunk)))
