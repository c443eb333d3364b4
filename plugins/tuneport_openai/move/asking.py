"""Ask the old model on the command line: show the cost, ask for consent, keep the answers as rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tuneport
from tuneport.errors import UsageError
from tuneport.plugin import confirm, say
from tuneport_openai.move import answers
from tuneport_openai.move.download import write_error
from tuneport_openai.move.folder import REST

if TYPE_CHECKING:
    from tuneport.plugin import Dataset, Example, Record
    from tuneport_openai.move.folder import JobFolder
    from tuneport_openai.wire.client import Wire

_TERMS = (
    "The terms of vendors restrict the use of their models' answers; OpenAI's forbid models that compete with its own. "
    "You decide whether yours is allowed."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What the old model is to be asked: `count` rows of `data`, or of the job's own, and within which limits."""

    count: int
    data: Path | None
    distill: bool
    budget: float | None
    price: str | None
    max_tokens: int | None
    deployment: str | None
    yes: bool


def ask_old_model(wire: Wire, local: JobFolder, questions: Questions) -> dict[str, Any]:
    """Show the cost, ask the old model, and write the rows that it answered, or those made from its answers."""
    if wire.profile.vendor == "azure" and questions.deployment is None:
        raise UsageError(
            "At Azure, a tuned model answers under the name of its deployment.", remedy="Add: --deployment NAME"
        )
    known = answers.price_of(wire, local.job.base, questions.price)
    rows = answers.rows_to_ask(local, questions.count, questions.data, distill=questions.distill)
    cost = answers.cost_of(wire, local, rows, questions.max_tokens, known)
    say(f"Asking {local.job.model or local.job.id}: {cost}.", err=True)
    if before := answers.read_total_spent(local):
        say(f"Spent on it so far: at most about ${before:,.2f}.", err=True)
    answers.refuse_over_budget(cost, questions.budget)
    if questions.distill:
        say(_TERMS, err=True)
    if not confirm("Ask the model?", yes=questions.yes):
        return {"asked": 0}
    record, ended = answers.ask(
        wire,
        local,
        rows,
        price=known,
        deployment=questions.deployment,
        max_tokens=questions.max_tokens,
        budget=questions.budget,
    )
    kept = [one for one in rows if record.answer_to(one) is not None]
    if ended:
        say(ended, err=True)
    _report_cut(record, rows, kept, questions.max_tokens)
    _keep(local, record, rows, kept, distill=questions.distill)
    return {"asked": len(rows), "answered": len(kept), "usd": answers.read_total_spent(local), "ended": ended or None}


def _report_cut(record: Record, rows: Dataset, kept: list[Example], max_tokens: int | None) -> None:
    cut = sum(bool(found and found.cut) for one in kept for found in [record.answer_to(one)])
    if cut:
        limit = answers.limit_of(rows, max_tokens)
        say(
            f"{cut:,} of {len(kept):,} answers were cut at {limit:,} tokens. To ask these again, raise --max-tokens.",
            err=True,
        )


def _keep(local: JobFolder, record: Record, rows: Dataset, kept: list[Example], *, distill: bool) -> None:
    """Write the rows that were answered, or rows made from the answers, and those that are left for training."""
    if distill:
        _write_rows(local, record.with_answers(rows), answers.DISTILLED)
    else:
        _write_rows(local, kept, answers.HOLDOUT)
    if local.validation is not None and (local.folder / answers.HOLDOUT).is_file():
        # Training may use only rows that the old model was not asked.
        left = (one for one in tuneport.Dataset.load(local.validation) if record.answer_to(one) is None)
        _write_rows(local, left, REST)


def _write_rows(local: JobFolder, rows: Iterable[Example], name: str) -> None:
    """Write rows as a complete file, or no file where there are no rows."""
    path, part = local.folder / name, local.folder / f".{name}"
    try:
        part.unlink(missing_ok=True)
        found = tuneport.Dataset.from_examples(rows)
        if len(found):
            found.write(part).replace(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
