"""The old model asked while it still answers: what that costs first, then within a budget."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tuneport import BudgetError, Dataset, Ref, Reply, UsageError, answer_room, record_answers
from tuneport_openai import catalogue, tokens
from tuneport_openai.model import HostedModel
from tuneport_openai.move.bring import Brought, write_json

if TYPE_CHECKING:
    from tuneport import Record
    from tuneport_openai.client import Wire

HOLDOUT, DISTILLED = "holdout.jsonl", "distilled.jsonl"
SPENT = "spent.json"
_AT_ONCE = 16  # rows that may be under way when the budget is looked at
_MOST_COUNTED = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What asking costs, in US dollars: as expected, and at most. None where no price is known. `per_row` is the most
    that one row costs.
    """

    rows: int
    usd: float | None
    most: float | None
    per_row: float | None
    why: str

    def __str__(self) -> str:
        if self.usd is None or self.most is None:
            return f"{self.rows:,} rows; the cost is unknown ({self.why})"
        return f"{self.rows:,} rows, about ${self.usd:,.2f} and at most ${self.most:,.2f} ({self.why})"


def rows_to_ask(brought: Brought, count: int, data: Path | None, *, distill: bool) -> Dataset:
    """The rows to ask: of `data`, else of the validation file, or of the training file to distill. Raises UsageError
    where there are none.
    """
    source = data or (brought.training if distill else brought.validation)
    if source is None:
        which = "training" if distill else "validation"
        raise UsageError(
            f"{brought.job.id} has no {which} file here, so there are no rows to ask.",
            remedy="Name rows that the old model was not trained on: --data FILE",
        )
    rows = Dataset.load(source)
    if not len(rows):
        raise UsageError(f"{source} has no row that can be used.", remedy=f"See why: tuneport check {source}")
    return rows if count >= len(rows) else rows.sample(count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens that go in and come out, and who says so."""

    inside: float
    out: float
    source: str

    def of(self, inside: float, out: float) -> float:
        """What so many tokens cost."""
        return (inside * self.inside + out * self.out) / 1e6

    def __str__(self) -> str:
        return f"${self.inside:g} and ${self.out:g} per million tokens in and out, {self.source}"


def price_of(wire: Wire, base: str, text: str | None) -> Price | None:
    """The price of asking a model tuned from `base`: as `IN,OUT` says it, else by the dated table. None is unknown.
    Raises UsageError for another text.
    """
    if text is not None:
        try:
            inside, out = (float(one) for one in text.split(","))
            if not (0 <= inside < math.inf and 0 <= out < math.inf):
                raise ValueError
        except ValueError:
            raise UsageError(
                f"--price {text}: it is not two prices.", remedy="Write US dollars per million tokens: --price 0.8,3.2"
            ) from None
        return Price(inside=inside, out=out, source="as given")
    known = catalogue.known(wire.profile, base)
    if known is None or known.tuned_input is None or known.tuned_output is None:
        return None
    return Price(inside=known.tuned_input, out=known.tuned_output, source=f"as of {catalogue.as_of()}")


def cost_of(wire: Wire, brought: Brought, rows: Dataset, max_tokens: int | None, price: Price | None) -> Cost:
    """What it costs to ask these rows."""
    limit = max_tokens or answer_room(rows)
    if price is None:
        why = f"no price of {brought.job.base or 'the model'} at {wire.profile.name} is known"
        return Cost(rows=len(rows), usd=None, most=None, per_row=None, why=why)
    known = catalogue.known(wire.profile, brought.job.base)
    sample = list(islice(rows, _MOST_COUNTED))
    count = tokens.counter(known.encoding if known is not None else None)
    inside = float(sum(count(sample))) if count is not None else tokens.estimate(sample)
    per_row = inside / len(sample)  # the prompt with the wanted answer: more than is sent
    dearest, expected = price.of(per_row, limit), price.of(per_row, min(per_row, limit))
    why = str(price)
    return Cost(
        rows=len(rows),
        usd=expected * len(rows),
        most=dearest * len(rows),
        per_row=dearest,
        why=why if count is not None else f"{why}; tokens estimated, {tokens.ESTIMATE_ERROR}",
    )


def refuse_over_budget(cost: Cost, budget: float | None, spent: float) -> None:
    """Raise BudgetError where nothing can be asked within the budget, or nobody can say."""
    if budget is None:
        return
    if cost.per_row is None:
        raise BudgetError(
            f"The cost is unknown: {cost.why}.", remedy="Say the price, --price IN,OUT, or leave --budget out."
        )
    if spent + cost.per_row * min(_AT_ONCE, cost.rows) > budget:
        raise BudgetError(
            f"${spent:,.2f} are spent, and the next {min(_AT_ONCE, cost.rows)} rows may cost "
            f"${cost.per_row * min(_AT_ONCE, cost.rows):,.2f}; --budget allows ${budget:,.2f}.",
            remedy="Raise --budget, or bound the answers with --max-tokens.",
        )


def ask(
    wire: Wire,
    brought: Brought,
    rows: Dataset,
    *,
    price: Price | None = None,
    deployment: str | None = None,
    max_tokens: int | None = None,
    budget: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Record, str]:
    """Ask the old model these rows and keep its answers in the record. Returns the record, and a sentence where the
    budget ended it before the last row.

    Raises UsageError where there is no model, ModelNotFound where it answers no more, BudgetError.
    """
    if brought.job.model is None:
        raise UsageError(
            f"{brought.job.id} is {brought.job.status} and has no model to ask.", remedy="Leave --answers out."
        )
    cost = cost_of(wire, brought, rows, max_tokens, price)
    meter = _Meter(brought, cost, budget, price)
    refuse_over_budget(cost, budget, meter.usd)
    ref = Ref(wire.profile.name, brought.job.model)
    model = HostedModel(ref, wire, deployment or brought.job.model, None)
    try:
        record = record_answers(
            model, rows, brought.old, max_tokens=max_tokens, on_reply=meter.count, progress=progress
        )
    except _BudgetReachedError:
        from tuneport import Record

        record = Record.open(brought.old)
        there = sum(record.answer_to(one) is not None for one in rows)
        return record, (
            f"The budget of ${budget:,.2f} ended it: {there:,} of {len(rows):,} rows are answered, for about "
            f"${meter.usd:,.2f}. The same command with a higher --budget goes on."
        )
    return record, ""


def spent_on(brought: Brought) -> float:
    """What has been spent on answers so far, in US dollars."""
    return float(_read_spent(brought.old / SPENT).get("usd", 0.0))


class _BudgetReachedError(Exception):
    """The next rows could cost more than is left."""


class _Meter:
    """Adds up what the replies say that they used; kept on the disk, so that a later call goes on counting."""

    def __init__(self, brought: Brought, cost: Cost, budget: float | None, price: Price | None) -> None:
        self._path = brought.old / SPENT
        self._price = price
        self._cost = cost
        self._budget = budget
        self._spent = _read_spent(self._path)
        self._unchecked = 0

    @property
    def usd(self) -> float:
        return self._spent.get("usd", 0.0)

    def count(self, reply: Reply) -> None:
        """Add one reply; ends the asking where the rows that may be asked next could cost more than is left."""
        inside, out = reply.prompt_tokens or 0, reply.completion_tokens or 0
        for name, number in (("prompt_tokens", inside), ("completion_tokens", out)):
            self._spent[name] = self._spent.get(name, 0) + number
        if self._price is not None:
            self._spent["usd"] = self.usd + self._price.of(inside, out)
        write_json(self._path, self._spent)
        self._unchecked += 1
        if self._budget is None or self._cost.per_row is None or self._unchecked % _AT_ONCE:
            return
        if self.usd + self._cost.per_row * _AT_ONCE > self._budget:
            raise _BudgetReachedError


def _read_spent(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: float(one) for key, one in found.items() if isinstance(one, int | float)}
