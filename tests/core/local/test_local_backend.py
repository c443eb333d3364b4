"""A third-party backend of some 50 lines has everything that a job needs from `tuneport.local`."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

import tuneport
from tuneport import Dataset, Job, Ref, Status
from tuneport.cli.app import invoke
from tuneport.errors import (
    JobCancelled,
    JobFailed,
    JobNotFinished,
    JobNotFound,
    ModelNotFound,
    UnavailableError,
    UsageError,
)
from tuneport.local import LocalJob
from tuneport.local.owner import holder
from tuneport.plugin import TrainRequest, TrainSettings

pytestmark = pytest.mark.timeout(240)

LABELS = {
    "card": "My card {} never arrived",
    "pin": "I forgot the pin {} again",
    "refund": "Where is refund {} of mine",
}


def rows(count: int) -> Dataset:
    texts = [(label, text.format(n)) for n in range(count) for label, text in LABELS.items()]
    return Dataset.from_examples(
        [
            tuneport.Conversation(messages=(tuneport.Message("user", text), tuneport.Message("assistant", label)))
            for label, text in texts
        ]
    )


def train(base: str = "bayes:empty", **settings: Any) -> LocalJob:
    found = tuneport.train(base, rows(40), epochs=2, seed=3, settings={"rows_per_step": 4, **settings}, again=True)
    assert isinstance(found, LocalJob)
    return found


def ended(job: Job, seconds: float = 60.0) -> Status:
    """The status once nothing more happens."""
    deadline = time.monotonic() + seconds
    while not ((status := job.status).terminal or status.idle):
        assert time.monotonic() < deadline, job.state()
        time.sleep(0.02)
    return status


def until_step(job: Job, step: int) -> None:
    deadline = time.monotonic() + 60
    while job.state().step < step:
        assert time.monotonic() < deadline, job.state()
        time.sleep(0.01)


def kill(job: LocalJob) -> None:
    owner = holder(job.folder)
    assert owner is not None
    assert owner.identity is not None
    os.kill(owner.identity.pid, signal.SIGKILL)
    while owner.identity.alive():
        time.sleep(0.005)


def losses(job: Job) -> list[tuple[int, float]]:
    return [(one["step"], one["train_loss"]) for one in job.metrics()]


def counts(job: LocalJob) -> dict[str, Any]:
    return dict(json.loads((job.folder.model / "counts.json").read_text()))


def test_a_job_goes_from_start_to_an_answering_model(bayes: None) -> None:
    job = train()
    seen = [event.seq for event in job.follow()]
    assert seen == list(range(1, len(seen) + 1))
    assert job.status is Status.SUCCEEDED
    state = job.state()
    assert (state.step, state.total_steps) == (60, 60)
    assert state.message == "Trained 60 steps."
    model = tuneport.open_model(str(job.ref))
    assert [model.ask(f"the {word}") for word in ("card", "pin", "refund")] == ["card", "pin", "refund"]
    lineage = model.lineage
    assert lineage is not None
    assert (lineage.base, lineage.job, lineage.data_fingerprint) == ("bayes:empty", str(job.ref), rows(40).fingerprint)
    assert losses(job)[-1][1] < losses(job)[0][1]
    statuses = [event.data["status"] for event in job.events() if event.kind == "status"]
    assert statuses == ["queued", "preparing", "running", "preparing", "succeeded"]
    again = train(str(job.ref))
    assert again.wait(timeout=60)
    assert sum(map(sum, (one.values() for one in counts(again).values()))) > sum(
        map(sum, (one.values() for one in counts(job).values()))
    )


def test_the_only_kind_of_export_needs_no_name(bayes: None, tmp_path: Path) -> None:
    job = train()
    assert ended(job) is Status.SUCCEEDED
    assert invoke(["export", str(job.ref), "-o", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "counts.json").read_text()) == counts(job)


def test_a_job_killed_again_and_again_ends_with_the_same_numbers(bayes: None) -> None:
    undisturbed, job, chance = train(), train(seconds_per_step=0.02), random.Random(4)
    kills = 0
    for step in (3, 20, 45):
        until_step(job, step + chance.randrange(3))
        kill(job)
        kills += 1
        state = job.state()
        assert state.status is Status.INTERRUPTED
        assert state.remedy is not None
        assert f"tuneport resume {job.ref}" in state.remedy
        job.resume()
    assert kills == 3
    assert ended(job) is Status.SUCCEEDED, job.folder.log.read_text()
    assert ended(undisturbed) is Status.SUCCEEDED
    assert losses(job) == losses(undisturbed)
    assert counts(job) == counts(undisturbed)


def test_pause_saves_a_checkpoint_and_resume_continues_from_it(bayes: None) -> None:
    undisturbed, job = train(), train(seconds_per_step=0.05)
    until_step(job, 5)
    job.pause()
    assert ended(job) is Status.PAUSED
    kept = job.checkpoints()
    assert kept[-1].step == job.state().step
    assert kept[-1].uses == {"resume"}
    with pytest.raises(JobNotFinished, match="resume"):
        job.result()
    job.resume()
    assert ended(job) is Status.SUCCEEDED, job.folder.log.read_text()
    assert losses(job) == losses(undisturbed)
    assert counts(job) == counts(undisturbed)
    assert "Resuming after step" in " ".join(event.message for event in job.events())
    assert job.prune() > 0
    assert job.checkpoints() == []


@pytest.mark.parametrize("act", ["resume", "cancel"])
def test_without_room_on_the_disk_a_job_says_what_to_free_and_goes_on_later(bayes: None, act: str) -> None:
    job = train(seconds_per_step=0.02)
    until_step(job, 3)
    kill(job)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(UnavailableError, match="could be written") as caught:
            getattr(job, act)()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.remedy is not None
    assert caught.value.remedy.endswith(f"then run: tuneport {act} {job.ref}")
    getattr(job, act)()
    assert ended(job) is {"resume": Status.SUCCEEDED, "cancel": Status.CANCELLED}[act]


def test_a_damaged_checkpoint_is_not_used(bayes: None) -> None:
    undisturbed, job = train(), train(seconds_per_step=0.05)
    until_step(job, 5)
    job.pause()
    assert ended(job) is Status.PAUSED
    (job.folder.checkpoints / job.checkpoints()[-1].name / "counts.json").write_text("{}")
    job.resume()
    assert ended(job) is Status.SUCCEEDED
    assert any("is not used: counts.json" in event.message for event in job.events())
    assert counts(job) == counts(undisturbed)


def test_cancel_is_final_and_delete_removes_everything(bayes: None) -> None:
    job = train(seconds_per_step=0.5)
    until_step(job, 1)
    with pytest.raises(JobNotFinished, match="cancel"):
        job.delete()
    job.cancel()
    job.cancel()
    assert job.status is Status.CANCELLED
    with pytest.raises(JobCancelled):
        job.result()
    with pytest.raises(UsageError):
        job.resume()
    assert any("train.jsonl" in line for line in job.delete(dry_run=True).removed)
    job.delete()
    assert not job.folder.path.exists()
    with pytest.raises(JobNotFound):
        job.state()


def test_jobs_wait_for_the_processor_in_the_order_they_came(bayes: None) -> None:
    first, second = train(seconds_per_step=0.05), train()
    state = second.state()
    assert (state.status, state.queue_position) == (Status.QUEUED, 1)
    assert state.message == "Waiting for the cpu device: 1 job ahead of it."
    assert ended(second) is Status.SUCCEEDED
    running = next(event for event in second.events() if event.data.get("status") == "running")
    assert running.time > list(first.events())[-1].time


def test_one_intent_is_one_job_in_any_process(bayes: None) -> None:
    from tuneport.loader import load

    backend = load().backend("bayes")
    request = TrainRequest(
        intent=str(uuid.uuid4()),
        name="once",
        base=Ref("bayes", "empty"),
        train=rows(3),
        options=TrainSettings(epochs=1),
        settings=backend.settings_class(),
    )
    job = backend.start(request)
    assert backend.start(request).ref == job.ref
    code = """
        from tuneport.loader import load
        print(load().backend("bayes").job("once").wait(timeout=60).ask("the pin"))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "pin"
    with pytest.raises(UsageError, match="another job"):
        backend.start(TrainRequest(**{**vars_of(request), "intent": str(uuid.uuid4())}))


