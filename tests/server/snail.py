"""The parrot, but the check of a row waits, or takes too much, if the row says so."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence

import parrot

import tuneport
import tuneport.plugin

TUNEPORT_API = 1


def note(text: str) -> None:
    with (tuneport.plugin.home("snail") / "log").open("a") as out:
        out.write(f"{text}\n")


def look(example: tuneport.Example) -> Sequence[tuneport.Diagnostic]:
    """Rows of the form `slow NAME …` wait until a file NAME exists."""
    assert isinstance(example, tuneport.Conversation)
    word, *names = example.messages[0].text.split()
    if word == "slow":
        note(f"check {names[0]} {os.getpid()}")
        while not (tuneport.plugin.home("snail") / names[0]).exists():
            time.sleep(0.02)
    if word == "huge":
        bytearray(int(names[0]))
    if word == "broken":
        os._exit(9)
    return []


class Snail(parrot.Parrot):
    name = "snail"

    def rules(self, base: str) -> tuneport.plugin.DataRules:
        return tuneport.plugin.DataRules(check_row=look)

    def start(self, request: tuneport.plugin.TrainRequest) -> tuneport.Job:
        question = next(iter(request.train)).messages[0].text
        limits = [resource.getrlimit(one) for one in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_CORE)]
        note(f"start {question.split()[1]} {limits}")
        job = super().start(request)
        died = tuneport.plugin.home("snail") / "died"
        if question.startswith("dying") and not died.exists():
            died.touch()
            os._exit(9)
        return job

    def job(self, name: str) -> tuneport.Job:
        job = super().job(name)
        job.ref = tuneport.Ref("snail", name)
        return job


@tuneport.plugin.hookimpl
def tuneport_backends() -> list[tuneport.Backend]:
    return [Snail()]
