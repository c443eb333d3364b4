"""What a shell offers behind Tab: refs, graders, kinds, methods, statuses, backends and the keys of a config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from tuneport.errors import TuneportError
from tuneport.refs import Ref

GRADERS = ("exact", "normalised", "contains", "json", "token_f1", "numeric")


def jobs(incomplete: str) -> list[str]:
    """Jobs, newest first: whole refs and bare names."""
    from tuneport.workflow.naming import job_refs

    return _refs(incomplete, job_refs)


def models(incomplete: str) -> list[str]:
    """Jobs, then the base models that backends know by name."""
    from tuneport.workflow.naming import known_refs

    return _refs(incomplete, known_refs)


def graders(incomplete: str) -> list[str]:
    """The built-in graders."""
    return _starting(incomplete, ("auto", *GRADERS))


def export_kinds(incomplete: str) -> list[str]:
    """The forms in which a model is exported."""
    return _starting(incomplete, ("merged", "adapter", "gguf", "ollama"))


def push_kinds(incomplete: str) -> list[str]:
    """The forms in which a model is pushed."""
    return _starting(incomplete, ("merged", "adapter", "gguf"))


def methods(incomplete: str) -> list[str]:
    """The training methods."""
    from typing import get_args

    from tuneport.backend import Method

    return _starting(incomplete, get_args(Method))


def statuses(incomplete: str) -> list[str]:
    """The statuses of a job."""
    from tuneport.events import Status

    return _starting(incomplete, map(str, Status))


def backends(incomplete: str) -> list[str]:
    """The backends that are installed."""
    from tuneport.plugins import load

    with suppress(TuneportError, OSError):
        return _starting(incomplete, load().backends())
    return []


def config_keys(incomplete: str) -> list[str]:
    """The keys of a config file as --set takes them, each with its `=`."""
    with suppress(TuneportError, OSError):
        return _starting(incomplete, [f"{key}=" for key in _config_keys()])
    return []


def _config_keys() -> Iterator[str]:
    from pydantic import BaseModel

    from tuneport.config import RunConfig
    from tuneport.plugins import load

    for name, field in RunConfig.model_fields.items():
        inner = field.annotation
        if name == "backends":
            for backend, one in load().backends().items():
                yield from (f"backends.{backend}.{key}" for key in one.config_class.model_fields)
        elif isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from (f"{name}.{key}" for key in inner.model_fields)
        elif name != "serve":
            yield name


def _refs(incomplete: str, known: Callable[[], list[Ref]]) -> list[str]:
    found: list[Ref] = []
    with suppress(TuneportError, OSError):  # a shell has no place for an error
        found = known()
    # Bash takes a colon for the end of a word: behind `torch:` it asks for the rest alone.
    words = ["last", *(one.name for one in found)] if found else []
    if incomplete == ":":
        return words[1:]
    return _starting(incomplete, [*words, *map(str, found)] if incomplete else ["last", *map(str, found)])


def _starting(incomplete: str, words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(one for one in words if one.startswith(incomplete)))
