"""Preference pairs over the wire: the official client, a file in OpenAI's shape, a real DPO training."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pytest

from serving import Served, jsonl, until_over
from tiny_models import make_tokenizer, write_llama

pytestmark = pytest.mark.timeout(240)


def pairs(count: int = 16) -> bytes:
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"My card never arrived {number}"}]},
            "preferred_output": [{"role": "assistant", "content": "card"}],
            "non_preferred_output": [{"role": "assistant", "content": "Thank you for asking"}],
        }
        for number in range(count)
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    base = write_llama(tmp_path_factory.mktemp("bases") / "tiny-llama", make_tokenizer())
    made = Served(tmp_path_factory.mktemp("served") / "home", "--models", f"tiny=torch:{base}")
    yield made.start()
    made.end()


def upload(client: openai.OpenAI, rows: bytes) -> str:
    return client.files.create(file=("pairs.jsonl", rows), purpose="fine-tune").id


def request_of(served: Served) -> dict:
    (file,) = Path(served.home).glob("jobs/torch/*/request.json")
    return json.loads(file.read_bytes())


def test_dpo_trains_over_the_wire_with_the_requested_beta(served: Served) -> None:
    numbers = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 2, "beta": 0.2}
    with served.client() as client:
        job = client.fine_tuning.jobs.create(
            model="tiny",
            training_file=upload(client, pairs()),
            validation_file=upload(client, pairs(4)),
            method={"type": "dpo", "dpo": {"hyperparameters": numbers}},
        )
        assert job.method.dpo.hyperparameters.beta == 0.2
        job = until_over(client, job.id, 120)
        assert job.status == "succeeded", job
        metrics = [one.data for one in client.fine_tuning.jobs.list_events(job.id) if one.type == "metrics"]
        assert {"train_loss", "rewards/chosen", "rewards/rejected", "rewards/margins"} <= metrics[0].keys()
        assert metrics[0]["rewards/accuracies"] == 1.0  # newest first
        answer = client.chat.completions.create(
            model=job.fine_tuned_model, messages=[{"role": "user", "content": "My card"}], max_tokens=3
        )
        assert answer.usage.completion_tokens <= 3
    asked = request_of(served)
    assert (asked["options"]["method"], asked["settings"]["beta"]) == ("dpo", 0.2)
    assert asked["settings"]["tokens_per_step"] > 100  # four mean pairs, both answers counted


@pytest.mark.parametrize(("kind", "rows"), [("supervised", pairs()), ("dpo", jsonl())])
def test_rows_of_another_method_fail_the_job_and_name_the_right_one(served: Served, kind: str, rows: bytes) -> None:
    with served.client() as client:
        job = client.fine_tuning.jobs.create(model="tiny", training_file=upload(client, rows), method={"type": kind})
        job = until_over(client, job.id)
        assert job.status == "failed"
        assert job.error.param == "training_file"
        assert f"method.type {'dpo' if kind == 'supervised' else 'supervised'}" in job.error.message
        assert "sft" not in job.error.message
