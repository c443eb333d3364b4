"""Nothing is deployed unless you ask for it, what you stop stays stopped, and nothing that is billed is forgotten."""

from __future__ import annotations

import queue
from typing import Any

import pytest

import tuneport
from fireworks_server import FireworksServer
from tuneport import Dataset
from tuneport.errors import ConfigError, TuneportError, UnavailableError
from tuneport_server.answering.memory import ModelMemory
from tuneport_server.answering.model_thread import ModelThread
from tuneport_server.answering.questions import Question
from tuneport_server.limits import ResourceLimits

MODEL = "fireworks:tiny-chat"
OTHER = "accounts/other"


@pytest.fixture
def job(server: FireworksServer, rows: Dataset) -> tuneport.Job:
    return train(server, rows)


def train(server: FireworksServer, rows: Dataset, **settings: Any) -> tuneport.Job:
    server.flow = ("RUNNING", "COMPLETED")
    made = tuneport.train(MODEL, rows, settings=settings)
    made.wait()
    return made


def test_a_server_deploys_nothing_without_being_asked(server: FireworksServer, job: tuneport.Job) -> None:
    limits, answers = ResourceLimits(), queue.Queue[Any]()
    thread = ModelThread(job.ref, ModelMemory(1, 2**30), limits, lambda _: True)
    messages = [{"role": "user", "content": "hello"}]
    question = Question(messages=messages, options={"temperature": 0.0}, count=1, stream=False, deliver=answers.put)
    thread.questions.put(question)
    assert "not deployed" in str(answers.get(timeout=20))
    assert not server.deployments


def test_what_you_stop_is_not_deployed_by_a_question(server: FireworksServer, rows: Dataset) -> None:
    model = train(server, rows, deploy=True).result()
    model.ask("hello")
    assert model.stop_hosting()
    with pytest.raises(UnavailableError, match="tuneport hosting start"):
        model.ask("hello")
    assert not server.deployments
    model.ensure_ready()
    assert model.ask("hello") == "echo: hello"


def test_a_start_waits_for_the_end_of_the_deployment_before(
    server: FireworksServer, job: tuneport.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = job.result()
    model.ensure_ready()
    name, old = next(iter(server.deployments.items()))
    old["state"] = "DELETING"
    read, looks = server.read_deployment, []

    def read_slowly(asked: str) -> dict[str, Any]:
        looks.append(asked)
        if len(looks) == 3:
            server.deployments.pop(name)
        return read(asked)

    monkeypatch.setattr(server, "read_deployment", read_slowly)
    model.ensure_ready()
    assert server.deployments[name] is not old
    assert model.ask("hello") == "echo: hello"


def test_a_key_of_another_account_forgets_nothing(
    server: FireworksServer, job: tuneport.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.result().ensure_ready()
    with monkeypatch.context() as patch:
        patch.setattr(server, "accounts", lambda: {"accounts": [{"name": OTHER}]})
        with pytest.raises(ConfigError, match="was started in the account acme of Fireworks"):
            tuneport.delete(job.ref)
        with pytest.raises(ConfigError, match="is that of other"):
            job.result().stop_hosting()
    assert len(server.deployments) == 1
    tuneport.delete(job.ref)
    assert not server.deployments


def test_a_deployment_that_cannot_be_removed_keeps_everything(server: FireworksServer, job: tuneport.Job) -> None:
    job.result().ensure_ready()
    server.break_next("DELETE", "/deployments/", "503", times=99)
    with pytest.raises(TuneportError):
        tuneport.delete(job.ref)
    assert server.calls("DELETE", "/models/") == 0
    assert tuneport.open_job(job.ref).status == "succeeded"
    server.faults.clear()
    assert "deployments" in tuneport.delete(job.ref).removed[0]
    assert not server.deployments


def test_a_deployment_whose_creation_was_never_confirmed_is_listed_and_deleted(
    server: FireworksServer, job: tuneport.Job
) -> None:
    server.break_next("POST", "/deployments", "500 after")
    server.break_next("POST", "/deployments", "503", times=99)
    with pytest.raises(TuneportError):
        job.result().ensure_ready()
    server.faults.clear()
    assert [one.ref for one in tuneport.open_backend("fireworks").hostings()] == [str(job.ref)]
    tuneport.delete(job.ref)
    assert not server.deployments
