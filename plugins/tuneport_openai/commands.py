"""`tuneport profiles`: named endpoints are added, listed and removed."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any, Literal

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="What refs begin with: lab stands for lab:MODEL.")]


def add_to(app: Any) -> None:
    """Add the group of commands to the application."""
    group = typer.Typer(
        help="Name the endpoints that speak the OpenAI wire.",
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    group.command("add")(add)
    group.command("list")(list_)
    group.command("remove")(remove)
    app.add_typer(group, name="profiles")


def add(
    name: Name,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where it is, such as https://gpu.example.org/v1")],
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="VARIABLE", help="The environment variable that holds its key: LAB_API_KEY."),
    ] = None,
    azure: Annotated[
        bool | None, typer.Option("--azure/--no-azure", help="Whether it is Azure; else the address tells.")
    ] = None,
    json: Json = False,
) -> int:
    """Name an endpoint. Its key stays in the variable and goes to this address alone."""
    import tuneport
    from tuneport_openai import OpenAIBackend, profiles

    taken = tuneport.backends().get(name)
    if taken is not None and not isinstance(taken, OpenAIBackend):
        raise tuneport.UsageError(f"{name!r} is another plugin's backend.", remedy="Choose another name.")
    vendor: Literal["azure", "other"] | None = None if azure is None else "azure" if azure else "other"
    made = profiles.add(name, url, key, vendor)
    if json:
        _print({"profile": _facts(made)})
    else:
        typer.echo(f"{made.name} is {made.base_url}, with the key in {made.key} ({_key_state(made)}).")
    return 0


def list_(json: Json = False) -> int:
    """List the endpoints, and whether the key of each is set."""
    from tuneport_openai import profiles

    found = profiles.profiles()
    if json:
        _print({"profiles": [_facts(one) for one in found.values()]})
        return 0
    width = max(map(len, found))
    for one in found.values():
        typer.echo(f"{one.name:<{width}}  {one.base_url or '(no address)'}  {one.key} {_key_state(one)}")
    return 0


def remove(name: Name, json: Json = False) -> int:
    """Forget an endpoint. Jobs that were started there stay in the ledger."""
    from tuneport_openai import profiles

    profiles.remove(name)
    if json:
        _print({"removed": name})
    else:
        typer.echo(f"{name} is forgotten.")
    return 0


def _key_state(one: Any) -> str:
    return "is set" if one.has_key else "is not set"


def _facts(one: Any) -> dict[str, Any]:
    facts = {name: getattr(one, name) for name in ("name", "base_url", "key", "vendor")}
    return {**facts, "key_set": one.has_key}


def _print(facts: dict[str, Any]) -> None:
    typer.echo(json_module.dumps({"version": 1, **facts}, indent=2))
