"""Tuneport's home folder, which holds the ledger, jobs, profiles and caches, and paths that start with `~`."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import islice
from pathlib import Path

from tuneport.doors import AUTHORS, public
from tuneport.errors import HomeError, UsageError
from tuneport.spelling import similar

_REMEDY = "Set TUNEPORT_HOME to a folder on a local disk that you can write to."
_MOST_FILES = 1000  # how many names in a folder are compared


@public(AUTHORS)
def home(*parts: str) -> Path:
    """A folder in tuneport's home. It is created if it is missing, readable by its owner only.

    Home is `$TUNEPORT_HOME`, or else the platform's data folder. Raises HomeError if there is no home folder, or if it
    cannot be written.

    >>> home("cache", "tokenizers").is_dir()
    True
    """
    root = _root()
    path = root.joinpath(*parts)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise HomeError(f"The home folder {path} cannot be created: {why}.", remedy=_REMEDY) from error
    return path


@public(AUTHORS)
def local_path(path: str | os.PathLike[str]) -> Path:
    """The path with `~` and `~name` replaced by the user's home folder. Raises UsageError if there is no such folder.

    >>> local_path("rows.csv")
    PosixPath('rows.csv')
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        start = str(path).partition("/")[0]
        who = f"there is no user {start[1:]!r}" if len(start) > 1 else "this user has no home folder"
        raise UsageError(
            f"{str(path)!r}: {start} cannot be resolved, because {who}.", remedy="Write the complete path instead."
        ) from error


def near_files(name: str) -> str:
    """`Did you mean …? ` for a missing file, or nothing if no file in its folder has a similar name."""
    with suppress(OSError, ValueError, UsageError):
        path = local_path(name)
        there = [one.name for one in islice(path.parent.iterdir(), _MOST_FILES)]
        near = similar(path.name, there, most=2, cutoff=0.75)
        return f"Did you mean {' or '.join(str(path.with_name(one)) for one in near)}? " if near else ""
    return ""


def _root() -> Path:
    path = os.environ.get("TUNEPORT_HOME")
    if path:
        try:
            return local_path(path).absolute()
        except UsageError as error:
            raise HomeError(f"TUNEPORT_HOME is {error.message}", remedy=_REMEDY) from error
    import platformdirs

    try:
        return platformdirs.user_data_path("tuneport", appauthor=False)
    except RuntimeError as error:  # HOME is unset, and the system has no home folder for this user
        raise HomeError("This user has no home folder: HOME is not set.", remedy=_REMEDY) from error
