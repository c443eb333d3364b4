"""The public functions over a small third-party backend: nothing starts twice or is lost between two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import tuneport
import tuneport.plugin
from tuneport.ledger import Ledger

pytestmark = pytest.mark.usefixtures("parrot")


@pytest.fixture
def data(tickets: Path) -> tuneport.Dataset:
    return tuneport.Dataset.load(tickets)


def test_the_ten_lines(data: tuneport.Dataset) -> None:
    train, holdout = data.split(holdout=0.3)
    job = tuneport.train("parrot:gray", train, epochs=3)
    model = job.wait()
    assert model.ask("where is my card?") == "card_arrival"
    comparison = tuneport.compare(model, holdout)
    assert comparison.rows == len(holdout)
    assert "base" in str(comparison)
    assert tuneport.open_job(str(job.ref)).status is tuneport.Status.SUCCEEDED
    assert tuneport.open_model(str(job.ref)).ask("blocked pin") == "pin"


def test_the_same_training_finds_the_finished_job_and_again_starts_another(data: tuneport.Dataset) -> None:
    first = tuneport.train("parrot:gray", data)
    assert tuneport.train("parrot:gray", data).ref == first.ref
    assert tuneport.train("parrot:gray", data, seed=1).ref != first.ref
    assert tuneport.train("parrot:gray", data, settings={"learning_rate": 2.0}).ref != first.ref
    assert tuneport.train("parrot:gray", data, again=True).ref != first.ref


def test_what_is_called_before_a_start_may_stop_it_once_the_rows_are_checked(
    data: tuneport.Dataset, own_home: Path
) -> None:
    called: list[str] = []

    def stop() -> None:
        called.append("stop")
        raise KeyboardInterrupt

    with pytest.raises(tuneport.errors.DataError):
        tuneport.train("parrot:gray", [{"question": "", "answer": ""}], before_start=stop)
    assert not called
    with pytest.raises(KeyboardInterrupt):
        tuneport.train("parrot:gray", data, before_start=stop)
    assert called == ["stop"]
    assert not (own_home / "parrot").exists()
    assert not tuneport.jobs()
    assert tuneport.train("parrot:gray", data, before_start=lambda: called.append("go")).wait()
    assert called == ["stop", "go"]


def test_a_default_written_out_makes_no_other_training(data: tuneport.Dataset) -> None:
    first = tuneport.train("parrot:gray", data)
    assert tuneport.train("parrot:gray", data, settings={"learning_rate": 1.0}).ref == first.ref


def test_a_job_removed_behind_our_back_is_started_again(data: tuneport.Dataset, own_home: Path) -> None:
    import shutil

    first = tuneport.train("parrot:gray", data)
    shutil.rmtree(own_home / "parrot" / first.ref.name)
    assert tuneport.train("parrot:gray", data).ref != first.ref


@pytest.mark.parametrize(("dies", "starts"), [("before", 1), ("after", 2)])
def test_a_start_that_was_killed_is_finished_under_the_same_intent(
    dies: str, starts: int, tickets: Path, data: tuneport.Dataset, tmp_path: Path, own_home: Path
) -> None:
    code = f"import tuneport; tuneport.train('parrot:gray', tuneport.Dataset.load({str(tickets)!r}))"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PARROT_DIES": dies}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 9
    [record] = Ledger.open().jobs()
    assert record.intent_state == "sent"
    job = tuneport.train("parrot:gray", data)
    assert job.ref == record.ref
    facts = json.loads((own_home / "parrot" / job.ref.name / "facts.json").read_text())
    assert facts["intent"] == record.intent
    assert len((own_home / "parrot" / job.ref.name / "starts").read_text().splitlines()) == starts
    [record] = Ledger.open().jobs()
    assert record.intent_state == "confirmed"


def start_at_once(tickets: Path, tmp_path: Path, count: int) -> None:
    code = f"import tuneport; print(tuneport.train('parrot:gray', tuneport.Dataset.load({str(tickets)!r})).ref)"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    refs = {process.communicate()[0] for process in processes}
    assert len(refs) == 1
    assert refs != {""}
    assert len(Ledger.open().jobs()) == 1


def test_processes_that_start_the_same_training_get_one_job(tickets: Path, tmp_path: Path) -> None:
    start_at_once(tickets, tmp_path, 4)


@pytest.mark.soak
def test_twenty_processes_that_start_the_same_training_get_one_job(tickets: Path, tmp_path: Path) -> None:
    start_at_once(tickets, tmp_path, 20)


def test_threads_that_start_the_same_training_at_once_get_one_job(tickets: Path) -> None:
    def begin(number: int) -> str:
        return str(tuneport.train("parrot:gray", tuneport.Dataset.load(tickets), seed=number // 8).ref)

    with ThreadPoolExecutor(8) as threads:
        refs = list(threads.map(begin, range(48)))
    assert [len(set(refs[start : start + 8])) for start in range(0, 48, 8)] == [1] * 6
    assert len(Ledger.open().jobs()) == 6


def test_what_is_refused_leaves_no_live_intent(data: tuneport.Dataset) -> None:
    with pytest.raises(tuneport.errors.ModelNotFound):
        tuneport.train("parrot:pink", data)
    with pytest.raises(tuneport.errors.UnsupportedError, match="cannot train by 'dpo'"):
        tuneport.train("parrot:gray", data, method="dpo")
    with pytest.raises(tuneport.errors.ConfigError, match="learning_rat"):
        tuneport.train("parrot:gray", data, settings={"learning_rat": 1.0})
    with pytest.raises(tuneport.errors.BackendNotFound):
        tuneport.train("budgie:gray", data)
    assert Ledger.open().jobs() == []


def declare(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Let the parrot declare something else."""
    backend = tuneport.open_backend("parrot")
    monkeypatch.setattr(backend, "capabilities", replace(backend.capabilities, **changes))


