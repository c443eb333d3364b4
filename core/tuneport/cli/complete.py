"""Shell completions: refs, graders, kinds, methods, statuses, backends and config keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args

from tuneport.errors import TuneportError
from tuneport.refs import Ref

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

GRADERS = ("exact", "normalized", "contains", "json", "token_f1", "numeric")


def jobs(incomplete: str) -> list[str]:
    """Jobs, newest first: complete refs and bare names."""
    from tuneport.workflow.naming import job_refs

    return _refs(incomplete, job_refs)


def models(incomplete: str) -> list[str]:
    """Jobs, then the base models that backends know by name."""
    from tuneport.workflow.naming import known_refs

    return _refs(incomplete, known_refs)


def graders(incomplete: str) -> list[str]:
    """The built-in graders."""
    return _matching(incomplete, ("auto", *GRADERS))


def export_kinds(incomplete: str) -> list[str]:
    """The kinds of export."""
    return _matching(incomplete, ("merged", "adapter", "gguf", "ollama"))


def push_kinds(incomplete: str) -> list[str]:
    """The kinds of export that can be pushed."""
    return _matching(incomplete, ("merged", "adapter", "gguf"))


def methods(incomplete: str) -> list[str]:
    """The training methods."""
    from tuneport.contract.capabilities import Method

    return _matching(incomplete, get_args(Method))


def statuses(incomplete: str) -> list[str]:
    """The statuses of a job."""
    from tuneport.contract.events import Status

    return _matching(incomplete, map(str, Status))


def backends(incomplete: str) -> list[str]:
    """The installed backends."""
    from tuneport.loader import load

    with suppress(TuneportError, OSError):
        return _matching(incomplete, load().backends())
    return []


def config_keys(incomplete: str) -> list[str]:
    """The keys of a config file for --set, each with its `=`, then the known values."""
    found: list[str] = []
    with suppress(TuneportError, OSError):
        fields = dict(_config_fields())
        keys = _matching(incomplete.partition("=")[0], fields)
        if "=" in incomplete:
            keys = [key for key in keys if key == incomplete.partition("=")[0]]
        found = [f"{key}=" for key in keys]
        if len(keys) == 1:  # with its values, because a shell adds a space after the only match
            found += [f"{keys[0]}={value}" for value in _values(keys[0], fields[keys[0]])]
    return _matching(incomplete, found)


def _config_fields() -> Iterator[tuple[str, FieldInfo]]:
    from pydantic import BaseModel

    from tuneport.config import RunConfig
    from tuneport.loader import load

    for name, field in RunConfig.model_fields.items():
        inner = field.annotation
        if name == "backends":
            for backend, one in load().backends().items():
                yield from ((f"backends.{backend}.{key}", of) for key, of in one.settings_class.model_fields.items())
        elif isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from ((f"{name}.{key}", of) for key, of in inner.model_fields.items())
        elif name != "serve":
            yield name, field


def _values(key: str, field: FieldInfo) -> list[str]:
    if key == "model":
        return models("")
    if key == "compare.grader":
        return graders("")
    default = field.get_default(call_default_factory=True)
    plain = [default] if default is None or isinstance(default, str | int | float) else []
    return [_as_yaml(one) for one in dict.fromkeys([*_choices(field.annotation), *plain])]


def _choices(kind: Any) -> list[Any]:
    """The values that a type lists: those of a Literal, true and false, and those of the members of a union."""
    if kind is bool:
        return [True, False]
    return [one for part in get_args(kind) for one in ([part] if isinstance(part, str | int) else _choices(part))]


def _as_yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def join_bash_words() -> str:
    """Join the words that bash splits at each colon and `=`: it sends `torch:tick` as three words. Returns the prefix
    of the last word that bash does not expect in the answer.
    """
    words = os.environ.get("COMP_WORDS", "").split("\n")
    at = int(os.environ.get("COMP_CWORD") or 0)
    joined: list[str] = []
    for number, word in enumerate(words[: at + 1]):
        after_break = number > 1 and _is_break(words[number - 1]) and word
        if joined and (_is_break(word) or after_break):
            joined[-1] += word
        else:
            joined.append(word)
    os.environ.update(COMP_WORDS="\n".join(joined), COMP_CWORD=str(len(joined) - 1))
    last = words[at] if at < len(words) else ""
    prefix = joined[-1] if _is_break(last) else joined[-1].removesuffix(last)
    return prefix.partition("=")[2] if prefix.startswith("-") else prefix  # for --model=, only the value is completed


def _is_break(word: str) -> bool:
    return bool(word) and not word.strip(":=")


def _refs(incomplete: str, known: Callable[[], list[Ref]]) -> list[str]:
    found: list[Ref] = []
    with suppress(TuneportError, OSError):  # a completion cannot show an error
        found = known()
    words = ["last", *(one.name for one in found)] if found else []
    return _matching(incomplete, [*words, *map(str, found)] if incomplete else ["last", *map(str, found)])


def _matching(incomplete: str, words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(one for one in words if one.startswith(incomplete)))
