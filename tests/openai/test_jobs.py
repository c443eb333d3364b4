"""A hosted job from its start to its deletion, through the front door, as any other backend's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import tuneport
from tuneport import Dataset, Status
from tuneport_openai.job import HostedJob
from tuneport_openai.results import read_results
from wire_server import KEY, WireServer


def test_ten_lines_train_and_ask_a_hosted_model(lab: WireServer, rows: Dataset) -> None:
    train, holdout = rows.split(holdout=0.2)
    job = tuneport.train("lab:base", train, epochs=3, suffix="topics")
    model = job.wait()
    assert model.ask("Question 1 about pin") in ("card", "pin", "refund", "fees", "limit", "transfer")
    result = tuneport.compare(model, holdout)
    assert result.rows == len(holdout)
    assert tuneport.open_job(str(job.ref)).status is Status.SUCCEEDED
    assert model.lineage is not None
    assert (model.lineage.base, model.lineage.data_fingerprint) == ("lab:base", train.fingerprint)


def test_what_is_sent_is_what_was_asked(lab: WireServer, rows: Dataset) -> None:
    job = tuneport.train(
        "lab:base",
        rows,
        validation=Dataset.load([{"question": "odd?", "answer": "pin"}]),
        epochs=2,
        seed=7,
        suffix="topics",
        metadata={"team": "support"},
        settings={"learning_rate_multiplier": 1.8, "batch_size": 4, "wandb": {"project": "p"}},
    )
    (body,) = [json.loads(b) for m, p, _, b in lab.asked if m == "POST" and p == "/v1/fine_tuning/jobs"]
    metadata = body.pop("metadata")
    files = {body.pop("training_file"), body.pop("validation_file")}
    assert files == set(lab.files)
    assert body == {
        "model": "base",
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 1.8}},
        },
        "seed": 7,
        "suffix": "topics",
        "integrations": [{"type": "wandb", "wandb": {"project": "p"}}],
    }
    assert metadata.pop("team") == "support"
    assert list(metadata) == ["tuneport_intent"]
    assert job.ref.name.startswith("topics-")


def test_the_same_training_again_finds_the_job_that_is_there(lab: WireServer, rows: Dataset) -> None:
    first = tuneport.train("lab:base", rows)
    assert tuneport.train("lab:base", rows).ref == first.ref
    again = tuneport.train("lab:base", rows, again=True)
    assert again.ref != first.ref
    assert len(lab.jobs) == 2
    assert lab.calls("POST", "/v1/files") == 1


def test_events_are_numbered_once_without_gaps_in_any_process(lab: WireServer, rows: Dataset) -> None:
    job = tuneport.train("lab:base", rows)
    seen: list[tuneport.Event] = []
    job.wait(on_event=seen.append)
    everything = list(tuneport.open_job(str(job.ref)).events())
    assert [event.seq for event in everything] == list(range(1, len(everything) + 1))
    assert [event.seq for event in seen] == [event.seq for event in everything][: len(seen)]
    messages = [event.message for event in everything]
    assert messages[0].startswith("train: 24 rows in ")
    assert messages.index("The job is running") < messages.index("Step 1/3") < messages.index("Step 2/3")
    assert len(set(messages)) == len(messages)
    assert list(job.events(after=3)) == everything[3:]


def test_many_events_are_read_by_cursor(lab: WireServer, rows: Dataset) -> None:
    lab.flow = ("running",)
    job = tuneport.train("lab:base", rows)
    (name,) = lab.jobs
    list(job.events())
    for number in range(250):
        lab.tell(name, f"message {number}")
    seen = [event.message for event in job.events() if event.message.startswith("message")]
    assert seen == [f"message {number}" for number in range(250)]
    before = lab.calls("GET", f"/v1/fine_tuning/jobs/{name}/events")
    list(job.events())
    assert lab.calls("GET", f"/v1/fine_tuning/jobs/{name}/events") == before + 1


def test_metrics_come_from_events_and_from_the_result_file(lab: WireServer, rows: Dataset) -> None:
    job = tuneport.train("lab:base", rows)
    job.wait()
    list(job.events())
    by_step = {row["step"]: row for row in job.metrics()}
    assert by_step[1]["train_loss"] == 2.5
    assert by_step[3] == {"step": 3, "train_loss": 0.5, "train_mean_token_accuracy": 0.9}


@pytest.mark.parametrize("encoded", [False, True])
def test_result_files_are_read_by_their_header(encoded: bool) -> None:
    import base64

    azure = (
        b"\xef\xbb\xbfstep,train_loss,train_mean_token_accuracy,valid_loss,validation_mean_token_accuracy,full_valid_loss\n"
        b"1,0.5,0.9,-1.0,-1.0,\n2,nan,0.95,0.7,0.8,0.6\nodd,1,1,1,1,1\n"
    )
    assert read_results(base64.b64encode(azure) if encoded else azure) == [
        {"step": 1, "train_loss": 0.5, "train_mean_token_accuracy": 0.9},
        {
            "step": 2,
            "train_mean_token_accuracy": 0.95,
            "valid_loss": 0.7,
            "valid_mean_token_accuracy": 0.8,
            "full_valid_loss": 0.6,
        },
    ]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("validating_files", Status.PREPARING),
        ("pending", Status.QUEUED),
        ("running", Status.RUNNING),
        ("pausing", Status.PAUSING),
        ("paused", Status.PAUSED),
        ("compressing", Status.UNKNOWN),
        ("", Status.UNKNOWN),
        (None, Status.UNKNOWN),
        (7, Status.UNKNOWN),
    ],
)
def test_every_status_of_a_server_is_known_or_unknown(
    word: object, status: Status, lab: WireServer, rows: Dataset
) -> None:
    lab.flow = ("queued",)
    job = tuneport.train("lab:base", rows)
    (raw,) = lab.jobs.values()
    raw |= {
        "status": word,
        "organization_id": None,
        "result_files": None,
        "surprise": {"a": [1]},
        "method": {"type": "x"},
    }
    state = job.state()
    assert state.status is status
    assert state.to_dict()["native"] == (word if isinstance(word, str) else "")
    list(job.events())


def test_a_job_that_was_paused_is_reported_to_run_again(lab: WireServer, rows: Dataset) -> None:
    lab.flow = ("queued",)
    job = tuneport.train("lab:base", rows)
    (raw,) = lab.jobs.values()
    words = ["queued", "running", "running", "paused", "running", "cancelled"]
    for word in words:
        raw["status"] = word
        list(job.events())
    seen = [event.message for event in job.events() if event.kind == "status"]
    assert seen == ["queued", "running", "paused", "running", "cancelled"]


def test_few_rows_are_enough_to_steer_by(server: WireServer, rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneport import loader
    from tuneport_openai.wire import profiles

    profiles.add("azure", server.url, "LAB_API_KEY")
    loader.load.cache_clear()
    few = rows.sample(3)
    with pytest.raises(tuneport.errors.DataError, match="at least 10"):
        tuneport.train("azure:gpt-4.1-mini-2025-04-14", few)
    job = tuneport.train("azure:gpt-4.1-mini-2025-04-14", rows, validation=few)
    assert len(server.files) == 2
    assert job.status is not Status.FAILED


def test_a_failed_job_says_why(lab: WireServer, rows: Dataset) -> None:
    lab.flow = ("queued", "failed")
    job = tuneport.train("lab:base", rows)
    with pytest.raises(tuneport.errors.JobFailed, match="The rows are odd"):
        job.wait()
    again = tuneport.train("lab:base", rows)
    assert again.ref != job.ref


def test_cancel_is_final_and_may_be_repeated(lab: WireServer, rows: Dataset) -> None:
    lab.flow = ("queued", "running")
    job = tuneport.train("lab:base", rows)
    job.cancel()
    job.cancel()
    assert job.status is Status.CANCELLED
    with pytest.raises(tuneport.errors.JobCancelled):
        job.wait()


def test_a_cancelled_job_is_cancelled_in_the_ledger_once_it_was_looked_at(
    lab: WireServer, rows: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    from tuneport.cli.app import invoke
    from tuneport.ledger import Ledger

    lab.flow = ("running",)
    job = tuneport.train("lab:base", rows)
    assert invoke(["show", str(job.ref)]) == 0
    with Ledger.open() as ledger:
        assert ledger.job(job.ref).status is Status.RUNNING
        assert invoke(["cancel", str(job.ref)]) == 0
        assert ledger.job(job.ref).status is Status.CANCELLED


def test_a_cancel_that_comes_too_late_is_no_error(lab: WireServer, rows: Dataset) -> None:
    lab.flow = ("running",)
    job = tuneport.train("lab:base", rows)
    (raw,) = lab.jobs.values()
    lab.refuse[f"POST /v1/fine_tuning/jobs/{raw['id']}/cancel"] = (400, {"error": {"message": "over"}}, {})
    with pytest.raises(tuneport.errors.UsageError, match="over"):
        job.cancel()
    raw["stage"], lab.flow = 0, ("running", "succeeded")
    job.cancel()
    assert job.status is Status.SUCCEEDED


def test_pause_and_resume(lab: WireServer, rows: Dataset) -> None:
    lab.flow = ("queued", "running")
    job = tuneport.train("lab:base", rows)
    job.pause()
    assert job.status is Status.PAUSED
    with pytest.raises(tuneport.errors.JobNotFinished, match="paused"):
        job.wait()
    lab.flow = ("validating_files", "queued", "running", "succeeded")
    job.resume()
    assert job.wait().ref == job.ref


def test_a_finished_job_is_read_without_its_server(lab: WireServer, rows: Dataset) -> None:
    job = tuneport.train("lab:base", rows)
    job.wait()
    events = list(job.events())
    list(job.events())
    lab.close()
    assert job.status is Status.SUCCEEDED
    assert list(tuneport.open_job(str(job.ref)).events()) == events
    assert job.result().lineage is not None


def test_a_job_that_the_key_cannot_see_is_not_forgotten_and_not_started_again(lab: WireServer, rows: Dataset) -> None:
    lab.flow = ("running",)
    tuneport.train("lab:base", rows)
    kept = dict(lab.jobs)
    lab.jobs.clear()
    with pytest.raises(tuneport.errors.BackendError, match="does not show the job"):
        tuneport.train("lab:base", rows)
    assert not lab.jobs
    lab.jobs.update(kept)
    tuneport.train("lab:base", rows)
    assert lab.jobs == kept


def test_waiting_outlasts_an_outage_and_reports_each_event_once(lab: WireServer, rows: Dataset) -> None:
    import threading

    job = tuneport.train("lab:base", rows)
    assert isinstance(job, HostedJob)
    path = f"GET /v1/fine_tuning/jobs/{job.scratch['job']}"
    lab.refuse[path] = (503, {"error": {"message": "down"}}, {"Retry-After": "0.01"})
    threading.Timer(0.6, lab.refuse.clear).start()
    seen: list[int] = []
    assert job.wait(on_event=lambda event: seen.append(event.seq)).ref == job.ref
    assert lab.calls("GET", path.removeprefix("GET ")) > 6
    assert seen == list(range(1, len(seen) + 1))


def test_a_refused_key_ends_the_waiting(lab: WireServer, rows: Dataset) -> None:
    job = tuneport.train("lab:base", rows)
    assert isinstance(job, HostedJob)
    lab.refuse[f"GET /v1/fine_tuning/jobs/{job.scratch['job']}"] = (401, {"error": {"message": "revoked"}}, {})
    with pytest.raises(tuneport.errors.UnavailableError, match="revoked"):
        job.wait()


def test_a_servers_text_cannot_control_a_terminal(lab: WireServer, rows: Dataset) -> None:
    lab.flow = ("failed",)
    job = tuneport.train("lab:base", rows)
    (raw,) = lab.jobs.values()
    raw["error"] = {"code": "x", "message": "\x1b[2Jgone", "param": None}
    lab.tell(raw["id"], "\x1b]0;title\x07hello", level="error")
    assert "\x1b" not in job.state().message + "".join(event.message for event in job.events())


def test_checkpoints_are_models(lab: WireServer, rows: Dataset) -> None:
    job = tuneport.train("lab:base", rows)
    job.wait()
    first, second = job.checkpoints()
    assert (first.step, second.step, second.metrics) == (1, 2, {"train_loss": 1.5})
    lab.models[second.name] = {"hello": "from the checkpoint"}
    assert tuneport.open_model(f"lab:{second.name}").ask("hello") == "from the checkpoint"


def test_delete_says_and_removes_what_is_there(lab: WireServer, rows: Dataset, own_home: Path) -> None:
    job = tuneport.train("lab:base", rows)
    job.wait()
    list(job.events())
    would = tuneport.delete(str(job.ref), dry_run=True)
    assert lab.files
    assert tuneport.delete(str(job.ref)) == would
    assert any(line.startswith("the model ft:base") for line in would.removed)
    assert not lab.files
    assert list(lab.models) == ["base"]
    assert not list((own_home / "openai" / "files").iterdir())


def test_data_that_another_job_still_needs_stays(lab: WireServer, rows: Dataset) -> None:
    lab.flow = ("running",)
    tuneport.train("lab:base", rows)
    other = tuneport.train("lab:base", rows, epochs=2)
    other.cancel()
    removal = tuneport.delete(str(other.ref))
    assert any("file" in line and "at lab" in line for line in removal.kept)
    assert lab.files


def test_a_tuned_model_is_a_base(lab: WireServer, rows: Dataset) -> None:
    job = tuneport.train("lab:base", rows)
    tuned = job.wait()
    tuneport.train(str(job.ref), rows)
    body = json.loads([b for m, p, _, b in lab.asked if m == "POST" and p == "/v1/fine_tuning/jobs"][-1])
    assert body["model"] == getattr(tuned, "name", None)


def test_a_profile_that_leads_elsewhere_now_gets_none_of_the_jobs_requests(lab: WireServer, rows: Dataset) -> None:
    from tuneport import loader
    from tuneport_openai.wire import profiles

    job = tuneport.train("lab:base", rows)
    profiles.add("lab", "http://127.0.0.1:9/v1")
    loader.load.cache_clear()
    with pytest.raises(tuneport.errors.ConfigError, match="was started at") as caught:
        tuneport.open_job(str(job.ref))
    assert f"tuneport profiles add lab {lab.url}" in str(caught.value)


def test_the_key_is_in_no_file_of_home(lab: WireServer, rows: Dataset, own_home: Path) -> None:
    job = tuneport.train("lab:base", rows)
    job.wait()
    list(job.events())
    for file in own_home.rglob("*"):
        if file.is_file():
            assert KEY.encode() not in file.read_bytes(), file


CONFIG = """\
model: lab:base
data: {train: rows.jsonl, holdout: 0.2}
train: {epochs: 3, suffix: topics}
backends:
  torch: {learning_rate: 2e-4, adapter: {rank: 16}}
  lab: {learning_rate_multiplier: 1.8}
