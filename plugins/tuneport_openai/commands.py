"""`tuneport profiles`: add, list and remove named endpoints and their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tuneport.plugin import ask_secret, say, say_json

if TYPE_CHECKING:
    from tuneport_openai.wire.profiles import Profile
    from tuneport_openai.wire.vendors import VendorName

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The beginning of its refs: lab for lab:MODEL.")]


def add_to(app: Any) -> None:
    """Add the group of commands to the application."""
    group = typer.Typer(
        help="Name endpoints that have the OpenAI API.",
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
    url: Annotated[str, typer.Argument(metavar="URL", help="Its address, such as https://gpu.example.org/v1")],
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="VARIABLE", help="The environment variable that holds its key: LAB_API_KEY."),
    ] = None,
    vendor: Annotated[
        str | None,
        typer.Option("--vendor", metavar="NAME", help="azure, nebius, bedrock or other; recognized by the address."),
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option("--limit", metavar="NAME=NUMBER", help="Change a limit; see docs/openai.md.")
    ] = None,
    json: Json = False,
) -> int:
    """Name an endpoint. Its key stays in the variable and is sent to this address only."""
    import tuneport
    from tuneport_openai.backend import OpenAIBackend
    from tuneport_openai.wire import profiles

    taken = tuneport.backends().get(name)
    if taken is not None and not isinstance(taken, OpenAIBackend):
        raise tuneport.errors.UsageError(f"{name!r} is another plugin's backend.", remedy="Choose another name.")
    made = profiles.add(name, url, key, _vendor_of(vendor), limit or ())
    if json:
        say_json({"profile": _facts(made)})
    else:
        say(f"{made.name} is {made.base_url}, {_key_of(made)}.")
    return 0


def list_(json: Json = False) -> int:
    """List the endpoints, and where the key of each one is."""
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
    remove: Annotated[bool, typer.Option("--remove", help="Remove the key from the keyring.")] = False,
    json: Json = False,
) -> int:
    """Keep the key of an endpoint in the system's keyring. You type it without echo, or it is read from standard input
    when that is not a terminal. It is never an argument, and is sent to the endpoint's address only.
    """
    from tuneport_openai.wire import keys, profiles

    one = profiles.require_address(profiles.profile(name))
    if remove:
        keys.forget(one)
    else:
        keys.keep(one, ask_secret(f"Key of {name}, for {one.base_url} only: "))
    profiles.note_key(one, in_keyring=not remove)
    now = profiles.profile(name)
    if json:
        say_json({"profile": _facts(now)})
    else:
        say(f"{name}: {_key_of(now)}.")
    return 0


def remove(name: Name, json: Json = False) -> int:
    """Forget an endpoint and its key in the keyring. Jobs that were started there stay in the ledger."""
    import tuneport
    from tuneport_openai.wire import keys, profiles

    one = profiles.profiles().get(name)
    # Listed now: afterwards no server can be asked, and the ledger has only the last known states.
    known = () if one is None or one.removed else tuneport.jobs()
    left = [job for job in known if job.ref.backend == name and not job.status.terminal]
    is_kept = profiles.remove(name)
    if one is not None and one.in_keyring:
        keys.forget(one)
        profiles.note_key(one, in_keyring=False)
    if json:
        say_json({"removed": name, "not_over": [job.to_dict() for job in left]})
    else:
        say(f"Removed {name}{'; its name is kept for the jobs that were started there' if is_kept else ''}.")
        if one is not None and left:
            say(
                f"Not over: {', '.join(f'{job.ref} ({job.status})' for job in left)}. The server continues them. To "
                f"see or end them: tuneport profiles add {name} {one.base_url}",
                err=True,
            )
    return 0


def _vendor_of(name: str | None) -> VendorName | None:
    from tuneport.errors import UsageError
    from tuneport.plugin import did_you_mean
    from tuneport_openai.wire.vendors import VENDORS

    known = [one for one in VENDORS if one != "openai"]
    if name is not None and name not in known:
        raise UsageError(
            f"{name!r} is not a vendor.", remedy=f"{did_you_mean(name, known)}The names are {', '.join(known)}."
        )
    return cast("VendorName | None", name)


def _key_of(one: Profile) -> str:
    from tuneport_openai.wire import keys

    at = keys.source(one)
    return f"with the key in {keys.place(one)}" if at else f"without a key: {one.key} is not set"


def _facts(one: Profile) -> dict[str, Any]:
    from tuneport_openai.wire import keys

    facts = {name: getattr(one, name) for name in ("name", "base_url", "key", "vendor")}
    facts["limits"] = one.limits.overrides()
    account = {"service": keys.SERVICE, "user": one.account} if one.in_keyring else None
    return {**facts, "key_from": keys.source(one), "keyring": account}
