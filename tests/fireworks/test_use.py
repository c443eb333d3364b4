"""A tuned model at Fireworks: deployed, asked, billed, taken down, and brought home."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tuneport
from fireworks_schemas import KEY
from fireworks_server import BASE, FireworksServer
from tuneport import Dataset
from tuneport.errors import BackendError, UnavailableError

MODEL = "fireworks:tiny-chat"


@pytest.fixture
def job(server: FireworksServer, rows: Dataset) -> tuneport.Job:
    server.flow = ("RUNNING", "COMPLETED")
    made = tuneport.train(MODEL, rows)
    made.wait()
    return made


def test_a_model_that_is_not_deployed_says_so_and_deploys_nothing(server: FireworksServer, job: tuneport.Job) -> None:
    with pytest.raises(UnavailableError, match="not deployed"):
        job.result().ask("hello")
    assert "not deployed" in tuneport.open_backend("fireworks").missing(job.ref.name)
    assert not server.deployments


def test_a_deployment_says_its_price_answers_and_is_removed_by_delete(
    server: FireworksServer, job: tuneport.Job
) -> None:
    model = job.result()
    said = model.ensure_ready()
    assert "$7.00 an hour" in said
    assert "5 min" in said
    made = next(iter(server.deployments.values()))
    assert made["minReplicaCount"] == 0
    assert made["autoscalingPolicy"] == {"scaleToZeroWindow": "300s"}
    assert model.ask("hello") == "echo: hello"
    sent = json.loads(server.asked[-1][3])
    assert sent["messages"][0] == {"role": "system", "content": "Answer in one word."}
    model.ensure_ready()
    assert len(server.deployments) == 1
    tuneport.delete(job.ref)
    assert not server.deployments


def test_the_setting_deploy_creates_it_at_the_first_question(server: FireworksServer, rows: Dataset) -> None:
    server.flow = ("RUNNING", "COMPLETED")
    model = tuneport.train(MODEL, rows, settings={"deploy": True, "idle_seconds": 600}).wait()
    assert not server.deployments
    assert model.ask_many(["a", "b", "c"]) == ["echo: a", "echo: b", "echo: c"]
    assert next(iter(server.deployments.values()))["autoscalingPolicy"] == {"scaleToZeroWindow": "600s"}


def test_a_deployment_that_wakes_up_is_waited_for(server: FireworksServer, job: tuneport.Job) -> None:
    model = job.result()
    model.ensure_ready()
    server.cold = 8
    assert model.ask("hello") == "echo: hello"


def test_what_is_billed_now_is_listed_also_where_others_deployed_it(server: FireworksServer, job: tuneport.Job) -> None:
    job.result().ensure_ready()
    name = "accounts/acme/deployments/by-hand"
    server.deployments[name] = {"name": name, "baseModel": BASE, "state": "READY", "minReplicaCount": 1}
    found = {one.name: one for one in tuneport.open_backend("fireworks").hostings()}
    ours = next(one for one in found.values() if one.ref)
    assert (ours.ref, ours.state, ours.is_billed, ours.usd_per_hour.value) == (str(job.ref), "ready", True, 7.0)
    assert ours.stops_after == 300
    assert (found[name].ref, found[name].state, found[name].stops_after) == ("", "asleep", None)
    assert found[name].usd_per_hour.value is None


@pytest.mark.parametrize("kind", ["500 after", "reset after", "reset"])
def test_a_deployment_in_doubt_is_created_once(server: FireworksServer, job: tuneport.Job, kind: str) -> None:
    server.break_next("POST", "/deployments", kind)
    job.result().ensure_ready()
    assert len(server.deployments) == 1


def test_a_deployment_that_is_taken_down_needs_to_be_started_again(server: FireworksServer, job: tuneport.Job) -> None:
    model = job.result()
    model.ensure_ready()
    assert model.stop_hosting()
    assert not server.deployments
    assert not model.stop_hosting()
    with pytest.raises(UnavailableError, match="not deployed"):
        model.ask("hello")


@pytest.mark.parametrize("kind", ["429", "500 after", "reset", "timeout after", "page"])
def test_a_question_is_asked_again_after_a_fault(server: FireworksServer, job: tuneport.Job, kind: str) -> None:
    model = job.result()
    model.ensure_ready()
    server.break_next("POST", "/chat/", kind, times=2)
    assert model.ask("hello") == "echo: hello"


def test_an_answer_comes_in_pieces(server: FireworksServer, job: tuneport.Job) -> None:
    server.answers["hello"] = "one two three"
    model = job.result()
    model.ensure_ready()
    server.cold = 2
    assert list(model.stream("hello")) == ["one ", "two ", "three"]
    server.break_next("POST", "/chat/", "500 after")
    assert "".join(model.stream("hello")) == "one two three"


def test_an_answer_that_breaks_off_is_an_error_after_what_came(server: FireworksServer, job: tuneport.Job) -> None:
    server.answers["hello"] = "one two three"
    model = job.result()
    model.ensure_ready()
    server.break_next("POST", "/chat/", "cut")
    pieces = model.stream("hello")
    assert next(pieces) == "one "
    with pytest.raises(UnavailableError, match="ended its response too early"):
        next(pieces)


def test_a_base_model_answers_where_it_is_serverless(server: FireworksServer) -> None:
    with pytest.raises(UnavailableError):
        tuneport.open_model(MODEL).ask("hello")
    server.models[BASE]["supportsServerless"] = True
    assert tuneport.open_model(MODEL).ask("hello") == "echo: hello"


def test_the_adapter_comes_home_and_names_its_base_as_the_hub_does(
    server: FireworksServer, job: tuneport.Job, tmp_path: Path
) -> None:
    config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": BASE}
    server.adapter = {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": b"weights",
        "training_args.bin": b"a pickle",
        "../evil.json": b"{}",
    }
    folder = job.result().export(tmp_path / "mine", "adapter")
    assert sorted(one.name for one in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "evil.json",
    ]
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "tuneport/tiny-chat"
    assert not (tmp_path / "evil.json").exists()
    stored = [(path, headers) for _, path, headers, _ in server.asked if path.startswith("STORE")]
    assert len(stored) == 3
    assert KEY not in str(stored)


def test_an_export_that_breaks_off_leaves_nothing(server: FireworksServer, job: tuneport.Job, tmp_path: Path) -> None:
    server.adapter = {"adapter_config.json": b"not json", "adapter_model.safetensors": b"weights"}
    with pytest.raises(BackendError, match="not a JSON object"):
        job.result().export(tmp_path / "mine", "adapter")
    assert list(tmp_path.glob("*mine*")) == []
