"""Answers over the wire: several at once, as fast as the server allows, in order."""

from __future__ import annotations

import pytest

import tuneport
from tuneport_openai.model import TOGETHER, Gate, duration
from wire_server import WireServer


@pytest.fixture
def model(lab: WireServer) -> tuneport.Model:
    lab.models["base"] = {f"question {n}": f"answer {n}" for n in range(40)}
    return tuneport.open_model("lab:base")


def test_many_questions_are_answered_in_order_and_a_few_at_once(model: tuneport.Model, lab: WireServer) -> None:
    lab.answer_seconds = 0.01
    assert model.ask_many(f"question {n}" for n in range(40)) == [f"answer {n}" for n in range(40)]
    assert 1 < lab.most_at_once <= TOGETHER


def test_a_busy_server_is_asked_again_when_it_says(model: tuneport.Model, lab: WireServer) -> None:
    lab.busy = 5
    assert model.ask_many(["question 1", "question 2", "question 3"]) == ["answer 1", "answer 2", "answer 3"]
    assert lab.calls("POST", "/v1/chat/completions") == 8


def test_a_request_without_credit_is_not_repeated(model: tuneport.Model, lab: WireServer) -> None:
    error = {"message": "You exceeded your current quota", "code": "insufficient_quota"}
    lab.refuse["POST /v1/chat/completions"] = (429, {"error": error}, {})
    with pytest.raises(tuneport.errors.UnavailableError, match="exceeded your current quota") as caught:
        model.ask("question 1")
    assert "billing" in str(caught.value)
    assert lab.calls("POST", "/v1/chat/completions") == 1


def test_one_error_ends_the_call(model: tuneport.Model, lab: WireServer) -> None:
    lab.refuse["POST /v1/chat/completions"] = (400, {"error": {"message": "too long"}}, {})
    with pytest.raises(tuneport.errors.UsageError, match="too long"):
        model.ask_many(["question 1"] * 500)
    assert lab.calls("POST", "/v1/chat/completions") < 100


def test_a_stream_comes_in_pieces(model: tuneport.Model) -> None:
    assert list(model.stream("question 7")) == ["answ", "er 7"]


def test_tools_are_passed_and_calls_come_back(model: tuneport.Model, lab: WireServer) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    reply = model.reply("question 1", tools=(tool,))
    assert reply.finish_reason == "tool_calls"
    assert reply.tool_calls[0]["function"] == {"name": "weather", "arguments": "{}"}
    assert reply.prompt_tokens == 7


def test_an_unknown_model_is_an_error(lab: WireServer) -> None:
    with pytest.raises(tuneport.errors.ModelNotFound, match="nothing does not exist"):
        tuneport.open_model("lab:nothing").ask("hello")


@pytest.mark.parametrize("name", ["o4-mini-2025-04-16", "gpt-5-mini"])
def test_models_that_think_are_asked_without_what_they_refuse(name: str, lab: WireServer) -> None:
    lab.models[name] = {}
    tuneport.open_model(f"lab:{name}").ask("hello", max_tokens=9)
    sent = lab.asked[-1][3]
    assert b'"max_completion_tokens":9' in sent.replace(b" ", b"")
    assert b"temperature" not in sent


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12", 12),
        ("0.5", 0.5),
        ("20ms", 0.02),
        ("6m0s", 360),
        ("1h2m3.5s", 3723.5),
        ("1s", 1),
        ("soon", None),
        ("", None),
    ],
)
def test_durations_of_rate_limit_headers_are_read(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds


def test_an_answer_that_leaves_nothing_closes_the_gate_until_it_is_there_again() -> None:
    now = [0.0]
    gate = Gate(clock=lambda: now[0])
    gate.read_headers({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "1h0m0s"})
    assert gate._seconds_left() <= 0
    gate.read_headers({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"})
    assert gate._seconds_left() == 300
    now[0] = 301.0
    gate.wait()
