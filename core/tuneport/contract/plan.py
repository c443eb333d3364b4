"""What a run would do and cost, in quantities that name their source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tuneport.doors import public
from tuneport.printable import one_line
from tuneport.units import duration, many, size

UNITS: Mapping[str, frozenset[str]] = {
    "tokens": frozenset({"tokens"}),
    "steps": frozenset({"steps"}),
    "epochs": frozenset({"epochs"}),
    "seconds": frozenset({"s", "seconds"}),
    "memory": frozenset({"B", "bytes"}),
    "usd": frozenset({"USD", "usd"}),
}
"""The units that each quantity of a plan may have."""


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """An estimated number: its unit, its source and its error. A value of None is unknown; `source` then says why."""

    value: float | None
    unit: str
    source: str
    error: str | None = None

    @classmethod
    def unknown(cls, unit: str, source: str = "the backend does not estimate it") -> Self:
        """A quantity without a value; `source` says why.

        >>> str(Quantity.unknown("s"))
        'unknown'
        """
        return cls(value=None, unit=unit, source=source)

    def __str__(self) -> str:
        """The number with its unit, for people.

        >>> str(Quantity(value=90, unit="s", source="measured"))
        '1 min 30 s'
        """
        if self.value is None:
            return "unknown"
        if self.unit in UNITS["seconds"]:
            return duration(self.value)
        if self.unit in UNITS["memory"]:
            return size(self.value)
        return f"{self.value:,.2f} USD" if self.unit in UNITS["usd"] else f"{self.value:,.0f}"


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do and cost. A quantity that is left out is unknown.

    Units: `tokens` (trained on in all epochs), `steps` and `epochs` are counts, `seconds` in s, `memory` in bytes,
    `usd` in US dollars. `resolved` has the settings that training would use, "auto" replaced by the value, and
    `reasons` says why for each of them. `notes` are sentences for the user, the most important first.
    """

    base: str
    rows: int
    validation_rows: int = 0
    tokens: Quantity = field(default=Quantity.unknown("tokens"))
    steps: Quantity = field(default=Quantity.unknown("steps"))
    seconds: Quantity = field(default=Quantity.unknown("s"))
    memory: Quantity = field(default=Quantity.unknown("bytes"))
    usd: Quantity = field(default=Quantity.unknown("USD"))
    epochs: Quantity = field(default=Quantity.unknown("epochs"))
    resolved: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        from dataclasses import asdict

        return asdict(self)

    def __repr__(self) -> str:
        known = ", ".join(
            f"{one} {name.removesuffix('s') if one.value == 1 else name}" if name in ("tokens", "steps") else str(one)
            for name, one in self._amounts().items()
            if one.value is not None and name in ("tokens", "steps", "time", "money")
        )
        return one_line(f"<Plan {self.base}: {many(self.rows, 'row')}{f', {known}' if known else ''}>")

    def _repr_html_(self) -> str:
        """For a notebook: each quantity with its error and source, the settings with their reasons, the notes."""
        from tuneport.html import card, grid
        from tuneport.units import amount

        amounts = [[name, str(one), one.error or "", one.source] for name, one in self._amounts().items()]
        settings = [
            [name.replace("_", " "), amount(self.resolved[name]), why]
            for name, why in self.reasons.items()
            if name in self.resolved
        ]
        tables = [grid(["", "planned", "error", "source"], amounts)]
        tables += [grid(["setting", "value", "why"], settings)] if settings else []
        return card(repr(self).strip("<>"), [("note", note) for note in self.notes], *tables)

    def _amounts(self) -> dict[str, Quantity]:
        labels = {"seconds": "time", "usd": "money"}
        names = ("tokens", "epochs", "steps", "seconds", "memory", "usd")
        return {labels.get(name, name): getattr(self, name) for name in names}
