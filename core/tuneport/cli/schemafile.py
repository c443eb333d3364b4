"""Reads the file of `--schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tuneport.contract.schemas import MOST_BYTES
from tuneport.errors import UsageError
from tuneport.files import open_regular

_REMEDY = "Pass a file that holds a JSON Schema."


def read_schema_file(path: Path | None) -> dict[str, Any] | None:
    """The JSON Schema in a file, or None without a file. Raises UsageError if the file holds no JSON object."""
    if path is None:
        return None
    try:
        with open_regular(path) as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:  # a truncated file would be reported as malformed JSON
            raise UsageError(
                f"{path} is larger than {MOST_BYTES:,} bytes, the limit of a schema.", remedy="Shorten the schema."
            )
        found = msgspec.json.decode(content)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", remedy=_REMEDY) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", remedy=_REMEDY) from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} does not hold a JSON object.", remedy=_REMEDY)
    return found
