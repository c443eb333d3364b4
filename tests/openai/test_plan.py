"""What is known before anything is sent: availability, what it would cost, and who else could do it."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

import tuneport
from tuneport import Dataset
from tuneport_openai import plan
from tuneport_openai.catalog import table
from tuneport_openai.wire import closing, profiles
from wire_server import WireServer

MODEL = "openai:gpt-4.1-mini-2025-04-14"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that no test ever sends: nothing here asks a server."""
    from tuneport import loader

    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
    loader.load.cache_clear()


def test_a_missing_key_is_reported_before_anything_else(rows: Dataset) -> None:
    answer = tuneport.backends()["openai"].availability()
    assert (answer.ready, answer.reason) == (False, "the variable OPENAI_API_KEY is not set")
    with pytest.raises(tuneport.errors.UnavailableError, match="OPENAI_API_KEY is not set"):
        tuneport.train(MODEL, rows)


def test_without_a_key_a_plan_is_made_and_the_closing_and_the_alternatives_are_reported(
    rows: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tuneport.cli.app import invoke

    notes = tuneport.plan(MODEL, rows, epochs=3).notes
    assert "6 January 2027" in notes[0]
    assert "torch" in notes[0]
    assert "OPENAI_API_KEY is not set" in notes[1]
    with pytest.raises(tuneport.errors.UnavailableError) as caught:
        tuneport.train(MODEL, rows)
    assert "export OPENAI_API_KEY" in str(caught.value)
    assert "6 January 2027" in str(caught.value)
    assert "torch" in str(caught.value)
    assert invoke(["doctor"]) in (0, 1)
    said = " ".join(capsys.readouterr().out.split())
    assert "6 January 2027" in said
    assert "14 April 2027" in said


@pytest.mark.parametrize("address", ["http://127.0.0.1:8137/v1", "https://gpu.example.org/v1", "https://[oops"])
def test_a_key_that_openai_base_url_gives_to_another_host_is_not_sent_to_openai(
    address: str, key: None, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneport_openai.wire.client import Wire

    monkeypatch.setenv("OPENAI_BASE_URL", address)
    assert not tuneport.backends()["openai"].availability().ready
    with pytest.raises(tuneport.errors.UnavailableError, match="OPENAI_BASE_URL") as caught:
        tuneport.train(MODEL, rows)
    assert f"profiles add lab {address}" in (caught.value.remedy or "")
    with pytest.raises(tuneport.errors.ConfigError, match="is not sent to OpenAI"):
        Wire(profiles.profile("openai")).once  # noqa: B018 - it would be made with the key
    with pytest.raises(tuneport.errors.ConfigError, match="is not sent to OpenAI"):
        tuneport.open_model("openai:gpt-4.1-mini").ask("Hello")
    monkeypatch.setenv("OPENAI_BASE_URL", profiles.OPENAI_URL)
    assert tuneport.backends()["openai"].availability().ready


def test_a_missing_address_is_reported(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "x")
    answer = tuneport.backends()["azure"].availability()
    assert not answer.ready
    assert "AZURE_OPENAI_ENDPOINT" in (answer.remedy or "")


def test_the_vendors_closing_is_reported_before_and_after_the_day(key: None) -> None:
    openai = profiles.profile("openai")
    assert "6 January 2027" in (closing.announcement(openai, date(2026, 11, 23)) or "")
    assert "7 May 2026" in (closing.announcement(openai, date(2026, 11, 23)) or "")
    assert not closing.has_closed(openai, date(2027, 1, 5))
    assert closing.has_closed(openai, date(2027, 1, 6))
    assert "14 April 2027" in (closing.announcement(profiles.profile("azure")) or "")
    assert closing.announcement(profiles.Profile(name="lab", base_url="https://x.y/v1", key="K")) == ""


def test_a_plan_reports_the_closing_and_the_alternatives(key: None, rows: Dataset) -> None:
    said = " ".join(tuneport.plan(MODEL, rows, epochs=3).notes)
    assert "6 January 2027" in said
    assert "torch" in said


def test_a_403_says_the_same(lab: WireServer, rows: Dataset) -> None:
    error = {"error": {"message": "Fine-tuning is not available to your organization", "type": "x"}}
    lab.refuse["POST /v1/fine_tuning/jobs"] = (403, error, {})
    with pytest.raises(tuneport.errors.UnavailableError, match="not available to your organization") as caught:
        tuneport.train("lab:base", rows)
    assert "torch" in (caught.value.remedy or "")
    assert [job.status for job in tuneport.jobs()] == [tuneport.Status.FAILED]


def test_what_is_not_published_is_unknown(key: None, rows: Dataset) -> None:
    planned = tuneport.plan("openai:gpt-9", rows, epochs=3)
    assert planned.usd.value is None
    assert "usd_per_million_tokens" in planned.usd.source
    assert planned.seconds.value is None


def test_the_dated_table_has_what_the_vendor_published(key: None, rows: Dataset) -> None:
    planned = tuneport.plan(MODEL, rows, epochs=3)
    assert planned.tokens.value
    assert planned.usd.value == round(planned.tokens.value * 5e-6, 4)
    assert f"by the table of {table.as_of()}" in planned.usd.source


def test_every_fact_of_the_table_is_of_a_named_source() -> None:
    openai, azure = profiles.profile("openai"), profiles.profile("azure")
    lab = profiles.Profile(name="lab", base_url="https://x.y/v1", key="K")
    nano = "gpt-4.1-nano-2025-04-14"
    assert (table.find_model(openai, nano).max_tokens, table.find_model(azure, nano).max_tokens) == (65_536, 32_768)
    assert table.find_model(azure, "gpt-3.5-turbo-0125") is None
    assert table.find_model(lab, nano) is None
    assert {one.training for one in table.models(azure)} == {None}, "no source was found"


def test_a_model_that_was_or_will_be_shut_down_is_reported(key: None, rows: Dataset) -> None:
    known = table.find_model(profiles.profile("openai"), "gpt-4.1-mini-2025-04-14")
    assert known.has_ended(date(2027, 1, 14))
    assert not known.has_ended(date(2027, 1, 13))
    assert "shut down on 14 January 2027" in " ".join(tuneport.plan(MODEL, rows).notes)
    shut = "gpt-4.1-nano-2025-04-14, and what is tuned from it, was shut down on 23 October 2026."
    for act in (tuneport.plan, tuneport.train):
        with pytest.raises(tuneport.errors.UnavailableError, match=shut) as caught:
            act("openai:gpt-4.1-nano-2025-04-14", rows)
        assert "torch" in (caught.value.remedy or "")
    names = [info.ref.name for info in tuneport.open_backend("openai").bases()]
    assert "gpt-4.1-nano-2025-04-14" not in names


def test_a_price_of_the_user_is_used(key: None, rows: Dataset) -> None:
    planned = tuneport.plan(MODEL, rows, epochs=3, settings={"usd_per_million_tokens": 5})
    assert planned.tokens.value
    assert planned.usd.value == round(planned.tokens.value * 5e-6, 4)
    assert "your usd_per_million_tokens" in planned.usd.source


@pytest.mark.parametrize(("rows", "epochs"), [(10, 10), (4, 25), (33, 3), (34, 3), (5000, 3), (10_000, 2), (30_000, 1)])
def test_auto_epochs_follow_the_published_rule(rows: int, epochs: int) -> None:
    assert plan.auto_epochs(rows) == epochs


def test_a_model_that_is_not_tunable_is_reported(key: None, rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneport import loader

    assert "write openai:gpt-4.1-mini-2025-04-14" in " ".join(tuneport.plan("openai:gpt-4.1-mini", rows).notes)
    assert "not among the tunable models" in " ".join(tuneport.plan("openai:gpt-9", rows).notes)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "x")
    loader.load.cache_clear()
    assert "not tunable by sft" in " ".join(tuneport.plan("azure:o4-mini-2025-04-16", rows).notes)


def test_tokens_are_estimated_with_their_error_without_a_vocabulary(
    key: None, rows: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    planned = tuneport.plan(MODEL, rows, epochs=1)
    assert "estimated" in planned.tokens.source
    assert "25%" in (planned.tokens.error or "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"learning_rate": 2e-4}, "learning_rate_multiplier scales it"),
        ({"batch_size": 300}, "256"),
        ({"learning_rate_multiplier": 0}, "above 0"),
        ({"beta": 3}, "2"),
        ({"training_type": "Standard"}, "Only Azure takes"),
        ({"learning_rate_multiplyer": 1}, "did you mean"),  # codespell:ignore multiplyer
    ],
)
def test_settings_that_the_wire_refuses_are_refused_here(
    settings: dict[str, object], said: str, lab: WireServer, rows: Dataset
) -> None:
    with pytest.raises(tuneport.errors.UsageError, match=said):
        tuneport.train("lab:base", rows, settings=settings)
    assert not lab.jobs


def test_more_epochs_than_the_wire_takes_are_refused(lab: WireServer, rows: Dataset) -> None:
    with pytest.raises(tuneport.errors.UnsupportedError, match="at most 50 epochs, not 51"):
        tuneport.train("lab:base", rows, epochs=51)


def test_azure_takes_a_shorter_suffix(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneport import loader

    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "x")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com")
    loader.load.cache_clear()
    with pytest.raises(tuneport.errors.UsageError, match="takes up to 18"):
        tuneport.train("azure:gpt-4.1-mini-2025-04-14", rows, suffix="a" * 19)


def test_the_cost_is_compared_with_the_plan_afterwards(lab: WireServer, rows: Dataset) -> None:
    job = tuneport.train("lab:base", rows, settings={"usd_per_million_tokens": 100})
    lab.flow = ("succeeded",)
    (raw,) = lab.jobs.values()
    lab.flow, raw["stage"], raw["status"] = ("queued", "succeeded"), 0, "queued"
    details = job.state().details
    assert (details["trained_tokens"], details["usd"]) == (1234, 0.1234)


GRADER = {
    "type": "string_check",
    "name": "same",
    "input": "{{sample.output_text}}",
    "reference": "{{item.reference_answer}}",
    "operation": "eq",
}


def test_reinforcement_sends_its_grader(lab: WireServer, rows: Dataset) -> None:
    settings = {"grader": GRADER, "reasoning_effort": "low", "compute_multiplier": 2, "eval_interval": 5}
    tuneport.train("lab:base", rows, method="reinforcement", settings=settings)
    body = json.loads([b for m, p, _, b in lab.asked if m == "POST" and p == "/v1/fine_tuning/jobs"][-1])
    assert body["method"]["reinforcement"]["grader"] == GRADER
    asked = body["method"]["reinforcement"]["hyperparameters"]
    assert (asked["reasoning_effort"], asked["compute_multiplier"], asked["eval_interval"]) == ("low", 2, 5)
    assert "eval_samples" not in asked


MESSAGES = [{"role": "user", "content": "How good is {{sample.output_text}}?"}]
GRADERS = [
    GRADER,
    {**GRADER, "type": "text_similarity", "operation": None, "evaluation_metric": "rouge_l"},
    {"type": "python", "name": "code", "source": "def grade(sample, item): return 1.0"},
    {"type": "score_model", "name": "judge", "model": "gpt-4o", "input": MESSAGES, "range": [0, 10]},
    {"type": "multi", "name": "both", "graders": {"exact": GRADER}, "calculate_output": "exact"},
    {"type": "multi", "name": "both", "graders": [GRADER], "calculate_output": "same"},
]


@pytest.mark.parametrize("grader", GRADERS, ids=lambda one: one["type"])
def test_every_grader_of_the_wire_is_sent_as_it_is_written(
    grader: dict[str, object], lab: WireServer, rows: Dataset
) -> None:
    written = {key: value for key, value in grader.items() if value is not None}
    tuneport.train("lab:base", rows, method="reinforcement", settings={"grader": written})
    body = json.loads([b for m, p, _, b in lab.asked if m == "POST" and p == "/v1/fine_tuning/jobs"][-1])
    assert body["method"]["reinforcement"]["grader"] == written


@pytest.mark.parametrize(
    ("grader", "said"),
    [
        (None, "needs a grader"),
        ({"type": "vibes"}, "a grader's type is one of"),
        ({"type": "string_check", "name": "x"}, "grader.reference: is missing"),
        ({**GRADER, "operation": "equals"}, "grader.operation"),
        ({**GRADER, "refrence": "x"}, "did you mean 'reference'"),  # codespell:ignore refrence
        (
            {"type": "multi", "name": "m", "calculate_output": "a", "graders": {"a": {"type": "python"}}},
            "a.source: is missing",
        ),
    ],
)
def test_a_grader_that_the_wire_refuses_is_refused_here(
    grader: dict[str, object] | None, said: str, lab: WireServer, rows: Dataset
) -> None:
    with pytest.raises(tuneport.errors.UsageError, match=said):
        tuneport.train("lab:base", rows, method="reinforcement", settings={"grader": grader} if grader else None)
    assert not lab.jobs


def test_preferences_are_trained_by_dpo(lab: WireServer) -> None:
    pairs = [
        {
            "input": {"messages": [{"role": "user", "content": f"Hello {n}"}]},
            "preferred_output": [{"role": "assistant", "content": f"Good day {n}"}],
            "non_preferred_output": [{"role": "assistant", "content": f"Go away {n}"}],
        }
        for n in range(12)
    ]
    job = tuneport.train("lab:base", Dataset.load(pairs), method="dpo", settings={"beta": 0.2})
    body = json.loads([b for m, p, _, b in lab.asked if m == "POST" and p == "/v1/fine_tuning/jobs"][-1])
    assert body["method"]["dpo"]["hyperparameters"]["beta"] == 0.2
    assert job.wait().lineage.method == "dpo"
