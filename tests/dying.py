"""The end of a process at one of its requests, without ending the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

import tuneport
from tuneport import Dataset
from tuneport.errors import JobNotFinished, JobNotFound, TuneportError


class Killed(BaseException):
    """Stands for the end of the process."""


def kill_at(monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool) -> Callable[[], None]:
    """Let the process "end" at that request, counted from 0: before it leaves, or when its answer has come. Returns
    what starts a process that lives.
    """
    send, count = httpx2.Client.send, iter(range(1_000))

    def dying(self: httpx2.Client, *args: Any, **options: Any) -> httpx2.Response:
        at = next(count)
        if at == number and not after:
            raise Killed
        answer = send(self, *args, **options)
        if at == number:
            raise Killed
        return answer

    monkeypatch.setattr(httpx2.Client, "send", dying)
    return lambda: monkeypatch.setattr(httpx2.Client, "send", send)


def start_and_settle(model: str, rows: Dataset, tries: int = 4) -> tuneport.Job:
    """What a person does: run it, settle what is unconfirmed, and run it again."""
    for _ in range(tries):
        try:
            return tuneport.train(model, rows)
        except JobNotFinished as error:
            try:
                return tuneport.settle(error.ref)
            except (JobNotFound, JobNotFinished):
                continue
        except TuneportError:
            continue
    raise AssertionError("it never started")
