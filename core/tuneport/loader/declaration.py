"""Whether what a plugin declares fits together, so that a mistake is found when the plugin is loaded."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from tuneport.contract import hooks
from tuneport.errors import TuneportError
from tuneport.refs import is_backend_name

if TYPE_CHECKING:
    from tuneport.contract.backend import Backend
    from tuneport.contract.job import Job


class PluginBroken(TuneportError):  # noqa: N818 - reads as what happened
    """A plugin cannot be used; only TUNEPORT_STRICT=1 lets it surface."""


def check_module(module: Any) -> None:
    """Raise PluginBroken for a hook that is not marked: it would never be called."""
    for name in (name for name in vars(hooks) if name.startswith("tuneport_")):
        if inspect.isfunction(vars(module).get(name)) and not hasattr(vars(module)[name], "tuneport_impl"):
            raise PluginBroken(
                f"its function {name} is not marked as a hook",
                remedy=f"Put @tuneport.plugin.hookimpl above {name}.",
            )


def check_announced(announced: object) -> None:
    """Raise PluginBroken for what is not a list of backends."""
    if not isinstance(announced, list | tuple):
        raise PluginBroken(
            f"tuneport_backends returns {announced!r} instead of a list", remedy="Return a list of backends."
        )


def check_backend(backend: object) -> Backend:
    """The backend, if it is one and its declaration fits together; else raises PluginBroken, which says what does not.

    Capabilities that are a property are checked when they are first used: computing them may import a lot.
    """
    from tuneport.contract.backend import Backend

    if isinstance(backend, type) and issubclass(backend, Backend):
        raise PluginBroken(
            f"it announces the class {backend.__name__} instead of a backend",
            remedy=f"Announce an instance: let tuneport_backends return [{backend.__name__}()].",
        )
    if not isinstance(backend, Backend):
        raise PluginBroken(f"it announces {backend!r}, which is not a tuneport.Backend")
    name = getattr(backend, "name", None)
    if not is_backend_name(name):
        raise PluginBroken(
            f"it announces a backend whose name is {name!r}",
            remedy="Name it with small letters, digits, - and _, a letter first: it is the word before the colon of a "
            "reference.",
        )
    packages: object = backend.packages
    if not isinstance(packages, tuple | list) or not all(isinstance(one, str) for one in packages):
        raise PluginBroken(
            f"{name}.packages is {packages!r} instead of a tuple of import names",
            remedy="Write for example: packages = ('numpy',)",
        )
    if not isinstance(inspect.getattr_static(backend, "capabilities", None), property):
        _check_capabilities(backend)
    return backend


def _check_capabilities(backend: Backend) -> None:
    from tuneport.contract.backend_returns import require_capabilities
    from tuneport.contract.border import WrongReturn

    try:
        require_capabilities(getattr(backend, "capabilities", None))
    except WrongReturn as error:
        raise PluginBroken(
            f"the backend {backend.name}: {error}", remedy="See tuneport.plugin.Capabilities and DataRules."
        ) from None
    _check_shapes(backend)
    job_class = _job_class(backend)
    missing = sorted(missing_verbs(backend.capabilities.verbs, job_class)) if job_class else []
    if missing:
        raise PluginBroken(
            f"the backend {backend.name} declares the verb {missing[0]!r}, and its jobs do not define {missing[0]}()",
            remedy=f"Define {missing[0]} in the job's class, or leave it out of capabilities.verbs.",
        )


def _check_shapes(backend: Backend) -> None:
    """A method without a shape would refuse every row. A backend that overrides `rules` says it there."""
    from tuneport.contract.backend import Backend

    if type(backend).rules is not Backend.rules:
        return
    shapes = backend.capabilities.rules.shapes
    if without := sorted(method for method in backend.capabilities.methods if not shapes.get(method)):
        raise PluginBroken(
            f"the backend {backend.name} trains by {without[0]!r}, and its rules take no rows for it",
            remedy=f"Add shapes={{{without[0]!r}: frozenset({{…}})}} to capabilities.rules.",
        )


def missing_verbs(verbs: frozenset[str], job_class: type[Job]) -> set[str]:
    """The declared verbs that the class of the jobs does not define."""
    from tuneport.contract.job import Job

    return {verb for verb in verbs if getattr(job_class, verb, None) is getattr(Job, verb)}


def _job_class(backend: Backend) -> type[Job] | None:
    """The class that `job` is annotated to return, where it is in sight without importing anything."""
    from tuneport.contract.job import Job

    hint = inspect.unwrap(type(backend).job).__annotations__.get("return")
    found = getattr(sys.modules.get(type(backend).__module__), hint, None) if isinstance(hint, str) else hint
    return found if isinstance(found, type) and issubclass(found, Job) and found is not Job else None
