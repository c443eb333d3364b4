"""Which other backends could run a config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneport.doors import AUTHORS, public
from tuneport.loader.availability import availabilities, availability
from tuneport.loader.loader import load

if TYPE_CHECKING:
    from tuneport.contract.backend import Backend


@public(AUTHORS)
def alternatives(backend: str, method: str = "sft") -> list[str]:
    """The other backends here that can train by that method, those that are ready first, each marked if it is not.

    Asks them whether they are ready, and no network.
    """
    others = {
        name: one
        for name, one in load().backends().items()
        if name != backend and one.listed and method in one.capabilities.methods
    }
    ready = availabilities(others.values())
    return sorted(name for name in others if ready[name].ready) + sorted(
        f"{name} (not set up)" for name in others if not ready[name].ready
    )


def closing_note(backend: Backend, method: str = "sft") -> str:
    """What the backend's vendor has announced about ending its service, and who else could run the same config; empty
    where nothing is known.
    """
    said = availability(backend).closing.rstrip(".")
    if not said:
        return ""
    others = ", ".join(alternatives(backend.name, method))
    elsewhere = f" Change one word of the config, `model: BACKEND:…`, to run it elsewhere: {others}." if others else ""
    return f"{said}.{elsewhere}"
