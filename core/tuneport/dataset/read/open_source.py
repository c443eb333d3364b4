"""What `Dataset.load` was given, to a source of rows; and how its first rows are to be read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import index
from pathlib import Path
from typing import Any

import msgspec

from tuneport.dataset.read import source
from tuneport.dataset.read.readers import read
from tuneport.dataset.read.sniff import Reading
from tuneport.dataset.read.source import Source
from tuneport.dataset.read.values import line_of
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.shapes.shapes import ALIASES, SHAPES, recognise
from tuneport.errors import UsageError

_HEAD_ROWS = 20
_HEAD_READS = 1000  # rows and blank lines that are looked at to find so many rows
_NAMED = 10  # splits or columns in one message
_KNOWN = {role for shape in SHAPES for role in shape.needs + shape.takes} | {
    name for names in ALIASES.values() for name in names
}


def is_known(given: object) -> bool:
    """Whether it is something that rows can be read from without a plugin."""
    if isinstance(given, str | os.PathLike):
        try:
            return given == "-" or Path(given).expanduser().exists()
        except (OSError, RuntimeError):  # too long for a name, or a home folder of nobody
            return False
    return hasattr(given, "__arrow_c_stream__") or isinstance(given, Iterable) or type(given).__name__ == "LazyFrame"


def source_of(given: object, how: Reading) -> Source:
    """The source of what was given; raises UsageError for what has no rows."""
    if isinstance(given, str | os.PathLike):
        return source.standard_input(how) if given == "-" else source.of_path(given, how)
    kinds: dict[str, str] = {}
    name = type(given).__name__
    if hasattr(given, "__arrow_c_stream__"):
        from tuneport.dataset.read.frames import frame_rows

        return source.of_rows(frame_rows(given, kinds), name, line_of, kinds)
    if name == "LazyFrame":
        raise UsageError("A LazyFrame has no rows yet.", remedy="Collect it: Dataset.load(frame.collect())")
    if isinstance(given, Mapping):
        raise _mapping(given)
    if isinstance(given, Iterable) and not isinstance(given, bytes):
        return source.of_rows(_named_labels(given), name, line_of, kinds)
    raise UsageError(
        f"A dataset cannot be made of {name}.", remedy="Give a file's path, a list of rows, or a data frame."
    )


def _mapping(given: Mapping[Any, Any]) -> UsageError:
    """What to do with a mapping: it holds splits, such as Hugging Face's DatasetDict, or columns, or is one row."""
    names = [str(name) for name in islice(given, _NAMED)]
    listed = ", ".join(names) + (", …" if len(given) > _NAMED else "")
    values = list(given.values())
    kind = type(given).__name__
    if given and all(
        hasattr(one, "features") or hasattr(one, "__arrow_c_stream__") or _has_rows(one) for one in values
    ):
        return UsageError(
            f"The {kind} holds several datasets, its splits: {listed}.",
            remedy=f"Choose a split: Dataset.load(data[{names[0]!r}])",
        )
    if given and all(isinstance(one, list | tuple) for one in values):
        return UsageError(
            f"The {kind} holds columns ({listed}), and rows are wanted.",
            remedy="Give a list with a dictionary for each row, or a data frame.",
        )
    return UsageError(f"A dataset cannot be made of one {kind}.", remedy="Put the row in a list: Dataset.load([row])")


def _has_rows(value: object) -> bool:
    if hasattr(value, "features") or hasattr(value, "__arrow_c_stream__"):
        return True
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping) and "role" not in value[0]


def _named_labels(given: Iterable[Any]) -> Iterable[Any]:
    """The rows, in which labels have the names that Hugging Face's ClassLabel features give to whole numbers."""
    features = getattr(given, "features", None)
    names = {
        str(column): list(feature.names)
        for column, feature in (features.items() if isinstance(features, Mapping) else ())
        if type(feature).__name__ == "ClassLabel" and feature.names
    }
    return _renamed(given, names) if names else given


def _renamed(rows: Iterable[Any], names: Mapping[str, Sequence[str]]) -> Iterator[Any]:
    for row in rows:
        yield {
            column: names[column][number]
            if column in names and 0 <= (number := _whole(value)) < len(names[column])
            else value
            for column, value in row.items()
        }


def _whole(value: object) -> int:
    """A whole number, also as NumPy and PyTorch have it (`with_format`); -1 for anything else."""
    try:
        return index(value)  # type: ignore[arg-type]  # what is no whole number is found out so
    except TypeError:
        return -1


def recipe_of(found: Source, columns: Mapping[str, str], system: str | None) -> tuple[Recipe | None, tuple[str, ...]]:
    """How the first rows are to be read, and the columns whose names were matched without case and outer spaces.

    None when they are of no known shape, which each row's finding then says.
    """
    values = (value for value, _ in islice(read(found), _HEAD_READS))
    rows = list(islice((value for value in values if isinstance(value, dict)), _HEAD_ROWS))
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    ours = _loosely(names, (*columns.values(), *_KNOWN))
    renamed = [{ours.get(str(name), str(name)): value for name, value in row.items()} for row in rows]
    recipe = recognise(renamed, columns, system)
    if recipe is None:
        return None, ()
    theirs = {our: their for their, our in ours.items()}
    used = {role: theirs.get(column, column) for role, column in recipe.columns.items()}
    loose = tuple(f"{theirs[column]!r} as {column}" for column in recipe.columns.values() if column in theirs)
    return msgspec.structs.replace(recipe, columns=used, names=tuple(names)), loose


def _loosely(names: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """Of names that are not known as they stand, those that are but for case and outer spaces, one name each."""
    wanted = {one.strip().casefold(): one for one in known if one not in names}
    matched: dict[str, str] = {}
    for name in names:
        if name not in _KNOWN and (one := wanted.pop(name.strip().casefold(), None)) is not None:
            matched[name] = one
    return matched
