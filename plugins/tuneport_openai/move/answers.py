"""The old model asked while it still answers: what that costs first, then within a budget."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.errors import BudgetError, UsageError
from tuneport.plugin import Dataset, Example, Record, Ref, Reply, answer_room, open_regular, record_answers
from tuneport_openai.catalogue import table, tokens
from tuneport_openai.model import HostedModel
from tuneport_openai.move.bring import Brought, write_json
from tuneport_openai.move.download import cannot_write

if TYPE_CHECKING:
    from tuneport_openai.wire.client import Wire

HOLDOUT, DISTILLED = "holdout.jsonl", "distilled.jsonl"
SPENT = "spent.json"
PROMPTS = "prompts.jsonl"
_TO_COME = {"role": "assistant", "content": "-"}  # where the old model's answer will stand
_ROOM = 1024  # tokens for an answer to a question whose length nobody knows
_LONGEST_LINE = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What asking costs, in US dollars: as expected, and at most. None where no price is known. `limit` is the most
    tokens of an answer, `size` tells those of a row.
    """

    rows: int
    usd: float | None
    most: float | None
    why: str
    price: Price | None = None
    size: _Size | None = None
    limit: int = 0

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
    if not len(rows) and distill:
        rows = prompts(source, brought.old / PROMPTS)
    if not len(rows):
        raise UsageError(
            f"{source} has no row that can be used.",
            remedy=f"See why: tuneport check {shlex.quote(str(source))}. "
            "Rows without an answer are asked with --distill.",
        )
    return rows if count >= len(rows) else rows.sample(count)


def has_answers(rows: Dataset) -> bool:
    """Whether the rows have answers of their own, so that one can say how long an answer may be."""
    return any(Path(one).name != PROMPTS for one in rows.files) or not rows.files


def prompts(source: Path, target: Path) -> Dataset:
    """The questions of JSON lines that have no answers, such as those of a reinforcement job, as rows to be asked."""
    part = target.with_name(f".{target.name}.part")
    try:
        with open_regular(source) as lines, part.open("w", encoding="utf-8") as out:
            for line in iter(lambda: lines.readline(_LONGEST_LINE), b""):
                turns = _turns(line)
                if turns:
                    out.write(json.dumps({"messages": [*turns, _TO_COME]}) + "\n")
        part.replace(target)
    except OSError as error:
        raise cannot_write(target, error) from error
    return Dataset.load(target)


