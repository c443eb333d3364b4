"""What routes and pages share, and how they get what a request's owner has."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request

from tuneport.plugin import Ref
from tuneport_server.access.known import KnownTokens
from tuneport_server.access.sessions import Sessions
from tuneport_server.access.tokens import AccessTokens
from tuneport_server.answering.loaded import LoadedModels
from tuneport_server.background.events import TrainingEvents
from tuneport_server.background.file_checks import FileChecks
from tuneport_server.background.trainer import Trainer
from tuneport_server.limits import ResourceLimits
from tuneport_server.request_threads import RequestThreads
from tuneport_server.store import Owned
from tuneport_server.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One running server. `names` are the base models: the name on the wire → the ref that it stands for.

    `of` returns what one owner has. The store itself is not here: a route cannot reach past `of`.
    """

    of: Callable[[str], Owned]
    names: Mapping[str, Ref]
    limits: ResourceLimits
    tokens: AccessTokens
    known: KnownTokens
    sessions: Sessions
    vault: Vault
    trainer: Trainer
    checks: FileChecks
    models: LoadedModels
    threads: RequestThreads
    events: TrainingEvents
    close: Callable[[], None]
    started: int = field(default_factory=lambda: int(time.time()))


def server_of(request: Request) -> Server:
    """Return the server that a request came to."""
    server: Server = request.app.state.server
    return server


def owned_of(request: Request) -> Owned:
    """Return what the owner of a request's access token has."""
    return server_of(request).of(owner_of(request))


def owner_of(request: Request) -> str:
    """Return the name of the access token that a request brought."""
    owner: str = request.state.owner
    return owner
