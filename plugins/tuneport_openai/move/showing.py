"""What `tuneport move` prints of a job that is here, and the progress of its downloads."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from tuneport.plugin import many, say, transfer_bar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from tuneport.plugin import CheckResult
    from tuneport_openai.move.bases import Proposal
    from tuneport_openai.move.folder import JobFolder


class Bars:
    """A progress bar for each file, one after the other."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._name: str | None = None
        self._here = 0
        self._advance: Callable[[int], None] = lambda _: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def show(self, name: str, here: int, total: int | None) -> None:
        """Show how many bytes of a file are here."""
        if name != self._name:
            self._stack.close()
            self._name, self._here = name, 0
            self._advance = self._stack.enter_context(transfer_bar(f"Downloading {name}", total or 0))
        self._advance(here - self._here)
        self._here = here


def print_folder(
    local: JobFolder,
    found: CheckResult | None,
    answered: dict[str, Any],
    notes: list[str],
    config: Path,
    proposed: list[Proposal],
) -> None:
    """Print what is here now, and what to do next."""
    job = local.job
    used = ", ".join(f"{name} {value}" for name, value in job.hyperparameters.items())
    say((job.id, "bold"), f" {job.status}: {job.base}, {job.method}{f', {used}' if used else ''}")
    if job.model:
        say(f"  model       {job.model}")
    if local.training is not None:
        say(f"  training    {local.training}")
    if local.validation is not None:
        say(f"  validation  {local.validation}")
    say(f"  old         {local.old}")
    if answered.get("asked"):
        say(f"  answers     {answered['answered']:,} of {answered['asked']:,} rows")
    if found is not None:
        counts = f"{many(found.errors, 'error')}, {many(found.warnings, 'warning')}"
        say(f"  rows        {found.used:,} of {found.read:,} used; {counts}")
        if found.errors or found.warnings:
            say(f"  findings    tuneport check {shlex.quote(str(local.training))}")
    for note in notes:
        say(("note:", "bold"), f" {note}")
    for line in local.gone:
        say(("gone:", "bold yellow"), f" {line}")
    say(f"Wrote {config}.")
    if proposed:
        say("Choose a base model, and add it to the command or to the file:")
        for one in proposed:
            say(f"  --model {one}")
    elif (found is not None and found.used) or answered.get("answered"):
        say(f"Review it, then run: cd {shlex.quote(str(local.folder))} && tuneport run {config.name}")
