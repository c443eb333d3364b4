"""A tuned model beside its base, on rows that training never saw."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Protocol

from tuneport.dataset import Completion, Example
from tuneport.doors import AUTHORS, public
from tuneport.errors import DataError
from tuneport.evaluate import graders
from tuneport.evaluate.comparison import Comparison
from tuneport.evaluate.exchange import answer_text, prompt_and_reference, size_of_answer
from tuneport.evaluate.fitting import AUTO, fitting
from tuneport.evaluate.recorded import RecordTally
from tuneport.evaluate.tally import Answer, Tally

if TYPE_CHECKING:
    from tuneport.contract.answers import Reply
    from tuneport.contract.model import Model
    from tuneport.contract.schemas import Shape
    from tuneport.evaluate.record import Record

Progress = Callable[[int, int, str], None]
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
    """Let both models answer every row, greedily, and grade the answers.

    The grader `auto` is the one that fits the answers.
    With `schema`, a JSON Schema, a pydantic class or True (any JSON object), both models are held to it alike, so that
    the comparison is of what they answer and not of who knows JSON. `max_tokens` bounds an answer; by default there is
    room for the longest reference and half as much again. The answers of a `record` are graded beside them, on the rows
    that it has. At most `keep` rows of each outcome are kept with their
    texts, so memory is bounded whatever the size of `holdout`. `progress` gets (rows answered, rows in all, "base" or
    "tuned"). The base model answers first and is closed before the tuned one starts: only one of them needs to be in
    memory. Raises DataError where there is nothing to compare.
    """
    fit = fitting(holdout, len(holdout))
    judge = graders.grader(fit.grader if grader == AUTO else grader)
    judge.load()
    if not len(holdout):
        raise DataError(
            "There are no rows to compare on.",
            remedy="Set rows aside before training (data.holdout: 0.1), or name a file of other rows.",
        )
    limit = max_tokens or answer_room(holdout)
    form = {} if schema is None else {"schema": schema}
    tally, recorded = Tally(keep), RecordTally(keep)
    with tempfile.TemporaryFile() as spool:
        if base is not None:
            for _, answer in _graded(base, holdout, judge, limit, form, "base", progress):
                spool.write(json.dumps(asdict(answer)).encode() + b"\n")
            if base is not tuned:
                base.close()
            spool.seek(0)
        for example, answer in _graded(tuned, holdout, judge, limit, form, "tuned", progress):
            tally.add(example, answer, _next_answer(spool) if base is not None else None)
            if record is not None and (kept := record.answer_to(example)) is not None:
                told = Answer(kept.text, judge(example, kept.text), kept.cut)
                recorded.add(len(tally.tuned), example, answer, told)
    found = tally.comparison(judge.name, limit, str(tuned.ref), str(base.ref) if base is not None else None)
    if record is not None:
        found = replace(found, recorded=recorded.found(record.model, str(tuned.ref)))
        if found.recorded is None:
            found = replace(found, notes=(*found.notes, f"{record.model} has answered none of these rows."))
    return replace(found, misfit=fit.misfit(judge.name))


@public(AUTHORS)
def answer_room(examples: Iterable[Example]) -> int:
    """Tokens enough for the longest reference, its thinking included, and half as much again, from 32 to 1024: counted
    as one token for every two bytes, where common tokenizers need one for three or four.
    """
    longest = max(size_of_answer(one) for one in examples)
    return max(32, min(1024, longest // 2 + 16))


def _next_answer(spool: IO[bytes]) -> Answer:
    return Answer(**json.loads(spool.readline()))


def _graded(
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
        progress(0, total, side)  # the model is loaded now, which takes its time
    while chunk := list(islice(rows, CHUNK_ROWS)):
        for example, reply in zip(chunk, replies(model, chunk, limit, form), strict=True):
            text = answer_text(reply)
            yield example, Answer(text, judge(example, text), reply.finish_reason == "length")
        done += len(chunk)
        if progress is not None:
            progress(done, total, side)


def replies(model: Model, chunk: list[Example], limit: int, form: Mapping[str, Any]) -> Iterator[Reply]:
    """The replies to a chunk, in order: rows that are asked with the same options go to the model together."""
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
