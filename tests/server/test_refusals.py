"""What is refused, with which error, and which remedy."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import openai
import pytest

import tuneport
from serving import Served, jsonl, until_over
from tuneport import loader
from tuneport.errors import ConfigError, UsageError
from tuneport_server.settings import ServeSettings, read_settings

RAW = b"GET /v1/models HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n%s\r\n"


@pytest.fixture
def file(client: openai.OpenAI) -> str:
    return client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune").id


def ask(shared: Served, request: bytes) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", shared.port), timeout=30) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split(b" ", 2)[1]), answer


@pytest.mark.parametrize("key", ["tp-wrong", "x" * 5000, "tp-" + "a" * 43])
def test_a_wrong_token_is_an_authentication_error(shared: Served, key: str) -> None:
    with (
        shared.client(key, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="access add") as e,
    ):
        client.models.list()
    assert e.value.code == "invalid_api_key"


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"POST", b"DELETE", b"PROPFIND"])
@pytest.mark.parametrize("path", [b"/", b"/v1/models", b"/v1/nothing", b"/openapi.json", b"/v1/files/..%2f..%2fx"])
def test_no_route_answers_without_a_token(shared: Served, method: bytes, path: bytes) -> None:
    status, _ = ask(shared, method + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status == 401


def test_a_removed_token_is_refused_and_its_name_can_be_added_again(shared: Served) -> None:
    old = shared.add_token("rotated")
    with shared.client(old, max_retries=0) as client:
        file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune")
        shared.run("access", "remove", "rotated")
        with pytest.raises(openai.AuthenticationError):
            client.files.list()
    with shared.client(shared.add_token("rotated"), max_retries=0) as client:
        assert [one.id for one in client.files.list()] == [file.id]
    kept = b"".join(path.read_bytes() for path in shared.home.rglob("server.sqlite3*"))
    assert old.encode() not in kept


def test_a_foreign_host_or_page_is_refused(shared: Served, token: str) -> None:
    good = token.encode()
    assert ask(shared, RAW % (b"127.0.0.1:80", good, b""))[0] == 200
    assert ask(shared, RAW % (b"evil.example", good, b""))[0] == 403
    assert ask(shared, RAW % (b"127.0.0.1.evil.example", good, b""))[0] == 403
    assert ask(shared, RAW % (b"localhost", good, b"Origin: http://evil.example\r\n"))[0] == 403
    assert ask(shared, RAW % (b"localhost", good, b"Origin: null\r\n"))[0] == 403
    assert ask(shared, RAW % (b"localhost:1", good, b"Origin: http://localhost:1\r\n"))[0] == 200


@pytest.mark.parametrize(
    ("changed", "param", "message"),
    [
        ({"model": "gpt-9"}, "model", "No such model"),
        ({"training_file": "file-none"}, "training_file", "no file"),
        ({"validation_file": "file-none"}, "validation_file", "no file"),
        ({"suffix": "x" * 65}, "suffix", "64"),
        ({"seed": -1}, "seed", "greater"),
        ({"metadata": {"k" * 65: "v"}}, None, "64"),
        ({"metadata": {str(n): "v" for n in range(17)}}, "metadata", "16"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations", "does not support"),
        ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs", "1 to 50"),
        ({"hyperparameters": {"batch_size": True}}, "hyperparameters.batch_size", "1 to 256"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters.learning_rate_multiplier", "above 0"),
        ({"method": {"type": "dpo"}}, "method", "does not support the method 'dpo'"),
        ({"method": {"type": "reinforcement"}}, "method", "does not support the method 'reinforcement'"),
        ({"method": {"type": "evolution"}}, "method.type", "supervised"),
        ({"method": {"type": "orpo"}}, "method.type", "dpo"),  # no word of the wire, whatever a backend can do
        ({"method": {"type": "supervised", "dpo": {}}}, "method.dpo", "supervised"),
        ({"hyperparameters": {"batch_size": 4}}, "method", "does not take batch_size"),
        ({"extra_body": {"trainingType": "Standard"}}, "trainingType", "Unrecognized"),
    ],
)
def test_an_invalid_request_is_a_400_of_the_wire(client: openai.OpenAI, file: str, changed, param, message) -> None:
    asked = {"model": "gray", "training_file": file, **changed}
    kind = openai.NotFoundError if param == "model" else openai.BadRequestError
    with pytest.raises(kind, match=message) as error:
        client.fine_tuning.jobs.create(**asked)
    if param is not None:
        assert error.value.param == param
    assert error.value.body["type"] == "invalid_request_error"
    assert list(client.fine_tuning.jobs.list()) == []


def test_bad_rows_fail_the_job_and_the_error_names_line_and_pointer(client: openai.OpenAI, file: str) -> None:
    rows = jsonl() + b'{"messages": [{"role": "wizard", "content": "x"}, {"role": "assistant", "content": "y"}]}\n'
    bad = client.files.create(file=("bad.jsonl", rows), purpose="fine-tune")
    for files, param in (
        ({"training_file": bad.id}, "training_file"),
        ({"training_file": file, "validation_file": bad.id}, "validation_file"),
    ):
        job = until_over(client, client.fine_tuning.jobs.create(model="gray", **files).id)
        assert job.status == "failed"
        assert (job.error.code, job.error.param) == (f"invalid_{param}", param)
        assert "line 13 at /messages/0/role" in job.error.message
        assert "/home/" not in job.error.message
        events = client.fine_tuning.jobs.list_events(job.id).data
        assert (events[0].level, events[0].message) == ("error", job.error.message)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"messages": []}, r"messages: should have at least 1 item\."),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "text"),
        ({"max_tokens": 0}, "max_tokens: should be greater"),
        ({"tools": [{"type": "function", "function": {}}]}, r"function\.name: is missing"),
        ({"temperature": 3}, "temperature"),
        ({"n": 1000}, "at most"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"messages": ["hi"]}, r"messages\[0\]: should be an object\."),
        ({"stream_options": "usage"}, r"stream_options: should be an object\."),
    ],
)
def test_a_question_that_cannot_be_answered_gets_the_reason(client: openai.OpenAI, changed, message: str) -> None:
    asked = {"model": "gray", "messages": [{"role": "user", "content": "hi"}], **changed}
    with pytest.raises(openai.BadRequestError, match=message):
        client.chat.completions.create(**asked)


def test_uploads_are_limited_counted_and_for_one_purpose(shared: Served, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="fine-tune"):
        client.files.create(file=("a.jsonl", jsonl()), purpose="batch")
    with pytest.raises(openai.BadRequestError, match="empty"):
        client.files.create(file=("a.jsonl", b""), purpose="fine-tune")
    for anchor, seconds in (("created_at", 3599), ("created_at", 2_592_001), ("last_active_at", 3600)):
        with pytest.raises(openai.BadRequestError, match="expires_after"):
            client.files.create(
                file=("a.jsonl", jsonl()), purpose="fine-tune", expires_after={"anchor": anchor, "seconds": seconds}
            )
    assert list(client.files.list()) == []
    assert list((shared.home / "server" / "incoming").iterdir()) == []


def test_limits_have_their_own_status(own: Served) -> None:
    own.end()
    own._arguments += ("--limit", "file_bytes=2000", "--limit", "file_rows=20", "--limit", "json_bytes=3000")
    own.start()
    with own.client(max_retries=0) as client:
        for body in (b"x" * 100_000, b"\n" * 100):
            with pytest.raises(openai.APIStatusError, match=r"(larger|more) than") as error:
                client.files.create(file=("a.jsonl", body), purpose="fine-tune")
            assert error.value.status_code == 413
        with pytest.raises(openai.APIStatusError) as error:
            client.chat.completions.create(model="gray", messages=[{"role": "user", "content": "x" * 5000}])
        assert error.value.status_code == 413
        assert json.loads(error.value.response.text)["error"]["code"] == "too_large"


def test_a_second_server_of_a_home_and_a_port_in_use_are_refused(own: Served) -> None:
    import subprocess

    with pytest.raises(subprocess.CalledProcessError) as error:
        own.run("serve", "--models", "gray=parrot:gray", "--port", "0")
    assert error.value.returncode == 2
    assert own.url in error.value.stderr
    assert f"process {own.process.pid}" in error.value.stderr
    assert "TUNEPORT_HOME" in error.value.stderr


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/files", "GET, HEAD, POST"),
        ("PUT", "/files/file-1", "DELETE, GET, HEAD"),
        ("DELETE", "/fine_tuning/jobs", "GET, HEAD, POST"),
        ("POST", "/fine_tuning/jobs/ftjob-1/events", "GET, HEAD"),
        ("GET", "/fine_tuning/jobs/ftjob-1/cancel", "POST"),
    ],
)
def test_a_405_names_all_methods_of_the_path(shared: Served, token: str, method: str, path: str, allowed: str) -> None:
    line = (
        f"{method} /v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    )
    status, answer = ask(shared, line.encode())
    assert status == 405
    assert f"\r\nallow: {allowed}\r\n".encode() in answer


def test_invalid_settings_get_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Unknown limit 'modls'"):
        ServeSettings().with_changes(limits=["modls=3"])
    with pytest.raises(UsageError, match="whole number above 0, such as models=8"):
        ServeSettings().with_changes(limits=["models=0"])
    absent, run = tmp_path / "absent.yaml", tmp_path / "run.yaml"
    with pytest.raises(ConfigError, match="No such file") as error:
        read_settings(absent)
    assert error.value.remedy is not None
    assert "serve:" in error.value.remedy
    run.write_text("model: torch:smollm2-135m\n")
    with pytest.raises(ConfigError, match="no section 'serve'") as error:
        read_settings(run)
    assert error.value.remedy is not None
    assert "`serve:`" in error.value.remedy


def test_a_config_can_name_models_like_the_command(
    tmp_path: Path, parrot_site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(str(parrot_site))
    loader.load.cache_clear()
    file = tmp_path / "serve.yaml"
    file.write_text("serve: {models: {a: torch:smollm2-135m, b: ./folder, c: last}}\n")
    with pytest.raises(ConfigError, match=r"serve\.models\.c: there is no last job") as error:
        read_settings(file)
    assert "serve.models.b: './folder' is not the name of a job" in str(error.value)
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
    ref = tuneport.train("parrot:gray", rows, suffix="served").ref
    file.write_text("serve: {models: {a: last, b: served, c: 'parrot:serv', d: 'parrot:last'}}\n")
    assert set(read_settings(file).models.values()) == {str(ref)}
    loader.load.cache_clear()
