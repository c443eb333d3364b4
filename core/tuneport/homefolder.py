"""The folder of ledger, jobs, profiles and caches."""

from __future__ import annotations

import os
from pathlib import Path

from tuneport.errors import HomeError


def home(*parts: str) -> Path:
    """A folder in tuneport's home, created when it is missing, readable by its owner only.

    Home is `$TUNEPORT_HOME`, else the platform's data folder. Raises HomeError when it cannot be written.

    >>> home("cache", "tokenizers").is_dir()
    True
    """
    asked = os.environ.get("TUNEPORT_HOME")
    if asked:
        root = Path(asked).expanduser().absolute()
    else:
        import platformdirs

        root = platformdirs.user_data_path("tuneport", appauthor=False)
    path = root.joinpath(*parts)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(
            f"The home folder {path} cannot be created: {error.strerror or error}.",
            remedy="Set TUNEPORT_HOME to a folder on a local disk that you can write to.",
        ) from error
    return path
