"""A training at Fireworks from the rows to the tuned model, as the server sees it and as a user does."""

from __future__ import annotations

import json
import threading
import time

import pytest

import tuneport
from fireworks_server import BASE, FireworksServer
from tuneport import Dataset
from tuneport.errors import (
    DataError,
    JobCancelled,
    JobFailed,
    JobNotFinished,
    ModelNotFound,
    UnsupportedError,
    UsageError,
)

MODEL = "fireworks:tiny-chat"


def _body(server: FireworksServer, part: str = "FineTuningJobs?") -> dict[str, object]:
    return json.loads(next(raw for verb, path, _, raw in server.asked if verb == "POST" and part in path))


def test_a_supervised_job_sends_what_was_set_and_leaves_auto_to_fireworks(
    server: FireworksServer, rows: Dataset
) -> None:
    settings = {"rank": 16, "learning_rate": 2e-4, "batch_rows": 4, "weight_decay": 0.01}
    job = tuneport.train(MODEL, rows, validation=rows.sample(4), epochs=3, settings=settings)
    body = _body(server)
    assert body.pop("dataset") != body.pop("evaluationDataset")
    assert body == {
        "displayName": str(job.ref),
        "baseModel": BASE,
        "epochs": 3,
        "loraRank": 16,
        "learningRate": 2e-4,
        "batchSizeSamples": 4,
        "optimizerWeightDecay": 0.01,
    }


def test_the_dataset_is_the_rows_in_openais_form(server: FireworksServer, rows: Dataset) -> None:
    tuneport.train(MODEL, rows)
    sent = [json.loads(line) for line in next(iter(server.content.values())).splitlines()]
    assert sent[0]["messages"][2] == {"role": "assistant", "content": "answer0"}
    assert len(sent) == len(rows)
    assert next(iter(server.datasets.values()))["format"] == "CHAT"


@pytest.mark.parametrize(
    ("method", "loss"), [("dpo", {"method": "DPO", "dpo": {"beta": 0.2}}), ("orpo", {"method": "ORPO"})]
)
def test_a_preference_job_always_names_its_loss(
    server: FireworksServer, pairs: Dataset, method: str, loss: dict[str, object]
) -> None:
    job = tuneport.train(MODEL, pairs, method=method, epochs=1, settings={"beta": 0.2})
    body = _body(server, "dpoJobs?")
    assert body["lossConfig"] == loss
    assert body["trainingConfig"] == {"baseModel": BASE, "epochs": 1}
    sent = json.loads(next(iter(server.content.values())).splitlines()[0])
    assert sorted(sent) == ["input", "non_preferred_output", "preferred_output"]
    job.wait()


def test_events_are_made_from_what_changes_and_say_that_they_were_observed(
    server: FireworksServer, rows: Dataset
) -> None:
    server.metrics = b'{"step": 1, "loss": 2.5, "eval_loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo'
    job = tuneport.train(MODEL, rows)
    job.wait()
    events = list(job.events())
    assert [one.seq for one in events] == list(range(1, len(events) + 1))
    statuses = [one.data["status"] for one in events if one.kind == "status"]
    assert statuses == ["preparing", "queued", "running", "running", "succeeded"]
    assert all(one.data["observed"] for one in events if one.kind == "status")
    assert events[-1].data["status"] == "succeeded"
    losses = [one.data["train_loss"] for one in events if one.kind == "metric"]
    assert losses == [2.5, 1.5]
    assert job.state().step == 2


def test_two_followers_see_the_same_numbers(server: FireworksServer, rows: Dataset) -> None:
    job = tuneport.train(MODEL, rows)
    other = tuneport.open_job(job.ref)
    for _ in server.flow:
        job.state()
        other.state()
    assert [one.to_dict() for one in job.events()] == [one.to_dict() for one in other.events()]
    assert sum(one.data.get("status") == "succeeded" for one in job.events()) == 1


def test_nothing_follows_the_end_however_late_an_answer_comes(server: FireworksServer, rows: Dataset) -> None:
    server.flow, server.slow_seconds = ("PENDING", "RUNNING", "COMPLETED"), 1.5
    job = tuneport.train(MODEL, rows)
    server.break_next("GET", "FineTuningJobs/", "late")
    slow = threading.Thread(target=tuneport.open_job(job.ref).state)
    slow.start()
    while not server.calls("GET", "FineTuningJobs/"):
        time.sleep(0.01)
    while job.state().status != "succeeded":
        time.sleep(0.01)
    slow.join()
    statuses = [one.data.get("status") for one in job.events() if one.kind == "status"]
    assert statuses.count("succeeded") == 1
    assert statuses[-1] == "succeeded"


def test_a_job_that_is_over_is_read_without_the_service(server: FireworksServer, rows: Dataset) -> None:
    job = tuneport.train(MODEL, rows)
    job.wait()
    server.close()
    again = tuneport.open_job(job.ref)
    assert again.state().status == "succeeded"
    assert list(again.events())[-1].data["status"] == "succeeded"
    assert again.result().lineage.system == "Answer in one word."


def test_a_word_that_nobody_knows_does_not_end_a_job(server: FireworksServer, rows: Dataset) -> None:
    server.flow = ("BREWING",)
    state = tuneport.train(MODEL, rows).state()
    assert (state.status, state.native) == ("unknown", "JOB_STATE_BREWING")
    assert not state.status.terminal


def test_a_failed_job_says_why(server: FireworksServer, rows: Dataset) -> None:
    server.flow, server.failure = ("RUNNING", "FAILED"), "out of memory"
    with pytest.raises(JobFailed, match="out of memory"):
        tuneport.train(MODEL, rows).wait()


