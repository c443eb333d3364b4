"""How the rows of one file are read."""

from __future__ import annotations

import msgspec


class Recipe(msgspec.Struct, frozen=True):
    """A shape's name, the column of each of its roles, and a system prompt to add."""

    shape: str
    columns: dict[str, str]
    system: str | None = None
    names: tuple[str, ...] = ()
    """All columns of the first rows."""
    rating: str | None = None
    """The column that says whether an answer is good."""
    turns: bool = False
    """Whether one of the first rows has a value in a column that makes prompts and completions turns."""
