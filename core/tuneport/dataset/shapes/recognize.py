"""Recognizes the shape of a file from its first rows, and finds the column of each role."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from tuneport.dataset.read.readers import read_rows
from tuneport.dataset.read.source import Source
from tuneport.dataset.shapes.context import rating_column
from tuneport.dataset.shapes.conversations import TURN_ROLES
from tuneport.dataset.shapes.pairs import PROMPT_ROLES
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.shapes.shapes import ALIASES, ROLES, SHAPES, RowShape
from tuneport.errors import UsageError
from tuneport.spelling import did_you_mean

_HEAD_ROWS = 20
_HEAD_READS = 1000  # rows and blank lines that are read to find that many rows
_KNOWN = {role for shape in SHAPES for role in shape.required + shape.optional} | {
    name for names in ALIASES.values() for name in names
}


def recognize_source(
    source: Source, columns: Mapping[str, str], system: str | None
) -> tuple[Recipe | None, tuple[str, ...]]:
    """The recipe of a source's first rows, and the columns whose names match only without case and outer spaces.

    None for an unknown shape, which a finding reports for each row. Raises UsageError for `columns` that do not exist.
    """
    values = (value for value, _ in islice(read_rows(source), _HEAD_READS))
    rows = list(islice((value for value in values if isinstance(value, dict)), _HEAD_ROWS))
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    ours = _match_loosely(names, (*columns.values(), *_KNOWN))
    renamed = [{ours.get(str(name), str(name)): value for name, value in row.items()} for row in rows]
    recipe = recognize_shape(renamed, columns, system)
    if recipe is None:
        return None, ()
    theirs = {our: their for their, our in ours.items()}
    used = {role: theirs.get(column, column) for role, column in recipe.columns.items()}
    loose = tuple(f"{theirs[column]!r} as {column}" for column in recipe.columns.values() if column in theirs)
    return msgspec.structs.replace(recipe, columns=used, names=tuple(names)), loose


def _match_loosely(names: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """The known name of each unknown name that differs from it only in case and outer spaces."""
    wanted = {one.strip().casefold(): one for one in known if one not in names}
    matched: dict[str, str] = {}
    for name in names:
        if name not in _KNOWN and (one := wanted.pop(name.strip().casefold(), None)) is not None:
            matched[name] = one
    return matched


def recognize_shape(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], system: str | None) -> Recipe | None:
    """The recipe that fits most of the rows, or None. Raises UsageError for `columns` that do not exist."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_columns(columns, names)
    best: tuple[int, Recipe] | None = None
    for shape in SHAPES:
        if not set(columns) <= set(shape.required + shape.optional) or (shape.only_named and not columns):
            continue
        found = _find_columns(shape, columns, names)
        fits = sum(all(role in found and found[role] in row for role in shape.required) for row in rows)
        if shape.name == "tuneport":
            fits = sum(row.get("shape") in ("conversation", "completion", "preference") for row in rows)
        if fits and (best is None or fits > best[0]):
            turns = any(row.get(found[role]) for row in rows for role in TURN_ROLES & found.keys())
            rating = rating_column(names, found.values(), rows, labels=shape.name == "text/label")
            best = fits, Recipe(shape.name, found, system, tuple(names), rating, turns)
    if best is None and columns and names:
        raise UsageError(
            f"columns names {', '.join(columns)}, which together are not a shape that tuneport knows.",
            remedy="Name for example text and label, question and answer, prompt and completion, or messages.",
        )
    return best[1] if best else None


def _find_columns(shape: RowShape, columns: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """The column of each role that has one. An optional role does not share another role's column."""
    found: dict[str, str] = {}
    for role in shape.required + shape.optional:
        if shape.name == "chosen/rejected" and role not in columns and _has_prompt_already(role, found):
            continue
        column = find_column(role, columns, names)
        if column and (role in shape.required or role in columns or column not in found.values()):
            found[role] = column
    return found


def _has_prompt_already(role: str, found: Mapping[str, str]) -> bool:
    """Whether a pair needs no column for a role: one prompt is enough, and `input` belongs to an instruction."""
    if role == "input":
        return "instruction" not in found
    return role in PROMPT_ROLES and any(other in found for other in PROMPT_ROLES)


def find_column(role: str, columns: Mapping[str, str], names: Sequence[str]) -> str | None:
    """The column of a role: the one that `columns` names, or else one of `names` that is an alias of the role."""
    if role in columns:
        return columns[role]
    return next((name for name in ALIASES.get(role, (role,)) if name in names), None)


def _check_columns(columns: Mapping[str, str], names: Sequence[str]) -> None:
    for role, column in columns.items():
        if role not in ROLES:
            raise UsageError(
                f"columns maps {role!r}, which is not a role of a column.",
                remedy=f"{did_you_mean(role, ROLES)}Roles are {', '.join(ROLES)}.",
            )
        if names and column not in names:
            raise UsageError(
                f"columns maps {role} to {column!r}, but there is no such column.",
                remedy=f"{did_you_mean(column, names)}The columns are {', '.join(names)}.",
            )
