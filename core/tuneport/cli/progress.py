"""Live progress of a run: bars where stderr is a terminal, a line now and then where it is not."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tuneport.cli import show
from tuneport.contract.events import utc_now
from tuneport.contract.patience import Patience
from tuneport.printable import one_line
from tuneport.terminal.outlet import console, is_terminal, say
from tuneport.units import duration

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from tuneport.contract.events import Event
    from tuneport.contract.job import Job
    from tuneport.contract.model import Model
    from tuneport.refs import Ref

_SECONDS_BETWEEN_LINES = 10.0


class RunProgress:
    """A sink for `tuneport.run` that tells a person on stderr what happens; `waits` is whether it stays to the end."""

    def __init__(self, *, waits: bool = True) -> None:
        self._waits = waits
        self.ref: Ref | None = None
        self.trained = False
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._doing: TaskID | None = None
        self._said = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bars off the screen's live part; what was said stays."""
        self._over()
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def at(self, doing: str) -> None:
        """Show on a terminal that this goes on, until the next thing does. A script gets no line of it."""
        if is_terminal(err=True):
            self._over()
            self._doing = self._live().add_task(one_line(doing), total=None, count="", figures="")

    def _over(self) -> None:
        if self._bars is not None and self._doing is not None:
            self._bars.remove_task(self._doing)
        self._doing = None

    def __call__(self, stage: str, payload: Any) -> None:
        tell = getattr(self, f"_{stage}", None)
        if tell is not None:
            tell(payload)

    def _checked(self, result: Any) -> None:
        rows = f"read {result.read:,} = used {result.used:,} + rejected {result.rejected:,}"
        self._say(f"checked  {_from_here(result.file)}: {rows}")
        for code, times in result.counts.items():
            self._say(f"         {code}, {times:,} {'time' if times == 1 else 'times'}")
        self.at("splitting the rows")

    def _split(self, parts: Any) -> None:
        self._say("split    " + ", ".join(f"{count:,} {part}" for part, count in parts.counts().items() if count))
        self.at("planning")

    def _planned(self, plan: Any) -> None:
        known = [
            f"{amount}{unit if amount.value != 1 else unit.removesuffix('s')}"
            for amount, unit in (
                (plan.tokens, " tokens"),
                (plan.steps, " steps"),
                (plan.seconds, ""),
                (plan.memory, " of memory"),
                (plan.usd, ""),
            )
            if amount.value or (amount is plan.usd and amount.value is not None)  # a hosted job takes no memory here
        ]
        names = {"tokens": plan.tokens, "steps": plan.steps, "time": plan.seconds, "money": plan.usd}
        unknown = [name for name, amount in names.items() if amount.value is None]
        told = [", ".join(known), f"not known: {', '.join(unknown)}" if unknown else ""]
        self._say(f"planned  {'; '.join(filter(None, told))}")
        for note in plan.notes:
            self._say(f"         {note}")
        self.at("starting the job")

    def _submitted(self, job: Job) -> None:
        self.ref = job.ref
        status = Patience(job).ask(job.state).status
        stays = self._waits and not status.idle
        more = " already" if status.terminal else "; Ctrl-C leaves it running" if stays else ""
        self._say(f"job      {job.ref} {show.standing(status)[0]}{more}")
        self.at("waiting for the job")

    def _resumed(self, job: Job) -> None:
        more = "; Ctrl-C leaves it running" if self._waits else ""
        self._say(f"resumed  {job.ref} goes on from its last whole checkpoint, or anew where there is none yet{more}")

    def _trained(self, model: Model) -> None:
        del model
        self.trained = True
        self.at("loading the model")

    def _event(self, event: Event) -> None:
        if event.kind == "metric":
            self._metric(event.data)
        elif event.kind != "checkpoint" or event.level != "info":
            self._say(f"         {event.message}")

    def _past(self, event: Event) -> None:
        """What had happened before somebody looked: told with its time, so that it is not taken for news."""
        if event.kind != "metric" and (event.level != "info" or event.kind == "status"):
            ago = max(0.0, (utc_now() - event.time).total_seconds())  # a server's clock may be ahead
            self._say(f"         {event.message} ({duration(ago)} ago)")

    def _metric(self, data: Any) -> None:
        step, total = data.get("step"), data.get("total_steps")
        if step is None:
            return
        figures = [
            f"{label} {data[key]:{form}}"
            for key, label, form in (
                ("train_loss", "loss", ".3f"),
                ("valid_loss", "validation", ".3f"),
                ("rewards/margins", "margin", ".3f"),
                ("log_odds_ratio", "log odds ratio", ".3f"),
                *(() if data.get("rewards/margins") == 0 else (("rewards/accuracies", "accuracy", ".0%"),)),
                ("tokens_per_second", "tokens/s", ",.0f"),
            )
            if isinstance(data.get(key), int | float)
        ]
        left = data.get("seconds_left")
        if isinstance(left, int | float):
            figures.append(f"{duration(left)} left")
        self._advance("training", step, total, ", ".join(figures))

    def _loading(self, ref: str) -> None:
        self._say(f"loading  {ref}")
        self.at("loading the model")

    def _answering(self, progress: tuple[int, int, str]) -> None:
        done, total, who = progress
        if done == 0:
            self.at(f"loading the {who} model")
            return
        self._advance(f"asking {who}", done, total, "")

    def _compared(self, comparison: Any) -> None:
        self.close()
        del comparison

    def _advance(self, what: str, done: int, total: int | None, figures: str) -> None:
        if not is_terminal(err=True):
            now = time.monotonic()
            if done == 0:
                return
            if now - self._said > _SECONDS_BETWEEN_LINES or done == total:
                self._said = now
                self._say(f"{what:<8} {done:,}{f'/{total:,}' if total else ''} {figures}".rstrip())
            return
        self._over()
        bars = self._live()
        count = f"{done:,}/{total:,}" if total else f"{done:,}"
        if what not in self._tasks:
            self._tasks[what] = bars.add_task(what, total=total, count=count, figures="")
        bars.update(self._tasks[what], completed=done, total=total, count=count, figures=figures)

    def _live(self) -> Progress:
        from rich.progress import BarColumn, Progress, TextColumn

        if self._bars is None:
            columns = (
                TextColumn("{task.description:<12}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[count]}", markup=False),
                TextColumn("{task.fields[figures]}", markup=False),
            )
            self._bars = Progress(*columns, console=console(err=True), redirect_stdout=False, redirect_stderr=False)
            self._bars.start()
        return self._bars

    def _say(self, text: str) -> None:
        say(text, err=True)


def _from_here(file: str) -> str:
    """A file as a person in the current folder would type it: a config's data file is known by its complete path."""
    with suppress(ValueError, OSError):
        return str(Path(file).relative_to(Path.cwd()))
    return file
