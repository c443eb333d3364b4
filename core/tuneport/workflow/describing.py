"""All that is known about one job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.contract.events import Status
from tuneport.doors import public
from tuneport.refs import Ref
from tuneport.workflow.opening import find_report, look_at, open_backend, open_job, root_base
from tuneport.workflow.reporting import found_comparison

if TYPE_CHECKING:
    from tuneport.contract.facts import Lineage
    from tuneport.contract.job import Job
    from tuneport.contract.state import Checkpoint, JobState
    from tuneport.evaluate import Comparison
    from tuneport.reports import Times


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class JobDescription:
    """A job with its figures. `missing` says what the model needs before it can be used, or is None. `report` is the
    report that was written for it. `times` are the seconds that it spent at work, queued and paused, where known.
    `metrics` are the last ones that it reported. `root_base` is the base model at the start of its line.
    """

    ref: Ref
    state: JobState
    missing: str | None
    report: Path | None
    times: Times | None
    metrics: Mapping[str, Any] | None
    checkpoints: Sequence[Checkpoint]
    lineage: Lineage | None
    root_base: Ref
    comparison: Comparison | None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary. Of the comparison, it has the scores alone."""
        return {
            "ref": str(self.ref),
            "state": self.state.to_dict(),
            "missing": self.missing,
            "report": str(self.report) if self.report else None,
            "seconds": asdict(self.times) if self.times else None,
            "metrics": dict(self.metrics) if self.metrics else None,
            "checkpoints": [
                {
                    "name": one.name,
                    "step": one.step,
                    "best": one.best,
                    "created": one.created.isoformat(),
                    "metrics": dict(one.metrics),
                }
                for one in self.checkpoints
            ],
            "lineage": self.lineage.to_dict() if self.lineage else None,
            "root_base": str(self.root_base),
            "score": _scores(self.comparison) if self.comparison else None,
        }


@public()
def describe(job: Job | str | Ref) -> JobDescription:
    """What is known about a job: its state, last metrics, checkpoints, lineage, and the scores of its run.

    Raises JobNotFound, and what the backend raises when its service cannot be reached.
    """
    from tuneport.reports import times_of

    job = open_job(job) if isinstance(job, str | Ref) else job
    state = look_at(job)
    has_model = state.status is Status.SUCCEEDED
    events = list(job.events())
    metrics = [dict(event.data) for event in events if event.kind == "metric"]
    return JobDescription(
        ref=job.ref,
        state=state,
        missing=(open_backend(job.ref.backend).missing(job.ref.name) if has_model else "") or None,
        report=find_report(job.ref),
        times=times_of(events, state.to_dict()),
        metrics=metrics[-1] if metrics else None,
        checkpoints=tuple(job.checkpoints()),
        lineage=job.result().lineage if has_model else None,
        root_base=root_base(job.ref),
        comparison=found_comparison(job.ref),
    )


def _scores(comparison: Comparison) -> dict[str, Any]:
    return {
        "base": comparison.base.mean if comparison.base else None,
        "tuned": comparison.tuned.mean,
        "grader": comparison.grader,
        "rows": comparison.rows,
        "trained_on": comparison.trained_on,
    }
