"""A job's result file: a table of steps, spooled to disk while it is read."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import math
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

from tuneport.plugin import home

if TYPE_CHECKING:
    from tuneport_openai.wire.client import Wire

ALSO = {"train_accuracy": "train_mean_token_accuracy", "validation_mean_token_accuracy": "valid_mean_token_accuracy"}
"""Azure's names and OpenAI's older ones."""
_FIELDS = frozenset(
    {
        "train_loss",
        "train_mean_token_accuracy",
        "valid_loss",
        "valid_mean_token_accuracy",
        "full_valid_loss",
        "full_valid_mean_token_accuracy",
    }
)
_MOST_ROWS = 100_000
_MOST_LINE = 65_536
LARGEST_STEP = 2**53
_SECONDS = 300.0


def fetch_results(wire: Wire, file_id: str) -> list[dict[str, Any]]:
    """The rows of a result file at the server; see `read_results`. Raises the error for the server's refusal."""
    with tempfile.TemporaryFile(dir=home("spool")) as file:
        with (
            wire.translate_errors("reading the result file"),
            wire.patient.files.with_streaming_response.content(file_id, timeout=_SECONDS) as answer,
        ):
            for piece in answer.iter_bytes():
                file.write(piece)
        return read_results(file)


def read_results(raw: bytes | IO[bytes]) -> list[dict[str, Any]]:
    """The rows of a result file that have a step, read by header: OpenAI's and Azure's names become the same.

    A file that is not a table has no rows; a table that breaks off has the rows before that.
    """
    rows: list[dict[str, Any]] = []
    lines = _lines(io.BytesIO(raw) if isinstance(raw, bytes) else raw)
    try:
        for line in csv.DictReader(lines):
            row = _row(line)
            if row:
                rows.append(row)
            if len(rows) >= _MOST_ROWS:
                break
    except csv.Error:
        pass
    return rows


def _row(line: dict[Any, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in line.items():
        name = ALSO.get(key, key) if key else None
        number = _number(value)
        if number is None or name is None:
            continue
        if name == "step" and 0 <= number < LARGEST_STEP:
            data["step"] = int(number)
        elif name in _FIELDS and number >= 0:  # Azure writes -1 for what was not measured
            data[name] = number
    return data if "step" in data else {}


def _lines(file: IO[bytes]) -> Iterator[str]:
    """OpenAI serves result files as base64, others as they are; a byte order mark is skipped."""
    file.seek(0)
    if b"," in file.read(_MOST_LINE):
        file.seek(0)
        return _texts(file)
    file.seek(0)
    try:
        return _texts(io.BytesIO(base64.b64decode(file.read(), validate=False)))
    except binascii.Error:
        return iter(())


def _texts(file: IO[bytes]) -> Iterator[str]:
    bounded: Iterable[bytes] = iter(lambda: file.readline(_MOST_LINE), b"")
    for number, line in enumerate(bounded):
        yield line.decode("utf-8-sig" if not number else "utf-8", errors="replace")


def _number(value: object) -> float | None:
    try:
        found = float(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found is not None and math.isfinite(found) else None
