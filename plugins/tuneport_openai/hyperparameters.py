"""The hyperparameters of a job at a server, wherever the server puts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN = (
    "learning_rate_multiplier",
    "learning_rate",
    "epochs",
    "batch_size",
    "beta",
    "eval_interval",
    "eval_samples",
    "lora_r",
    "lora_alpha",
)


def explain_settings(request: Mapping[str, Any], facts: Any) -> tuple[dict[str, int | float], dict[str, str]]:
    """The hyperparameters that the server says it used, and for each whether the request set it."""
    asked, used = read_hyperparameters(request.get("body")), read_hyperparameters(facts)
    known = {
        "epochs" if name == "n_epochs" else name: (value, asked.get(name, "auto") != "auto")
        for name, value in used.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    shown = {name: known[name] for name in _SHOWN if name in known}
    reasons = {name: "as requested" if is_asked else "auto: the server chose" for name, (_, is_asked) in shown.items()}
    return {name: value for name, (value, _) in shown.items()}, reasons


def read_hyperparameters(body: Any, method: str | None = None) -> dict[str, Any]:
    """Those of the method, else the older top-level field; a server may send anything."""
    chosen = body.get("method") if isinstance(body, Mapping) else None
    kind = method or (chosen.get("type") if isinstance(chosen, Mapping) else None)
    own = chosen.get(kind) if isinstance(chosen, Mapping) and isinstance(kind, str) else None
    for place in (own, body):
        found = place.get("hyperparameters") if isinstance(place, Mapping) else None
        if isinstance(found, Mapping) and found:
            return dict(found)
    return {}
