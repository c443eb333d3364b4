"""Whatever `Dataset.load` is given, to a source of rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from tuneport.dataset.read.files import open_file, open_standard_input
from tuneport.dataset.read.objects import Kinds, encode_row, mapping_error, name_labels, store_rows
from tuneport.dataset.read.sniff import ReadOptions
from tuneport.dataset.read.source import Source
from tuneport.errors import UsageError


def is_known_source(given: object) -> bool:
    """Whether rows can be read from it without a plugin."""
    if isinstance(given, str | os.PathLike):
        try:
            return given == "-" or Path(given).expanduser().exists()
        except (OSError, RuntimeError):  # too long for a name, or the home folder of an unknown user
            return False
    return hasattr(given, "__arrow_c_stream__") or isinstance(given, Iterable) or type(given).__name__ == "LazyFrame"


def open_source(given: object, options: ReadOptions) -> Source:
    """A source that reads a path, `-`, a data frame or an iterable of rows. Raises UsageError for anything else."""
    if isinstance(given, str | os.PathLike):
        return open_standard_input(options) if given == "-" else open_file(given, options)
    kinds: Kinds = {}
    name = type(given).__name__
    if hasattr(given, "__arrow_c_stream__"):
        from tuneport.dataset.read.frames import read_frame

        return store_rows(read_frame(given, kinds), name, encode_row, kinds)
    if name == "LazyFrame":
        raise UsageError("A LazyFrame has no rows yet.", remedy="Collect it: Dataset.load(frame.collect())")
    if isinstance(given, Mapping):
        raise mapping_error(given)
    if isinstance(given, Iterable) and not isinstance(given, bytes):
        return store_rows(name_labels(given), name, encode_row, kinds)
    raise UsageError(f"{name} is not a dataset.", remedy="Pass a file's path, a list of rows, or a data frame.")
