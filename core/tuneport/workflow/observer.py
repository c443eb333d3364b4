"""What a run reports while it goes through its stages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.doors import public

if TYPE_CHECKING:
    from tuneport.contract.events import Event
    from tuneport.contract.job import Job
    from tuneport.contract.model import Model
    from tuneport.contract.plan import Plan
    from tuneport.dataset import CheckResult
    from tuneport.evaluate import Comparison
    from tuneport.workflow.split import Split


@public()
class RunObserver:
    """Receives the stages of a run: subclass it, override what you need, and pass it as `tuneport.run(config, on=…)`.

    The methods are called in the order below, in the thread that called `run`, and `run` waits for each to return. A
    method that does nothing ignores its stage. An exception ends the run where it is; a job that was submitted keeps
    running, and the same call finishes the rest later.
    """

    def on_check(self, result: CheckResult) -> None:
        """The rows were checked. Called before errors in them stop the run."""

    def on_split(self, split: Split) -> None:
        """The rows were divided into training, validation and holdout."""

    def on_plan(self, plan: Plan) -> None:
        """The plan is made. Called before the budget can stop the run."""

    def on_submit(self, job: Job) -> None:
        """The job was submitted, or an earlier call had submitted it."""

    def on_resume(self, job: Job) -> None:
        """The job was paused or interrupted, and was resumed."""

    def on_event(self, event: Event) -> None:
        """The job reported an event. Events from before this call are left out."""

    def on_train(self, model: Model) -> None:
        """Training has finished, and this is the model."""

    def on_answer(self, done: int, total: int, side: str) -> None:
        """`done` of `total` rows are answered by the model of this side, `base` or `tuned`; 0 while it loads."""

    def on_compare(self, comparison: Comparison) -> None:
        """The models were compared, now or in an earlier call."""

    def on_report(self, path: Path) -> None:
        """The report was written to this file."""
