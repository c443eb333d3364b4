"""`tuneport serve` and `tuneport tokens`."""

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

    from tuneport_server.access.tokens import Tokens
    from tuneport_server.server import Server
    from tuneport_server.settings import ServeSettings

_NEEDS = ("starlette", "uvicorn", "python_multipart")
_DRAIN_SECONDS = 30
_KEEP_SECONDS = 10  # a connection that rests; clients usually let go after 5, and should be the first to
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

tokens = typer.Typer(help="The tokens of `tuneport serve`: add, list and remove.", no_args_is_help=True)


def serve(
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="A config file with a `serve` section; options here go over it."),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            "--models",
            metavar="NAME=REF,…",
            help="The base models and the names they are asked by, such as small=torch:smollm2-135m. "
            "By default those that `tuneport models` lists as present.",
        ),
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(
            "--alias",
            metavar="NAME=REF",
            help="Let a model answer to another name too, such as the one that it replaces: "
            "ft:gpt-4.1-mini-2025-04-14:acme:tickets:abc123=torch:tickets-k3vd.",
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Where to listen; 127.0.0.1 by default.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", min=0, max=65535, help="8137 by default; 0: any free one."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Another name by which this server is called."),
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option("--limit", metavar="NAME=NUMBER", help="Change a limit; see docs/server.md.")
    ] = None,
) -> int:
    """Serve the OpenAI fine-tuning wire over any backend. Ends with Ctrl-C or SIGTERM; trainings go
    on, and the next server follows them.
    """
    _need_packages()
    from tuneport_server.logs import set_up_log
    from tuneport_server.network.connections import most_connections
    from tuneport_server.network.listening import bind
    from tuneport_server.server import open_server, tell_where
    from tuneport_server.settings import read_settings

    asked = read_settings(config)
    asked = asked.changed(models=models, aliases=alias, host=host, port=port, allow_hosts=allow_host, limits=limit)
    names, most = _served(asked.refs(), asked.alias_refs()), most_connections()
    server = open_server(names, asked.limits)
    listening = bind(asked.host, asked.port)
    set_up_log()
    address = f"[{asked.host}]" if ":" in asked.host else asked.host
    url = f"http://{address}:{listening.getsockname()[1]}"

    def on_ready() -> None:
        tell_where(server, f"{url}/v1")
        say(f"page     {url}/")
        say(f"serving  {url}/v1")

    if not server.tokens.list():
        say(f"token    {server.tokens.add('default')}   (shown this once; only its hash is kept)")
    for name, ref in names.items():
        say(f"model    {name} = {ref}")
    if asked.host not in _LOOPBACK:
        say("Others can reach this server, and nothing encrypts what they send: put TLS in front.", err=True)
    _run(server, asked, listening, most, on_ready)
    return 0


@tokens.command("add")
def add(name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, such as laptop.")]) -> None:
    """Make a token and print it: it cannot be seen again. Files and jobs belong to its name."""
    say(_tokens().add(name))


@tokens.command("list")
def list_() -> None:
    """List the names of the tokens, and since when each is known."""
    for row in _tokens().list():
        say(f"{row['name']}  {datetime.fromtimestamp(row['created'], UTC):%Y-%m-%d %H:%M} UTC")


@tokens.command("remove")
def remove(name: Annotated[str, typer.Argument(metavar="NAME", help="As `tuneport tokens list` says it.")]) -> None:
    """Refuse a token from now on. Its files and jobs stay, for a new token of the same name."""
    _tokens().remove(name)


def _tokens() -> Tokens:
    _need_packages()
    from tuneport_server.access.tokens import Tokens
    from tuneport_server.server import open_store

    return Tokens(open_store())


def _need_packages() -> None:
    absent = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if absent:
        raise UnavailableError(
            f"Serving needs {', '.join(absent)}, which is not installed.", remedy="Run: pip install 'tuneport[server]'"
        )


def _served(named: Mapping[str, Ref], aliases: Mapping[str, Ref]) -> Mapping[str, Ref]:
    """The models to serve, by name; every one is known to its backend. Raises UsageError or what the backend says."""
    for ref in aliases.values():
        tuneport.open_model(ref)
    for ref in named.values():
        tuneport.open_backend(ref.backend).check_base(ref.name)
    found = named or {one.ref.name: one.ref for one in tuneport.models() if one.kind == "base" and one.present}
    if both := found.keys() & aliases.keys():
        raise UsageError(f"{min(both)!r} is a model and an alias.", remedy="Give the alias another name.")
    if not found and not aliases:
        raise UsageError("No base model is on this machine yet.", remedy="Name one: --models small=torch:smollm2-135m")
    return {**found, **aliases}


def _run(
    server: Server, asked: ServeSettings, listening: socket.socket, most: int, on_ready: Callable[[], None]
) -> None:
    import uvicorn

    from tuneport_server.app import application
    from tuneport_server.network.listening import HttpServer

    config = uvicorn.Config(
        application(server, {one.lower() for one in (asked.host, *asked.allow_hosts)}),
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
    HttpServer(config, listening, asked.limits, most, on_ready).run()
