"""The server's limits: on sizes, times, and how much may happen at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import psutil
from pydantic import Field, StrictInt

from tuneport.errors import UsageError
from tuneport.plugin import Settings, did_you_mean

_Number = Annotated[StrictInt, Field(ge=1)]


class ResourceLimits(Settings):
    """The server's limits. Sizes are in bytes."""

    json_bytes: _Number = Field(default=8 * 2**20, description="size of a request's JSON body")
    file_bytes: _Number = Field(default=512 * 2**20, description="size of an uploaded file")
    part_bytes: _Number = Field(default=64 * 2**20, description="size of one part of an upload in parts")
    upload_bytes: _Number = Field(default=8 * 2**30, description="size of a file that is uploaded in parts")
    file_rows: _Number = Field(default=3_000_000, description="lines of an uploaded file")
    expanded_bytes: _Number = Field(default=2 * 2**30, description="size of a compressed file after decompression")
    checks: _Number = Field(default=2, description="files checked at the same time, each in a separate process")
    starts: _Number = Field(default=2, description="jobs started at the same time, each in a separate process")
    check_seconds: _Number = Field(default=600, description="time for the check of a file, or of a job's rows")
    check_memory: _Number = Field(default=2**30, description="memory for the check of a file, or of a job's rows")
    start_seconds: _Number = Field(
        default=14_400, description="time for a backend to start a job whose rows are checked, including its uploads"
    )
    total_bytes: _Number = Field(default=50 * 2**30, description="size of all files of all access tokens")
    files: _Number = Field(default=10_000, description="files of one access token")
    open_jobs: _Number = Field(default=100, description="jobs of one access token that are not over")
    answer_tokens: _Number = Field(
        default=4096, description="tokens of an answer; a request for more gets this many at most"
    )
    answer_default: _Number = Field(default=512, description="tokens of an answer if the request sets no limit")
    choices: _Number = Field(default=16, description="answers to one request (`n`)")
    batch: _Number = Field(default=32, description="conversations answered together")
    waiting: _Number = Field(default=256, description="requests of one access token that wait for models")
    models: _Number = Field(default=8, description="models loaded at the same time")
    model_bytes: _Number | None = Field(
        default=None, description="weights of all loaded models; half of the machine's memory by default"
    )
    silence_seconds: _Number = Field(
        default=30, description="time without progress: no byte of a body arrives, or the client reads nothing"
    )
    head_seconds: _Number = Field(default=20, description="time for a request's head, or the login form, to arrive")
    body_seconds: _Number = Field(default=3600, description="time for one body to arrive")
    least_rate: _Number = Field(
        default=1024, description="bytes per second at which a head or a body must arrive, after a grace period"
    )
    requests: _Number = Field(default=512, description="requests with an access token in progress")
    open_requests: _Number = Field(default=32, description="requests without an access token in progress")
    address_connections: _Number = Field(
        default=1024,
        description="open connections from one address; raise it for a reverse proxy on another machine",
    )
    connections: _Number | None = Field(
        default=None,
        description="open connections; by default as many as the limit on open files allows, at most 4,096",
    )
    threads: _Number = Field(
        default=16, description="threads for expensive requests; one access token uses half of them"
    )
    thread_queue: _Number = Field(
        default=64, description="expensive requests of one access token that wait for a thread"
    )

    @property
    def memory(self) -> int:
        """The bytes that all loaded models may take together."""
        return self.model_bytes or psutil.virtual_memory().total // 2

    def with_changes(self, texts: Iterable[str]) -> ResourceLimits:
        """Return the limits with `NAME=NUMBER` texts applied. Raises UsageError."""
        known = type(self).model_fields
        values: dict[str, int] = {}
        for text in texts:
            name, _, number = text.partition("=")
            if name not in known:
                names = ", ".join(sorted(known))
                raise UsageError(
                    f"Unknown limit {name!r}.",
                    remedy=f"{did_you_mean(name, known)}Write NAME=NUMBER. The names are {names}.",
                )
            if not number.isdecimal() or not 0 < int(number) < 2**62:
                raise UsageError(
                    f"{text!r}: a limit needs a number.", remedy=f"Write a whole number above 0, such as {name}=8."
                )
            values[name] = int(number)
        return self.model_copy(update=values)
