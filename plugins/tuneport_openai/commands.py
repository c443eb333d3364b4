"""`tuneport profiles`: named endpoints and their keys are added, listed and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tuneport.plugin import ask_secret, say, say_json

if TYPE_CHECKING:
    from tuneport_openai.wire.profiles import Profile

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
    group.command("key")(key_)
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
    limit: Annotated[
        list[str] | None, typer.Option("--limit", metavar="NAME=NUMBER", help="Change a limit; see docs/openai.md.")
    ] = None,
    json: Json = False,
) -> int:
    """Name an endpoint. Its key stays in the variable and goes to this address alone."""
    import tuneport
    from tuneport_openai.backend import OpenAIBackend
    from tuneport_openai.wire import profiles

    taken = tuneport.backends().get(name)
    if taken is not None and not isinstance(taken, OpenAIBackend):
        raise tuneport.errors.UsageError(f"{name!r} is another plugin's backend.", remedy="Choose another name.")
    vendor: Literal["azure", "other"] | None = None if azure is None else "azure" if azure else "other"
    made = profiles.add(name, url, key, vendor, limit or ())
    if json:
        say_json({"profile": _facts(made)})
    else:
        say(f"{made.name} is {made.base_url}, {_key_of(made)}.")
    return 0


def list_(json: Json = False) -> int:
    """List the endpoints, and where the key of each comes from."""
    from tuneport_openai.wire import profiles

    found = [one for one in profiles.profiles().values() if not one.removed]
    if json:
        say_json({"profiles": [_facts(one) for one in found]})
        return 0
    width = max(len(one.name) for one in found)
    for one in found:
        say(f"{one.name:<{width}}  {one.base_url or '(no address)'}  {_key_of(one)}")
    return 0


def key_(
    name: Name,
    remove: Annotated[bool, typer.Option("--remove", help="Take the key out of the keyring again.")] = False,
    json: Json = False,
) -> int:
    """Keep the key of an endpoint in the system's keyring. It is asked for without echo, or read from standard input
    where that is no terminal; it is never an argument, and goes to the endpoint's address alone.
    """
    from tuneport_openai.wire import keys, profiles

    one = profiles.require_address(profiles.profile(name))
    if remove:
        keys.forget(one)
    else:
        keys.keep(one, ask_secret(f"Key of {name}, for {one.base_url} alone: "))
    profiles.note_key(one, in_keyring=not remove)
    now = profiles.profile(name)
    if json:
        say_json({"profile": _facts(now)})
    else:
        say(f"{name}: {_key_of(now)}.")
    return 0


def remove(name: Name, json: Json = False) -> int:
    """Forget an endpoint, and its key in the keyring. Jobs that were started there stay in the ledger."""
    import tuneport
    from tuneport_openai.wire import keys, profiles

    one = profiles.profiles().get(name)
    # Looked at now: afterwards nobody can be asked, and what the ledger has heard last is all there is.
    known = () if one is None or one.removed else tuneport.jobs()
    left = [job for job in known if job.ref.backend == name and not job.status.terminal]
    is_kept = profiles.remove(name)
    if one is not None and one.in_keyring:
        keys.forget(one)
        profiles.note_key(one, in_keyring=False)
    if json:
        say_json({"removed": name, "not_over": [job.to_dict() for job in left]})
    else:
        say(f"{name} is forgotten{', but for its name: jobs were started there' if is_kept else ''}.")
        if one is not None and left:
            say(
                f"Not over: {', '.join(f'{job.ref} ({job.status})' for job in left)}. The server goes on with them. To "
                f"see or end them: tuneport profiles add {name} {one.base_url}",
                err=True,
            )
    return 0


def _key_of(one: Profile) -> str:
    from tuneport_openai.wire import keys

    at = keys.source(one)
    return f"with the key in {keys.place(one)}" if at else f"without a key: {one.key} is not set"


def _facts(one: Profile) -> dict[str, Any]:
    from tuneport_openai.wire import keys

    facts = {name: getattr(one, name) for name in ("name", "base_url", "key", "vendor")}
    facts["limits"] = one.limits.stored()
    account = {"service": keys.SERVICE, "user": one.account} if one.in_keyring else None
    return {**facts, "key_from": keys.source(one), "keyring": account}
