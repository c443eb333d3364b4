"""Files are named by their bytes, looked for before they are sent, and sent in parts that survive a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

import tuneport
import tuneport.plugin
from tuneport import Dataset
from tuneport_openai.start.rules import write_rows
from tuneport_openai.wire import upload
from tuneport_openai.wire.client import Wire
from tuneport_openai.wire.limits import Limits
from tuneport_openai.wire.profiles import Profile
from wire_server import KEY, WireServer


@pytest.fixture
def wire(server: WireServer) -> Wire:
    return wire_of(server, Limits(retry_seconds=0))


@pytest.fixture
def in_parts(server: WireServer) -> Wire:
    """Which sends parts of a size for tests."""
    return wire_of(server, Limits(retry_seconds=0, request_bytes=1000, part_bytes=700))


def wire_of(server: WireServer, limits: Limits) -> Wire:
    return Wire(Profile(name="lab", base_url=server.url, key="LAB_API_KEY", limits=limits))


@pytest.fixture
def facts(rows: Dataset) -> dict[str, object]:
    file = write_rows(rows, tuneport.plugin.home("openai", "files"))
    return {"path": str(file.path), "sha256": file.sha256, "bytes": file.bytes, "name": file.name}


def test_the_same_bytes_are_sent_once(wire: Wire, server: WireServer, facts: dict) -> None:
    first = upload.ensure_file(wire, facts, {})
    assert upload.ensure_file(wire, facts, {}) == first
    assert server.calls("POST", "/v1/files") == 1
    assert server.files[first]["filename"] == f"tuneport-{facts['sha256']}.jsonl"


def test_a_file_is_waited_for_until_it_is_processed(wire: Wire, server: WireServer, facts: dict) -> None:
    server.file_looks = 3
    assert server.files[upload.ensure_file(wire, facts, {})]["status"] == "processed"


def test_a_file_that_the_server_rejects_is_reported(wire: Wire, server: WireServer, facts: dict) -> None:
    found = upload.ensure_file(wire, facts, {})
    server.files[found]["status"] = "error"
    with pytest.raises(tuneport.errors.DataError, match="rejected the file"):
        upload._wait_until_processed(wire, found)
    assert upload.ensure_file(wire, facts, {}) != found


def test_a_refused_upload_is_not_repeated(wire: Wire, server: WireServer, facts: dict) -> None:
    server.refuse["POST /v1/files"] = (413, {"error": {"message": "too large"}}, {})
    with pytest.raises(tuneport.errors.UsageError, match="too large"):
        upload.ensure_file(wire, facts, {})
    assert server.calls("POST", "/v1/files") == 1


def test_a_failing_upload_is_repeated_a_few_times(wire: Wire, server: WireServer, facts: dict) -> None:
    server.refuse["POST /v1/files"] = (500, {"error": {"message": "broken"}}, {})
    with pytest.raises(tuneport.errors.BackendError, match="could not be uploaded to lab"):
        upload.ensure_file(wire, facts, {})
    assert 1 < server.calls("POST", "/v1/files") < 10


def test_a_large_file_is_sent_in_parts_and_arrives_completely(in_parts: Wire, server: WireServer, facts: dict) -> None:
    scratch: dict = {}
    found = upload.ensure_file(in_parts, facts, scratch)
    assert server.content[found] == Path(facts["path"]).read_bytes()
    (sent,) = server.uploads.values()
    assert len(sent["parts"]) == -(-facts["bytes"] // 700)
    assert not scratch


def test_an_interrupted_upload_continues_where_it_ended(server: WireServer, facts: dict) -> None:
    scratch: dict = {}
    wire = wire_of(server, Limits(upload_retries=0, request_bytes=1000, part_bytes=700))
    server.refuse["POST /v1/uploads/upload-000001/complete"] = (500, {"error": {"message": "broken"}}, {})
    with pytest.raises(tuneport.errors.BackendError):
        upload.ensure_file(wire, facts, scratch)
    state = next(iter(scratch.values()))
    key = next(iter(scratch))
    scratch[key] = {**state, "parts": state["parts"][:2]}  # as if it had been killed after the second part
    server.refuse.clear()
    before = server.calls("POST", f"/v1/uploads/{state['id']}/parts")
    found = upload.ensure_file(wire, facts, scratch)
    assert server.content[found] == Path(facts["path"]).read_bytes()
    assert server.calls("POST", f"/v1/uploads/{state['id']}/parts") - before == -(-facts["bytes"] // 700) - 2


def test_an_upload_that_the_server_has_forgotten_begins_again(in_parts: Wire, server: WireServer, facts: dict) -> None:
    scratch: dict = {}
    server.refuse["POST /v1/uploads/upload-000001/parts"] = (404, {"error": {"message": "expired"}}, {})
    found = upload.ensure_file(in_parts, facts, scratch)
    assert server.content[found] == Path(facts["path"]).read_bytes()
    assert len(server.uploads) == 2


def test_a_refusal_that_repeats_the_key_does_not_show_it(in_parts: Wire, server: WireServer, facts: dict) -> None:
    for number in range(1, 9):
        server.refuse[f"POST /v1/uploads/upload-{number:06}/parts"] = (400, {"error": {"message": f"{KEY} is bad"}}, {})
    with pytest.raises(tuneport.errors.BackendError, match="… is bad") as caught:
        upload.ensure_file(in_parts, facts, {})
    assert KEY not in str(caught.value)
