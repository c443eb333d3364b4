"""Finds the names that a user may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from tuneport.doors import AUTHORS, public


@public(AUTHORS)
def did_you_mean(name: str, known: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> str:
    """A question that begins a remedy, with a space behind it; empty when no known name is similar.

    `most` is how many names it may offer; `cutoff` is how similar they must be, from 0 to 1 (as `difflib` measures it).
    Upper and lower case are the same.

    >>> did_you_mean("epoch", ["epochs", "seed"])
    'Did you mean epochs? '
    >>> did_you_mean("color", ["epochs", "seed"])
    ''
    """
    near = similar(name, known, most=most, cutoff=cutoff)
    return f"Did you mean {' or '.join(near)}? " if near else ""


def similar(name: str, known: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> list[str]:
    """The known names that are most similar, as for `did_you_mean`."""
    by_lower = {one.lower(): one for one in known}
    return [by_lower[one] for one in get_close_matches(name.lower(), by_lower, n=most, cutoff=cutoff)]
