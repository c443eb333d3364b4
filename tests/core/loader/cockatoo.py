"""A parrot that swears: each text that a backend gives steers a terminal, and its command prints on its own."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from parrot import Parrot, ParrotJob

import tuneport
import tuneport.plugin

TUNEPORT_API = 1

SWEARING = "\x1b]0;pwn\x07\x1b[31m\x9b31m\nforged\u202e:smile:[red]x"


class Cockatoo(Parrot):
    name = "cockatoo"

    def availability(self) -> tuneport.plugin.Availability:
        return tuneport.plugin.Availability(ready=True, details={SWEARING: SWEARING})

    def job(self, name: str) -> tuneport.Job:
        folder = tuneport.plugin.home("parrot") / name
        if not (folder / "status").exists():
            raise tuneport.errors.JobNotFound(f"No cockatoo {SWEARING}.", remedy=SWEARING)
        return CockatooJob(folder)

    def check_base(self, base: str) -> None:
        if base != "gray":
            raise tuneport.errors.ModelNotFound(f"No base {base} {SWEARING}", remedy=SWEARING)

    def bases(self) -> list[tuneport.plugin.BaseInfo]:
        return [tuneport.plugin.BaseInfo(ref=tuneport.Ref("cockatoo", SWEARING), description=SWEARING, present=True)]

    def hostings(self) -> list[tuneport.Hosting]:
        price = tuneport.Quantity(value=1.0, unit="USD", source=SWEARING)
        return [
            tuneport.Hosting(
                name=SWEARING, model=SWEARING, state="ready", is_billed=True, usd_per_hour=price, remedy=SWEARING
            )
        ]

    def missing(self, name: str) -> str:
        return SWEARING

    def plan(self, request: tuneport.plugin.TrainRequest) -> tuneport.Plan:
        found = super().plan(request)
        return replace(found, notes=(SWEARING,), tokens=replace(found.tokens, source=SWEARING))


class CockatooJob(ParrotJob):
    def __init__(self, folder: Any) -> None:
        super().__init__(folder)
        self.ref = tuneport.Ref("cockatoo", folder.name)

    def state(self) -> tuneport.JobState:
        return replace(super().state(), message=SWEARING, remedy=SWEARING, details={SWEARING: SWEARING})

    def events(self, after: int = 0) -> Iterable[tuneport.Event]:
        for event in super().events(after):
            yield replace(event, message=SWEARING, level="warning")


@tuneport.plugin.hookimpl
def tuneport_backends() -> list[tuneport.Backend]:
    return [Cockatoo()]


@tuneport.plugin.hookimpl
def tuneport_commands(app: Any) -> None:
    @app.command("squawk")
    def squawk(crash: bool = False) -> None:
        """Print in every way that goes around the outlet."""
        print(SWEARING)
        sys.stderr.write(SWEARING)
        warnings.warn(SWEARING, stacklevel=1)
        logging.getLogger("cockatoo").warning(SWEARING)
        if crash:
            raise RuntimeError(SWEARING)
