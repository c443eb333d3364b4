"""What a hosted training would do and cost, and the source of each figure; what is not known stays unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tuneport.plugin import Plan, Quantity, estimate_tokens
from tuneport_openai.catalog import table
from tuneport_openai.catalog.tokens import counter, how_to_count
from tuneport_openai.wire.profiles import Profile

if TYPE_CHECKING:
    from tuneport.plugin import TrainRequest
    from tuneport_openai.catalog.table import Known
    from tuneport_openai.config import NebiusSettings, OpenAISettings

    AnySettings = OpenAISettings | NebiusSettings


def make_plan(endpoint: Profile, request: TrainRequest, model: str, obstacle: str = "") -> Plan:
    """The plan of a request for the server's model of that name; `obstacle` says why it cannot be started here yet."""
    facts = table.find_model(endpoint, model)
    settings = cast("AnySettings", request.settings)
    rows = len(request.train)
    epochs = _epochs(endpoint, request, rows)
    once = estimate_tokens(request.train, counter(facts.encoding if facts else None))
    tokens = Quantity(
        value=once.value * epochs.value if once.value is not None and epochs.value is not None else None,
        unit="tokens",
        source=once.source if epochs.value is not None else "the server chooses the epochs",
        error=once.error if epochs.value is not None else None,
    )
    return Plan(
        base=str(request.base),
        rows=rows,
        validation_rows=len(request.validation) if request.validation is not None else 0,
        tokens=tokens,
        steps=_steps(rows, epochs, settings.batch_size),
        seconds=Quantity.unknown("s", "the server's queue and speed are not known"),
        memory=Quantity(value=0.0, unit="bytes", source="nothing is loaded here"),
        usd=_usd(endpoint, request, facts, settings, tokens),
        epochs=epochs,
        resolved={"model": model, **_chosen(request, settings)},
        reasons={
            name: "the server chooses" if value == "auto" else "as requested"
            for name, value in _chosen(request, settings).items()
        },
        notes=tuple(filter(None, (obstacle, *_notes(endpoint, request, model, facts)))),
    )


def auto_epochs(rows: int) -> int:
    """OpenAI's published estimate of "auto" (its cookbook, "Data preparation for chat fine-tuning"): 3 epochs; more, up
    to 25, while fewer than 100 rows are seen; fewer while more than 25,000 are.
    """
    if rows * 3 < 100:
        return min(25, 100 // max(rows, 1))
    return max(1, 25_000 // rows) if rows * 3 > 25_000 else 3


def _epochs(endpoint: Profile, request: TrainRequest, rows: int) -> Quantity:
    asked, traits = request.options.epochs, endpoint.traits
    if asked != "auto":
        return Quantity(value=asked, unit="epochs", source="as requested")
    if traits.auto_epochs is not None:
        return Quantity(value=traits.auto_epochs, unit="epochs", source=f"the documented default of {traits.title}")
    if request.options.method == "reinforcement":
        return Quantity.unknown("epochs", "the server chooses")
    if not traits.openai_models:
        return Quantity.unknown("epochs", f"{endpoint.name} chooses, by a rule that is not known here")
    return Quantity(value=auto_epochs(rows), unit="epochs", source="OpenAI's published rule for auto", error="a guess")


def _steps(rows: int, epochs: Quantity, batch: int | str) -> Quantity:
    if epochs.value is None or not isinstance(batch, int):
        return Quantity.unknown("steps", "the server chooses the batch size")
    return Quantity(value=-(-rows // batch) * epochs.value, unit="steps", source=f"{batch} rows a step")


def _usd(
    endpoint: Profile, request: TrainRequest, facts: Known | None, settings: AnySettings, tokens: Quantity
) -> Quantity:
    price, source = settings.usd_per_million_tokens, "your usd_per_million_tokens"
    section = f"backends.{request.base.backend}"
    if price is None and request.options.method == "reinforcement":
        hourly = table.usd_per_training_hour(endpoint, "reinforcement")
        if hourly is not None:
            why = f"billed by the hour, ${hourly:g} as of {table.as_of()}; the hours are not known"
            return Quantity.unknown("USD", why)
    if price is None and facts is not None:
        price, source = facts.training, f"as of {facts.priced}" if facts.priced else f"by the table of {table.as_of()}"
    if price is None:
        return Quantity.unknown("USD", f"the price of training is not known; set {section}.usd_per_million_tokens")
    if tokens.value is None:
        return Quantity.unknown("USD", f"${price:g} a million tokens; their number is not known: set train.epochs")
    value = round(tokens.value / 1e6 * price, 4)
    return Quantity(value=value, unit="USD", source=f"${price:g} a million tokens, {source}", error=tokens.error)


def _chosen(request: TrainRequest, settings: AnySettings) -> dict[str, Any]:
    """The settings that a plan shows."""
    values = settings.hyperparameters(request.options.method, request.options.epochs)
    rate = "learning_rate" if "learning_rate" in values else "learning_rate_multiplier"
    names = ("batch_size", rate, *(["lora", "lora_r"] if values.get("lora") else []))
    return {name: values[name] for name in names}


def _notes(endpoint: Profile, request: TrainRequest, model: str, facts: Known | None) -> list[str]:
    """Other things to know, the biggest obstacle first."""
    method, day, traits = request.options.method, table.as_of(), endpoint.traits
    notes = [table.end_of(facts) if facts is not None else ""]
    if endpoint.vendor != "other":
        if facts is None:
            notes.append(f"{model} is not among the tunable models known on {day}: the server may refuse it.")
        elif method not in facts.methods:
            notes.append(f"{facts.model} was not tunable by {method} on {day}: the server may refuse it.")
        elif model != facts.model and not model.startswith("ft:"):
            notes.append(f"Vendors tune snapshots: write {endpoint.name}:{facts.model}.")
    if facts is not None and facts.encoding and counter(facts.encoding) is None:
        notes.append(f"Tokens are estimated. {how_to_count(facts.encoding)}")
    if facts is not None and facts.tuned_input is not None and endpoint.vendor == "openai":
        notes.append(
            f"The tuned model's answers cost ${facts.tuned_input:g} a million tokens in and ${facts.tuned_output:g} "
            f"out as of {day}."
        )
    if endpoint.vendor == "azure":
        price = table.price_of_hosting()
        notes.append(
            f"A tuned model answers only while it is deployed, which costs ${price.value:.2f} an hour {price.source}."
        )
    if traits.serves_checkpoints:
        notes.append(
            f"{traits.title} serves adapters of some bases only; the weights of any can be downloaded: tuneport export."
        )
    return notes
