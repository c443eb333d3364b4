"""The folder of ledger, jobs, profiles and caches, and the meaning of `~` in a path."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import islice
from pathlib import Path

from tuneport.doors import AUTHORS, public
from tuneport.errors import HomeError, UsageError
from tuneport.spelling import similar

_CURE = "Set TUNEPORT_HOME to a folder on a local disk that you can write to."
_MOST_LOOKED_AT = 1000  # files of a folder, for one that comes near


@public(AUTHORS)
def home(*parts: str) -> Path:
    """A folder in tuneport's home, created when it is missing, readable by its owner only.

    Home is `$TUNEPORT_HOME`, else the platform's data folder. Raises HomeError when there is no such folder or it
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
        raise HomeError(f"The home folder {path} cannot be created: {why}.", remedy=_CURE) from error
    return path


@public(AUTHORS)
def local_path(path: str | os.PathLike[str]) -> Path:
    """The path with `~` and `~name` replaced by the user's home folder. Raises UsageError when there is no such folder.

    >>> local_path("rows.csv")
    PosixPath('rows.csv')
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        start = str(path).partition("/")[0]
        who = f"no user is called {start[1:]!r}" if len(start) > 1 else "this user has no home folder"
        raise UsageError(
            f"{str(path)!r}: {start} cannot be resolved, because {who}.", remedy="Write the whole path instead."
        ) from error


def near_files(name: str) -> str:
    """`Did you mean …? ` for a file that is not there, or nothing where no file in its folder comes near."""
    with suppress(OSError, ValueError, UsageError):
        path = local_path(name)
        there = [one.name for one in islice(path.parent.iterdir(), _MOST_LOOKED_AT)]
        near = similar(path.name, there, most=2, cutoff=0.75)
        return f"Did you mean {' or '.join(str(path.with_name(one)) for one in near)}? " if near else ""
    return ""


def _root() -> Path:
    asked = os.environ.get("TUNEPORT_HOME")
    if asked:
        try:
            return local_path(asked).absolute()
        except UsageError as error:
            raise HomeError(f"TUNEPORT_HOME is {error.message}", remedy=_CURE) from error
    import platformdirs

    try:
        return platformdirs.user_data_path("tuneport", appauthor=False)
    except RuntimeError as error:  # HOME is not set, and the system knows no home folder of this user id
        raise HomeError("This user has no home folder: HOME is not set.", remedy=_CURE) from error
