"""Vendors that depart from OpenAI's wire, against servers that refuse what their vendors refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tuneport
from tuneport import Dataset
from tuneport.errors import ConfigError, JobNotFinished, ModelNotFound, UnsupportedError, UsageError
from tuneport_openai.wire import profiles
from tuneport_openai.wire.vendors import recognize
from vendor_servers import BedrockServer, NebiusServer
from wire_server import WireServer

LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:reward"
LIMITS = ("poll_seconds=0.01", "retry_seconds=0", "search_seconds=0.05", "create_seconds=2")
PROMPTS = [
    {
        "messages": [
            {"role": "user", "content": f"How much is {n} and {n}?"},
            {"role": "assistant", "content": str(2 * n)},
        ]
    }
    for n in range(12)
]


def serve(server: WireServer, vendor: profiles.VendorName) -> Iterator[Any]:
    from tuneport import loader

    profiles.add(vendor, server.url, "LAB_API_KEY", vendor, LIMITS)
    loader.load.cache_clear()
    yield server
    loader.load.cache_clear()
    server.close()


@pytest.fixture
def nebius() -> Iterator[NebiusServer]:
    yield from serve(NebiusServer(), "nebius")


@pytest.fixture
def bedrock() -> Iterator[BedrockServer]:
    yield from serve(BedrockServer(), "bedrock")


def created(server: WireServer) -> list[dict[str, Any]]:
    """The bodies that were sent to create a job."""
    return [
        json.loads(body) for verb, path, _, body in server.asked if (verb, path) == ("POST", "/v1/fine_tuning/jobs")
    ]


@pytest.mark.parametrize(
    ("url", "vendor"),
    [
        ("https://api.tokenfactory.nebius.com/v1", "nebius"),
        ("https://bedrock-mantle.us-east-1.api.aws/v1", "bedrock"),
        ("https://mine.openai.azure.com", "azure"),
        ("https://nebius.com.example.org/v1", "other"),
        ("https://example.org/bedrock-mantle.", "other"),
    ],
)
def test_a_vendor_is_recognized_by_its_host(url: str, vendor: str) -> None:
    assert recognize(url) == vendor


def test_a_profile_that_was_added_before_its_vendor_was_known_is_recognized(own_home: Path) -> None:
    """A multiplier must never be sent to Nebius, however long ago its profile was added."""
    own_home.mkdir()
    stored = {"base_url": "https://api.tokenfactory.nebius.com/v1", "key": "MY_KEY", "vendor": "other"}
    (own_home / "profiles.json").write_text(json.dumps({"profiles": {"mine": stored}}))
    assert profiles.profile("mine").vendor == "nebius"
    assert profiles.profile("nebius").key == "NEBIUS_API_KEY"


def test_nebius_refuses_a_multiplier_and_gets_an_absolute_rate(nebius: NebiusServer, rows: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"Set learning_rate to an absolute number") as caught:
        tuneport.train(f"nebius:{LLAMA}", rows, settings={"learning_rate_multiplier": 1.0})
    assert "learning_rate_multiplier" in str(caught.value)
    assert not created(nebius)
    tuneport.train(f"nebius:{LLAMA}", rows, epochs=2, settings={"learning_rate": 2e-5, "lora_r": 16, "batch_size": 4})
    (body,) = created(nebius)
    assert body["method"]["supervised"]["hyperparameters"] == {
        "n_epochs": 2,
        "learning_rate": 2e-5,
        "batch_size": 4,
        "lora": True,
        "lora_r": 16,
    }
    assert "metadata" not in body


def test_nebius_defaults_are_left_to_nebius(nebius: NebiusServer, rows: Dataset) -> None:
    plan = tuneport.plan(f"nebius:{LLAMA}", rows)
    assert (plan.epochs.value, plan.epochs.source) == (3, "the documented default of Nebius Token Factory")
    assert plan.usd.value is not None
    assert plan.usd.source == "$0.4 a million tokens, as of December 2025"
    assert tuneport.plan("nebius:Qwen/Qwen3-32B", rows).usd.value is None
    tuneport.train(f"nebius:{LLAMA}", rows, settings={"lora": False})
    (body,) = created(nebius)
    assert body["method"]["supervised"]["hyperparameters"] == {"lora": False}


def test_a_tuned_model_at_nebius_is_a_checkpoint_that_is_registered_once(
    nebius: NebiusServer, rows: Dataset, tmp_path: Path
) -> None:
    job = tuneport.train(f"nebius:{LLAMA}", rows, suffix="tickets")
    model = job.wait()
    assert [one.name for one in job.checkpoints()] == [f"{job.scratch['job']}:ftckpt_{n}" for n in (1, 2)]
    assert job.checkpoints()[0].uses == {"answer", "download"}
    assert job.state().step == 3
    assert model.ask("Question 1 about refund") == "refund"
    assert tuneport.open_model(str(job.ref)).ask("Question 2 about pin") == "pin"
    (name,) = nebius.custom
    assert nebius.custom[name]["source"] == f"{job.scratch['job']}:ftckpt_2"
    assert nebius.calls("POST", "/v0/models") == 1
    folder = model.export(tmp_path / "weights", "weights")
    assert sorted(one.name for one in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert (folder / "adapter_config.json").read_text() == "the bytes of adapter_config.json"
    with pytest.raises(ModelNotFound, match="cannot train"):
        tuneport.train(str(job.ref), rows)
    removal = tuneport.delete(str(job.ref))
    assert any(name in line for line in removal.removed)
    assert any("checkpoints" in line for line in removal.kept)
    assert not nebius.custom


def test_a_base_that_nebius_does_not_serve_says_what_to_do(nebius: NebiusServer, rows: Dataset, tmp_path: Path) -> None:
    model = tuneport.train("nebius:Qwen/Qwen3-32B", rows).wait()
    with pytest.raises(tuneport.errors.BackendError, match=r"base is not served\.?\n.*Export the weights"):
        model.ask("hello")
    assert len(list(model.export(tmp_path / "weights", "weights").iterdir())) == 2


def test_a_registration_that_was_removed_elsewhere_is_made_again(nebius: NebiusServer, rows: Dataset) -> None:
    model = tuneport.train(f"nebius:{LLAMA}", rows).wait()
    assert "".join(model.stream("Question 1 about refund")) == "refund"
    (name,) = nebius.custom
    del nebius.custom[name], nebius.models[name]
    with pytest.raises(ModelNotFound):
        list(model.stream("Question 1 about refund"))
    assert model.ask("Question 1 about refund") == "refund"
    assert nebius.calls("POST", "/v0/models") == 2


def break_answer(server: WireServer) -> None:
    """The server creates the job and then loses its answer."""
    before = server.spoil

    def spoil(handler: Any, command: str, path: str) -> bool:
        if (command, path) == ("POST", "/v1/fine_tuning/jobs"):
            with server.lock:
                server.create(json.loads(handler.body))
            handler._send(502, b"<html>bad gateway</html>", {"Content-Type": "text/html"})
            return True
        return before is not None and before(handler, command, path)

    server.spoil = spoil


def test_a_start_in_doubt_is_found_at_nebius_by_its_suffix(nebius: NebiusServer, rows: Dataset) -> None:
    break_answer(nebius)
    job = tuneport.train(f"nebius:{LLAMA}", rows, suffix="tickets")
    assert list(nebius.jobs) == [job.scratch["job"]]
    (one,) = nebius.jobs.values()
    mark = job.scratch["request"]["intent"].replace("-", "")
    assert one["suffix"] == f"tickets-{mark}"
    assert tuneport.train(f"nebius:{LLAMA}", rows, suffix="tickets").ref == job.ref


@pytest.mark.parametrize("suffix", [None, "tickets-0123"])
def test_a_suffix_that_is_not_shown_or_cut_proves_nothing(
    suffix: str | None, nebius: NebiusServer, rows: Dataset
) -> None:
    break_answer(nebius)
    nebius.twist = lambda _, path, answer: (
        {**answer, "data": [{**one, "suffix": suffix} for one in answer["data"]]}
        if path == "/v1/fine_tuning/jobs" and "data" in answer
        else answer
    )
    with pytest.raises(JobNotFinished, match=r"may be the job ftjob-\d+, which has no mark") as caught:
        tuneport.train(f"nebius:{LLAMA}", rows)
    assert caught.value.status == "unconfirmed"
    with pytest.raises(JobNotFinished):
        tuneport.settle(caught.value.ref)
    assert len(nebius.jobs) == 1


def test_a_suffix_leaves_room_for_the_mark(nebius: NebiusServer, rows: Dataset) -> None:
    with pytest.raises(UsageError, match="takes up to 31"):
        tuneport.train(f"nebius:{LLAMA}", rows, suffix="x" * 32)
    tuneport.train(f"nebius:{LLAMA}", rows, suffix="x" * 31)
    assert len(created(nebius)[0]["suffix"]) == 64


def test_methods_that_a_vendor_does_not_have_are_refused_before_anything_is_sent(
    nebius: NebiusServer, bedrock: BedrockServer, rows: Dataset
) -> None:
    with pytest.raises(UnsupportedError, match="sft"):
        tuneport.train("bedrock:openai.gpt-oss-20b", rows)
    with pytest.raises(UnsupportedError, match="reinforcement"):
        tuneport.train(f"nebius:{LLAMA}", rows, method="reinforcement")
    assert not nebius.asked
    assert not bedrock.asked


def test_bedrock_is_reinforcement_with_a_lambda_function(bedrock: BedrockServer) -> None:
    settings = {"grader": {"type": "lambda", "function": ARN}, "batch_size": 4}
    job = tuneport.train(
        "bedrock:openai.gpt-oss-20b", Dataset.load(PROMPTS), method="reinforcement", epochs=2, settings=settings
    )
    (body,) = created(bedrock)
    assert body["method"] == {
        "type": "reinforcement",
        "reinforcement": {
            "grader": {"type": "lambda", "lambda": {"function": ARN}},
            "hyperparameters": {"n_epochs": 2, "batch_size": 4},
        },
    }
    assert body.keys() == {"model", "method", "training_file"}
    assert job.wait().ask("How much is 3 + 3?") is not None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"suffix": "tickets"}, "takes no suffix"),
        ({"settings": {}}, "needs a grader"),
        (
            {"settings": {"grader": {"type": "python", "name": "x", "source": "def grade(sample, item): return 1"}}},
            r"no grader of type python.\n.*lambda",
        ),
        ({"metadata": {"team": "shop"}}, "takes no metadata"),
        ({"seed": 7}, "takes no seed"),
    ],
)
def test_what_bedrock_refuses_is_refused_here(options: dict[str, Any], problem: str, bedrock: BedrockServer) -> None:
    settings = {"grader": {"type": "lambda", "function": ARN}}
    asked: dict[str, Any] = {"settings": settings, **options}
    with pytest.raises((UsageError, UnsupportedError), match=problem):
        tuneport.train("bedrock:openai.gpt-oss-20b", Dataset.load(PROMPTS), method="reinforcement", **asked)
    assert not created(bedrock)


def test_a_lambda_function_is_for_bedrock_only(lab: WireServer) -> None:
    settings = {"grader": {"type": "lambda", "function": ARN}}
    with pytest.raises(UsageError, match="no grader of type lambda"):
        tuneport.train("lab:base", Dataset.load(PROMPTS), method="reinforcement", settings=settings)


def test_a_start_in_doubt_is_found_at_bedrock_by_a_file_of_its_own(bedrock: BedrockServer) -> None:
    settings = {"grader": {"type": "lambda", "function": ARN}}

    def train() -> Any:
        return tuneport.train(
            "bedrock:openai.gpt-oss-20b",
            Dataset.load(PROMPTS),
            method="reinforcement",
            settings=settings,
            again=True,
        )

    first = train()
    break_answer(bedrock)
    second = train()
    assert first.scratch["job"] != second.scratch["job"]
    assert {first.scratch["job"], second.scratch["job"]} == set(bedrock.jobs)
    assert first.scratch["files"]["train"] != second.scratch["files"]["train"]


def test_the_vendor_of_a_profile_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    from tuneport.cli.app import invoke

    assert invoke(["profiles", "add", "lab", "https://proxy.example.org/v1", "--vendor", "nebius", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["profile"]["vendor"] == "nebius"
    assert invoke(["profiles", "add", "lab", "https://proxy.example.org/v1", "--vendor", "nebus"]) == 2
    assert "Did you mean nebius?" in capsys.readouterr().err
