"""What the methods of backends and the functions of data rules may return, as in `returns`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, get_args

from tuneport.contract.border import Call, GuardedRule, WrongReturn
from tuneport.contract.capabilities import METHODS, RATES, VERBS, Availability, BaseInfo, Capabilities
from tuneport.contract.hosting import Hosting, HostingState
from tuneport.contract.plan import UNITS, Plan, Quantity
from tuneport.contract.requirements import (
    list_words,
    require,
    require_json,
    require_number,
    require_time,
    require_type,
    require_word,
    show,
)
from tuneport.dataset import ROLES, DataRules, Diagnostic, ExampleShape, Piece, Severity
from tuneport.refs import Ref

_SHAPES, _SEVERITIES = frozenset(get_args(ExampleShape)), frozenset(get_args(Severity))
_STATES = frozenset(get_args(HostingState))


def check_settings_class(call: Call, value: Any) -> Any:
    """A pydantic class."""
    del call
    from pydantic import BaseModel

    if not (isinstance(value, type) and issubclass(value, BaseModel)):
        raise WrongReturn(f"{show(value)} is not a subclass of Settings")
    return value


def check_plan(call: Call, value: Any) -> Any:
    """A plan: nothing negative, known units."""
    del call
    require_type(value, Plan, "the plan")
    require_type(value.base, str, "base")
    require_number(value.rows, "rows", whole=True)
    require_number(value.validation_rows, "validation_rows", whole=True)
    for name, units in UNITS.items():
        check_quantity(getattr(value, name), name, units)
    require_json(value.resolved, "resolved")
    require_json(value.reasons, "reasons")
    for note in value.notes:
        require_type(note, str, "a note")
    return value


def check_quantity(value: Any, what: str, units: Collection[str]) -> None:
    """A quantity of a plan."""
    if not isinstance(value, Quantity):
        raise WrongReturn(f"{what} is {show(value)}, not a Quantity; leave it out if it is not known")
    require_number(value.value, what, optional=True)
    require(value.unit in units, f"{what}: the unit is {value.unit!r}, not {' or '.join(sorted(units))}")
    require_type(value.source, str, f"{what}: source")
    require_type(value.error, (str, type(None)), f"{what}: error")


def check_capabilities(call: Call, value: Any) -> Any:
    """Capabilities of known words."""
    del call
    require_capabilities(value)
    return value


def require_capabilities(value: Any) -> None:
    """Raise WrongReturn for capabilities with a word that the core does not know."""
    require_type(value, Capabilities, "capabilities")
    for name, known in (("methods", METHODS), ("verbs", VERBS)):
        words = getattr(value, name)
        require_type(words, (frozenset, set), f"capabilities.{name}")
        unknown = sorted(map(str, words - known))
        require(not unknown, f"capabilities.{name} has {', '.join(unknown)}; there are {list_words(known)}")
    require(value.methods, "capabilities.methods is empty")
    unit = value.learning_rate
    require_word(unit, RATES, "capabilities.learning_rate")
    for name in ("local", "validation", "seed", "quotes"):
        require_type(getattr(value, name), bool, f"capabilities.{name}")
    require_type(value.auto_epochs, str, "capabilities.auto_epochs")
    require_number(value.max_epochs, "capabilities.max_epochs", whole=True, least=1, optional=True)
    require_type(value.export_kinds, (tuple, list), "capabilities.export_kinds")
    require_rules(value.rules)


def check_availability(call: Call, value: Any) -> Any:
    """An Availability."""
    del call
    require_type(value, Availability, "the value")
    for name, kind in (("ready", bool), ("plans", bool), ("reason", str), ("closing", str)):
        require_type(getattr(value, name), kind, name)
    require_type(value.remedy, (str, type(None)), "remedy")
    require_json(value.details, "details")
    return value


def check_bases(call: Call, value: Any) -> Any:
    """A list of BaseInfo, of this backend."""
    require_type(value, (list, tuple), "the value")
    for one in value:
        require_type(one, BaseInfo, "a base")
        require_type(one.ref, Ref, "a base's ref")
        require(one.ref.backend == call.backend, f"the base {one.ref} belongs to another backend")
        require_type(one.description, str, f"{one.ref}: description")
        require_type(one.present, (bool, type(None)), f"{one.ref}: present")
    return list(value)


def check_hosting(call: Call, value: Any) -> Any:
    """A deployment, or None."""
    del call
    if value is not None:
        require_hosting(value)
    return value


def check_hostings(call: Call, value: Any) -> Any:
    """A list of deployments."""
    del call
    require_type(value, (list, tuple), "the value")
    for one in value:
        require_hosting(one)
    return list(value)


def require_hosting(value: Any) -> None:
    """Raise WrongReturn for a deployment whose cost or state cannot be relied on."""
    require_type(value, Hosting, "the deployment")
    require_type(value.name, str, "name")
    require_word(value.state, _STATES, f"{value.name}: state")
    require_type(value.is_billed, bool, f"{value.name}: is_billed")
    check_quantity(value.usd_per_hour, f"{value.name}: usd_per_hour", UNITS["usd"])
    require_number(value.stops_after, f"{value.name}: stops_after", optional=True)
    require_time(value.created, f"{value.name}: created", optional=True)


def check_rules(call: Call, value: Any) -> Any:
    """Data rules of known words; their functions are put behind the border too."""
    require_rules(value)
    checks = {"count_tokens": _check_lengths, "preview": _check_pieces, "check_row": _check_diagnostics}
    guarded: dict[str, Any] = {}
    for name, check in checks.items():
        function = getattr(value, name)
        if function is not None and not isinstance(function, GuardedRule):
            guarded[name] = GuardedRule(function, check, call.backend, name)
    return replace(value, **guarded) if guarded else value


def require_rules(value: Any) -> None:
    """Raise WrongReturn for data rules with a word that no row could ever match."""
    require_type(value, DataRules, "the rules")
    for method, shapes in value.shapes.items():
        require(method in METHODS, f"shapes: {method!r} is not a method; there are {list_words(METHODS)}")
        unknown = sorted(map(str, set(shapes) - _SHAPES))
        require(not unknown, f"shapes: {', '.join(unknown)} is not a shape; there are {list_words(_SHAPES)}")
    unknown = sorted(map(str, set(value.roles) - set(ROLES)))
    require(not unknown, f"roles: {', '.join(unknown)} is not a role; there are {list_words(ROLES)}")
    for name in ("min_rows", "max_tokens", "max_bytes"):
        require_number(getattr(value, name), name, whole=True, optional=True)
    for name in ("count_tokens", "preview", "check_row", "has_template", "together"):
        function = getattr(value, name)
        if not (function is None or callable(function)):
            raise WrongReturn(f"{name} is {show(function)}, not a function")


def _check_lengths(rows: Any, value: Any) -> Any:
    require_type(value, (list, tuple), "the value")
    require(len(value) == len(rows), f"{len(value)} lengths for {len(rows)} rows")
    for one in value:
        require_number(one, "a length in tokens", whole=True)
    return value


def _check_pieces(row: Any, value: Any) -> Any:
    del row
    require_type(value, (list, tuple), "the value")
    for one in value:
        require_type(one, Piece, "a piece")
    return value


def _check_diagnostics(row: Any, value: Any) -> Any:
    del row
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise WrongReturn(f"the findings are {show(value)}, not a list")
    found = list(value)
    for one in found:
        require_type(one, Diagnostic, "a finding")
        require_word(one.severity, _SEVERITIES, "severity")
    return found
