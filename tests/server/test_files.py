"""Files: bombs, deletions while they are read, expiration, kills during checks."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import random
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import psutil
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import Message

from serving import Served, jsonl, until_checked, until_over
from tuneport_server.limits import ResourceLimits
from tuneport_server.opening import open_server
from tuneport_server.routes import files
from tuneport_server.wire import WireError

PATIENCE = 120.0
TINY = gzip.compress((b"{}\n" * 300_000 + b'{"a":1}\n' * 200) * 200, 9)  # 60 million rows, 180 MB, from 0.3 MB
LIFE = {"anchor": "created_at", "seconds": 3600}


def send(client: openai.OpenAI, content: bytes, name: str = "rows.jsonl", **more):
    return client.files.create(file=(name, content), purpose="fine-tune", **more)


def ask(served: Served, path: str, **headers: str) -> tuple[int, bytes, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer
    finally:
        connection.close()


def log_in(served: Served, token: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)
    headers = {
        "Origin": f"http://127.0.0.1:{served.port}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    connection.request("POST", "/login", f"token={token}", headers)
    cookie = connection.getresponse().headers["Set-Cookie"].partition(";")[0]
    connection.close()
    return cookie


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_file_shows_whether_it_is_checked_and_its_errors(shared: Served, client: openai.OpenAI, token: str) -> None:
    good, bad = send(client, jsonl()), send(client, jsonl() + b'{"messages": []}\n')
    assert {good.status, bad.status} <= {"uploaded", "processed", "error"}
    assert until_checked(client, good.id).status == "processed"
    found = until_checked(client, bad.id)
    assert found.status == "error"
    assert found.status_details.startswith("line 13: ")
    listed = {one.id: one.status for one in client.files.list()}
    assert listed == {good.id: "processed", bad.id: "error"}
    cookie = log_in(shared, token)
    status, page, _ = ask(shared, f"/files/{bad.id}", Cookie=cookie)
    assert status == 200
    assert b"rows rejected" in page
    before = {id_: client.files.retrieve(id_) for id_ in listed}
    assert before == {id_: client.files.retrieve(id_) for id_ in listed}


def test_a_file_of_prompts_is_not_an_error_because_reinforcement_accepts_it(client: openai.OpenAI) -> None:
    rows = [{"messages": [{"role": "user", "content": f"What is {n}?"}], "reference_answer": "x"} for n in range(12)]
    sent = send(client, b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    assert until_checked(client, sent.id).status == "processed"


def test_45_views_of_a_bomb_keep_nobody_waiting(shared: Served, client: openai.OpenAI, token: str) -> None:
    other = shared.add_token("bystander")
    id_ = send(client, TINY, "rows.jsonl.gz").id
    cookie = log_in(shared, token)
    with ThreadPoolExecutor(45) as pool:
        views = [pool.submit(ask, shared, f"/files/{id_}", Cookie=cookie) for _ in range(45)]
        for _ in range(5):
            assert ask(shared, "/v1/models", Authorization=f"Bearer {other}")[0] == 200
        assert Counter(view.result()[0] for view in views) == {200: 45}
    found = until_checked(client, id_)
    assert found.status == "error"
    assert found.status_details == "The compressed file has more than 3,000,000 lines."
    assert psutil.Process(shared.process.pid).memory_info().rss < 400 << 20
    job = until_over(client, client.fine_tuning.jobs.create(model="gray", training_file=id_).id)
    assert (job.status, job.error.code, job.error.message) == (
        "failed",
        "invalid_training_file",
        found.status_details,
    )


def test_a_check_is_bounded_in_time_memory_and_expanded_bytes(own: Served) -> None:
    own.end()
    own._arguments += ("--limit", "check_seconds=2", "--limit", "expanded_bytes=1000000")
    own._arguments += ("--limit", "check_memory=100000000", "--limit", "checks=1")
    own.start()
    with own.client(max_retries=0) as client:
        wide = send(client, gzip.compress(b"a" * 2_000_000), "rows.jsonl.gz")
        deep = send(client, b'{"a": [' + b"[]," * 6_000_000 + b"[]]}\n")
        slow = send(client, b"".join(b'{"text": "row %d", "label": "b"}\n' % one for one in range(900_000)))
        said = {one.id: until_checked(client, one.id).status_details for one in (wide, deep, slow)}
        assert "expands to more than 1,000,000 bytes" in said[wide.id]
        assert "takes more than 100,000,000 bytes of memory" in said[deep.id]
        assert "takes more than 2 seconds" in said[slow.id]
        assert until_checked(client, send(client, jsonl()).id).status == "processed"


def workers(home: Path) -> list[int]:
    """Return the processes that check files of that home."""
    found = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if "tuneport_server.background.check_file" in line and any(one.startswith(str(home)) for one in line):
            found.append(process.pid)
    return found


def test_a_killed_servers_check_ends_and_is_repeated(own: Served) -> None:
    rows = b"".join(b'{"text": "row %d", "label": "b"}\n' % one for one in range(150_000))
    with own.client(max_retries=0) as client:
        file = send(client, rows)
    wait_for(lambda: workers(own.home), "a check begins")
    own.kill()
    wait_for(lambda: not workers(own.home), "the check ends with its server")
    own.start()
    with own.client(max_retries=0) as client:
        assert until_checked(client, file.id).status in ("processed", "error")
        other = send(client, rows)
        wait_for(lambda: workers(own.home), "a check begins")
        client.files.delete(other.id)
        wait_for(lambda: not workers(own.home), "the check ends with its file")
    own.end()
    assert not workers(own.home)


def test_a_file_that_was_found_is_sent_completely_though_it_is_deleted_before_its_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path))
    with open_server({}, ResourceLimits()) as server:
        id_ = server.vault.add_result("me", "ftjob-1", "rows\n")
        app = Starlette()
        app.state.server = server
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "app": app}
        scope |= {"path_params": {"file_id": id_}, "state": {"owner": "me"}}
        answer = files.content(Request(scope))
        files.delete(Request(scope))
        assert not (server.vault.files / id_).exists()
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            await asyncio.Event().wait()  # the client stays
            raise AssertionError

        asyncio.run(answer(scope, receive, send))
        assert sent[0]["status"] == 200
        assert b"".join(one.get("body", b"") for one in sent) == b"rows\n"
        with pytest.raises(WireError):
            files.content(Request(scope))
        server.close()


@pytest.mark.parametrize("times", [100, pytest.param(800, marks=pytest.mark.soak)])
def test_a_file_that_is_deleted_while_it_is_read_comes_complete_or_not_at_all(
    shared: Served, client: openai.OpenAI, token: str, times: int
) -> None:
    content = jsonl() + b" " * 300_000
    cookie = log_in(shared, token)
    headers = {"Authorization": f"Bearer {token}"}
    seen: Counter[int] = Counter()

    def read(id_: str, begin: threading.Event) -> None:
        begin.wait()
        while True:
            status, body, answer = ask(shared, f"/v1/files/{id_}/content", **headers)
            seen[status] += 1
            assert status in (200, 404), body
            if status == 404:
                break
            assert int(answer.headers["Content-Length"]) == len(content)
            assert body == content
        assert ask(shared, f"/files/{id_}", Cookie=cookie)[0] in (200, 404)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(times):
            id_, begin = send(client, content).id, threading.Event()
            readers = [pool.submit(read, id_, begin) for _ in range(2)]
            begin.set()
            time.sleep(random.uniform(0, 0.02))
            client.files.delete(id_)
            for reader in readers:
                reader.result()
    assert seen[404] >= 2 * times


def test_a_job_keeps_the_files_that_it_was_created_with(shared: Served, client: openai.OpenAI) -> None:
    rows = [send(client, jsonl()).id for _ in range(2)]
    job = client.fine_tuning.jobs.create(model="gray", training_file=rows[0], validation_file=rows[1])
    for id_ in rows:
        client.files.delete(id_)
        assert not (shared.home / "server" / "files" / id_).exists()
    assert until_over(client, job.id).status == "succeeded"
    wait_for(lambda: not list((shared.home / "server" / "inputs").glob(f"{job.id}*")), "its own links go")


def let_expire(home: Path, id_: str) -> None:
    """Put the expiration of a file into the past."""
    with sqlite3.connect(home / "server" / "server.sqlite3") as sql:
        sql.execute("UPDATE files SET expires = ? WHERE id = ?", (int(time.time()) - 1, id_))
    sql.close()


def test_a_file_is_deleted_when_it_expires(own: Served) -> None:
    with own.client(max_retries=0) as client:
        kept, short = send(client, jsonl()), send(client, jsonl(), expires_after=LIFE)
        assert kept.expires_at is None
        assert short.expires_at == short.created_at + 3600
        whole = client.uploads.create(
            bytes=len(jsonl()), filename="a.jsonl", mime_type="text/jsonl", purpose="fine-tune", expires_after=LIFE
        )
        part = client.uploads.parts.create(whole.id, data=jsonl())
        joined = client.uploads.complete(whole.id, part_ids=[part.id]).file
        assert joined.expires_at == joined.created_at + 3600
        for anchor, seconds in (("created_at", 3599), ("created_at", 2_592_001), ("last_active_at", 3600)):
            after = {"anchor": anchor, "seconds": seconds}
            with pytest.raises(openai.BadRequestError, match="expires_after"):
                send(client, jsonl(), expires_after=after)
            with pytest.raises(openai.BadRequestError, match="expires_after"):
                client.uploads.create(
                    bytes=9, filename="a", mime_type="text/jsonl", purpose="fine-tune", expires_after=after
                )
        job = client.fine_tuning.jobs.create(model="gray", training_file=joined.id)
        let_expire(own.home, joined.id)
        assert {one.id for one in client.files.list()} == {kept.id, short.id}
        for call in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(joined.id)
        with pytest.raises(openai.BadRequestError, match="no file"):
            client.fine_tuning.jobs.create(model="gray", training_file=joined.id)
        bytes_of = own.home / "server" / "files"
        wait_for(lambda: not (bytes_of / joined.id).exists(), "the bytes go too")
        assert until_over(client, job.id).status == "succeeded"
        own.kill()
        let_expire(own.home, short.id)
        own.start()
        results = client.fine_tuning.jobs.retrieve(job.id).result_files
        assert {one.name for one in bytes_of.iterdir()} == {kept.id, *results}
        assert {one.id for one in client.files.list()} == {kept.id, *results}


def test_the_vendors_curl_recipes_for_files_and_uploads_work(shared: Served, token: str, tmp_path: Path) -> None:
    (tmp_path / "mydata.jsonl").write_bytes(jsonl())
    key = ["-H", f"Authorization: Bearer {token}"]

    def curl(path: str, *arguments: str) -> dict:
        command = ["curl", "-sS", f"{shared.url}{path}", *arguments]
        return json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)

    upload = ["-F", "purpose=fine-tune", "-F", "file=@mydata.jsonl"]
    upload += ["-F", "expires_after[anchor]=created_at", "-F", "expires_after[seconds]=2592000"]
    file = curl("/files", *key, *upload)
    assert file["expires_at"] == file["created_at"] + 2_592_000
    assert [one["id"] for one in curl("/files", *key)["data"]] == [file["id"]]
    assert curl(f"/files/{file['id']}", *key)["filename"] == "mydata.jsonl"
    subprocess.run(["curl", "-sSo", "file.jsonl", f"{shared.url}/files/{file['id']}/content", *key], cwd=tmp_path)
    assert (tmp_path / "file.jsonl").read_bytes() == jsonl()
    assert curl(f"/files/{file['id']}", "-X", "DELETE", *key)["deleted"] is True

    asked = {"purpose": "fine-tune", "filename": "training_examples.jsonl", "mime_type": "text/jsonl"}
    body = json.dumps({**asked, "bytes": 20, "expires_after": LIFE}, indent=2)
    whole = curl("/uploads", *key, "-d", body)
    assert whole["status"] == "pending"
    part = curl(f"/uploads/{whole['id']}/parts", *key, "-F", 'data="eyJ0ZXh0IjogImEifQo="')
    assert part["object"] == "upload.part"
    done = curl(f"/uploads/{whole['id']}/complete", *key, "-d", json.dumps({"part_ids": [part["id"]]}, indent=2))
    assert done["status"] == "completed", done
    assert done["file"]["expires_at"] == done["file"]["created_at"] + 3600
    large = curl("/uploads", *key, "-d", json.dumps({**asked, "bytes": 2_147_483_648}))
    assert curl(f"/uploads/{large['id']}/cancel", *key, "-X", "POST")["status"] == "cancelled"
    assert curl(f"/uploads/{large['id']}/cancel", *key)["error"]["code"] == "unknown_url"  # a GET changes nothing
