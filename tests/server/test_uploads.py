"""Large files in parts: the client's helper, kills, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import openai
import pytest

from serving import Served, jsonl
from tuneport_server.vault import place


def begin(client: openai.OpenAI, size: int | None = None):
    return client.uploads.create(
        filename="big.jsonl", purpose="fine-tune", bytes=size or len(jsonl()), mime_type="application/jsonl"
    )


def test_the_clients_helper_uploads_in_parts_and_a_job_trains_on_it(client: openai.OpenAI) -> None:
    whole = jsonl()
    upload = client.uploads.upload_file_chunked(
        file=whole,
        filename="big.jsonl",
        bytes=len(whole),
        mime_type="application/jsonl",
        purpose="fine-tune",
        part_size=300,
        md5=hashlib.md5(whole).hexdigest(),
    )
    assert upload.status == "completed"
    assert client.files.content(upload.file.id).read() == whole
    assert client.fine_tuning.jobs.create(model="gray", training_file=upload.file.id).status == "validating_files"


def test_parts_survive_a_kill_and_completing_may_be_repeated(own: Served) -> None:
    whole = jsonl()
    with own.client() as client:
        upload = begin(client)
        late = client.uploads.parts.create(upload.id, data=whole[500:])
    own.kill()
    own.start()
    with own.client() as client:
        early = client.uploads.parts.create(upload.id, data=whole[:500])
        done = client.uploads.complete(upload.id, part_ids=[early.id, late.id])
        assert client.uploads.complete(upload.id, part_ids=[early.id, late.id]).file.id == done.file.id
        assert client.files.content(done.file.id).read() == whole
        assert [one.id for one in client.files.list()] == [done.file.id]
    assert not any((own.home / "server" / "parts").iterdir())


def test_parts_that_do_not_make_the_upload_are_refused(client: openai.OpenAI) -> None:
    upload = begin(client, size=1000)
    part = client.uploads.parts.create(upload.id, data=b"x" * 999)
    for ids, message in (
        ([part.id], "999 bytes"),
        ([part.id, part.id], "once"),
        (["part_none"], "once"),
    ):
        with pytest.raises(openai.BadRequestError, match=message):
            client.uploads.complete(upload.id, part_ids=ids)
    more = client.uploads.parts.create(upload.id, data=b"y")
    with pytest.raises(openai.BadRequestError, match="md5"):
        client.uploads.complete(upload.id, part_ids=[part.id, more.id], md5="0" * 32)
    with pytest.raises(openai.NotFoundError):
        client.uploads.complete("upload_none", part_ids=[part.id])
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="is cancelled"):
        client.uploads.parts.create(upload.id, data=b"z")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.uploads.create(filename="a", purpose="vision", bytes=1, mime_type="x")
    with pytest.raises(openai.APIStatusError, match="at most"):
        begin(client, size=2**40)


def test_a_file_whose_row_cannot_be_written_is_removed(tmp_path: Path) -> None:
    draft, folder = tmp_path / "draft", tmp_path / "files"
    folder.mkdir()
    draft.write_text("rows")
    with pytest.raises(OSError, match="disk"), place(draft, folder, "file-"):
        raise OSError("the disk is full")
    assert not list(folder.iterdir())
