"""The plugin loader: finds plugins by entry point, lets none of them break the others, and reports on each.

It guards against breakage, not against malice: a plugin is code that runs with your rights.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from tuneport.contract import hooks
from tuneport.errors import BackendError, BackendNotFound, TuneportError
from tuneport.loader.availability import availabilities
from tuneport.loader.declaration import PluginBroken, check_announced, check_backend, check_module
from tuneport.loader.found import Found, find_installed, has_source, literal_api

if TYPE_CHECKING:
    from tuneport.contract.backend import Backend
    from tuneport.contract.capabilities import Availability
    from tuneport.contract.events import Event
    from tuneport.contract.job import Job
    from tuneport.dataset import Dataset

PluginStatus = Literal["ready", "needs", "broken", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One plugin. `status`: ready, needs (a package or device is missing), broken, or off (switched off by
    TUNEPORT_PLUGINS); `reason` and `remedy` say why and what to do.
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


class Plugins:
    """All plugins of this interpreter, loaded once; see `load`."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("tuneport")
        self._manager.add_hookspecs(hooks)
        self._found = list(find_installed())
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
        from tuneport.spelling import did_you_mean

        listed = sorted(known for known, backend in self._backends.items() if backend.listed)
        known = f"{', '.join(listed) or 'none'}. {did_you_mean(name, listed)}".rstrip()
        broken = [f"{f.entry.name} ({f.broken})" for f in self._found if f.broken]
        off = [f.entry.name for f in self._found if f.off]
        remedies = []
        if broken:
            remedies.append(f"Broken plugins: {'; '.join(broken)}.")
        if off:
            remedies.append(f"Switched off by TUNEPORT_PLUGINS: {', '.join(off)}.")
        remedies.append(
            "A backend comes with its plugin: install the plugin, then check `tuneport plugins`. Your own server "
            "becomes a backend with: tuneport profiles add NAME URL"
        )
        raise BackendNotFound(f"No backend is called {name!r}. The backends are {known}", remedy=" ".join(remedies))

    def backends(self) -> dict[str, Backend]:
        """Every backend by name, ours first."""
        self._announce_all()
        return dict(self._backends)

    def infos(self, answers: Mapping[str, Availability] | None = None) -> list[PluginInfo]:
        """Each plugin, in loading order, with the availability of its backends now: `answers` by backend, or else they
        are asked side by side.
        """
        self._announce_all()
        known = availabilities(self._backends.values()) if answers is None else answers
        return [self._info(found, known) for found in self._found]

    def open_dataset(self, source: object) -> Dataset | None:
        """The dataset of the first plugin that knows the source, or None."""
        for found in self._working():
            opened = self._call(found, "tuneport_open_dataset", source=source)
            if opened is not None:
                return opened  # type: ignore[no-any-return]  # the hook's specification says what it returns
        return None

    def observers(self) -> list[str]:
        """The names of the plugins that see events."""
        return [f.entry.name for f in self._working() if hasattr(f.module, "tuneport_on_event")]

    def notify(self, observer: str, job: Job, event: Event) -> str | None:
        """Give an event to one observer; returns the reason when it raised."""
        for found in self._working():
            if found.entry.name == observer:
                try:
                    self._hook(found, "tuneport_on_event")(job=job, event=event)
                except (Exception, SystemExit) as error:
                    if isinstance(error, SystemExit) and current_thread() is main_thread():
                        raise  # SIGTERM ends a command this way
                    _raise_if_strict(error)
                    return f"{type(error).__name__}: {error}"
        return None

    def add_commands(self, app: Any) -> list[TuneportError]:
        """Let every plugin add its commands to the command line; returns the errors of those that failed."""
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
            raise PluginBroken(f"it is written for plugin API {found.api}, this tuneport has API {hooks.API}")
        found.module = importlib.import_module(found.entry.module)
        found.api = getattr(found.module, "TUNEPORT_API", None)
        if found.api != hooks.API:
            raise PluginBroken(f"its module states TUNEPORT_API = {found.api}, this tuneport has API {hooks.API}")
        if has_source(found.entry.module) and literal_api(found.entry.module) is None:
            raise PluginBroken(
                "its TUNEPORT_API is computed, but it is read from the source without running it",
                remedy=f"Write a literal: TUNEPORT_API = {hooks.API}",
            )
        check_module(found.module)
        self._manager.register(found.module, name=found.entry.name)
        try:
            self._manager.check_pending()
        except BaseException:
            self._manager.unregister(found.module)
            raise

    def _announce_all(self) -> None:
        """Ask for backends when one is needed: the command line's help needs none. Other threads wait until all are
        there; a plugin that asks while it announces sees those before it.
        """
        with self._announcing:
            if not self._announced:
                self._announced = True
                for found in self._working():
                    self._guard(found, self._announce)

    def _announce(self, found: Found) -> None:
        if not hasattr(found.module, "tuneport_backends"):
            return
        answers = self._hook(found, "tuneport_backends")()
        check_announced(answers[0] if answers else None)  # pluggy leaves out None
        for announced in answers[0]:
            self._adopt(found, announced)

    def _adopt(self, found: Found, announced: object) -> None:
        backend = check_backend(announced)
        if backend.name in self._backends:
            owner = next(f.entry.name for f in self._found if backend.name in f.backends)
            raise PluginBroken(f"the backend name {backend.name!r} already belongs to the plugin {owner!r}")
        found.backends.append(backend.name)
        self._backends[backend.name] = backend

    def _guard(self, found: Found, act: Callable[[Found], None]) -> None:
        try:
            act(found)
        except (Exception, SystemExit) as error:
            if _is_signal(error):
                raise
            _raise_if_strict(error)
            self._break(found, error)

    def _break(self, found: Found, error: BaseException) -> None:
        found.broken = error.message if isinstance(error, TuneportError) else f"{type(error).__name__}: {error}"
        found.remedy = error.remedy if isinstance(error, TuneportError) else None
        for name in found.backends:
            self._backends.pop(name, None)
        found.backends.clear()

    def _call(self, found: Found, hook: str, **arguments: Any) -> Any:
        """One plugin's answer to a hook; None where it does not implement it."""
        try:
            results = self._hook(found, hook)(**arguments)
        except Exception as error:
            if isinstance(error, TuneportError):
                raise  # the plugin's own message to the user, such as a file that it knows and cannot read
            _raise_if_strict(error)
            raise BackendError(
                f"The plugin {found.entry.name!r} failed in {hook}: {type(error).__name__}: {error}",
                remedy=f"Report it to the author of {found.distribution_name}, or leave it out: TUNEPORT_PLUGINS names "
                "the plugins to load.",
            ) from error
        return results[0] if results else None

    def _hook(self, found: Found, hook: str) -> Any:
        others = [module for module in self._manager.get_plugins() if module is not found.module]
        return self._manager.subset_hook_caller(hook, others)

    def _working(self) -> list[Found]:
        return [found for found in self._found if not found.off and not found.broken]

    def _info(self, found: Found, answers: Mapping[str, Availability]) -> PluginInfo:
        status, reason, remedy = _status_of(found, answers)
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


def _status_of(found: Found, answers: Mapping[str, Availability]) -> tuple[PluginStatus, str, str | None]:
    if found.off:
        return "off", "TUNEPORT_PLUGINS does not name it", None
    if found.broken:
        return "broken", found.broken, found.remedy or f"pip install -U {found.distribution_name}"
    mine = [answers[name] for name in found.backends]
    missing = [answer for answer in mine if not answer.ready]
    if missing and len(missing) == len(mine):  # one backend that can be used is enough: the others are choices
        return "needs", missing[0].reason, missing[0].remedy
    return "ready", "", None


# Threads that load plugins at once would parse sources at once, at which Python 3.11's parser sometimes fails with a
# SystemError: a plugin that works would be listed as broken.
_one_at_a_time = threading.RLock()


@cache
def load() -> Plugins:
    """The plugins of this interpreter, loaded at the first call."""
    return Plugins()


def _raise_if_strict(error: BaseException) -> None:
    if os.environ.get("TUNEPORT_STRICT") == "1":
        raise error


def _is_signal(error: BaseException) -> bool:
    """Whether a signal handler raised this, which came at a bad moment and is no fault of the plugin."""
    handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code in handlers for frame, _ in frames)
