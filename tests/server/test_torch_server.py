"""The wire with real trainings: a tiny random model, the official client, and kills."""

from __future__ import annotations

import gzip
import os
import signal
import threading
import time
from pathlib import Path

import openai
import psutil
import pytest

from serving import Served, jsonl, until_over
from tiny_models import make_tokenizer, write_llama
from tuneport_torch.model import TorchModel

pytestmark = pytest.mark.timeout(240)
ROWS = jsonl([(f"My card {'never ' * (n % 5)}arrived", "card") for n in range(60)])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("bases") / "tiny-llama", make_tokenizer())


@pytest.fixture
def served(tmp_path: Path, tiny: Path):
    made = Served(tmp_path / "home", "--models", f"tiny=torch:{tiny}")
    yield made.start()
    if made.process is not None:
        with made.client() as client:
            for job in client.fine_tuning.jobs.list():
                if job.status not in ("succeeded", "failed", "cancelled"):
                    client.fine_tuning.jobs.cancel(job.id)
        made.end()


def workers(served: Served) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "tuneport.local.worker" in command and any(str(served.home) in one for one in command):
            found.append(process)
    return found


def until(fact, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_training_survives_kills_of_server_and_worker_and_its_model_answers(served: Served, tiny: Path) -> None:
    with served.client() as client:
        file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune").id
        job = client.fine_tuning.jobs.create(
            model="tiny",
            training_file=file,
            validation_file=client.files.create(file=("v.jsonl", jsonl()), purpose="fine-tune").id,
            method={
                "type": "supervised",
                "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}},
            },
        )
        until(lambda: any(one.type == "metrics" for one in client.fine_tuning.jobs.list_events(job.id)))
        before = [one.id for one in client.fine_tuning.jobs.list_events(job.id, limit=100)][::-1]
    served.kill()
    for worker in workers(served):
        os.kill(worker.pid, signal.SIGKILL)
    # From here on, there is room for one model at a time: each question to the other makes it go.
    served._arguments += ("--limit", f"model_bytes={int(1.5 * TorchModel.base(str(tiny)).memory)}")
    served.start()
    with served.client() as client:
        base = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "while it trains"}], max_tokens=3
        )
        assert base.usage.completion_tokens <= 3
        job = until_over(client, job.id, 120)
        assert job.status == "succeeded", job
        assert job.trained_tokens > 0
        after = [one.id for one in client.fine_tuning.jobs.list_events(job.id, limit=100)][::-1]
        assert after[: len(before)] == before
        numbers = [int(one[-6:]) for one in after if one[-7] == "b"]
        assert numbers == list(range(1, len(numbers) + 1))
        steps = [one.data["step"] for one in client.fine_tuning.jobs.list_events(job.id) if one.type == "metrics"]
        assert sorted(set(steps)) == list(range(1, max(steps) + 1))
        assert max(steps) <= 15 * 2 + 2, "60 rows, about 4 to a step"
        assert client.files.content(job.result_files[0]).text.count("\n") > max(steps) / 2
        assert client.fine_tuning.jobs.checkpoints.list(job.id).data[0].step_number > 0
        answers(client, job.fine_tuned_model)
        again = {"messages": [{"role": "user", "content": "while it trains"}], "max_tokens": 3, "temperature": 0}
        asked = [client.chat.completions.create(model=one, **again) for one in ("tiny", job.fine_tuned_model) * 2]
        said = [one.choices[0].message.content for one in asked]
        assert said[:2] == said[2:]


def test_sigterm_does_not_wait_for_a_file_of_many_rows(served: Served) -> None:
    many = gzip.compress(ROWS * 2000)
    with served.client() as client:
        file = client.files.create(file=("many.jsonl", many), purpose="fine-tune").id
        job = client.fine_tuning.jobs.create(model="tiny", training_file=file).id
        until(lambda: client.fine_tuning.jobs.list_events(job).data)
    served.end()
    served.start()
    with served.client() as client:
        assert client.fine_tuning.jobs.retrieve(job).status == "validating_files"
    assert "Traceback" not in served.stderr()


def answers(client, model: str) -> None:
    """A tuned model answers complete, in pieces, several at once, and counts its tokens."""
    asked = {"model": model, "messages": [{"role": "user", "content": "My card"}], "max_tokens": 8, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage
    seeded = {**asked, "temperature": 1.5, "seed": 5, "n": 3}
    texts = [[c.message.content for c in client.chat.completions.create(**seeded).choices] for _ in range(2)]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1
    together: list[str] = []
    long = {**asked, "messages": [{"role": "user", "content": "never " * 3000}]}
    with pytest.raises(openai.BadRequestError, match="tokens"):
        client.chat.completions.create(**long)
    with pytest.raises(openai.BadRequestError, match="tokens"):
        client.chat.completions.create(**long, stream=True)
    streams: list[str] = []

    def streamed() -> None:
        pieces = client.chat.completions.create(**asked, stream=True)
        streams.append("".join(one.choices[0].delta.content or "" for one in pieces))

    threads = [threading.Thread(target=streamed) for _ in range(6)]
    threads += [
        threading.Thread(
            target=lambda: together.append(client.chat.completions.create(**asked).choices[0].message.content)
        )
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (together, streams) == ([text] * 12, [text] * 6)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    assert client.chat.completions.create(**asked, tools=tools).choices[0].finish_reason in ("length", "stop")


def test_a_job_is_paused_resumed_and_canceled_over_the_wire(served: Served) -> None:
    with served.client() as client:
        file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune").id
        jobs = client.fine_tuning.jobs
        job = jobs.create(model="tiny", training_file=file, hyperparameters={"n_epochs": 50, "batch_size": 1})
        until(lambda: jobs.retrieve(job.id).status == "running")
        assert jobs.pause(job.id).status in ("pausing", "paused")
        until(lambda: jobs.retrieve(job.id).status == "paused")
        served.kill()
        served.start()
        assert jobs.retrieve(job.id).status == "paused", "a server that starts leaves a paused job alone"
        assert jobs.resume(job.id).status in ("queued", "running")
        until(lambda: jobs.retrieve(job.id).status == "running")
        assert jobs.cancel(job.id).status == "cancelled"
        assert jobs.cancel(job.id).status == "cancelled"
        assert jobs.retrieve(job.id).fine_tuned_model is None
        regretted = jobs.create(model="tiny", training_file=file, hyperparameters={"n_epochs": 50})
        jobs.cancel(regretted.id)
    served.kill()
    served.start()
    with served.client() as client:
        assert until_over(client, regretted.id).status == "cancelled", "whatever the start had come to"
    until(lambda: not workers(served))
