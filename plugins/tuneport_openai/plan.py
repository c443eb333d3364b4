"""What a hosted training would be and cost, and where each figure comes from; what nobody knows is unknown."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, cast

from tuneport.plugin import Plan, Quantity
from tuneport_openai.catalogue import table
from tuneport_openai.catalogue.tokens import ESTIMATE_ERROR, counter, estimate, how_to_count
from tuneport_openai.wire import closing
from tuneport_openai.wire.profiles import Profile

if TYPE_CHECKING:
    from tuneport.plugin import Dataset, TrainRequest
    from tuneport_openai.catalogue.table import Known
    from tuneport_openai.config import OpenAISettings

_COUNTED_WHOLE = 20_000
_SAMPLE = 5_000


def make_plan(endpoint: Profile, request: TrainRequest, model: str, lacks: str = "") -> Plan:
    """The plan of a request for the server's model of that name; `lacks` is what keeps it from being started here."""
    facts = table.known(endpoint, model)
    settings = cast("OpenAISettings", request.settings)
    rows = len(request.train)
    epochs = _epochs(endpoint, request, rows)
    once = _tokens(request.train, rows, facts)
    tokens = Quantity(
        value=once.value * epochs.value if once.value is not None and epochs.value is not None else None,
        unit="tokens",
        source=once.source if epochs.value is not None else "the server chooses the epochs",
        error=once.error,
    )
    asked = settings.batch_size
    return Plan(
        base=str(request.base),
        rows=rows,
        validation_rows=len(request.validation) if request.validation is not None else 0,
        tokens=tokens,
        steps=_steps(rows, epochs, asked),
        seconds=Quantity(value=None, unit="s", source="the server's queue and speed are not known"),
        memory=Quantity(value=0.0, unit="bytes", source="nothing is loaded here"),
        usd=_usd(request, facts, settings, tokens),
        epochs=epochs,
        resolved=_resolved(model, settings),
        reasons=_reasons(settings),
        notes=tuple(filter(None, (lacks, *_notes(endpoint, request, model, facts)))),
    )


def auto_epochs(rows: int) -> int:
    """OpenAI's published estimate of "auto" (its cookbook, "Data preparation for chat fine-tuning"): 3 epochs; more, up
    to 25, while fewer than 100 rows are seen; fewer while more than 25,000 are.
    """
    if rows * 3 < 100:
        return min(25, 100 // max(rows, 1))
    return max(1, 25_000 // rows) if rows * 3 > 25_000 else 3


def _epochs(endpoint: Profile, request: TrainRequest, rows: int) -> Quantity:
    asked = request.options.epochs
    if asked != "auto":
        return Quantity(value=asked, unit="epochs", source="as asked")
    if request.options.method == "reinforcement":
        return Quantity(value=None, unit="epochs", source="the server chooses")
    if endpoint.vendor == "other":
        return Quantity(value=None, unit="epochs", source=f"{endpoint.name} chooses, by a rule that is not known here")
    return Quantity(value=auto_epochs(rows), unit="epochs", source="OpenAI's published rule for auto", error="a guess")


def _tokens(data: Dataset, rows: int, facts: Known | None) -> Quantity:
    """Tokens of one epoch: counted, or of a sample, or from characters."""
    sample = list(data if rows <= _COUNTED_WHOLE else data.sample(_SAMPLE))
    scale = rows / max(1, len(sample))
    count = counter(facts.encoding if facts else None)
    if count is None:
        return Quantity(
            value=round(estimate(sample) * scale),
            unit="tokens",
            source="estimated from characters",
            error=ESTIMATE_ERROR,
        )
    sizes = count(sample)
    if scale == 1 or len(sizes) < 2:
        return Quantity(value=sum(sizes), unit="tokens", source="counted")
    off = 2 * statistics.stdev(sizes) / len(sizes) ** 0.5 / max(1e-9, statistics.fmean(sizes))
    source = f"sample of {len(sizes):,} rows"
    return Quantity(value=round(sum(sizes) * scale), unit="tokens", source=source, error=f"±{off:.1%}")


def _steps(rows: int, epochs: Quantity, batch: int | str) -> Quantity:
    if epochs.value is None or not isinstance(batch, int):
        return Quantity(value=None, unit="steps", source="the server chooses the batch size")
    return Quantity(value=-(-rows // batch) * epochs.value, unit="steps", source=f"{batch} rows a step")


def _usd(request: TrainRequest, facts: Known | None, settings: OpenAISettings, tokens: Quantity) -> Quantity:
    price, source = settings.usd_per_million_tokens, "your usd_per_million_tokens"
    if price is None and request.options.method == "reinforcement":
        hourly = table.usd_per_training_hour("reinforcement")
        said = f"billed by the hour, ${hourly:g} as of {table.as_of()}; the hours are not known"
        return Quantity(value=None, unit="USD", source=said)
    if price is None and facts is not None:
        price, source = facts.training, f"by the table of {table.as_of()}"
    if price is None:
        return Quantity(
            value=None,
            unit="USD",
            source=f"the price of training is not known; set backends.{request.base.backend}.usd_per_million_tokens",
        )
    if tokens.value is None:
        return Quantity(
            value=None, unit="USD", source=f"${price:g} a million tokens; how many, not known: set train.epochs"
        )
    value = round(tokens.value / 1e6 * price, 4)
    return Quantity(value=value, unit="USD", source=f"${price:g} a million tokens, {source}", error=tokens.error)


def _resolved(model: str, settings: OpenAISettings) -> dict[str, Any]:
    return {
        "model": model,
        "batch_size": settings.batch_size,
        "learning_rate_multiplier": settings.learning_rate_multiplier,
    }


def _reasons(settings: OpenAISettings) -> dict[str, str]:
    names = ("batch_size", "learning_rate_multiplier")
    return {name: "the server chooses" if getattr(settings, name) == "auto" else "as asked" for name in names}


def _notes(endpoint: Profile, request: TrainRequest, model: str, facts: Known | None) -> list[str]:
    """What else there is to know, what stands most in the way first."""
    method, day = request.options.method, table.as_of()
    notes = [closing.note(endpoint, method), table.end_of(facts) if facts is not None else ""]
    if endpoint.vendor != "other":
        if facts is None:
            notes.append(f"{model} is not among the tunable models known on {day}: the server may refuse it.")
        elif method not in facts.methods:
            notes.append(f"{facts.model} was not tunable by {method} on {day}: the server may refuse it.")
        elif model != facts.model and not model.startswith("ft:"):
            notes.append(f"Vendors tune snapshots: write {endpoint.name}:{facts.model}.")
        if facts is not None and counter(facts.encoding) is None:
            notes.append(f"Tokens are estimated. {how_to_count(facts.encoding)}")
    if facts is not None and facts.tuned_input is not None and endpoint.vendor == "openai":
        notes.append(
            f"Asking the tuned model cost ${facts.tuned_input:g} a million tokens in and ${facts.tuned_output:g} out "
            f"as of {day}."
        )
    if endpoint.vendor == "azure":
        notes.append(f"A tuned model answers only while it is deployed: {table.cost_of_hosting()}.")
    return notes
