"""The first requests to a fresh server, all at once: chats with two models, samples of a job, new jobs."""

from __future__ import annotations

import http.client
import os
import threading
import urllib.parse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from serving import Served, jsonl, until_over
from tiny_models import make_tokenizer, shape, write, write_llama

pytestmark = pytest.mark.timeout(600)
STARTS = int(os.environ.get("TUNEPORT_TEST_STARTS", "10"))  # of the long version


@pytest.fixture
def served(tmp_path: Path):
    from transformers import Qwen2Config

    tokenizer = make_tokenizer()
    bases = {
        "llama": write_llama(tmp_path / "llama", tokenizer),
        "qwen": write(tmp_path / "qwen", Qwen2Config(**shape(tokenizer), tie_word_embeddings=True), tokenizer),
    }
    made = Served(tmp_path / "home", "--models", ",".join(f"{name}=torch:{path}" for name, path in bases.items()))
    yield made.start()
    if made.process is not None:
        made.end()


def at_once(calls: list[Callable[[], object]]) -> list[object]:
    """Return what each call returns or raises; all start at the same moment."""
    gate, results = threading.Barrier(len(calls)), dict[int, object]()

    def one(number: int, call: Callable[[], object]) -> None:
        gate.wait(60)
        try:
            results[number] = call()
        except Exception as error:  # noqa: BLE001 - the test says what it was
            results[number] = error

    threads = [threading.Thread(target=one, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[number] for number in range(len(calls))]


def post(served: Served, path: str, fields: dict[str, str], cookie: str = "") -> http.client.HTTPResponse:
    """Send a form of the page. Returns the response."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=240)
    headers = {"Origin": f"http://127.0.0.1:{served.port}", "Cookie": cookie}
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection.request("POST", path, urllib.parse.urlencode(fields), headers)
    return connection.getresponse()


def first_actions(served: Served, starts: int) -> None:
    with served.client(max_retries=0) as client:
        file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune").id

        def create(model: str):
            return client.fine_tuning.jobs.create(model=model, training_file=file, hyperparameters={"n_epochs": 1})

        def chat(model: str) -> str:
            said = [{"role": "user", "content": "My card"}]
            return (
                client.chat.completions.create(model=model, messages=said, max_tokens=3, timeout=240)
                .choices[0]
                .finish_reason
            )

        done = until_over(client, create("llama").id, 240)
        assert done.status == "succeeded", done
        for _ in range(starts):
            served.kill()
            served.start()
            cookie = post(served, "/login", {"token": served.token}).headers["Set-Cookie"].partition(";")[0]
            page = f"/jobs/{done.id}"
            chats = [lambda model=model: chat(model) for model in ("llama", "qwen") * 2]
            jobs = [lambda model=model: create(model) for model in ("llama", "qwen")]
            sample = partial(post, served, f"{page}/samples", {}, cookie)
            *reasons, sampled, first, second = at_once([*chats, sample, *jobs])
            assert set(reasons) <= {"stop", "length"}, reasons
            assert sampled.status == 303, sampled
            for job in (first, second):
                assert until_over(client, job.id, 240).status == "succeeded", job


def test_the_first_actions_after_a_start_may_come_at_once(served: Served) -> None:
    first_actions(served, 1)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_the_first_actions_after_many_starts_can_happen_at_once(served: Served) -> None:
    first_actions(served, STARTS)
