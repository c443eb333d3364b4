"""The border between tuneport and plugins: each return is checked once, a foreign exception becomes one clear error.

`Backend`, `Job` and `Model` guard the contract methods of each of their subclasses when the class is made. A plugin
that calls its own methods does not cross the border: it sees its own exceptions.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from typing import Any, NoReturn

from tuneport.errors import BackendError, TuneportError, UnavailableError
from tuneport.printable import one_line
from tuneport.refs import Ref


class WrongReturn(Exception):  # noqa: N818 - the problem in words, which the border turns into a BackendError
    """A contract method returned what it must not; the message says what is wrong."""

    module = ""
    """The module to report it to, where that is not the owner's."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call over the border: of which object's method, and with which arguments."""

    owner: Any
    kind: str
    method: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument, however it was passed."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    @property
    def backend(self) -> str:
        """The name of the backend that was called."""
        return backend_name(self.owner)


Check = Callable[[Call, Any], Any]
"""Returns the value to hand on; raises WrongReturn."""


class _Inside(threading.local):
    backend: str | None = None


_inside = _Inside()


def guard(cls: type, kind: str, checks: Mapping[str, Check], before: Callable[[Any, str], None] | None = None) -> None:
    """Guard those contract methods of `kind` (Backend, Job or Model) that the class itself defines. `before` gets each
    call's object and method, and refuses by raising a TuneportError.
    """
    for name, check in checks.items():
        own = vars(cls).get(name)
        if inspect.isfunction(own):
            setattr(cls, name, _guard_method(own, kind, name, check, before))
        elif isinstance(own, property) and own.fget is not None:
            getter = _guard_method(own.fget, kind, name, check, before)
            setattr(cls, name, property(getter, own.fset, own.fdel, own.__doc__))


def _guard_method(
    method: Callable[..., Any], kind: str, name: str, check: Check, before: Callable[[Any, str], None] | None
) -> Callable[..., Any]:
    @functools.wraps(method)
    def guarded(owner: Any, *args: Any, **kwargs: Any) -> Any:
        backend, caller = backend_name(owner), _inside.backend
        if caller == backend:
            return method(owner, *args, **kwargs)
        if before is not None:
            before(owner, name)
        _inside.backend = backend
        try:
            return check(Call(owner, kind, name, args, kwargs), method(owner, *args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises becomes a clear error
            raise_clear(backend, f"{kind}.{name}", author_of(owner), error)
        finally:
            _inside.backend = caller

    return guarded


def guard_stream(call: Call, pieces: Iterable[Any]) -> Iterator[Any]:
    """The same pieces, and the value that a generator returns; a foreign exception between them becomes a clear one."""
    try:
        return (yield from pieces)
    except Exception as error:  # noqa: BLE001 - as above
        raise_clear(call.backend, f"{call.kind}.{call.method}", author_of(call.owner), error)


@dataclass(frozen=True, slots=True)
class GuardedRule:
    """A function of a backend's DataRules behind the border. It can be pickled where the function can."""

    function: Callable[[Any], Any]
    check: Callable[[Any, Any], Any]
    backend: str
    name: str

    def __call__(self, rows: Any) -> Any:
        """The function's checked value."""
        try:
            return self.check(rows, self.function(rows))
        except Exception as error:  # noqa: BLE001 - as above
            module = getattr(self.function, "__module__", None) or type(self.function).__module__
            raise_clear(self.backend, f"DataRules.{self.name}", module, error)


def backend_name(owner: Any) -> str:
    """The backend that a backend, job or model belongs to."""
    ref = getattr(owner, "ref", None)
    return ref.backend if isinstance(ref, Ref) else str(getattr(owner, "name", type(owner).__qualname__))


def raise_clear(backend: str, method: str, module: str, error: Exception) -> NoReturn:
    """Raise the error that callers see: a TuneportError as it is, everything else as a BackendError with its cause.

    Errors about the backend itself name it. With TUNEPORT_STRICT=1 a foreign exception is raised unchanged.
    """
    if isinstance(error, TuneportError):
        if isinstance(error, UnavailableError | BackendError) and not method.startswith("Model."):
            _name_backend(error, backend)
        raise error
    if isinstance(error, WrongReturn):
        raise BackendError(
            f"The backend {backend!r} returned a wrong value from {method}: {error}.",
            remedy=report_to(error.module or module),
        ) from None
    if os.environ.get("TUNEPORT_STRICT") == "1":
        raise error
    place = place_of(error, module)
    where = f"{method} ({place})" if place and place.rpartition(".")[2] != method.rpartition(".")[2] else method
    said = f": {one_line(str(error))}" if str(error) else ""
    message = f"The backend {backend!r} failed in {where}: {type(error).__name__}{said}"
    raise BackendError(message, remedy=report_to(module), unexpected=True) from error


def author_of(owner: Any) -> str:
    """The module of the author of a backend, job or model: its class's, unless its attribute `author` names another."""
    return str(getattr(owner, "author", "") or type(owner).__module__)


def place_of(error: Exception, module: str) -> str:
    """The first function of the author's package that an exception came through; empty where it came through none."""
    package = module.partition(".")[0]
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == package:
            name = frame.f_code.co_qualname.rpartition("<locals>.")[2]
            return "" if name.startswith("<") else name
    return ""


def _name_backend(error: TuneportError, backend: str) -> None:
    if backend.lower() not in error.message.lower():
        error.message = f"{backend}: {error.message}"
        error.args = (error.message, *error.args[1:])


def report_to(module: str) -> str:
    """The remedy for a fault of a plugin."""
    package = module.partition(".")[0]
    distribution = next(iter(_distributions().get(package, ())), package)
    return f"Report it to the author of {distribution}. TUNEPORT_STRICT=1 shows the traceback."


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()
