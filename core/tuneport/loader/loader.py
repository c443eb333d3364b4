"""The plugin loader: finds plugins by entry point, lets none of them break the others, and says what came of each.

It guards against breakage, not against malice: a plugin is code that runs with your rights.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pluggy

from tuneport.contract import hooks
from tuneport.doors import AUTHORS, public
from tuneport.errors import BackendError, BackendNotFound, TuneportError
from tuneport.loader.found import Found, installed, literal_api

if TYPE_CHECKING:
    from tuneport.contract.backend import Backend
    from tuneport.contract.capabilities import Availability
    from tuneport.contract.events import Event
    from tuneport.contract.job import Job
    from tuneport.dataset import Dataset

_T = TypeVar("_T")
PluginStatus = Literal["ready", "needs", "broken", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """What the loader knows of one plugin. `status`: ready, needs (a package or device is missing), broken, or off
    (switched off by TUNEPORT_PLUGINS); `reason` and `remedy` say why and what to do.
    """

    name: str
    module: str
    distribution: str
    version: str
    origin: str
    api: int | None = None
    status: PluginStatus = "ready"
    reason: str = ""
    remedy: str | None = None
    backends: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class PluginBroken(TuneportError):  # noqa: N818 - reads as what happened
    """A plugin cannot be used; only TUNEPORT_STRICT=1 lets it surface."""


class Plugins:
    """All plugins of this interpreter, loaded once; see `load`."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("tuneport")
        self._manager.add_hookspecs(hooks)
        self._found = list(installed())
        self._backends: dict[str, Backend] = {}
        with _one_at_a_time:
            for found in self._found:
                if not found.off:
                    self._guard(found, self._load)
        self._announcing = threading.RLock()
        self._announced = False

    def backend(self, name: str) -> Backend:
        """The backend of that name; raises BackendNotFound, which says what is broken or what to install."""
        self._announce_all()
        if name in self._backends:
            return self._backends[name]
        listed = sorted(known for known, backend in self._backends.items() if backend.listed)
        near = get_close_matches(name, listed, n=1)
        known = f"{', '.join(listed) or 'none'}.{f' Did you mean {near[0]}?' if near else ''}"
        broken = [f"{f.entry.name} ({f.broken})" for f in self._found if f.broken]
        off = [f.entry.name for f in self._found if f.off]
        remedies = []
        if broken:
            remedies.append(f"Broken plugins: {'; '.join(broken)}.")
        if off:
            remedies.append(f"Switched off by TUNEPORT_PLUGINS: {', '.join(off)}.")
        remedies.append(
            "A backend comes with its plugin: install the one that has it, then look at `tuneport plugins`. A server "
            "of your own becomes one with: tuneport profiles add NAME URL"
        )
        raise BackendNotFound(f"No backend is called {name!r}; there are: {known}", remedy=" ".join(remedies))

    def backends(self) -> dict[str, Backend]:
        """Every backend by name, ours first."""
        self._announce_all()
        return dict(self._backends)

    def infos(self) -> list[PluginInfo]:
        """What came of each plugin, in loading order, with the availability of its backends as of now."""
        self._announce_all()
        return [self._info(found) for found in self._found]

    def open_dataset(self, source: object) -> Dataset | None:
        """What the first plugin that knows the source makes of it, or None."""
        for found in self._working():
            opened = self._call(found, "tuneport_open_dataset", source=source)
            if opened is not None:
                return opened  # type: ignore[no-any-return]  # the hook's specification says what it returns
        return None

    def observers(self) -> list[str]:
        """The names of the plugins that want to see events."""
        return [f.entry.name for f in self._working() if hasattr(f.module, "tuneport_on_event")]

    def notify(self, observer: str, job: Job, event: Event) -> str | None:
        """Hand an event to one observer; the reason when it raised."""
        for found in self._working():
            if found.entry.name == observer:
                try:
                    self._hook(found, "tuneport_on_event")(job=job, event=event)
                except (Exception, SystemExit) as error:  # noqa: BLE001 - an observer must not break the training it observes
                    _raise_if_strict(error)
                    return f"{type(error).__name__}: {error}"
        return None

    def add_commands(self, app: Any) -> list[TuneportError]:
        """Let every plugin add its commands to the command line; what went wrong in those that could not."""
        wrong = []
        for found in self._working():
            try:
                self._call(found, "tuneport_commands", app=app)
            except TuneportError as error:
                wrong.append(error)
        return wrong

    def _load(self, found: Found) -> None:
        found.api = literal_api(found.entry.module)
        if found.api is not None and found.api != hooks.API:
            raise PluginBroken(f"it is written for plugin API {found.api}, this tuneport has {hooks.API}")
        found.module = importlib.import_module(found.entry.module)
        found.api = getattr(found.module, "TUNEPORT_API", None)
        if found.api != hooks.API:
            raise PluginBroken(f"its module states TUNEPORT_API = {found.api}, this tuneport has {hooks.API}")
        self._manager.register(found.module, name=found.entry.name)
        try:
            self._manager.check_pending()
        except BaseException:
            self._manager.unregister(found.module)
            raise

    def _announce_all(self) -> None:
        """Ask for backends when one is wanted: the command line's help wants none. Who comes meanwhile waits for all of
        them; a plugin that asks while it announces sees those before it.
        """
        with self._announcing:
            if not self._announced:
                self._announced = True
                for found in self._working():
                    self._guard(found, self._announce)

    def _announce(self, found: Found) -> None:
        for announced in self._hook(found, "tuneport_backends")():
            if not isinstance(announced, Iterable):
                raise PluginBroken(
                    f"tuneport_backends returns {announced!r} instead of a list", remedy="Return a list of backends."
                )
            for backend in announced:
                self._adopt(found, backend)

    def _adopt(self, found: Found, backend: Backend) -> None:
        from tuneport.contract.backend import Backend

        if isinstance(backend, type) and issubclass(backend, Backend):
            raise PluginBroken(
                f"it announces the class {backend.__name__} instead of a backend",
                remedy=f"Announce an instance: let tuneport_backends return [{backend.__name__}()].",
            )
        if not isinstance(backend, Backend):
            raise PluginBroken(f"it announces {backend!r}, which is not a tuneport.Backend")
        if backend.name in self._backends:
            owner = next(f.entry.name for f in self._found if backend.name in f.backends)
            raise PluginBroken(f"the backend name {backend.name!r} already belongs to the plugin {owner!r}")
        found.backends.append(backend.name)
        self._backends[backend.name] = backend

    def _guard(self, found: Found, act: Callable[[Found], None]) -> None:
        try:
            act(found)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - one broken plugin must not take the others along
            _raise_if_strict(error)
            self._break(found, error)

    def _break(self, found: Found, error: BaseException) -> None:
        found.broken = error.message if isinstance(error, TuneportError) else f"{type(error).__name__}: {error}"
        found.remedy = error.remedy if isinstance(error, TuneportError) else None
        for name in found.backends:
            self._backends.pop(name, None)
        found.backends.clear()

    def _call(self, found: Found, hook: str, **arguments: Any) -> Any:
        """One plugin's answer to a hook that it may not implement."""
        try:
            results = self._hook(found, hook)(**arguments)
        except (Exception, SystemExit) as error:
            if isinstance(error, TuneportError):
                raise  # a plugin's own clear words to the user, such as a file it knows and cannot read
            _raise_if_strict(error)
            raise BackendError(
                f"The plugin {found.entry.name!r} broke in {hook}: {type(error).__name__}: {error}",
                remedy=f"Report it to its author, or leave it out: TUNEPORT_PLUGINS names the plugins to load "
                f"(its distribution is {found.distribution_name}).",
            ) from error
        return results[0] if results else None

    def _hook(self, found: Found, hook: str) -> Any:
        others = [module for module in self._manager.get_plugins() if module is not found.module]
        return self._manager.subset_hook_caller(hook, others)

    def _working(self) -> list[Found]:
        return [found for found in self._found if not found.off and not found.broken]

    def _info(self, found: Found) -> PluginInfo:
        status, reason, remedy = self._standing(found)
        return PluginInfo(
            name=found.entry.name,
            module=found.entry.module,
            distribution=found.distribution_name,
            version=found.distribution.version,
            origin=found.origin,
            api=found.api,
            status=status,
            reason=reason,
            remedy=remedy,
            backends=tuple(found.backends),
        )

    def _standing(self, found: Found) -> tuple[PluginStatus, str, str | None]:
        if found.off:
            return "off", "TUNEPORT_PLUGINS does not name it", None
        if found.broken:
            return "broken", found.broken, found.remedy or f"pip install -U {found.distribution_name}"
        answers = [availability(self._backends[name]) for name in found.backends]
        missing = [answer for answer in answers if not answer.ready]
        if missing and len(missing) == len(answers):  # one backend that can be used is enough: the others are choices
            return "needs", missing[0].reason, missing[0].remedy
        return "ready", "", None