def vars_of(request: TrainRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__dataclass_fields__}


def test_observers_get_every_event_from_the_worker(bayes: None, site: Any, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    site(
        "recorder",
        textwrap.dedent(f"""
            from tuneport.plugin import hookimpl
            TUNEPORT_API = 1
            @hookimpl
            def tuneport_on_event(job, event):
                with open({str(seen)!r}, "a") as stream:
                    stream.write(f"{{event.seq}}\\n")
        """),
    )
    job = train()
    assert ended(job) is Status.SUCCEEDED
    deadline = time.monotonic() + 30
    while holder(job.folder).alive:  # type: ignore[union-attr]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    seqs = [int(line) for line in seen.read_text().split()]
    assert sorted(set(seqs)) == [event.seq for event in job.events()]
    assert seqs == sorted(seqs)


BROKEN = """
    from tuneport import Plan
    from tuneport.local import LocalBackend
    from tuneport.plugin import Capabilities, Settings, hookimpl
    TUNEPORT_API = 1
    class Broken(LocalBackend):
        name = "broken"
        install = "pip install broken-backend"
        capabilities = Capabilities(methods=frozenset({{"sft"}}), local=True)
        settings_class = Settings
        base_models = {{"base": "a base"}}
        def plan(self, request): return Plan(base=str(request.base), rows=len(request.train))
        def load(self, ref, folder, lineage): raise NotImplementedError
        def work(self, work):
            {work}
    def write(folder): (folder / "model.txt").write_text("a model")
    @hookimpl
    def tuneport_backends(): return [Broken()]
"""


@pytest.mark.parametrize(
    ("work", "status", "message", "remedy"),
    [
        ("raise ValueError('no such word')", Status.FAILED, "ValueError: no such word", "log.txt"),
        ("import no_such_package", Status.INTERRUPTED, "no_such_package", "pip install -U broken-backend"),
        ("pass", Status.INTERRUPTED, "without saving a model", "author"),
        ("work.save_model(lambda folder: None)", Status.FAILED, "wrote no file into the folder", "log.txt"),
        ("for _ in range(2): work.save_model(write)", Status.FAILED, "save_model was called twice", "log.txt"),
        ("return 'stop'", Status.FAILED, "work() returned 'stop' instead of None, 'pause' or 'cancel'", "log.txt"),
        ("work.metric(valid_loss=float('nan'))", Status.FAILED, "valid_loss is nan: the training has", "learning rate"),
        ("raise MemoryError", Status.FAILED, "Out of memory before the first checkpoint.", "Train on fewer rows"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Status.INTERRUPTED, "was killed", "resume"),
    ],
)
def test_every_way_to_end_says_what_happened_and_what_to_do(
    site: Any, work: str, status: Status, message: str, remedy: str
) -> None:
    site("broken", textwrap.dedent(BROKEN.format(work=work)))
    job = tuneport.train("broken:base", rows(2))
    assert ended(job) is status
    state = job.state()
    assert message in state.message
    assert state.remedy is not None
    assert remedy in state.remedy
    if status is Status.FAILED:
        with pytest.raises(JobFailed):
            job.result()


def test_scalars_of_a_library_are_numbers_and_one_that_is_not_finite_is_left_out(site: Any) -> None:
    work = """
            import numpy
            for step in work.steps(2, write):
                work.metric(train_loss=numpy.float32(0.5), grad_norm=float("inf"))
            work.save_model(write)
    """
    site("broken", textwrap.dedent(BROKEN.format(work=work.strip())))
    job = tuneport.train("broken:base", rows(2))
    assert ended(job) is Status.SUCCEEDED, job.state()
    assert [(one["train_loss"], one["grad_norm"]) for one in job.metrics()] == [(0.5, None)] * 2
    assert [one["step"] for one in job.metrics()] == [1, 2]


def test_a_report_that_nobody_could_read_is_refused_where_it_is_made(site: Any) -> None:
    work = """
            for report in (
                lambda: work.emit("news", "x"),
                lambda: work.log("x", level="loud"),
                lambda: work.log(3),
                lambda: work.metric(step=1),
                lambda: work.metric(train_loss="low"),
            ):
                try:
                    report()
                except (ValueError, TypeError) as error:
                    work.log(str(error))
            work.save_model(write)
    """
    site("broken", textwrap.dedent(BROKEN.format(work=work.strip())))
    job = tuneport.train("broken:base", rows(2))
    assert ended(job) is Status.SUCCEEDED, job.state()
    assert [event.message for event in job.events() if event.kind == "log"] == [
        "an event's kind is 'news', not one of log, metric, checkpoint",
        "an event's level is 'loud', not one of info, warning, error",
        "an event's message is 3, not a text",
        "a metric cannot be called 'step'",
        "the metric 'train_loss' is 'low', not a number",
    ]


def test_a_name_that_is_no_base_model_does_not_answer(bayes: None) -> None:
    with pytest.raises(ModelNotFound, match="bayes has no model 'fuller'") as caught:
        tuneport.open_model("bayes:fuller")
    assert caught.value.remedy == "Choose one of: empty."
    assert tuneport.open_model("bayes:empty").ask("anything") == ""


def test_a_job_whose_plugin_is_gone_waits_for_it(bayes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    job = train(seconds_per_step=0.05)
    until_step(job, 3)
    kill(job)
    with monkeypatch.context() as without:
        without.setenv("TUNEPORT_PLUGINS", "torch")
        job.resume()
        assert ended(job) is Status.INTERRUPTED
    assert "No backend is called 'bayes'" in job.state().message
    job.resume()
    assert ended(job) is Status.SUCCEEDED, job.folder.log.read_text()


def test_the_backend_of_the_documentation_trains(site: Any) -> None:
    page = (Path(__file__).parents[3] / "docs" / "local.md").read_text()
    site("tuneport_logreg", re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[0])
    job = tuneport.train("logreg:zero", rows(30), validation=rows(2), epochs=2)
    assert ended(job) is Status.SUCCEEDED, job.state()
    assert tuneport.open_model(str(job.ref)).ask("My card 77 never arrived") == "card"
    again = tuneport.train(job.ref, rows(30), epochs=1)
    assert ended(again) is Status.SUCCEEDED, again.state()
    assert again.metrics()[0]["train_loss"] < job.metrics()[0]["train_loss"]


def test_the_floor_and_a_worker_import_no_training_library(bayes: None) -> None:
    code = """
        import sys
        import tuneport.local
        for name in tuneport.local.__all__:
            getattr(tuneport.local, name)
        import tuneport.local.worker
        assert not {"torch", "transformers", "numpy", "pyarrow"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_the_door_lists_what_it_exports() -> None:
    assert sorted(tuneport.local.__all__) == tuneport.local.__all__
    for name in tuneport.local.__all__:
        exported = getattr(tuneport.local, name)
        assert getattr(exported, "__module__", "tuneport.local") in ("tuneport.local", "typing")
        if isinstance(exported, type):
            assert exported.__doc__
