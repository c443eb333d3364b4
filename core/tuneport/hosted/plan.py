"""What a hosted training would be and cost, and where each figure comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tuneport.contract.estimates import estimate_tokens
from tuneport.contract.plan import Plan, Quantity

if TYPE_CHECKING:
    from tuneport.contract.request import TrainRequest
    from tuneport.hosted.service import Service
    from tuneport.hosted.settings import HostedSettings


def make_plan(service: Service, request: TrainRequest, model: str, body: dict[str, Any], missing: str) -> Plan:
    """The plan of a request; `missing` is what keeps it from being started here. Asks no network."""
    epochs = _epochs(service, request)
    once = estimate_tokens(request.train)
    tokens = Quantity(
        value=(once.value or 0) * epochs.value if epochs.value is not None else None,
        unit="tokens",
        source=once.source if epochs.value is not None else epochs.source,
        error=once.error if epochs.value is not None else None,
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