# Threads that load plugins at once would read sources at once, and Python's parser (as of 3.11) fails at that now and
# then with a SystemError: a sound plugin would be called broken.
_one_at_a_time = threading.RLock()


@cache
def load() -> Plugins:
    """The plugins of this interpreter, loaded at the first call."""
    return Plugins()


@public(AUTHORS)
def availability(backend: Backend) -> Availability:
    """The backend's own word on whether it can be used here and now, or the reason why it could not even say."""
    from tuneport.contract.capabilities import Availability

    try:
        return backend.availability()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - doctor must list the others too
        _raise_if_strict(error)
        return Availability(ready=False, reason=f"its check broke: {type(error).__name__}: {error}")


def told_by(backend: Backend, doing: str, ask: Callable[[Backend], _T]) -> _T:
    """What a backend answers, for who asks several: a stranger's bug comes as BackendError, which they can pass over.
    `doing` is what it was asked for, as in "broke while listing its models".
    """
    try:
        return ask(backend)
    except (Exception, SystemExit) as error:
        if isinstance(error, TuneportError | OSError):
            raise
        _raise_if_strict(error)
        raise BackendError(
            f"The backend {backend.name!r} broke while {doing}: {type(error).__name__}: {error}",
            remedy="Report it to the author of its plugin; `tuneport plugins` names that.",
        ) from error


def _raise_if_strict(error: BaseException) -> None:
    if os.environ.get("TUNEPORT_STRICT") == "1":
        raise error