"""


def test_show_has_what_was_sent_and_what_was_billed(
    lab: WireServer, rows: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneport.cli.app import invoke
    from tuneport.terminal import outlet

    monkeypatch.setenv("COLUMNS", "300")
    outlet.console.cache_clear()
    job = tuneport.train("lab:base", rows, settings={"usd_per_million_tokens": 10_000})
    job.wait()
    capsys.readouterr()
    assert invoke(["show", str(job.ref)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^trained tokens +1234 *$", said, re.MULTILINE)
    assert re.search(r"^cost +\$12\.34 *$", said, re.MULTILINE)
    assert re.search(r"^sent +/.*\.jsonl *$", said, re.MULTILINE)


def test_the_command_line_runs_a_config_from_start_to_end(lab: WireServer, rows: Dataset, tmp_path: Path) -> None:
    rows.write(tmp_path / "rows.jsonl")
    (tmp_path / "tune.yaml").write_text(CONFIG)
    done = cli("run", "tune.yaml", "--json", cwd=tmp_path)
    result = json.loads(done.stdout)
    assert result["state"]["status"] == "succeeded", done.stderr
    assert result["comparison"]["rows"] > 0
    assert Path(result["report"]).is_file()
    assert KEY not in done.stdout + done.stderr


def cli(*arguments: str, cwd: Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tuneport.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=cwd, check=False)


def test_a_start_that_is_killed_while_uploading_is_finished_by_the_same_command(
    lab: WireServer, rows: Dataset, tmp_path: Path
) -> None:
    rows.write(tmp_path / "rows.jsonl")
    (tmp_path / "tune.yaml").write_text(CONFIG)
    lab.file_looks = 10_000
    command = [sys.executable, "-m", "tuneport.cli", "run", "tune.yaml", "--no-wait"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(file["looks"] for file in lab.files.values()):
        time.sleep(0.02)
        assert process.poll() is None
    assert [job.status for job in tuneport.jobs()] == [Status.PREPARING]
    process.kill()
    process.wait()
    assert [job.status for job in tuneport.jobs()] == [Status.INTERRUPTED]
    lab.file_looks = 0
    done = cli("run", "tune.yaml", "--no-wait", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["ref"] == str(tuneport.jobs()[0].ref), done.stderr
    assert len(lab.jobs) == lab.calls("POST", "/v1/files") == 1


def test_a_start_that_an_outage_stops_continues_with_the_same_intent(lab: WireServer, rows: Dataset) -> None:
    lab.refuse["POST /v1/files"] = (503, {"error": {"message": "down"}}, {})
    with pytest.raises(tuneport.errors.BackendError, match="down") as caught:
        tuneport.train("lab:base", rows)
    assert "Run the same command again" in str(caught.value)
    (job,) = tuneport.jobs()
    assert job.status is Status.INTERRUPTED
    lab.refuse.clear()
    assert tuneport.train("lab:base", rows).ref == job.ref
    assert len(lab.jobs) == 1


def test_a_model_that_the_server_does_not_have_is_answered_with_those_it_has(
    lab: WireServer, rows: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tuneport.train("lab:base", rows)
    job.wait()
    for status in (400, 404):
        error = {"error": {"message": "no such model", "param": "model"}}
        lab.refuse["POST /v1/fine_tuning/jobs"] = (status, error, {})
        with pytest.raises(tuneport.TuneportError, match="no such model") as caught:
            tuneport.train(f"lab:other-{status}", rows)
        assert "lab has: base, ft:base:" in (caught.value.remedy or "")
        assert "Azure" not in (caught.value.remedy or "")


def test_a_start_that_was_refused_is_over(lab: WireServer, rows: Dataset) -> None:
    lab.refuse["POST /v1/fine_tuning/jobs"] = (400, {"error": {"message": "no such model"}}, {})
    with pytest.raises(tuneport.errors.UsageError, match="no such model"):
        tuneport.train("lab:base", rows)
    lab.refuse.clear()
    (job,) = tuneport.jobs()
    refused = tuneport.open_job(job.ref)
    assert (refused.status, job.status) == (Status.FAILED, Status.FAILED)
    refused.cancel()
    with pytest.raises(tuneport.errors.UsageError, match="is over"):
        refused.resume()
    assert tuneport.train("lab:base", rows).ref != job.ref
    assert len(lab.jobs) == 1


@pytest.mark.parametrize("limits", [("poll_seconds=0.01", "retry_seconds=0", "search_seconds=0")])
def test_settle_finds_the_job_or_says_that_it_is_not_known_yet(
    lab: WireServer, rows: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tuneport.cli.app import invoke

    lab.refuse["POST /v1/fine_tuning/jobs"] = (500, {"error": {"message": "broken"}}, {})
    with pytest.raises(tuneport.errors.JobNotFinished, match="not sent again"):
        tuneport.train("lab:base", rows)
    (job,) = tuneport.jobs()
    assert job.status is Status.UNCONFIRMED
    with pytest.raises(tuneport.errors.JobNotFinished, match="not sent again") as caught:
        tuneport.train("lab:base", rows)
    assert f"tuneport settle {job.ref}" in str(caught.value)
    capsys.readouterr()
    assert invoke(["settle", str(job.ref)]) == 3
    assert "15 minutes after it was sent" in capsys.readouterr().err
    with monkeypatch.context() as without:
        without.delenv("LAB_API_KEY")
        assert invoke(["settle", str(job.ref)]) == 3
    said = capsys.readouterr().err
    assert "the search for it failed" in said
    assert "export LAB_API_KEY" in said
    assert "in a few minutes" not in said
    scratch = tuneport.plugin.open_notebook(job.ref).scratch
    lab.refuse.clear()
    intent = scratch["request"]["intent"]
    lab.create({"model": "base", "training_file": scratch["files"]["train"], "metadata": {"tuneport_intent": intent}})
    capsys.readouterr()
    assert invoke(["settle", str(job.ref), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ref"] == str(job.ref)
    assert tuneport.train("lab:base", rows).wait().ref == job.ref


def test_an_unconfirmed_job_can_neither_be_cancelled_nor_deleted(lab: WireServer, rows: Dataset) -> None:
    job = tuneport.train("lab:base", rows)
    assert isinstance(job, HostedJob)
    job.scratch["create"] = {"at": tuneport.plugin.utc_now().isoformat(), "training_file": "x", "model": "base"}
    del job.scratch["job"]
    for act in (job.cancel, job.delete, lambda: tuneport.delete(job.ref)):
        with pytest.raises(tuneport.errors.JobNotFinished) as caught:
            act()
        assert f"tuneport settle {job.ref}" in str(caught.value)


Observe = Callable[[Callable[[tuneport.Event], None]], None]


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> Observe:
    """Lets a function see every event."""
    from tuneport import loader

    def observe(see: Callable[[tuneport.Event], None]) -> None:
        class Observer:
            @staticmethod
            @tuneport.plugin.hookimpl
            def tuneport_on_event(job: tuneport.Job, event: tuneport.Event) -> None:
                see(event)

        loaded = loader.load()
        found = next(one for one in loaded._found if one.entry.name == "openai")
        monkeypatch.setattr(found.module, "tuneport_on_event", Observer.tuneport_on_event, raising=False)
        loaded._manager.unregister(found.module)
        loaded._manager.register(found.module, name="openai")

    return observe


def test_observers_get_every_event(lab: WireServer, rows: Dataset, observed: Observe) -> None:
    seen: list[int] = []
    observed(lambda event: seen.append(event.seq))
    job = tuneport.train("lab:base", rows)
    job.wait()
    assert sorted(set(seen)) == [event.seq for event in job.events()][: len(set(seen))]
    assert seen == sorted(seen)
    assert seen


def test_an_observer_that_failed_at_the_last_event_gets_it_again(
    lab: WireServer, rows: Dataset, observed: Observe
) -> None:
    seen: list[str] = []

    def see(event: tuneport.Event) -> None:
        seen.append(event.message)
        if event.message.endswith("from the result file") and seen.count(event.message) == 1:
            raise OSError("the logging service is away")

    observed(see)
    job = tuneport.train("lab:base", rows)
    job.wait()
    job.wait()
    last = list(job.events())[-1].message
    assert last.endswith("from the result file")
    assert seen.count(last) == 2


@pytest.mark.parametrize("where", ["method", "next to it"])
def test_what_the_server_chose_for_auto_is_reported(where: str, lab: WireServer, rows: Dataset) -> None:
    job = tuneport.train("lab:base", rows, epochs=3)
    (kept,) = lab.jobs.values()
    used = {"n_epochs": 3, "batch_size": 2, "learning_rate_multiplier": 1.8, "odd": {"x": 1}, "beta": "auto"}
    kept["method"] = {"type": "supervised", "supervised": {"hyperparameters": used}} if where == "method" else None
    kept["hyperparameters"] = {} if where == "method" else used
    job.wait()
    details = tuneport.open_job(job.ref).state().details
    assert details["resolved"] == {"epochs": 3, "batch_size": 2, "learning_rate_multiplier": 1.8}
    chose = "auto: the server chose"
    assert details["reasons"] == {"epochs": "as requested", "batch_size": chose, "learning_rate_multiplier": chose}


@pytest.mark.parametrize("odd", [None, [], "x", {"type": []}, {"type": "supervised", "supervised": 3}])
def test_hyperparameters_of_a_nasty_server_are_passed_over(odd: object, lab: WireServer, rows: Dataset) -> None:
    job = tuneport.train("lab:base", rows, epochs=3)
    (kept,) = lab.jobs.values()
    kept["method"] = kept["hyperparameters"] = odd
    job.wait()
    assert job.state().details.get("resolved") is None