def test_what_a_backend_declares_that_it_cannot_do_is_refused_before_anything_starts(
    data: tuneport.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, seed=False, validation=False, max_epochs=2, verbs=frozenset())
    with pytest.raises(tuneport.errors.UnsupportedError, match="takes no seed"):
        tuneport.train("parrot:gray", data, seed=7)
    with pytest.raises(tuneport.errors.UnsupportedError, match="takes no validation rows"):
        tuneport.train("parrot:gray", data, validation=data)
    with pytest.raises(tuneport.errors.UnsupportedError, match="at most 2 epochs, not 3"):
        tuneport.train("parrot:gray", data, epochs=3)
    assert Ledger.open().jobs() == []
    job = tuneport.train("parrot:gray", data, epochs=2)
    with pytest.raises(tuneport.errors.UnsupportedError, match="does not support cancel"):
        tuneport.open_job(job.ref).cancel()


def test_a_seed_that_a_backend_does_not_take_is_noted_in_the_plan(
    data: tuneport.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("seed" in note for note in tuneport.plan("parrot:gray", data).notes)
    declare(monkeypatch, seed=False)
    assert any("takes no seed" in note for note in tuneport.plan("parrot:gray", data).notes)
    assert not any("seed" in note for note in tuneport.plan("parrot:gray", data, seed=None).notes)


def test_a_closing_vendor_is_noted_with_who_else_could_run_the_config(
    data: tuneport.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    closes = tuneport.plugin.Availability(ready=True, closing="The cage closes in May")
    backend = tuneport.open_backend("parrot")
    monkeypatch.setattr(backend, "availability", lambda: closes)
    assert "torch" in tuneport.plugin.alternatives("parrot")
    [note] = [note for note in tuneport.plan("parrot:gray", data).notes if "cage" in note]
    assert note.startswith("The cage closes in May. Change one word of the config")
    assert "torch" in note


def test_validation_rows_with_errors_stop_a_start(data: tuneport.Dataset, tmp_path: Path) -> None:
    bad = tmp_path / "steering.jsonl"
    bad.write_text('{"text": "no label"}\n{"text": "my card is lost", "label": "card_arrival"}\n')
    with pytest.raises(tuneport.errors.DataError, match=r"steering.jsonl has 1 error"):
        tuneport.train("parrot:gray", data, validation=bad)
    assert Ledger.open().jobs() == []


def test_waiting_tells_every_event_once_and_a_failure_says_why(data: tuneport.Dataset) -> None:
    seen: list[int] = []
    job = tuneport.train("parrot:gray", data)
    job.wait(on_event=lambda event: seen.append(event.seq))
    assert seen == [1, 2, 3]
    failed = tuneport.train("parrot:gray", data, settings={"stop_at": "failed"})
    with pytest.raises(tuneport.errors.JobFailed, match="it forgot") as caught:
        failed.wait()
    assert caught.value.ref == str(failed.ref)
    paused = tuneport.train("parrot:gray", data, settings={"stop_at": "paused"})
    with pytest.raises(tuneport.errors.JobNotFinished, match="tuneport resume"):
        paused.wait()
    running = tuneport.train("parrot:gray", data, settings={"stop_at": "running"})
    with pytest.raises(tuneport.errors.WaitTimeout, match="still running"):
        running.wait(timeout=0.05)
    with pytest.raises(TimeoutError):
        running.wait(timeout=0)


@pytest.mark.parametrize("stops_at", ["failed", "paused", "succeeded"])
def test_where_a_wait_ended_is_in_the_ledger_at_once(data: tuneport.Dataset, stops_at: str) -> None:
    job = tuneport.train("parrot:gray", data, settings={"stop_at": stops_at})
    assert Ledger.open().job(job.ref).status is tuneport.Status.QUEUED
    with suppress(tuneport.errors.JobError):
        job.wait()
    record = Ledger.open().job(job.ref)
    assert record.status == stops_at
    assert record.reason == ("it forgot" if stops_at == "failed" else "")


def test_a_wait_ends_with_the_model_though_the_ledger_cannot_be_written(
    data: tuneport.Dataset, own_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = tuneport.train("parrot:gray", data)
    for file in own_home.glob("ledger.sqlite3*"):
        file.unlink()
    (own_home / "ledger.sqlite3").write_text("no ledger, but long enough to be taken for a damaged one" * 100)
    assert job.wait().ask("blocked pin") == "pin"
    assert f"Could not save the state of {job.ref}" in caplog.text


def test_a_tuned_model_is_the_base_of_the_next_run(data: tuneport.Dataset) -> None:
    first = tuneport.train("parrot:gray", data).wait()
    second = tuneport.train(str(first.ref), data, suffix="next").wait()
    assert second.lineage is not None
    assert second.lineage.base == str(first.ref)


def test_observers_see_every_event_once_in_order_from_whichever_process(data: tuneport.Dataset, own_home: Path) -> None:
    job = tuneport.train("parrot:gray", data)
    assert tuneport.plugin.open_notebook(job.ref).deliver(job) == {}
    assert tuneport.plugin.open_notebook(job.ref).deliver(job) == {}
    lines = (own_home / "observed.txt").read_text().split("\n")
    assert lines == [f"{job.ref} {seq}" for seq in (1, 2, 3)] + [""]


def test_jobs_on_a_backend_that_is_gone_are_listed_with_the_reason(
    data: tuneport.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneport import loader

    job = tuneport.train("parrot:gray", data, settings={"stop_at": "running"})
    monkeypatch.setenv("TUNEPORT_PLUGINS", "")
    loader.load.cache_clear()
    [found] = tuneport.jobs()
    assert found.ref == job.ref
    assert found.stale is not None
    assert "parrot" in found.stale


def test_a_model_that_others_were_trained_from_is_deleted_after_them_or_by_force(data: tuneport.Dataset) -> None:
    first = tuneport.train("parrot:gray", data)
    second = tuneport.train(str(first.ref), data, suffix="next")
    for dry_run in (True, False):
        with pytest.raises(tuneport.errors.UsageError, match=f"{second.ref} was trained from {first.ref}"):
            tuneport.delete(first.ref, dry_run=dry_run)
    assert first.status.terminal
    tuneport.delete(second.ref)
    assert tuneport.delete(first.ref)
    third = tuneport.train("parrot:gray", data, suffix="third")
    tuneport.train(str(third.ref), data, suffix="fourth")
    assert tuneport.delete(third.ref, force=True)


@pytest.mark.parametrize("force", [False, True])
def test_a_base_model_is_no_job_to_be_deleted(data: tuneport.Dataset, force: bool) -> None:
    for _ in range(2):  # before and after a job was trained from it
        with pytest.raises(tuneport.errors.JobNotFound, match="parrot:gray is a base model") as refused:
            tuneport.delete("parrot:gray", force=force)
        assert "--force" not in str(refused.value.remedy)
        assert tuneport.train("parrot:gray", data).status.terminal


def test_a_job_whose_backend_is_missing_is_taken_off_the_list_by_force_only(
    data: tuneport.Dataset, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    from tuneport import loader

    job = tuneport.train("parrot:gray", data)
    monkeypatch.setenv("TUNEPORT_PLUGINS", "")
    loader.load.cache_clear()
    with pytest.raises(tuneport.errors.BackendNotFound, match=f"tuneport delete {job.ref} --force"):
        tuneport.delete(job.ref)
    assert [one.ref for one in tuneport.jobs()] == [job.ref]
    assert tuneport.delete(job.ref, force=True).removed == [f"the ledger's entry of {job.ref}"]
    assert (own_home / "parrot" / job.ref.name).exists()
    with pytest.raises(tuneport.errors.JobNotFound):
        tuneport.delete(job.ref, force=True)


def test_a_job_that_the_ledger_does_not_know_can_be_deleted(data: tuneport.Dataset, own_home: Path) -> None:
    job = tuneport.train("parrot:gray", data)
    for file in own_home.glob("ledger.sqlite3*"):
        file.unlink()
    assert tuneport.delete(job.ref, dry_run=True) == tuneport.delete(job.ref)
    assert not (own_home / "parrot" / job.ref.name).exists()
    with pytest.raises(tuneport.errors.JobNotFound):
        tuneport.delete(job.ref)


def test_a_path_or_a_list_of_rows_is_a_dataset_too(tickets: Path) -> None:
    job = tuneport.train("parrot:gray", str(tickets))
    assert tuneport.compare(job.wait(), [{"text": "my PIN is blocked", "label": "pin"}]).tuned.right == 1


def test_a_schema_for_the_comparison_is_refused_before_anything_starts(tickets: Path) -> None:
    config = tuneport.RunConfig.model_validate(
        {"model": "parrot:gray", "data": {"train": str(tickets)}, "compare": {"json_schema": {"type": "object"}}}
    )
    with pytest.raises(tuneport.errors.UnsupportedError, match=r"compare\.json_schema"):
        tuneport.run(config)
    assert not tuneport.jobs()
