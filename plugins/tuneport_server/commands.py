"""`tuneport serve` and `tuneport access`."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import tuneport
from tuneport.errors import UnavailableError, UsageError
from tuneport.plugin import Ref, say

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from tuneport_server.access.tokens import AccessTokens
    from tuneport_server.server import Server
    from tuneport_server.settings import ServeSettings

_NEEDS = ("starlette", "uvicorn", "python_multipart")
_DRAIN_SECONDS = 30
_KEEP_SECONDS = 10  # for an idle connection; clients usually close after 5, and should be the first to
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

access = typer.Typer(help="Access tokens for `tuneport serve`: add, list and remove.", no_args_is_help=True)


def serve(
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="A config file with a `serve` section. Options override it."),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            "--models",
            metavar="NAME=REF,…",
            help="The base models and the names that clients use, such as small=torch:smollm2-135m. "
            "By default those that `tuneport models` lists as present.",
        ),
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(
            "--alias",
            metavar="NAME=REF",
            help="Another name for a model, such as that of the model which it replaces: "
            "ft:gpt-4.1-mini-2025-04-14:acme:tickets:abc123=torch:tickets-k3vd.",
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="The address to listen on; 127.0.0.1 by default.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="N", min=0, max=65535, help="The port to listen on; 8137 by default, 0 for any free one."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Another name that the Host header may have."),
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option("--limit", metavar="NAME=NUMBER", help="Change a limit; see docs/server.md.")
    ] = None,
) -> int:
    """Serve the OpenAI fine-tuning API with any backend. Ends with Ctrl-C or SIGTERM; trainings
    continue, and the next server follows them.
    """
    _need_packages()
    from tuneport_server.network.connections import most_connections
    from tuneport_server.opening import open_server
    from tuneport_server.settings import read_settings

    settings = read_settings(config)
    settings = settings.with_changes(
        models=models, aliases=alias, host=host, port=port, allow_hosts=allow_host, limits=limit
    )
    names, most = _names(settings.refs(), settings.alias_refs()), most_connections()
    with open_server(names, settings.limits) as server:
        _serve(server, settings, most)
    return 0


def _serve(server: Server, settings: ServeSettings, most: int) -> None:
    from tuneport_server.logs import set_up_log
    from tuneport_server.network.listening import bind
    from tuneport_server.opening import write_address

    listening = bind(settings.host, settings.port)
    set_up_log()
    address = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{address}:{listening.getsockname()[1]}"

    def on_ready() -> None:
        write_address(f"{url}/v1")
        say(f"page     {url}/")
        say(f"serving  {url}/v1")

    if not server.tokens.list():
        say(f"token    {server.tokens.add('default')}   (shown only once; the server keeps its hash)")
    for name, ref in server.names.items():
        say(f"model    {name} = {ref}")
    if settings.host not in _LOOPBACK:
        say("Other machines can reach this server, and connections are not encrypted: put TLS in front.", err=True)
    _run(server, settings, listening, most, on_ready)


@access.command("add")
def add(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name for the token, such as laptop. It owns files and jobs.")
    ],
) -> None:
    """Create an access token and print it. It is shown only once."""
    say(_access_tokens().add(name))


@access.command("list")
def list_() -> None:
    """List the names of the access tokens, and when each was created."""
    for row in _access_tokens().list():
        say(f"{row['name']}  {datetime.fromtimestamp(row['created'], UTC):%Y-%m-%d %H:%M} UTC")


@access.command("remove")
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that `tuneport access list` shows.")],
) -> None:
    """Revoke an access token. Its files and jobs are kept for a new token with the same name."""
    _access_tokens().remove(name)


def _access_tokens() -> AccessTokens:
    _need_packages()
    from tuneport_server.access.tokens import AccessTokens
    from tuneport_server.store import open_store

    return AccessTokens(open_store())


def _need_packages() -> None:
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"The server needs {', '.join(missing)}: not installed.", remedy="Run: pip install 'tuneport[server]'"
        )


def _names(named: Mapping[str, Ref], aliases: Mapping[str, Ref]) -> Mapping[str, Ref]:
    """Return the models to serve, by name, after their backends have checked them. Raises TuneportError."""
    for ref in aliases.values():
        tuneport.open_model(ref)
    for ref in named.values():
        tuneport.open_backend(ref.backend).check_base(ref.name)
    found = named or {one.ref.name: one.ref for one in tuneport.models() if one.kind == "base" and one.present}
    if both := found.keys() & aliases.keys():
        raise UsageError(f"{min(both)!r} is the name of a model and an alias.", remedy="Give the alias another name.")
    if not found and not aliases:
        raise UsageError(
            "There is no base model on this machine.", remedy="Name one: --models small=torch:smollm2-135m"
        )
    return {**found, **aliases}


def _run(
    server: Server, settings: ServeSettings, listening: socket.socket, most: int, on_ready: Callable[[], None]
) -> None:
    import uvicorn

    from tuneport_server.app import application
    from tuneport_server.network.listening import HttpServer

    config = uvicorn.Config(
        application(server, {one.lower() for one in (settings.host, *settings.allow_hosts)}),
        loop="asyncio",
        http="h11",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=_KEEP_SECONDS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    HttpServer(config, listening, settings.limits, most, on_ready).run()
