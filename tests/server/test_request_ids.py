"""Every response has the id of its request, and the log has the id of the request that failed."""

from __future__ import annotations

import re
import sqlite3

import httpx2
import openai
import pytest

from attacks import hang_up_after
from serving import Served, jsonl

ID = re.compile(r"req_[0-9a-f]{32}")
CHAT = {"model": "gray", "messages": [{"role": "user", "content": "hi"}]}


def test_the_official_client_sees_an_id_of_its_own_for_each_answer(client: openai.OpenAI) -> None:
    ids = [client.models.list()._request_id, client.chat.completions.create(**CHAT)._request_id]
    file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune")
    ids += [file._request_id, client.files.content(file.id).response.headers["x-request-id"]]
    with client.chat.completions.create(**CHAT, stream=True) as stream:
        ids.append(stream.response.headers["x-request-id"])
        assert list(stream)
    for wrong in ({"model": "none"}, {"messages": []}):
        with pytest.raises(openai.APIStatusError) as error:
            client.chat.completions.create(**{**CHAT, **wrong})
        ids.append(error.value.request_id)
    assert all(ID.fullmatch(one or "") for one in ids), ids
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/models", {"Authorization": "Bearer wrong"}, 401),
        ("GET", "/v1/models", {}, 401),
        ("GET", "/v1/models", {"Host": "evil.example"}, 403),
        ("GET", "/v1/nothing", {"Authorization": "Bearer %s"}, 404),
        ("PUT", "/v1/models", {"Authorization": "Bearer %s"}, 405),
        ("HEAD", "/v1/models", {"Authorization": "Bearer %s"}, 200),
        ("GET", "/login", {}, 200),
        ("GET", "/page.css", {}, 200),
        ("GET", "/", {"Accept": "text/html"}, 303),
        ("GET", "/", {"Authorization": "Bearer %s", "Accept": "text/html"}, 200),
        ("GET", "/jobs/none", {"Authorization": "Bearer %s", "Accept": "text/html"}, 404),
    ],
)
def test_refusals_and_pages_have_an_id_and_never_the_clients(
    shared: Served, token: str, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    sent = {name: value.replace("%s", token) for name, value in headers.items()}
    sent |= {"X-Request-Id": "req_forged", "X-Client-Request-Id": "forged"}
    answer = httpx2.request(method, f"http://127.0.0.1:{shared.port}{path}", headers=sent)
    assert answer.status_code == status
    assert ID.fullmatch(answer.headers["x-request-id"])
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert "forged" not in str(answer.headers) + answer.text


def test_bytes_that_are_not_http_are_answered_with_an_id(shared: Served) -> None:
    _, answer = hang_up_after(shared.port, b"nothing that HTTP knows\r\n\r\n", 30)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert ID.search(answer.decode())


def test_the_log_names_the_request_of_a_500(own: Served) -> None:
    with own.client(max_retries=0) as client:
        file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="gray", training_file=file.id)
        with sqlite3.connect(own.home / "server" / "server.sqlite3", timeout=30) as sql:
            sql.execute("UPDATE jobs SET metadata = '{'")  # a file that something else has damaged
        with pytest.raises(openai.InternalServerError) as mistake:
            client.fine_tuning.jobs.retrieve(job.id)
        with sqlite3.connect(own.home / "server" / "server.sqlite3", timeout=30) as sql:
            sql.execute("ALTER TABLE tokens RENAME TO lost")
        with pytest.raises(openai.InternalServerError) as failure:
            client.models.list()
    log = own.stderr()
    first = next(line for line in log.splitlines() if mistake.value.request_id in line)
    assert " ERROR req_" in first
    assert "JSONDecodeError" in log.partition(first)[2]
    second = next(line for line in log.splitlines() if failure.value.request_id in line)
    assert "no such table: tokens" in second
    assert ID.fullmatch(mistake.value.request_id)
