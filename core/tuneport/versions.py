"""Versions of what a training ran with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from tuneport.doors import AUTHORS, public


@public(AUTHORS)
def installed_versions(*distributions: str) -> dict[str, str]:
    """The versions of Python, tuneport and those of `distributions` that are installed, by name. Imports none of them.

    >>> sorted(installed_versions("not-installed"))
    ['python', 'tuneport']
    """
    versions = {"python": platform.python_version()}
    for name in ("tuneport", *distributions):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
