"""What a contract method may return: types, ranges, units, times and JSON, each checked with a message about what is
wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from tuneport.contract.answers import Reply
from tuneport.contract.border import Call, GuardedRule, guard_stream
from tuneport.contract.capabilities import METHODS, RATES, VERBS, Availability, BaseInfo, Capabilities
from tuneport.contract.events import Event, EventKind, EventLevel, Status
from tuneport.contract.plan import UNITS, Plan, Quantity
from tuneport.contract.requirements import require, require_json, require_number, require_time, require_type, show
from tuneport.contract.state import USES, Checkpoint, JobState, Removal
from tuneport.dataset.findings.diagnostic import Diagnostic, Severity
from tuneport.dataset.roles import ROLES
from tuneport.dataset.rules import DataRules, Piece, Shape
from tuneport.refs import Ref

_KINDS, _LEVELS, _SHAPES, _SEVERITIES = (frozenset(get_args(one)) for one in (EventKind, EventLevel, Shape, Severity))
_METRICS = ("step", "total_steps", "epoch", "train_loss", "valid_loss", "learning_rate", "tokens", "seconds_left")


def check_nothing(call: Call, value: Any) -> Any:
    """A method whose return is not used."""
    del call
    return value


def check_text(call: Call, value: Any) -> Any:
    """A text, which may be empty."""
    del call
    require_type(value, str, "the value")
    return value


def check_optional_text(call: Call, value: Any) -> Any:
    """A text or None."""
    del call
    require_type(value, (str, type(None)), "the value")
    return value


def check_size(call: Call, value: Any) -> Any:
    """A number of bytes."""
    del call
    require_number(value, "the number of bytes", whole=True)
    return value


def check_optional_size(call: Call, value: Any) -> Any:
    """A number of bytes or None."""
    del call
    require_number(value, "the number of bytes", whole=True, optional=True)
    return value


def check_settings_class(call: Call, value: Any) -> Any:
    """A pydantic class."""
    del call
    from pydantic import BaseModel

    require(isinstance(value, type) and issubclass(value, BaseModel), f"{show(value)} is not a subclass of Settings")
    return value


def check_state(call: Call, value: Any) -> Any:
    """A JobState. Once a handle has seen a terminal status, the job keeps it."""
    require_type(value, JobState, "the state")
    require_type(value.status, Status, "status")
    for name in ("native", "message"):
        require_type(getattr(value, name), str, name)
    require_type(value.remedy, (str, type(None)), "remedy")
    for name in ("step", "tokens"):
        require_number(getattr(value, name), name, whole=True)
    require_number(value.total_steps, "total_steps", whole=True, optional=True)
    total = value.total_steps
    require(not total or value.step <= total, f"step is {value.step} of {total}")
    require_number(value.queue_position, "queue_position", whole=True, optional=True)
    require_number(value.seconds_left, "seconds_left", optional=True)
    for name in ("created", "started", "finished"):
        require_time(getattr(value, name), name, optional=True)
    require_json(value.details, "details")
    final: JobState | None = getattr(call.owner, "final_state", None)
    if final is not None and final.status is not value.status:
        return final
    if value.status.terminal:
        with suppress(AttributeError):  # a class of fixed attributes
            call.owner.final_state = value
    return value


def check_events(call: Call, value: Any) -> list[Event]:
    """Events that are numbered without gaps from `after` on."""
    require(isinstance(value, Iterable) and not isinstance(value, str), f"the events are {show(value)}, not a list")
    after, found = call.argument(0, "after", 0), list(value)
    for seq, event in enumerate(found, after + 1):
        require_type(event, Event, "an event")
        require(event.seq == seq, f"after={after} gives an event with seq {event.seq} where {seq} is next")
        check_event(event)
    return found


def check_event(event: Event) -> None:
    """Kind, level, time, message and data of one event."""
    what = f"event {event.seq}"
    require(event.kind in _KINDS, f"{what}: kind is {show(event.kind)}, not one of {_listed(_KINDS)}")
    require(event.level in _LEVELS, f"{what}: level is {show(event.level)}, not one of {_listed(_LEVELS)}")
    require_type(event.message, str, f"{what}: message")
    require_time(event.time, f"{what}: time")
    require_json(event.data, f"{what}: data")
    for name in _METRICS if event.kind == "metric" else ():
        require_type(event.data.get(name), (int, float, type(None)), f"{what}: {name}")


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
    require(isinstance(value, Quantity), f"{what} is {show(value)}, not a Quantity (leave it out if it is not known)")
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
        require(not unknown, f"capabilities.{name} has {', '.join(unknown)}; there are {_listed(known)}")
    require(value.methods, "capabilities.methods is empty")
    unit = value.learning_rate
    require(unit in RATES, f"capabilities.learning_rate is {show(unit)}, not one of {_listed(RATES)}")
    for name in ("local", "validation", "seed", "images"):
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
        require(one.ref.backend == call.backend, f"the base {one.ref} is of another backend")
        require_type(one.description, str, f"{one.ref}: description")
        require_type(one.present, (bool, type(None)), f"{one.ref}: present")
    return list(value)


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
        require(method in METHODS, f"shapes: {method!r} is not a method; there are {_listed(METHODS)}")
        unknown = sorted(map(str, set(shapes) - _SHAPES))
        require(not unknown, f"shapes: {', '.join(unknown)} is not a shape; there are {_listed(_SHAPES)}")
    unknown = sorted(map(str, set(value.roles) - set(ROLES)))
    require(not unknown, f"roles: {', '.join(unknown)} is not a role; there are {_listed(ROLES)}")
    for name in ("min_rows", "max_tokens", "max_bytes"):
        require_number(getattr(value, name), name, whole=True, optional=True)
    for name in ("count_tokens", "preview", "check_row", "has_template", "together"):
        function = getattr(value, name)
        require(function is None or callable(function), f"{name} is {show(function)}, not a function")


def _listed(words: Collection[str]) -> str:
    return ", ".join(sorted(words))


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
    require(isinstance(value, Iterable) and not isinstance(value, str), f"the findings are {show(value)}, not a list")
    found = list(value)
    for one in found:
        require_type(one, Diagnostic, "a finding")
        require(
            one.severity in _SEVERITIES,
            f"severity is {show(one.severity)}, not one of {_listed(_SEVERITIES)}",
        )
    return found


def check_checkpoints(call: Call, value: Any) -> Any:
    """A list of checkpoints."""
    del call
    require_type(value, (list, tuple), "the value")
    for one in value:
        require_type(one, Checkpoint, "a checkpoint")
        require_type(one.name, str, "a checkpoint's name")
        require_number(one.step, f"{one.name}: step", whole=True)
        require_time(one.created, f"{one.name}: created")
        require_time(one.expires, f"{one.name}: expires", optional=True)
        unknown = sorted(map(str, set(one.uses) - USES))
        require(not unknown, f"{one.name}: uses has {', '.join(unknown)}; there are {_listed(USES)}")
        require_json(one.metrics, f"{one.name}: metrics")
    return list(value)


def check_removal(call: Call, value: Any) -> Any:
    """A Removal."""
    del call
    require_type(value, Removal, "the value")
    for name in ("removed", "kept"):
        lines = getattr(value, name)
        require_type(lines, (list, tuple), name)
        for line in lines:
            require_type(line, str, f"a line of {name}")
    return value


def check_replies(call: Call, value: Any) -> Any:
    """One reply for each prompt."""
    require_type(value, (list, tuple), "the value")
    prompts = call.argument(0, "prompts", ())
    require(len(value) == len(prompts), f"{len(value)} replies to {len(prompts)} prompts")
    for one in value:
        check_reply(one)
    return value


def check_reply(value: Any) -> None:
    """One reply."""
    require_type(value, Reply, "a reply")
    require_type(value.text, str, "a reply's text")
    require_type(value.finish_reason, str, "a reply's finish_reason")


def check_stream(call: Call, value: Any) -> Any:
    """Pieces as they come; they are not looked at."""
    require(hasattr(value, "__iter__"), f"the value is {show(value)}, not an iterator")
    return guard_stream(call, value)


def check_export(call: Call, value: Any) -> Any:
    """The path of a file or folder that was written."""
    del call
    require_type(value, Path, "the value")
    written = value.is_file() and value.stat().st_size > 0
    require(written or (value.is_dir() and any(value.iterdir())), f"nothing was written to {value}")
    return value
