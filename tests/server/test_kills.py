"""After a kill at any point, the server finds everything that it had accepted, and nothing twice."""

from __future__ import annotations

import json
import random
import signal
import socket
import threading
import time

import openai
import pytest

from serving import Served, jsonl, until_over

HEAD = (
    b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n"
    b"Content-Type: multipart/form-data; boundary=cut\r\nConnection: close\r\n\r\n"
)
FORM = (
    b'--cut\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    b'--cut\r\nContent-Disposition: form-data; name="file"; filename="big.jsonl"\r\n\r\n%s\r\n--cut--\r\n'
)


class Dropping:
    """A proxy on loopback that forwards requests, and drops the responses to the first ones."""

    def __init__(self, port: int, drops: int) -> None:
        self._target, self._drops = port, drops
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            back = threading.Thread(target=self._answer, args=(server, client), daemon=True)
            back.start()
            while data := client.recv(65536):
                server.sendall(data)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                if self._drops:
                    self._drops -= 1
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        self._listening.close()


def trainings(served: Served) -> set[str]:
    """Return the intents that the parrot has started, also if the start was killed: one for each training."""
    return {json.loads(file.read_text())["intent"] for file in (served.home / "parrot").glob("*/facts.json")}


def test_a_creation_that_the_client_retries_starts_one_job(own: Served) -> None:
    with own.client() as client:
        file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune")
    proxy = Dropping(own.port, drops=2)
    with openai.OpenAI(api_key=own.token, base_url=f"http://127.0.0.1:{proxy.port}/v1") as unlucky:
        job = unlucky.fine_tuning.jobs.create(model="gray", training_file=file.id)
    proxy.close()
    with own.client() as client:
        assert [one.id for one in client.fine_tuning.jobs.list()] == [job.id]
        again = client.fine_tuning.jobs.create(model="gray", training_file=file.id)
        assert again.id != job.id, "the same request sent again, not as a retry, is another job"
    own.kill()
    own.start()
    with own.client() as client:
        retry = {"X-Stainless-Retry-Count": "1"}
        late = client.fine_tuning.jobs.create(model="gray", training_file=file.id, extra_headers=retry)
        assert late.id == again.id, "the answer may have been lost because the server was killed"
        until_over(client, job.id)
        until_over(client, again.id)
    assert len(trainings(own)) == 2


def survive_kills(own: Served, kills: int) -> None:
    """Create two jobs, kill the server at a random moment, and start it again; nothing that was accepted is lost."""
    chance = random.Random(3)
    with own.client() as client:
        file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune").id
    accepted: list[str] = []
    seen: dict[str, list[str]] = {}
    for _ in range(kills):
        with own.client(max_retries=0) as client:
            accepted += [client.fine_tuning.jobs.create(model="gray", training_file=file).id for _ in range(2)]
            time.sleep(chance.random() * 0.3)
            events = {one: [e.id for e in client.fine_tuning.jobs.list_events(one)][::-1] for one in accepted}
        own.kill()
        assert all(events[one][: len(seen.get(one, []))] == seen.get(one, []) for one in accepted)
        seen = events
        own.start()
    with own.client() as client:
        assert [one.id for one in client.fine_tuning.jobs.list()] == accepted[::-1]
        assert [until_over(client, one).status for one in accepted] == ["succeeded"] * len(accepted)
        for one in accepted:
            found = [event.id for event in client.fine_tuning.jobs.list_events(one)][::-1]
            assert found[: len(seen[one])] == seen[one]
            assert len(found) == 6
        assert client.files.content(file).read() == jsonl()
    assert len(trainings(own)) == len(accepted)


def test_every_accepted_file_and_job_survives_kills(own: Served) -> None:
    survive_kills(own, 3)


@pytest.mark.soak
def test_every_accepted_file_and_job_survives_a_hundred_kills(own: Served) -> None:
    own.end()
    own._arguments += ("--limit", "open_jobs=1000")  # they come faster than a server that is killed can start them
    own.start()
    survive_kills(own, 100)


def test_half_an_upload_leaves_nothing_and_a_job_keeps_its_deleted_file(own: Served) -> None:
    whole = FORM % (jsonl() * 1000)
    with socket.create_connection(("127.0.0.1", own.port)) as connection:
        connection.sendall(HEAD % (own.token.encode(), len(whole)) + whole[: len(whole) // 2])
        deadline = time.monotonic() + 30
        incoming = own.home / "server" / "incoming"
        while not any(incoming.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        own.kill()
    assert any(incoming.iterdir())
    own.start()
    assert not any(incoming.iterdir())
    with own.client() as client:
        assert list(client.files.list()) == []
        file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune").id
        job = client.fine_tuning.jobs.create(model="gray", training_file=file)
        client.files.delete(file)
        assert until_over(client, job.id).status == "succeeded"
    assert not (own.home / "server" / "files" / file).exists()


def test_sigterm_lets_requests_in_progress_finish(own: Served) -> None:
    whole = FORM % jsonl()
    with socket.create_connection(("127.0.0.1", own.port)) as connection:
        connection.sendall(HEAD % (own.token.encode(), len(whole)) + whole[:300])
        time.sleep(0.3)
        own.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        connection.sendall(whole[300:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200"), answer
    own.process.wait(60)
    own.end()
    own.start()
    with own.client() as client:
        assert [one.bytes for one in client.files.list()] == [len(jsonl())]