def _turns(line: bytes) -> list[Any] | None:
    """The turns that a line asks; None for what asks nothing."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(raw, dict) and isinstance(raw.get("prompt"), str):
        return [{"role": "user", "content": raw["prompt"]}]
    turns = raw.get("messages") if isinstance(raw, dict) else None
    return turns if isinstance(turns, list) and turns else None


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
    known = table.known(wire.profile, base)
    if known is None or known.tuned_input is None or known.tuned_output is None:
        return None
    return Price(inside=known.tuned_input, out=known.tuned_output, source=f"as of {table.as_of()}")


def cost_of(wire: Wire, brought: Brought, rows: Dataset, max_tokens: int | None, price: Price | None) -> Cost:
    """What it costs to ask these rows."""
    limit = limit_of(rows, max_tokens)
    if price is None:
        why = f"no price of {brought.job.base or 'the model'} at {wire.profile.name} is known"
        return Cost(rows=len(rows), usd=None, most=None, why=why)
    known = table.known(wire.profile, brought.job.base)
    size = _Size(tokens.counter(known.encoding if known is not None else None))
    expected = most = 0.0
    for one in rows:
        # The prompt with the wanted answer: more than is sent.
        inside, longest = size(one)
        expected += price.of(inside, min(inside, limit))
        most += price.of(longest, limit)
    why = str(price) if size.counts else f"{price}; tokens estimated, {tokens.ESTIMATE_ERROR}"
    return Cost(rows=len(rows), usd=expected, most=most, why=why, price=price, size=size, limit=limit)


def limit_of(rows: Dataset, max_tokens: int | None) -> int:
    """The most tokens of an answer."""
    return max_tokens or (answer_room(rows) if has_answers(rows) else _ROOM)


class _Size:
    """The tokens of a row, and the most that they can be: counted, or one for each character at most."""

    def __init__(self, count: Callable[[Sequence[Example]], list[int]] | None) -> None:
        self._count = count
        self.counts = count is not None

    def __call__(self, row: Example) -> tuple[float, float]:
        if self._count is not None:
            found = float(self._count([row])[0])
            return found, found
        estimated = tokens.estimate([row])
        return estimated, estimated * tokens.CHARACTERS_PER_TOKEN


def refuse_over_budget(cost: Cost, budget: float | None) -> None:
    """Raise BudgetError where there is a budget and nobody can say what the answers cost."""
    if budget is not None and cost.price is None:
        raise BudgetError(
            f"The cost is unknown: {cost.why}.", remedy="Say the price, --price IN,OUT, or leave --budget out."
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
    refuse_over_budget(cost, budget)
    meter = _Meter(brought, cost, budget)
    model = HostedModel(Ref(wire.profile.name, brought.job.model), wire, deployment or brought.job.model, None)
    try:
        return record_answers(
            model,
            rows,
            brought.old,
            max_tokens=limit_of(rows, max_tokens),
            before=meter.reserve,
            on_reply=meter.count,
        ), ""
    except _BudgetReachedError as ended:
        record = Record.open(brought.old)
        there = sum(record.answer_to(one) is not None for one in rows)
        if not there:
            raise BudgetError(
                f"${meter.usd:,.2f} are spent, and the next {ended.rows:,} rows may cost ${ended.usd:,.2f}; --budget "
                f"allows ${budget:,.2f}.",
                remedy="Raise --budget, or bound the answers with --max-tokens.",
            ) from None
        return record, (
            f"The budget of ${budget:,.2f} ended it: {there:,} of {len(rows):,} rows are answered, for about "
            f"${meter.usd:,.2f}. The next {ended.rows:,} rows may cost ${ended.usd:,.2f}. The same command with a "
            "higher --budget goes on."
        )


def spent_on(brought: Brought) -> float:
    """What may have been spent on answers so far, in US dollars."""
    spent = _read_spent(brought.old / SPENT)
    return spent.get("usd", 0.0) + spent.get("reserved", 0.0)


class _BudgetReachedError(Exception):
    """The next rows could cost more than is left."""

    def __init__(self, rows: int, usd: float) -> None:
        super().__init__()
        self.rows, self.usd = rows, usd


class _Meter:
    """Adds up what the replies say that they used. What the next rows may cost is on the disk before they are asked:
    where the process ends in between, it counts as spent.
    """

    def __init__(self, brought: Brought, cost: Cost, budget: float | None) -> None:
        self._path = brought.old / SPENT
        self._cost, self._budget = cost, budget
        self._spent = _read_spent(self._path)
        self._spent["usd"] = self.usd + self._spent.pop("reserved", 0.0)
        self._each, self._waiting = 0.0, 0

    @property
    def usd(self) -> float:
        """Spent so far."""
        return self._spent.get("usd", 0.0)

    def reserve(self, rows: Sequence[Example]) -> None:
        """Note what these rows may cost. Ends the asking where that is more than is left."""
        most, price = 0.0, self._cost.price
        if price is not None and self._cost.size is not None:
            most = sum(price.of(self._cost.size(one)[1], self._cost.limit) for one in rows)
        if self._budget is not None and self.usd + most > self._budget:
            raise _BudgetReachedError(len(rows), most)
        self._each, self._waiting = most / len(rows), len(rows)
        write_json(self._path, self._spent | {"reserved": most})

    def count(self, reply: Reply) -> None:
        """Add one reply; one that does not say what it used is counted with the most."""
        inside, out = reply.prompt_tokens, reply.completion_tokens
        for name, number in (("prompt_tokens", inside), ("completion_tokens", out)):
            self._spent[name] = self._spent.get(name, 0) + (number or 0)
        if self._cost.price is not None:
            told = inside is not None and out is not None
            self._spent["usd"] = self.usd + (self._cost.price.of(inside or 0, out or 0) if told else self._each)
        self._waiting -= 1
        if not self._waiting:
            write_json(self._path, self._spent)


def _read_spent(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: float(one) for key, one in found.items() if isinstance(one, int | float)}
