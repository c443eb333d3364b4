"""The vendor's own SDK drives the loopback server, so that the server is not only our opinion of the API."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator

import pytest

from fireworks_schemas import ACCOUNT, KEY
from fireworks_server import BASE, FireworksServer

# Without the SDK, `fireworks` would be this folder of tests, so a module of it is asked for.
pytest.importorskip("fireworks._version", reason="needs the package fireworks-ai")
sdk = importlib.import_module("fireworks")

ROWS = b"".join(
    json.dumps({"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}]}).encode()
    + b"\n"
    for n in range(4)
)


@pytest.fixture
def server() -> Iterator[FireworksServer]:
    made = FireworksServer()
    yield made
    made.close()


@pytest.fixture
def client(server: FireworksServer, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.delenv("FIREWORKS_CUSTOM_HEADERS", raising=False)
    return sdk.Fireworks(api_key=KEY, account_id=ACCOUNT, base_url=server.url, max_retries=0)


def _dataset(client: object, name: str = "rows") -> str:
    client.datasets.create(dataset_id=name, dataset={"user_uploaded": {}, "example_count": "4", "format": "CHAT"})
    client.datasets.upload(name, file=("rows.jsonl", ROWS))
    made = client.datasets.get(name)
    assert made.state == "READY"
    return str(made.name)


def test_the_sdk_runs_a_supervised_job_from_the_file_to_an_answer(server: FireworksServer, client: object) -> None:
    dataset = _dataset(client)
    asked = {"base_model": BASE, "epochs": 2, "lora_rank": 8, "learning_rate": 1e-4}
    job = client.supervised_fine_tuning_jobs.create(supervised_fine_tuning_job_id="tp-1", dataset=dataset, **asked)
    assert job.state == "JOB_STATE_CREATING"
    assert job.estimated_cost.units == "1"
    while job.state != "JOB_STATE_COMPLETED":
        job = client.supervised_fine_tuning_jobs.get("tp-1")
    listed = list(client.supervised_fine_tuning_jobs.list(page_size=1))
    assert [one.name for one in listed] == [job.name]
    server.adapter = {"adapter_config.json": b"{}"}
    model = client.models.get("tp-1")
    assert model.peft_details.base_model == BASE
    urls = client.models.get_download_endpoint("tp-1").filename_to_signed_urls
    assert next(iter(urls.values())).startswith(server.store_url)
    client.deployments.create(deployment_id="d1", base_model=model.name, deployment_shape="default")
    while client.deployments.get("d1").state != "READY":
        pass
    answer = client.chat.completions.create(
        model=f"{model.name}#accounts/{ACCOUNT}/deployments/d1", messages=[{"role": "user", "content": "hello"}]
    )
    assert answer.choices[0].message.content == "echo: hello"
    pieces = client.chat.completions.create(
        model=f"{model.name}#accounts/{ACCOUNT}/deployments/d1",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
    )
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == "echo: hello"
    client.deployments.delete("d1")
    with pytest.raises(sdk.NotFoundError):
        client.deployments.get("d1")


@pytest.mark.parametrize("method", ["DPO", "ORPO"])
def test_the_sdk_runs_a_preference_job(client: object, method: str) -> None:
    job = client.dpo_jobs.create(
        dpo_job_id="tp-2",
        dataset=_dataset(client),
        training_config={"base_model": BASE, "epochs": 1},
        loss_config={"method": method, "dpo": {"beta": 0.1}},
    )
    assert job.loss_config.method == method
    client.dpo_jobs.cancel("tp-2", body={})
    assert client.dpo_jobs.get("tp-2").state == "JOB_STATE_CANCELLED"


def test_a_repeated_id_is_refused_as_already_there(client: object) -> None:
    dataset = _dataset(client)
    client.supervised_fine_tuning_jobs.create(supervised_fine_tuning_job_id="tp-3", dataset=dataset, base_model=BASE)
    with pytest.raises(sdk.ConflictError):
        client.supervised_fine_tuning_jobs.create(
            supervised_fine_tuning_job_id="tp-3", dataset=dataset, base_model=BASE
        )


def test_the_sdk_uploads_to_a_signed_address_that_gets_no_key(server: FireworksServer, client: object) -> None:
    client.datasets.create(dataset_id="big", dataset={"user_uploaded": {}, "example_count": "4"})
    urls = client.datasets.get_upload_endpoint("big", filename_to_size={"a.jsonl": str(len(ROWS))})
    import httpx

    headers = {
        "Content-Type": "application/octet-stream",
        "X-Goog-Content-Length-Range": f"{len(ROWS)},{len(ROWS)}",
    }
    assert httpx.put(urls.filename_to_signed_urls["a.jsonl"], content=ROWS, headers=headers).status_code == 200
    client.datasets.validate_upload("big", body={})
    assert client.datasets.get("big").state == "READY"


def test_an_unknown_field_or_a_wrong_type_is_refused(client: object) -> None:
    dataset = _dataset(client)
    for extra in ({"seed": 1}, {"epochs": "2"}, {"loraRank": 12}):
        with pytest.raises(sdk.BadRequestError):
            client.supervised_fine_tuning_jobs.create(dataset=dataset, base_model=BASE, extra_body=extra)
