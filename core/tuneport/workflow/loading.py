"""Data from anywhere: a plugin opens the sources that tuneport itself does not know."""

from __future__ import annotations

from collections.abc import Mapping

from tuneport.dataset import Dataset, is_known_source
from tuneport.doors import public
from tuneport.loader import load


@public()
def load_dataset(
    source: object,
    format: str = "auto",  # noqa: A002 - the word that users say
    columns: Mapping[str, str] | None = None,
    *,
    system: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
) -> Dataset:
    """Open a dataset as `Dataset.load` does, with the same arguments, or through a plugin that knows the source.

    Plugins are asked about sources that are no file, rows or data frame, such as `warehouse://orders`. Raises
    UsageError when there is nothing to open, and whatever a plugin raises about a source of its own.

    >>> len(load_dataset([{"question": "2 + 2?", "answer": "4"}]))
    1
    """
    if not is_known_source(source):
        opened = load().open_dataset(source)
        if opened is not None:
            return opened
    return Dataset.load(source, format, columns, system=system, encoding=encoding, sheet=sheet)
