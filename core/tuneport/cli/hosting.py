"""The command for deployments: list what is billed now, start one, stop one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tuneport.cli import complete
from tuneport.errors import UsageError
from tuneport.terminal.outlet import say, say_json
from tuneport.terminal.tables import Json, print_table, warn, working

if TYPE_CHECKING:
    from tuneport.contract.hosting import Hosting
    from tuneport.errors import TuneportError

_ACTIONS = ("start", "stop")


def hosting(
    action: Annotated[
        str | None, typer.Argument(metavar="[start|stop]", help="Leave it out to list all deployments.")
    ] = None,
    ref: Annotated[
        str | None,
        typer.Argument(
            metavar="[REF]", help="A tuned model whose service needs a deployment.", autocompletion=complete.models
        ),
    ] = None,
    json: Json = False,
) -> int:
    """List deployments that are billed now, or start or stop one."""
    if action is None:
        return _list(as_json=json)
    if action not in _ACTIONS or ref is None:
        raise UsageError(
            f"{action!r} is not an action." if action not in _ACTIONS else f"{action} needs the model's reference.",
            remedy="Write: tuneport hosting, tuneport hosting start REF, or tuneport hosting stop REF",
        )
    from tuneport.workflow import open_model

    model = open_model(ref)
    if action == "start":
        with working(f"Deploying {model.ref}"):
            message = model.ensure_ready() or f"{model.ref} needs no deployment."
        changed = True
    else:
        with working(f"Stopping {model.ref}"):
            changed = model.stop_hosting()
        message = f"{model.ref} is no longer deployed." if changed else f"{model.ref} was not deployed."
    if json:
        found = model.hosting()
        say_json({"ref": str(model.ref), "hosting": found.to_dict() if found else None, "message": message})
    else:
        say(message)
    return 0


def _list(*, as_json: bool) -> int:
    from tuneport.workflow import hosting as list_hosting

    unread: dict[str, str] = {}

    def note(name: str, error: TuneportError | OSError) -> None:
        unread[name] = str(error)
        warn(f"The deployments at {name} are not listed: {error}")

    with working("Asking the services"):
        found = list_hosting(on_failure=note)
    if as_json:
        say_json({"deployments": [one.to_dict() for one in found], "unread": unread})
    elif found:
        print_table(("model", "state", "billed", "price", "stops", "to stop it"), map(_row, found))
    elif not unread:
        say("Nothing is deployed.")
    return 3 if unread else 0  # NOT_FINISHED: what is not listed may cost money


def _row(one: Hosting) -> tuple[str, ...]:
    from tuneport.units import duration

    price = f"${one.usd_per_hour.value:,.2f} an hour" if one.usd_per_hour.value is not None else "unknown"
    ends = f"after {duration(one.stops_after)} idle" if one.stops_after else "never"
    return one.ref or one.model, one.state, "now" if one.is_billed else "no", price, ends, one.remedy


COMMANDS = (hosting,)