def test_cancel_is_final_and_may_be_repeated(server: FireworksServer, rows: Dataset) -> None:
    job = tuneport.train(MODEL, rows)
    server.held = True
    job.cancel()
    assert job.state().status == "cancelling"
    server.held = False
    with pytest.raises(JobCancelled):
        job.wait()
    job.cancel()
    assert server.calls("POST", ":cancel") == 1


def test_a_cancel_that_comes_too_late_is_no_error(server: FireworksServer, rows: Dataset) -> None:
    job = tuneport.train(MODEL, rows)
    server.ends_before_cancel = True
    job.cancel()
    assert job.state().status == "succeeded"


def test_a_paused_job_names_the_bill_and_resumes(server: FireworksServer, rows: Dataset) -> None:
    server.flow = ("PAUSED",)
    job = tuneport.train(MODEL, rows)
    with pytest.raises(JobNotFinished, match="billing"):
        job.wait()
    job.resume()
    assert job.wait().name == next(iter(server.jobs.values()))["outputModel"]


def test_a_tuned_model_can_be_trained_further(server: FireworksServer, rows: Dataset) -> None:
    first = tuneport.train(MODEL, rows)
    first.wait()
    server.asked.clear()
    tuneport.train(first.ref, rows, epochs=1)
    body = _body(server)
    assert body["warmStartFrom"] == first.result().name
    assert "baseModel" not in body


def test_a_suffix_is_in_the_models_name(server: FireworksServer, rows: Dataset) -> None:
    model = tuneport.train(MODEL, rows, suffix="Bank_Support").wait()
    assert model.name.startswith("accounts/acme/models/bank-support-")


def test_the_same_rows_are_uploaded_once(server: FireworksServer, rows: Dataset) -> None:
    tuneport.train(MODEL, rows)
    tuneport.train(MODEL, rows, again=True)
    assert server.calls("POST", ":upload") == 1
    assert len(server.jobs) == 2


def test_the_same_training_finds_the_job_that_lives(server: FireworksServer, rows: Dataset) -> None:
    assert tuneport.train(MODEL, rows).ref == tuneport.train(MODEL, rows).ref
    assert len(server.jobs) == 1


def test_a_model_that_is_not_tunable_is_refused_before_the_upload(server: FireworksServer, rows: Dataset) -> None:
    server.models[BASE]["tunable"] = False
    with pytest.raises(UnsupportedError, match="does not tune"):
        tuneport.train(MODEL, rows)
    assert not server.datasets


def test_a_refusal_starts_nothing_and_the_same_run_may_start_again(server: FireworksServer, rows: Dataset) -> None:
    del server.models[BASE]
    with pytest.raises(tuneport.errors.NotFoundError):
        tuneport.train(MODEL, rows)
    server.models[BASE] = {"name": BASE, "kind": "HF_BASE_MODEL", "tunable": True}
    tuneport.train(MODEL, rows)
    assert len(server.jobs) == 1


def test_data_that_fireworks_finds_bad_is_a_data_error(server: FireworksServer, rows: Dataset) -> None:
    server.complaint = "line 3 is not valid"
    with pytest.raises(DataError, match="line 3"):
        tuneport.train(MODEL, rows)
    assert not server.jobs


@pytest.mark.parametrize(
    ("settings", "method", "error"),
    [({"rank": 12}, "sft", UsageError), ({"beta": 0.5}, "dpo", UsageError), ({"idle_seconds": 60}, "sft", UsageError)],
)
def test_settings_that_fireworks_refuses_are_refused_here(
    server: FireworksServer, rows: Dataset, settings: dict[str, object], method: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        tuneport.train(MODEL, rows, method=method, settings=settings)
    assert not server.asked


def test_validation_rows_are_refused_where_they_have_no_place(server: FireworksServer, pairs: Dataset) -> None:
    with pytest.raises(UnsupportedError, match="validation"):
        tuneport.train(MODEL, pairs, validation=pairs, method="dpo")
    assert not server.asked


def test_a_path_is_not_a_model_of_fireworks(rows: Dataset) -> None:
    with pytest.raises(ModelNotFound):
        tuneport.train("fireworks:./here", rows)


def test_a_plan_needs_no_key_and_no_network(
    server: FireworksServer, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FIREWORKS_API_KEY")
    plan = tuneport.plan(MODEL, rows, epochs=2, settings={"usd_per_million_tokens": 3.0})
    assert plan.tokens.value > 0
    assert plan.usd.value == pytest.approx(plan.tokens.value * 3 / 1e6, abs=1e-4)
    notes = " ".join(plan.notes)
    assert "FIREWORKS_API_KEY is not set" in notes
    assert notes.count("takes no seed") == 1
    assert tuneport.plan(MODEL, rows).usd.value is None
    assert not server.asked


def test_a_job_shows_what_it_costs(rows: Dataset) -> None:
    job = tuneport.train(MODEL, rows)
    assert job.state().details["usd"] == 1.25


def test_delete_removes_what_is_there_and_keeps_data_in_use(server: FireworksServer, rows: Dataset) -> None:
    job = tuneport.train(MODEL, rows)
    job.wait()
    other = tuneport.train(MODEL, rows, again=True)
    server.held = True
    removal = tuneport.delete(job.ref, dry_run=True)
    assert len(server.models) == 2
    assert "another job uses it" in removal.kept[0]
    assert tuneport.delete(job.ref) == removal
    assert list(server.models) == [BASE]
    assert len(server.jobs) == len(server.datasets) == 1
    server.held = False
    other.wait()
    tuneport.delete(other.ref)
    assert not server.jobs
    assert not server.datasets
