"""What all routes share: the store, the folder, the names that are served, the trainer and the answering desks."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request

from tuneport.errors import UsageError
from tuneport.plugin import Ref, home, open_regular
from tuneport_server.access.known import Roster
from tuneport_server.access.sessions import Sessions
from tuneport_server.access.tokens import Tokens
from tuneport_server.background.events import Seen
from tuneport_server.settings import Limits
from tuneport_server.store import Store

if TYPE_CHECKING:
    from tuneport_server.answering.loaded import Desks
    from tuneport_server.background.file_checks import Checks
    from tuneport_server.background.job_starts import Starts
    from tuneport_server.background.trainer import Trainer
    from tuneport_server.request_threads import Pool

STORE = "server.sqlite3"
_LOCK = "lock"


@dataclass(slots=True, kw_only=True)
class Server:
    """One running server. `names` says which base models there are: the wire's name → the ref it stands for."""

    store: Store
    tokens: Tokens
    folder: Path
    names: Mapping[str, Ref]
    limits: Limits
    sessions: Sessions = field(default_factory=Sessions)
    roster: Roster = field(init=False)
    trainer: Trainer = field(init=False)
    desks: Desks = field(init=False)
    checks: Checks = field(init=False)
    starts: Starts = field(init=False)
    pool: Pool = field(init=False)
    seen: Seen = field(default_factory=Seen)
    started: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        from tuneport_server.answering.loaded import Desks
        from tuneport_server.background.file_checks import Checks
        from tuneport_server.background.job_starts import Starts
        from tuneport_server.background.trainer import Trainer
        from tuneport_server.request_threads import Pool

        self.roster = Roster(self.tokens)
        self.desks = Desks(self.limits)
        self.trainer = Trainer(self)
        self.checks = Checks(self)
        self.starts = Starts(self)
        self.pool = Pool(self.limits)

    @property
    def files(self) -> Path:
        """Where uploaded files lie, each under its id."""
        return self.folder / "files"

    @property
    def incoming(self) -> Path:
        """Where files lie while they are received: what is there at a start was never accepted."""
        return self.folder / "incoming"

    @property
    def inputs(self) -> Path:
        """Where jobs that have not begun have their own links to the bytes of their files."""
        return self.folder / "inputs"

    @property
    def parts(self) -> Path:
        """Where the parts of uploads lie, each under its id."""
        return self.folder / "parts"


def open_store() -> Store:
    """The store in home, created where needed."""
    return Store(home("server") / STORE)


def open_server(names: Mapping[str, Ref], limits: Limits) -> Server:
    """The server of this home, what a killed one left swept away. Raises UsageError when another runs already."""
    from tuneport_server import files, uploads

    folder = home("server")
    _lock(folder / _LOCK)
    store = open_store()
    server = Server(store=store, tokens=Tokens(store), folder=folder, names=names, limits=limits)
    for part in (server.files, server.incoming, server.inputs, server.parts):
        part.mkdir(mode=0o700, exist_ok=True)
    for leftover in server.incoming.iterdir():
        leftover.unlink()
    files.sweep(server)
    uploads.sweep(server)
    return server


def server_of(request: Request) -> Server:
    """The server that a request came to."""
    server: Server = request.app.state.server
    return server


def owner_of(request: Request) -> str:
    """The name of the token that a request brought."""
    owner: str = request.state.owner
    return owner


def tell_where(server: Server, address: str) -> None:
    """Write down where the server listens, for who starts a second one."""
    _write(server.folder / _LOCK, f"{address} (process {os.getpid()})")


def _lock(path: Path) -> None:
    """Hold the file for as long as this process lives."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        where = _where(path)
        raise UsageError(
            f"A server of this home is running already{': ' + where if where else ''}.",
            remedy="Use that one, or set TUNEPORT_HOME to another folder for a second one.",
        ) from error
    _write(path, f"process {os.getpid()}")


def _where(lock: Path) -> str:
    with suppress(OSError), open_regular(lock) as file:
        return file.read(1000).decode("utf-8", "replace").strip()
    return ""


def _write(lock: Path, text: str) -> None:
    lock.write_text(f"{text}\n", "utf-8")  # in place: the lock is on this very file
