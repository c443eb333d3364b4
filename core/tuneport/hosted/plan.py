"""What a hosted training would be and cost, and where each figure comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tuneport.contract.plan import Plan, Quantity
from tuneport.dataset import Completion, Conversation

if TYPE_CHECKING:
    from tuneport.contract.request import TrainRequest
    from tuneport.dataset import Dataset, Example
    from tuneport.hosted.service import Service
    from tuneport.hosted.settings import HostedSettings

_SAMPLE = 5_000
_CHARACTERS = 4.0  # per token: 4.4 were measured on 10,003 support messages with o200k_base
_PER_TURN = 3
_ERROR = "±25% in English, up to twice as many in code and other languages"


def make_plan(service: Service, request: TrainRequest, model: str, body: dict[str, Any], missing: str) -> Plan:
    """The plan of a request; `missing` is what keeps it from being started here. Asks no network."""
    epochs = _epochs(service, request)
    once = _tokens(request.train)
    tokens = Quantity(
        value=once * epochs.value if epochs.value is not None else None,
        unit="tokens",
        source="estimated from characters" if epochs.value is not None else epochs.source,
        error=_ERROR,
    )
    notes = [missing] if missing else []
    if service.deployments is not None:
        notes.append(
            f"A tuned model answers at {service.title} only while it is deployed, which costs money. A run compares "
            f"the model only with backends.{service.name}.deploy: true."
        )
    chosen = {name: value for name, value in body.items() if isinstance(value, str | int | float | bool)}
    return Plan(
        base=str(request.base),
        rows=len(request.train),
        validation_rows=len(request.validation) if request.validation is not None else 0,
        tokens=tokens,
        epochs=epochs,
        steps=Quantity(value=None, unit="steps", source="the service forms the batches"),
        seconds=Quantity(value=None, unit="s", source="the service's queue and speed are not known"),
        memory=Quantity(value=0.0, unit="bytes", source="nothing is loaded here"),
        usd=_usd(service, request, model, tokens),
        resolved={"model": model, **chosen},
        reasons=dict.fromkeys(chosen, "as requested"),
        notes=(*notes, *service.plan_notes(request, model)),
    )


def price_of(service: Service, request: TrainRequest, model: str) -> Quantity:
    """US dollars for a million training tokens: the user's own figure, else the service's table."""
    own = cast("HostedSettings", request.settings).usd_per_million_tokens
    if own is not None:
        return Quantity(value=own, unit="USD", source="your usd_per_million_tokens")
    return service.read_price(request, model)


def _epochs(service: Service, request: TrainRequest) -> Quantity:
    asked = request.options.epochs
    if asked != "auto":
        return Quantity(value=asked, unit="epochs", source="as requested")
    source = f"{service.title}'s default"
    return Quantity(value=service.auto_epochs, unit="epochs", source=source)


def _tokens(rows: Dataset) -> int:
    """Tokens of one epoch, by the number of characters; of a sample where there are many rows."""
    count = len(rows)
    sample = list(rows if count <= _SAMPLE else rows.sample(_SAMPLE))
    size = sum(_characters(one) for one in sample) / _CHARACTERS
    return round(size * count / max(1, len(sample)))


def _characters(example: Example) -> float:
    if isinstance(example, Completion):
        return len(example.prompt) + len(example.completion)
    turns = (
        example.messages if isinstance(example, Conversation) else (*example.prompt, *example.chosen, *example.rejected)
    )
    return sum(len(one.text) + len(one.reasoning_content or "") + _PER_TURN * _CHARACTERS for one in turns)


def _usd(service: Service, request: TrainRequest, model: str, tokens: Quantity) -> Quantity:
    price = price_of(service, request, model)
    if price.value is None or tokens.value is None:
        cure = (
            f"set backends.{request.base.backend}.usd_per_million_tokens" if price.value is None else "set train.epochs"
        )
        return Quantity(
            value=None, unit="USD", source=f"{price.source if price.value is None else tokens.source}; {cure}"
        )
    source = f"${price.value:g} a million tokens, {price.source}"
    return Quantity(value=round(tokens.value / 1e6 * price.value, 4), unit="USD", source=source, error=tokens.error)
