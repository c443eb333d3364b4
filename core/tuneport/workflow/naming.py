"""Resolves what users type for a job or a model to its reference."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.doors import AUTHORS, public
from tuneport.errors import HomeError, RefError, TuneportError
from tuneport.ledger import Ledger
from tuneport.loader import ask_backend, ask_together, load
from tuneport.refs import Ref
from tuneport.spelling import similar

if TYPE_CHECKING:
    from tuneport.config import RunConfig
    from tuneport.contract.backend import Backend
    from tuneport.contract.capabilities import BaseInfo

LAST = "last"
_MOST_LISTED = 8
_PATHS = (".", "~", "/")


@public(AUTHORS)
def find_ref(text: str | Ref) -> Ref:
    """The reference for a text: a reference, `last` (the newest job; `torch:last` for that backend), a job's name, or
    the start of the name of one job.

    A job never hides a base model or a folder with exactly that name. Raises RefError with suggestions if nothing or
    more than one thing matches, and HomeError if it may be a job's name but the ledger cannot be read.
    """
    if isinstance(text, Ref):
        return text
    text = text.strip()
    try:
        ref = Ref.parse(text)
    except RefError as error:
        return _find_bare(text, error)
    if ref.name.startswith(_PATHS):
        return ref
    known = [one.name for one in job_refs() if one.backend == ref.backend]
    if ref.name == LAST and known and ref not in base_refs():
        return Ref(ref.backend, known[0])
    longer = [] if ref.name in known else [name for name in known if name.startswith(ref.name)]
    if not longer or _is_base(ref):
        return ref
    return _only_one(text, [Ref(ref.backend, name) for name in longer])


def with_base(config: RunConfig) -> RunConfig:
    """The config with the complete reference of its model. It identifies a run, and `last` changes with each job.

    Raises ConfigError if nothing or more than one thing matches.
    """
    from tuneport.config.problems import Problem, config_error

    try:
        ref = find_ref(config.model)
    except RefError as error:
        raise config_error([Problem(("model",), f"{error.message} {error.remedy}")], config.source) from error
    return config if str(ref) == config.model else config.model_copy(update={"model": str(ref)})


def job_refs() -> list[Ref]:
    """The refs of all jobs in the ledger, newest first; empty without a home."""
    return _ledger_refs()[0]


def _ledger_refs() -> tuple[list[Ref], HomeError | None]:
    try:
        with Ledger.open() as ledger:
            return ledger.refs(), None
    except HomeError as error:  # opening a folder needs no ledger, and what needs it raises its own error
        return [], error


def known_refs() -> list[Ref]:
    """The refs of all jobs, newest first, then of the base models that backends know by name."""
    return [*job_refs(), *base_refs()]


def suggestion(text: str, known: Iterable[Ref] | None = None) -> str:
    """`Did you mean …? ` for a ref or a name without a match; empty if nothing is similar."""
    refs = list(known_refs() if known is None else known)
    by_word = {word: str(one) for one in reversed(refs) for word in (one.name, str(one))}
    by_stem = {one.name.rpartition("-")[0]: str(one) for one in reversed(refs) if "-" in one.name}
    words = {**by_stem, **by_word}
    near = similar(text, words, most=3, cutoff=0.7)
    found = list(dict.fromkeys(words[one] for one in near if words[one] != text))
    return f"Did you mean {' or '.join(found)}? " if found else ""


def _find_bare(text: str, error: RefError) -> Ref:
    if not text or ":" in text:
        raise RefError(error.message, remedy=f"{suggestion(text)}{error.remedy}") from error
    jobs, unreadable = _ledger_refs()
    exact = jobs[:1] if text == LAST else [one for one in jobs if one.name == text]
    found = exact or [one for one in jobs if one.name.startswith(text)]
    # The user may mean a base model or a folder with the same name. A complete reference is unambiguous.
    also = [str(one) for one in base_refs() if one.name == text] + _folders(text)
    if len(found) == 1 and not also:
        return found[0]
    if found:
        return _only_one(text, found, also)
    if unreadable and not also:  # whether such a job exists is unknown
        raise unreadable
    if text == LAST and not also:
        raise RefError(
            "There is no last job: no job has been started from this machine.", remedy="Run: tuneport run FILE"
        )
    if also:
        raise RefError(
            f"{text!r} is not a job. The same name belongs to {' and '.join(also)}.", remedy=f"Write: {also[0]}"
        )
    raise RefError(
        f"{text!r} is not the name of a job, and not a reference of the form backend:name.",
        remedy=f"{suggestion(text)}{error.remedy}",
    ) from error


def _only_one(text: str, found: list[Ref], also: Iterable[str] = ()) -> Ref:
    listed = [*map(str, found), *also]
    if len(listed) == 1:
        return found[0]
    more = f" and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
    raise RefError(
        f"{text!r} matches {len(listed)} names: {', '.join(listed[:_MOST_LISTED])}{more}.",
        remedy="Write the complete reference, or more letters of it.",
    )


def base_refs() -> list[Ref]:
    """The refs of the base models that backends know by name."""
    answers = bases_by_backend().values()
    # A backend that fails has no names to suggest.
    return [one.ref for found in answers if not isinstance(found, Exception) for one in found]


def bases_by_backend(only: Backend | None = None) -> dict[str, list[BaseInfo] | TuneportError | OSError]:
    """The base models that each backend (or one) knows by name, or why it failed. The backends are asked at the same
    time.
    """
    asked = {only.name: only} if only is not None else load().backends()
    return ask_together(
        (name, name, partial(ask_backend, backend, "bases", lambda one: one.bases())) for name, backend in asked.items()
    )


def _is_base(ref: Ref) -> bool:
    """Whether the name is a base model of the backend. True if the backend fails, because only it knows."""
    try:
        load().backend(ref.backend).check_base(ref.name)
    except TuneportError as error:
        return not isinstance(error, LookupError)
    return True


def _folders(text: str) -> list[str]:
    """The references for a model in a folder or file with that name, if there is one."""
    try:
        if not Path(text).exists():
            return []
    except (OSError, ValueError):
        return []
    found = []
    for name, backend in load().backends().items():
        ref = Ref(name, f"./{text}")
        if backend.capabilities.local and _is_base(ref):
            found.append(str(ref))
    return found
