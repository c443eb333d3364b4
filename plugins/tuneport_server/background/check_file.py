"""The check of one uploaded file, in a separate process, with limits on time, memory and expanded bytes."""

from __future__ import annotations

import gzip
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

from tuneport.errors import TuneportError
from tuneport.plugin import Dataset, open_regular
from tuneport_server.background.bounds import TRY_AGAIN, Bounds, end_with, limit_process

_BLOCK = 1 << 20
_FINDINGS = 200  # findings that are kept for the page
_TEXT = 1000  # characters of a finding's texts
_NO_ANSWER = "no-assistant"


class _Refused(Exception):  # noqa: N818 - reads as what happened
    """The file exceeds a limit: nothing reads it."""


def check(path: Path, bounds: Bounds) -> dict[str, Any]:
    """Check a file. In the result, `details` says why the file cannot be trained on, if so; `refused` that nothing may
    read it; `read`, `used` and `rejected` count rows; `found` has the first findings, and `counts` how many there are
    of each code.
    """
    try:
        _measure(path, bounds)
        return _check_rows(path)
    except _Refused as error:
        return {"refused": True, "details": str(error)}
    except MemoryError:
        return {"refused": True, "details": f"Checking the file takes more than {bounds.memory:,} bytes of memory."}


def _measure(path: Path, bounds: Bounds) -> None:
    """Raise _Refused if a compressed file expands beyond the bounds, in bytes or in rows."""
    with open_regular(path) as file:
        if file.read(2) != b"\x1f\x8b":
            return
        file.seek(0)
        size = rows = 0
        try:
            with gzip.GzipFile(fileobj=file) as expanded:
                while block := expanded.read(_BLOCK):
                    size += len(block)
                    rows += block.count(b"\n")
                    if size > bounds.expanded:
                        raise _Refused(f"The compressed file expands to more than {bounds.expanded:,} bytes.")
                    if rows > bounds.rows:
                        raise _Refused(f"The compressed file has more than {bounds.rows:,} lines.")
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return  # the check reports it, with its place


def _check_rows(path: Path) -> dict[str, Any]:
    result = Dataset.load(path, "jsonl").check(workers=1)
    errors = [one for one in result.diagnostics if one.severity == "error"]
    # Reinforcement trains on prompts alone, and the file's method is not known yet.
    prompts = any(one.code == _NO_ANSWER for one in errors)
    worst = next((one for one in errors if one.code != _NO_ANSWER and not (prompts and one.code == "no-rows")), None)
    details = None
    if worst is not None:
        where = f"line {worst.line}: " if worst.line else ""
        details = f"{where}{worst.code}: {worst.message} {worst.remedy}"[:_TEXT]
    found = [
        {
            "severity": one.severity,
            "code": one.code,
            "line": one.line,
            "pointer": one.pointer and one.pointer[:_TEXT],
            "message": one.message[:_TEXT],
            "remedy": one.remedy[:_TEXT],
        }
        for one in result.diagnostics[:_FINDINGS]
    ]
    counts = {"read": result.read, "used": result.used, "rejected": result.rejected}
    return {"refused": False, "details": details, **counts, "found": found, "counts": dict(result.counts)}


def _main(path: str, parent: str, *numbers: str) -> int:
    bounds = Bounds(*map(int, numbers))
    end_with(int(parent))
    limit_process(bounds)
    os.nice(10)
    try:
        result = check(Path(path), bounds)
    except (OSError, TuneportError) as error:
        sys.stderr.write(f"{error}\n")
        return TRY_AGAIN
    sys.stdout.write(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
