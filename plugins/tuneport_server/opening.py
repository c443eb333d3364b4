"""Open the server of a home: one at a time, cleaned up after a kill, and put together from its parts."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tuneport.errors import UsageError
from tuneport.plugin import Ref, home, lock_file, open_regular
from tuneport_server.access.known import KnownTokens
from tuneport_server.access.sessions import Sessions
from tuneport_server.access.tokens import AccessTokens
from tuneport_server.answering.loaded import LoadedModels
from tuneport_server.background.events import TrainingEvents
from tuneport_server.background.file_checks import FileChecks
from tuneport_server.background.job_starts import JobStarts
from tuneport_server.background.open_jobs import OpenJobs
from tuneport_server.background.trainer import Trainer
from tuneport_server.limits import ResourceLimits
from tuneport_server.request_threads import RequestThreads
from tuneport_server.server import Server
from tuneport_server.store import open_store
from tuneport_server.vault import Vault

_LOCK = "lock"


@contextmanager
def open_server(names: Mapping[str, Ref], limits: ResourceLimits) -> Iterator[Server]:
    """Yield the server of this home; no other one can run meanwhile. Raises UsageError if one runs already."""
    folder = home("server")
    with _lock(folder / _LOCK):
        yield _assemble(folder, names, limits)


def write_address(address: str) -> None:
    """Write down where the server listens, for the message to a second server."""
    _write(home("server") / _LOCK, f"{address} (process {os.getpid()})")


def _assemble(folder: Path, names: Mapping[str, Ref], limits: ResourceLimits) -> Server:
    store = open_store()
    vault = Vault(folder, store)
    vault.clean()
    tokens, jobs, news = AccessTokens(store), OpenJobs(store, vault), threading.Event()
    starts = JobStarts(store, vault, jobs, limits, folder / "starts", news)
    checks = FileChecks(store, vault, limits, starts.wake)
    return Server(
        of=store.of,
        names=names,
        limits=limits,
        tokens=tokens,
        known=KnownTokens(tokens),
        sessions=Sessions(),
        vault=vault,
        trainer=Trainer(store, vault, jobs, starts, checks, news),
        checks=checks,
        models=LoadedModels(limits),
        threads=RequestThreads(limits),
        events=TrainingEvents(),
        close=store.close,
    )


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_file(path, wait=False))
        except BlockingIOError as error:
            address = _read(path)
            raise UsageError(
                f"A server for this home is already running{': ' + address if address else ''}.",
                remedy="Use that one, or set TUNEPORT_HOME to another folder for a second one.",
            ) from error
        _write(path, f"process {os.getpid()}")
        yield


def _read(lock: Path) -> str:
    with suppress(OSError), open_regular(lock) as file:
        return file.read(1000).decode("utf-8", "replace").strip()
    return ""


def _write(lock: Path, text: str) -> None:
    lock.write_text(f"{text}\n", "utf-8")  # in place: the lock is on this very file
