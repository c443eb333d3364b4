"""How much the server takes before it says that it is too much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from tuneport import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one server; sizes in bytes. `tuneport serve --limit NAME=NUMBER` changes them."""

    json_bytes: int = 8 * 2**20  # of a request's JSON body
    file_bytes: int = 512 * 2**20  # of an uploaded file
    part_bytes: int = 64 * 2**20  # of one part of an upload in parts
    upload_bytes: int = 8 * 2**30  # of a file that is uploaded in parts
    file_rows: int = 3_000_000  # lines of an uploaded file
    total_bytes: int = 50 * 2**30  # of all files of all tokens
    files: int = 10_000  # of one token
    open_jobs: int = 100  # of one token, not over yet
    answer_tokens: int = 4096  # the most that an answer may have; a request for more gets these
    answer_default: int = 512  # tokens of an answer whose request names none
    choices: int = 16  # answers to one request (`n`)
    batch: int = 32  # conversations answered together
    waiting: int = 256  # requests that wait for one model
    models: int = 2  # kept loaded at the same time
    silence_seconds: int = 30  # without a byte of a body that is still to come
    requests: int = 512  # under way at the same time

    def changed(self, texts: Iterable[str]) -> Limits:
        """With `name=number` texts applied; raises UsageError for another name or no number."""
        known = {field.name for field in fields(self)}
        values: dict[str, int] = {}
        for text in texts:
            name, _, number = text.partition("=")
            if name not in known or not number.isdecimal() or not 0 < int(number) < 2**62:
                raise UsageError(
                    f"{text!r} is no limit.", remedy=f"Write NAME=NUMBER; the names are {', '.join(sorted(known))}."
                )
            values[name] = int(number)
        return replace(self, **values)
