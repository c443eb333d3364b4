"""An observer of a run gets its stages in order, and only what is new when the run continues."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tuneport

pytestmark = pytest.mark.usefixtures("parrot")


class Recorder(tuneport.RunObserver):
    """Writes down each stage, and the rows that were answered."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.answered: list[tuple[int, int, str]] = []
        self.report: Path | None = None

    def on_check(self, result: tuneport.CheckResult) -> None:
        self.stages.append(f"checked {result.used}")

    def on_split(self, split: tuneport.Split) -> None:
        self.stages.append(f"split {sum(split.counts().values())}")

    def on_plan(self, plan: tuneport.Plan) -> None:
        self.stages.append(f"planned {plan.base}")

    def on_submit(self, job: tuneport.Job) -> None:
        self.stages.append(f"submitted {job.ref.backend}")

    def on_resume(self, job: tuneport.Job) -> None:
        self.stages.append("resumed")

    def on_event(self, event: tuneport.Event) -> None:
        self.stages.append("event")

    def on_train(self, model: tuneport.Model) -> None:
        self.stages.append("trained")

    def on_answer(self, done: int, total: int, side: str) -> None:
        self.answered.append((done, total, side))

    def on_compare(self, comparison: tuneport.Comparison) -> None:
        self.stages.append(f"compared {comparison.rows}")

    def on_report(self, path: Path) -> None:
        self.stages.append("reported")
        self.report = path


@pytest.fixture
def config(tickets: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tune.yaml"
    path.write_text(f"model: parrot:gray\ndata: {{train: {tickets}, holdout: 0.3}}\n")
    return path


def test_the_stages_of_a_run_come_in_order(config: Path) -> None:
    observer = Recorder()
    result = tuneport.run(config, on=observer)
    assert result.comparison is not None
    rows = result.comparison.rows
    first = ["checked 12", "split 12", "planned parrot:gray", "submitted parrot"]
    assert observer.stages == [*first, "trained", f"compared {rows}", "reported"]
    assert {side for _, _, side in observer.answered} == {"base", "tuned"}
    assert observer.answered[-1] == (rows, rows, "tuned")
    assert observer.report == result.report


def test_a_resumed_job_reports_its_new_events(config: Path) -> None:
    config.write_text(config.read_text() + "backends: {parrot: {stop_at: interrupted}}\n")
    observer = Recorder()
    tuneport.run(config, on=observer)
    stages = list(dict.fromkeys(observer.stages))
    assert stages[3:7] == ["submitted parrot", "resumed", "event", "trained"]


def test_a_run_that_has_finished_reports_no_old_events_and_asks_no_model(config: Path) -> None:
    tuneport.run(config)
    observer = Recorder()
    tuneport.run(config, on=observer)
    assert "event" not in observer.stages
    assert observer.answered == []
    assert observer.stages[-2].startswith("compared")
    assert observer.stages[-1] == "reported"


def test_an_observer_that_raises_ends_the_run_and_the_same_call_finishes_it(config: Path) -> None:
    class Failing(tuneport.RunObserver):
        def on_train(self, model: tuneport.Model) -> None:
            raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        tuneport.run(config, on=Failing())
    [job] = tuneport.jobs()
    assert tuneport.run(config).job.ref == job.ref


def test_a_description_of_a_job_has_the_scores_of_its_run_and_is_json(config: Path) -> None:
    result = tuneport.run(config)
    described = tuneport.describe(str(result.job.ref))
    assert described.comparison == result.comparison
    assert described.report == result.report
    assert str(described.root_base) == "parrot:gray"
    assert json.loads(json.dumps(described.to_dict()))["score"]["rows"] == described.to_dict()["score"]["rows"]


def test_compare_draws_a_number_of_rows(config: Path) -> None:
    result = tuneport.run(config)
    model = tuneport.open_model(result.job.ref)
    assert tuneport.compare(model, rows=2, base=False, progress=False).rows == 2
