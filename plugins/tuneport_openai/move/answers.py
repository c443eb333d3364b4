"""Ask the old model while it still answers: first estimate the cost, then ask within a budget."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.errors import BudgetError, UsageError
from tuneport.plugin import (
    Dataset,
    Example,
    Record,
    Ref,
    Reply,
    answer_room,
    estimate_text,
    measure_example,
    open_regular,
    record_answers,
)
from tuneport_openai.catalog import table, tokens
from tuneport_openai.model import HostedModel
from tuneport_openai.move.download import write_error
from tuneport_openai.move.folder import JobFolder, write_json

if TYPE_CHECKING:
    from tuneport_openai.wire.client import Wire

HOLDOUT, DISTILLED = "holdout.jsonl", "distilled.jsonl"
SPENT = "spent.json"
PROMPTS = "prompts.jsonl"
_TO_COME = {"role": "assistant", "content": "-"}  # the place of the old model's answer
_ROOM = 1024  # tokens for an answer of unknown length
_LONGEST_LINE = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What asking costs, in US dollars: `usd` as expected, and at `most`. None where no price is known. `limit` is the
    most tokens of an answer; `size` counts those of a row.
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


def rows_to_ask(local: JobFolder, count: int, data: Path | None, *, distill: bool) -> Dataset:
    """The rows to ask: those of `data`, else of the validation file or, to distill, of the training file. Raises
    UsageError where there are none.
    """
    source = data or (local.training if distill else local.validation)
    if source is None:
        which = "training" if distill else "validation"
        raise UsageError(
            f"{local.job.id} has no {which} file here, so there are no rows to ask.",
            remedy="Name rows that the old model was not trained on: --data FILE",
        )
    rows = Dataset.load(source)
    if not len(rows) and distill:
        rows = prompts(source, local.old / PROMPTS)
    if not len(rows):
        raise UsageError(
            f"{source} has no usable row.",
            remedy=f"See why: tuneport check {shlex.quote(str(source))}. "
            "Rows without an answer can be asked with --distill.",
        )
    return rows if count >= len(rows) else rows.sample(count)


def has_answers(rows: Dataset) -> bool:
    """Whether the rows have answers, so that the length of an answer can be estimated."""
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
        raise write_error(target, error) from error
    return Dataset.load(target)


def _turns(line: bytes) -> list[Any] | None:
    """The turns of the prompt in a line; None for a line without one."""
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
    """US dollars per million tokens that go in and come out, with its source."""

    inside: float
    out: float
    source: str

    def of(self, inside: float, out: float) -> float:
        """The cost of these tokens."""
        return (inside * self.inside + out * self.out) / 1e6

    def __str__(self) -> str:
        return f"${self.inside:g} and ${self.out:g} per million tokens in and out, {self.source}"


def price_of(wire: Wire, base: str, text: str | None) -> Price | None:
    """The price of the answers of a model tuned from `base`: the given `IN,OUT`, else by the dated table. None is
    unknown. Raises UsageError for another text.
    """
    if text is not None:
        try:
            inside, out = (float(one) for one in text.split(","))
            if not (0 <= inside < math.inf and 0 <= out < math.inf):
                raise ValueError
        except ValueError:
            raise UsageError(
                f"--price {text} is not two prices.", remedy="Write US dollars per million tokens: --price 0.8,3.2"
            ) from None
        return Price(inside=inside, out=out, source="as given")
    known = table.find_model(wire.profile, base)
    if known is None or known.tuned_input is None or known.tuned_output is None:
        return None
    return Price(inside=known.tuned_input, out=known.tuned_output, source=f"as of {table.as_of()}")


def cost_of(wire: Wire, local: JobFolder, rows: Dataset, max_tokens: int | None, price: Price | None) -> Cost:
    """What it costs to ask these rows."""
    limit = limit_of(rows, max_tokens)
    if price is None:
        why = f"the price of {local.job.base or 'the model'} at {wire.profile.name} is not known"
        return Cost(rows=len(rows), usd=None, most=None, why=why)
    known = table.find_model(wire.profile, local.job.base)
    size = _Size(tokens.counter(known.encoding if known is not None else None))
    expected = most = 0.0
    for one in rows:
        # The prompt with the expected answer: more than is sent.
        inside, longest = size(one)
        expected += price.of(inside, min(inside, limit))
        most += price.of(longest, limit)
    why = str(price) if size.counts else f"{price}; tokens estimated from characters"
    return Cost(rows=len(rows), usd=expected, most=most, why=why, price=price, size=size, limit=limit)


def limit_of(rows: Dataset, max_tokens: int | None) -> int:
    """The most tokens of an answer."""
    return max_tokens or (answer_room(rows) if has_answers(rows) else _ROOM)


class _Size:
    """The tokens of a row, and their upper bound: counted, or at most one for each character."""

    def __init__(self, count: Callable[[Sequence[Example]], list[int]] | None) -> None:
        self._count = count
        self.counts = count is not None

    def __call__(self, row: Example) -> tuple[float, float]:
        if self._count is not None:
            found = float(self._count([row])[0])
            return found, found
        return measure_example(row, estimate_text), measure_example(row, len)


def refuse_over_budget(cost: Cost, budget: float | None) -> None:
    """Raise BudgetError where there is a budget and the cost of the answers is not known."""
    if budget is not None and cost.price is None:
        raise BudgetError(
            f"The cost is unknown: {cost.why}.", remedy="Set the price with --price IN,OUT, or leave --budget out."
        )


def ask(
    wire: Wire,
    local: JobFolder,
    rows: Dataset,
    *,
    price: Price | None = None,
    deployment: str | None = None,
    max_tokens: int | None = None,
    budget: float | None = None,
) -> tuple[Record, str]:
    """Ask the old model these rows and keep its answers in the record. Returns the record, and a sentence where the
    budget was reached before the last row.

    Raises UsageError where there is no model, ModelNotFound where it no longer answers, BudgetError.
    """
    if local.job.model is None:
        raise UsageError(
            f"{local.job.id} is {local.job.status} and has no model to ask.", remedy="Leave --answers out."
        )
    cost = cost_of(wire, local, rows, max_tokens, price)
    refuse_over_budget(cost, budget)
    meter = _Meter(local, cost, budget)
    model = HostedModel(Ref(wire.profile.name, local.job.model), wire, deployment or local.job.model, None)
    try:
        return record_answers(
            model,
            rows,
            local.old,
            max_tokens=limit_of(rows, max_tokens),
            before=meter.reserve,
            on_reply=meter.count,
        ), ""
    except _BudgetReachedError as ended:
        record = Record.open(local.old)
        there = sum(record.answer_to(one) is not None for one in rows)
        if not there:
            raise BudgetError(
                f"${meter.usd:,.2f} are spent, and the next {ended.rows:,} rows may cost ${ended.usd:,.2f}; "
                f"--budget is ${budget:,.2f}.",
                remedy="Raise --budget, or limit the answers with --max-tokens.",
            ) from None
        return record, (
            f"The budget of ${budget:,.2f} is reached: {there:,} of {len(rows):,} rows are answered, for about "
            f"${meter.usd:,.2f}. The next {ended.rows:,} rows may cost ${ended.usd:,.2f}. To continue, run the same "
            "command with a higher --budget."
        )


def read_total_spent(local: JobFolder) -> float:
    """The most that may have been spent on answers so far, in US dollars."""
    spent = _read_spent(local.old / SPENT)
    return spent.get("usd", 0.0) + spent.get("reserved", 0.0)


class _BudgetReachedError(Exception):
    """The next rows could cost more than is left."""

    def __init__(self, rows: int, usd: float) -> None:
        super().__init__()
        self.rows, self.usd = rows, usd


class _Meter:
    """Adds up the tokens that the replies report. What the next rows may cost is written to disk before they are asked:
    if the process ends in between, it counts as spent.
    """

    def __init__(self, local: JobFolder, cost: Cost, budget: float | None) -> None:
        self._path = local.old / SPENT
        self._cost, self._budget = cost, budget
        self._spent = _read_spent(self._path)
        self._spent["usd"] = self.usd + self._spent.pop("reserved", 0.0)
        self._each, self._waiting = 0.0, 0

    @property
    def usd(self) -> float:
        """Spent so far."""
        return self._spent.get("usd", 0.0)

    def reserve(self, rows: Sequence[Example]) -> None:
        """Record what these rows may cost. Raises where that is more than is left."""
        most, price = 0.0, self._cost.price
        if price is not None and self._cost.size is not None:
            most = sum(price.of(self._cost.size(one)[1], self._cost.limit) for one in rows)
        if self._budget is not None and self.usd + most > self._budget:
            raise _BudgetReachedError(len(rows), most)
        self._each, self._waiting = most / len(rows), len(rows)
        write_json(self._path, self._spent | {"reserved": most})

    def count(self, reply: Reply) -> None:
        """Add one reply; one that does not report its tokens is counted at the upper bound."""
        inside, out = reply.prompt_tokens, reply.completion_tokens
        for name, number in (("prompt_tokens", inside), ("completion_tokens", out)):
            self._spent[name] = self._spent.get(name, 0) + (number or 0)
        if self._cost.price is not None:
            is_known = inside is not None and out is not None
            self._spent["usd"] = self.usd + (self._cost.price.of(inside or 0, out or 0) if is_known else self._each)
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
