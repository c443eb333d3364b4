"""What the methods of jobs and models may return, each checked with a message about what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from tuneport.contract.answers import Reply
from tuneport.contract.border import Call, WrongReturn, guard_stream
from tuneport.contract.events import Event, EventKind, EventLevel, Status
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
from tuneport.contract.state import USES, Checkpoint, JobState, Removal

_KINDS, _LEVELS = frozenset(get_args(EventKind)), frozenset(get_args(EventLevel))
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
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise WrongReturn(f"the events are {show(value)}, not a list")
    after, found = call.argument(0, "after", 0), list(value)
    for seq, event in enumerate(found, after + 1):
        require_type(event, Event, "an event")
        require(event.seq == seq, f"after={after} gives an event with seq {event.seq} where {seq} is next")
        check_event(event)
    return found


def check_event(event: Event) -> None:
    """Kind, level, time, message and data of one event."""
    what = f"event {event.seq}"
    require_word(event.kind, _KINDS, f"{what}: kind")
    require_word(event.level, _LEVELS, f"{what}: level")
    require_type(event.message, str, f"{what}: message")
    require_time(event.time, f"{what}: time")
    require_json(event.data, f"{what}: data")
    for name in _METRICS if event.kind == "metric" else ():
        require_type(event.data.get(name), (int, float, type(None)), f"{what}: {name}")


def check_answer(call: Call, value: Any) -> Any:
    """True or False."""
    del call
    require_type(value, bool, "the value")
    return value


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
        require(not unknown, f"{one.name}: uses has {', '.join(unknown)}; there are {list_words(USES)}")
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
    if not hasattr(value, "__iter__"):
        raise WrongReturn(f"the value is {show(value)}, not an iterator")
    return guard_stream(call, value)


def check_export(call: Call, value: Any) -> Any:
    """The path of a file or folder that was written."""
    del call
    require_type(value, Path, "the value")
    written = value.is_file() and value.stat().st_size > 0
    require(written or (value.is_dir() and any(value.iterdir())), f"nothing was written to {value}")
    return value
