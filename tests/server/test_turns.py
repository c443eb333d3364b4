"""Waiting for a busy model: tokens take turns, have a share of the queue, and may disconnect."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from serving import Served, install_parrot, install_plugin

PATIENCE = 120.0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    site = tmp_path / "packages"
    install_plugin(install_parrot(site), Path(__file__).parent / "sloth.py")
    models = "slow=sloth:gray,mixing=sloth:mixing,joining=sloth:joining"
    served = Served(tmp_path / "home", "--models", models, "--limit", "waiting=20", site=site)
    yield served.start()
    served.end()


def notes(served: Served) -> list[str]:
    file = served.home / "sloth.txt"
    return file.read_text().splitlines() if file.exists() else []


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def leave(served: Served, text: str, tokens: int, model: str = "slow") -> http.client.HTTPConnection:
    """Ask, and do not wait for the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)
    asked = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": tokens}
    headers = {"Authorization": f"Bearer {served.token}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
    return connection


def test_tokens_take_turns_and_one_has_a_share_of_the_waiting_room(served: Served) -> None:
    other = served.add_token("other")
    greedy, patient = served.client(max_retries=0), served.client(other, max_retries=0)

    def ask(client: openai.OpenAI, text: str, tokens: int) -> str:
        try:
            return client.chat.completions.create(
                model="slow", messages=[{"role": "user", "content": text}], max_tokens=tokens
            ).model
        except openai.RateLimitError as error:
            assert error.response.headers["retry-after"] == "2"
            return "busy"

    with greedy, patient, ThreadPoolExecutor(40) as pool:
        first = pool.submit(ask, greedy, "first", 200)
        wait_for(lambda: notes(served), "the model is busy")
        many = [pool.submit(ask, greedy, f"greedy {one}", one + 1) for one in range(30)]  # none can join another
        wait_for(lambda: sum(one.done() for one in many) >= 10, "those beyond the share are refused")
        assert ask(patient, "patient", 40) == "slow"
        assert [first.result(), *(one.result() for one in many)].count("busy") == 10
    order = notes(served)
    assert order.index("patient") <= 3, order


def test_an_answer_stops_when_its_client_disconnects_and_a_waiting_one_is_not_started(served: Served) -> None:
    gone = leave(served, "gone", 3000)
    wait_for(lambda: "gone" in notes(served), "the model is busy")
    waiting = leave(served, "never started", 3001)
    time.sleep(0.5)
    waiting.close()
    time.sleep(2.5)  # the server looks every second whether it is still there
    gone.close()
    wait_for(lambda: "stopped" in notes(served), "the answer stops")
    with served.client(max_retries=0) as client:
        client.chat.completions.create(model="slow", messages=[{"role": "user", "content": "next"}], max_tokens=1)
    assert notes(served) == ["gone", "stopped", "next"]


def test_a_client_that_left_a_batch_costs_nothing_after_the_others_are_answered(served: Served) -> None:
    first = leave(served, "first", 150, "mixing")  # the next two come while it is answered, and so come together
    wait_for(lambda: "first" in notes(served), "the model is busy")
    gone, short = leave(served, "gone", 4096, "mixing"), leave(served, "short", 100, "mixing")
    wait_for(lambda: "gone and short" in notes(served), "both are answered")
    gone.close()
    assert [one.getresponse().status for one in (first, short)] == [200, 200]
    wait_for(lambda: "stopped" in notes(served), "the answer that nobody waits for stops")


def test_a_question_does_not_wait_for_the_answers_under_way(served: Served) -> None:
    long = leave(served, "long", 4000, "joining")
    wait_for(lambda: "long" in notes(served), "the model is busy")
    short = leave(served, "short", 1, "joining")
    assert short.getresponse().status == 200
    assert notes(served) == ["long", "short", "answered short"]
    long.close()
    wait_for(lambda: "closed" in notes(served), "the answer that nobody waits for stops")
    assert notes(served)[3:] == ["dropped long", "closed"]


def test_a_question_for_several_answers_needs_no_room_for_all_of_them_at_once(tmp_path: Path) -> None:
    site = install_plugin(install_parrot(tmp_path / "packages"), Path(__file__).parent / "sloth.py")
    limits = ("--limit", "batch=4", "--limit", "choices=8")
    served = Served(tmp_path / "home", "--models", "joining=sloth:joining", *limits, site=site).start()
    long = [leave(served, f"long {one}", 4000, "joining") for one in range(3)]
    wait_for(lambda: len(notes(served)) == 3, "the long questions never start")
    with served.client(served.add_token("other"), max_retries=0) as client:
        hello = [{"role": "user", "content": "hello"}]
        answered = client.chat.completions.create(model="joining", messages=hello, max_tokens=2, n=6)
        pieces = list(client.chat.completions.create(model="joining", messages=hello, max_tokens=2, n=6, stream=True))
    assert [one.index for one in answered.choices] == list(range(6))
    assert {one.choices[0].index for one in pieces if one.choices} == set(range(6))
    assert not [note for note in notes(served) if note.startswith("answered long")]
    for connection in long:
        connection.close()
    wait_for(lambda: notes(served).count("closed") == 1, "the long questions are not given up")
    served.end()


def test_many_long_questions_of_one_token_leave_room_for_another(served: Served) -> None:
    other = served.add_token("other")
    long = [leave(served, f"long {one}", 4000, "joining") for one in range(20)]
    wait_for(lambda: len(notes(served)) >= 16, "the model is full of one token's questions")
    with served.client(other, max_retries=0) as client:
        started = [text for text in notes(served) if text.startswith("long")]
        assert len(started) == 16, "twelve that are answered, and no more than four that wait for memory"
        hello = [{"role": "user", "content": "other"}]
        asked = client.with_options(max_retries=0)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(asked.chat.completions.create, model="joining", messages=hello, max_tokens=1)
            wait_for(lambda: "other" in notes(served), "the other token's question is taken in")
            for one in long[:9]:
                one.close()
            assert answer.result(PATIENCE).choices[0].message.content == "z"
    for one in long:
        one.close()
    order = notes(served)
    assert order.index("other") < 18, order
    assert not any(text.startswith("answered long") for text in order)


def test_a_model_that_must_make_room_finishes_its_answers_and_accepts_no_more(tmp_path: Path) -> None:
    site = tmp_path / "packages"
    install_plugin(install_parrot(site), Path(__file__).parent / "sloth.py")
    models = ("--models", "joining=sloth:joining,mixing=sloth:mixing", "--limit", "models=1")
    served = Served(tmp_path / "home", *models, site=site).start()
    long = leave(served, "long", 240, "joining")
    wait_for(lambda: "long" in notes(served), "the model is busy")
    wanting = leave(served, "wanting", 1, "mixing")
    assert wanting.getresponse().status == 200
    assert long.getresponse().status == 200
    assert notes(served) == ["long", "answered long", "closed", "wanting"]
    served.end()
