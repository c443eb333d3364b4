"""What an author's calls may return: checked once, so that an error names the call, and not what failed after it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_args

from tuneport.contract.border import WrongReturn
from tuneport.contract.events import EventKind, EventLevel, Status
from tuneport.contract.plan import Quantity
from tuneport.contract.requirements import (
    require,
    require_json,
    require_number,
    require_time,
    require_type,
    require_word,
    show,
)
from tuneport.hosted.endpoint import Endpoint
from tuneport.hosted.proof import Proof
from tuneport.hosted.reports import Belonging, Entry, Report

_KINDS, _LEVELS = frozenset(get_args(EventKind)), frozenset(get_args(EventLevel))
_NOTHING = type(None)


def guard_calls(cls: type) -> None:
    """Check what the calls return that the class itself defines."""
    for name, check in _CHECKS.items():
        own = vars(cls).get(name)
        if callable(own):
            setattr(cls, name, _guard(own, name, check))


def check_description(service: Any) -> None:
    """Raise WrongReturn where a service is described by something of the wrong kind."""
    for name, kind in (("endpoint", Endpoint), ("proof", Proof), ("words", Mapping)):
        require_type(getattr(service, name, None), kind, f"{type(service).__name__}.{name}")
    for word, status in service.words.items():
        require_type(status, Status, f"{type(service).__name__}.words[{word!r}]")


def _guard(method: Callable[..., Any], name: str, check: Callable[[Any], Any]) -> Callable[..., Any]:
    def check_one(service: Any, value: Any, check: Callable[[Any], Any]) -> Any:
        try:
            return check(value)
        except WrongReturn as error:
            wrong = WrongReturn(f"{type(service).__name__}.{name}: {error}")
            wrong.module = type(service).__module__
            raise wrong from None

    def check_each(service: Any, values: Iterable[Any]) -> Iterator[Any]:
        for one in values:
            yield check_one(service, one, _ITEMS[name])

    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        value = check_one(self, method(self, *args, **kwargs), check)
        return check_each(self, value) if name in _ITEMS else value

    return guarded


def _a(kind: type | tuple[type, ...], *, filled: bool = False) -> Callable[[Any], Any]:
    """A check for a value of that type; with `filled`, not an empty one."""

    def check(value: Any) -> Any:
        require_type(value, kind, "the value")
        require(value or value is None or not filled, "the value is empty")
        return value

    return check


def _check_many(value: Any) -> Any:
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    require(is_list, f"the value is {show(value)}, not a list or a generator")
    return value


def _check_body(value: Any) -> Any:
    require_json(value, "the body")
    return value


def _check_row(value: Any) -> Any:
    require_type(value, Mapping, "the row")  # it is encoded next; that is the slow part, and done once
    return value


def _check_price(value: Any) -> Any:
    require_type(value, Quantity, "the value")
    require_number(value.value, "the price", optional=True)
    return value


def _check_quote(value: Any) -> Any:
    return value if value is None else _check_price(value)


def _check_report(value: Any) -> Any:
    require_type(value, Report, "the value")
    for name in ("id", "word", "message", "mark", "model"):
        require_type(getattr(value, name), str, name)
    for name in ("step", "total_steps", "tokens", "queue_position"):
        require_number(getattr(value, name), name, whole=True, optional=True)
    for name in ("percent", "seconds_left", "usd"):
        require_number(getattr(value, name), name, optional=True)
    for name in ("created", "started", "finished"):
        require_time(getattr(value, name), name, optional=True)
    require_json(value.details, "details")
    return value


def _check_entry(value: Any) -> Any:
    require_type(value, Entry, "an entry")
    require_type(value.id, str, "an entry's id")
    what = f"entry {value.id}"
    require_type(value.message, str, f"{what}: message")
    require_time(value.time, f"{what}: time", optional=True)
    require_word(value.kind, _KINDS, f"{what}: kind")
    require_word(value.level, _LEVELS, f"{what}: level")
    require_json(value.data, f"{what}: data")
    return value


def _check_belonging(value: Any) -> Any:
    require_type(value, Belonging, "a belonging")
    require_type(value.what, str, "what")
    require_type(value.keep, str, "keep")
    return value


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "model_name": _a(str, filled=True),
    "write_body": _check_body,
    "write_row": _check_row,
    "read_price": _check_price,
    "read_account": _a(str),
    "find_file": _a((str, _NOTHING), filled=True),
    "send_file": _a(str, filled=True),
    "is_file_ready": _a(bool),
    "quote": _check_quote,
    "create": _check_report,
    "find": _check_many,
    "look": _check_report,
    "read_entries": _check_many,
    "belongings": _check_many,
}
_ITEMS: Mapping[str, Callable[[Any], Any]] = {
    "find": _check_report,
    "read_entries": _check_entry,
    "belongings": _check_belonging,
}
