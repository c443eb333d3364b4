"""Live progress of a run: bars if stderr is a terminal, otherwise a line now and then."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tuneport.cli.show_runs import status_phrase
from tuneport.contract.events import utc_now
from tuneport.contract.patience import Patience
from tuneport.printable import one_line
from tuneport.terminal.outlet import console, is_terminal, say
from tuneport.units import duration
from tuneport.workflow import RunObserver

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from tuneport.contract.events import Event
    from tuneport.contract.job import Job
    from tuneport.contract.model import Model
    from tuneport.contract.plan import Plan
    from tuneport.dataset import CheckResult
    from tuneport.evaluate import Comparison
    from tuneport.refs import Ref
    from tuneport.workflow import Split

_SECONDS_BETWEEN_LINES = 10.0


class RunProgress(RunObserver):
    """Prints the stages of a run on stderr. `waits` is whether the command waits until the run has finished."""

    def __init__(self, *, waits: bool = True) -> None:
        self._waits = waits
        self.ref: Ref | None = None
        self.planned = False
        self.trained = False
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._activity: TaskID | None = None
        self._last_line = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bars. Printed lines stay."""
        self._end_activity()
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def show_activity(self, text: str) -> None:
        """Show on a terminal what is happening, until the next thing happens. A script gets no line of it."""
        if is_terminal(err=True):
            self._end_activity()
            self._activity = self._live().add_task(one_line(text), total=None, count="", figures="")

    def show_loading(self, ref: Ref) -> None:
        """Say which model is being loaded."""
        self._say(f"loading  {ref}")
        self.show_activity("loading the model")

    def show_past_event(self, event: Event) -> None:
        """Print an event from before this command with its age, so that it is not mistaken for news."""
        if event.kind != "metric" and (event.level != "info" or event.kind == "status"):
            ago = max(0.0, (utc_now() - event.time).total_seconds())  # a server's clock may be ahead
            self._say(f"         {event.message} ({duration(ago)} ago)")

    def on_check(self, result: CheckResult) -> None:
        rows = f"read {result.read:,} = used {result.used:,} + rejected {result.rejected:,}"
        self._say(f"checked  {_relative(result.file)}: {rows}")
        for code, times in result.counts.items():
            self._say(f"         {code}, {times:,} {'time' if times == 1 else 'times'}")
        self.show_activity("splitting the rows")

    def on_split(self, split: Split) -> None:
        self._say("split    " + ", ".join(f"{count:,} {part}" for part, count in split.counts().items() if count))
        self.show_activity("planning")

    def on_plan(self, plan: Plan) -> None:
        self.planned = True
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
        parts = [", ".join(known), f"unknown: {', '.join(unknown)}" if unknown else ""]
        self._say(f"planned  {'; '.join(filter(None, parts))}")
        for note in plan.notes:
            self._say(f"         {note}")
        self.show_activity("starting the job")

    def on_submit(self, job: Job) -> None:
        self.ref = job.ref
        status = Patience(job).ask(job.state).status
        stays = self._waits and not status.idle
        more = " already" if status.terminal else "; Ctrl-C leaves it running" if stays else ""
        self._say(f"job      {job.ref} {status_phrase(status)[0]}{more}")
        self.show_activity("waiting for the job")

    def on_resume(self, job: Job) -> None:
        more = "; Ctrl-C leaves it running" if self._waits else ""
        self._say(f"resumed  {job.ref} continues from its last complete checkpoint, or from the start{more}")

    def on_event(self, event: Event) -> None:
        if event.kind == "metric":
            self._show_metrics(event.data)
        elif event.kind != "checkpoint" or event.level != "info":
            self._say(f"         {event.message}")

    def on_train(self, model: Model) -> None:
        del model
        self.trained = True
        self.show_activity("loading the model")

    def on_answer(self, done: int, total: int, side: str) -> None:
        if done == 0:
            self.show_activity(f"loading the {side} model")
        else:
            self._advance(f"asking {side}", done, total, "")

    def on_compare(self, comparison: Comparison) -> None:
        del comparison
        self.close()

    def _show_metrics(self, data: Mapping[str, Any]) -> None:
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

    def _end_activity(self) -> None:
        if self._bars is not None and self._activity is not None:
            self._bars.remove_task(self._activity)
        self._activity = None

    def _advance(self, what: str, done: int, total: int | None, figures: str) -> None:
        if not is_terminal(err=True):
            now = time.monotonic()
            if done == 0:
                return
            if now - self._last_line > _SECONDS_BETWEEN_LINES or done == total:
                self._last_line = now
                self._say(f"{what:<8} {done:,}{f'/{total:,}' if total else ''} {figures}".rstrip())
            return
        self._end_activity()
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


def _relative(file: str) -> str:
    """A file relative to the current folder, if it is below it."""
    with suppress(ValueError, OSError):
        return str(Path(file).relative_to(Path.cwd()))
    return file
