"""Translates hyperparameters of the OpenAI API to a backend's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from tuneport.doors import AUTHORS, public
from tuneport.errors import UnsupportedError
from tuneport.refs import Ref
from tuneport.workflow.opening import open_backend
from tuneport.workflow.starting import plan

if TYPE_CHECKING:
    from tuneport.contract.backend import Backend
    from tuneport.contract.capabilities import Method
    from tuneport.contract.plan import Plan
    from tuneport.dataset import Dataset

Auto = Literal["auto"]


@public(AUTHORS)
def translate_settings(
    base: str | Ref,
    data: Dataset,
    validation: Dataset | None = None,
    *,
    method: Method = "sft",
    epochs: int | Auto = "auto",
    seed: int | None = 0,
    batch_size: int | Auto = "auto",
    learning_rate_multiplier: float | Auto = "auto",
    beta: float | Auto = "auto",
) -> dict[str, Any]:
    """The settings of `base`'s backend that mean the same for these rows. `auto` is left out, so that the backend
    decides.

    A backend that has the same settings gets the values. One that takes an absolute learning rate gets its automatic
    rate times the multiplier. One that takes tokens per step gets the batch size in rows times the mean tokens per row.
    Starts nothing. Raises UnsupportedError if neither is possible.
    """
    ref = base if isinstance(base, Ref) else Ref.parse(base)
    backend = open_backend(ref.backend)
    plans = _Plans(ref, data, validation, method, epochs, seed)
    known = backend.settings_class.model_fields
    settings: dict[str, Any] = {}
    for name, value in (
        ("learning_rate_multiplier", learning_rate_multiplier),
        ("batch_size", batch_size),
        ("beta", beta),
    ):
        if value == "auto":
            continue
        if name in known:
            settings[name] = value
        elif name == "learning_rate_multiplier" and "learning_rate" in known:
            settings["learning_rate"] = float(f"{plans.automatic_rate(backend) * float(value):.6g}")
        elif name == "batch_size" and "tokens_per_step" in known:
            settings["tokens_per_step"] = max(1, round(plans.mean_tokens() * float(value)))
        else:
            raise _unsupported_error(backend, name)
    return settings


class _Plans:
    """The backend's plan with automatic settings. It is made once, and only if it is needed."""

    def __init__(
        self,
        ref: Ref,
        data: Dataset,
        validation: Dataset | None,
        method: Method,
        epochs: int | Auto,
        seed: int | None,
    ) -> None:
        self._options: Mapping[str, Any] = {"validation": validation, "method": method, "epochs": epochs, "seed": seed}
        self._ref, self._data = ref, data
        self._found: Plan | None = None

    def automatic_rate(self, backend: Backend) -> float:
        """The learning rate that the backend chooses."""
        rate = self._plan().resolved.get("learning_rate")
        if not isinstance(rate, int | float):
            raise _unsupported_error(backend, "learning_rate_multiplier")
        return float(rate)

    def mean_tokens(self) -> float:
        """The mean tokens per row, by the backend's count or estimate."""
        found = self._plan()
        rows = found.rows * (found.epochs.value or 1)
        if not found.tokens.value or not rows:
            raise UnsupportedError("batch_size: the length of the rows in tokens is unknown. Leave it at auto.")
        return found.tokens.value / rows

    def _plan(self) -> Plan:
        if self._found is None:
            self._found = plan(self._ref, self._data, **self._options)
        return self._found


def _unsupported_error(backend: Backend, name: str) -> UnsupportedError:
    return UnsupportedError(f"The backend {backend.name!r} does not take {name}. Leave it at auto.")
