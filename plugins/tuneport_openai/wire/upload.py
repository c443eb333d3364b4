"""Files at the server: found by the SHA-256 of their bytes, else uploaded, in parts where they are large."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tuneport.errors import BackendError, DataError, NotFoundError, UnavailableError, UsageError
from tuneport.plugin import open_regular, transfer_bar
from tuneport_openai.wire.client import Wire
from tuneport_openai.wire.pages import Pages
from tuneport_openai.wire.refusals import is_refusal, line_of, message_of

if TYPE_CHECKING:
    from openai import APIStatusError
    from openai.types import FileObject

_log = logging.getLogger("tuneport")

_MOST_FAILURES, _LONGEST_PAUSE = 3, 60.0
_BAD = frozenset({"error", "failed", "deleted"})
_WAITING = frozenset({"uploaded", "pending", "running", "processing", "notRunning"})
_UPLOAD_SECONDS = 3000  # an upload lives an hour at the server


def ensure_file(wire: Wire, facts: dict[str, Any], scratch: MutableMapping[str, Any]) -> str:
    """The id of that file at the server, uploaded if it is not there, after it was processed.

    `facts` are `path`, `sha256`, `bytes` and `name`. Raises DataError when the server finds the file bad.
    """
    last: UnavailableError | BackendError | None = None
    limits = wire.limits
    for attempt in range(int(limits.upload_retries) + 1):  # costs nothing; each attempt searches first
        time.sleep(attempt * limits.retry_seconds)
        there = find_file(wire, facts["name"], facts["bytes"])
        if there is not None:
            return _wait_until_processed(wire, there)
        try:
            with wire.translate_errors("uploading the file"):
                sent = _send(wire, facts, scratch)
        except (UnavailableError, BackendError) as error:
            if error.__cause__ is not None and is_refusal(error.__cause__):
                raise
            last = error
        else:
            return _wait_until_processed(wire, sent)
    raise BackendError(
        f"The file could not be uploaded to {wire.profile.name}: {last}",
        remedy="Run the same command again: it continues.",
        passing=last is not None and last.passing,
    ) from last


def find_file(wire: Wire, name: str, size: int) -> str | None:
    """The id of a file of that name and size that is not bad, or None."""
    with wire.translate_errors("searching for the file"):
        for one in Pages(wire.patient.files.list(purpose="fine-tune")):
            if one.filename == name and one.bytes == size and one.status not in _BAD:
                return str(one.id)
    return None


def delete_file(wire: Wire, file_id: str) -> bool:
    """Delete a file at the server; returns whether it was there."""
    try:
        with wire.translate_errors("deleting a file"):
            wire.patient.files.delete(file_id)
    except NotFoundError:
        return False
    return True


def _send(wire: Wire, facts: dict[str, Any], scratch: MutableMapping[str, Any]) -> str:
    path = Path(facts["path"])
    if not path.is_file():
        raise UsageError(f"The file {path} is gone.", remedy="Run the same command again: it writes the file again.")
    if facts["bytes"] > wire.limits.request_bytes:
        return _send_parts(wire, path, facts, scratch)
    with open_regular(path) as file:
        made = wire.once.files.create(file=(facts["name"], file, "application/jsonl"), purpose="fine-tune")
    return _id_of(made)


def _send_parts(wire: Wire, path: Path, facts: dict[str, Any], scratch: MutableMapping[str, Any]) -> str:
    """The Uploads API. The ids of parts that have arrived are in the scratch, so that a killed upload can continue."""
    key = f"upload {facts['sha256']}"
    state: dict[str, Any] | None = scratch.get(key)
    if state is None or time.time() - state["at"] > _UPLOAD_SECONDS:
        made = wire.once.uploads.create(
            bytes=facts["bytes"], filename=facts["name"], mime_type="application/jsonl", purpose="fine-tune"
        )
        state = {"id": _id_of(made), "at": time.time(), "part_bytes": int(wire.limits.part_bytes), "parts": []}
        scratch[key] = state
    try:
        with open_regular(path) as file, transfer_bar("uploading", facts["bytes"]) as advance:
            advance(len(state["parts"]) * state["part_bytes"])
            file.seek(len(state["parts"]) * state["part_bytes"])
            while chunk := file.read(state["part_bytes"]):
                part = wire.once.uploads.parts.create(state["id"], data=("part", chunk, "application/octet-stream"))
                state = {**state, "parts": [*state["parts"], _id_of(part)]}
                scratch[key] = state
                advance(len(chunk))
        done = wire.once.uploads.complete(state["id"], part_ids=state["parts"], md5=_md5(path))
    except Exception as error:
        if is_refusal(error):  # expired, cancelled or completed: the next attempt starts a new one
            scratch.pop(key, None)
            said = wire.redact(message_of(cast("APIStatusError", error)))
            raise BackendError(f"The upload was refused: {said}", remedy="Run the same command again.") from None
        raise
    scratch.pop(key, None)
    if done.file is None:
        raise ValueError("the completed upload names no file")
    return _id_of(done.file)


def _wait_until_processed(wire: Wire, file_id: str) -> str:
    """Wait until the server has processed the file. An unknown status counts as done."""
    limits, most = wire.limits, wire.limits.process_seconds
    started, pause, failures = time.monotonic(), 0.02, 0
    next_notice, status = started + limits.notice_seconds, "uploaded"
    while True:
        try:
            status, failures = _status_of_file(wire, file_id), 0
        except UnavailableError as error:
            failures += 1
            if not error.passing or failures > _MOST_FAILURES:
                raise
            pause = max(pause, error.retry_after or limits.retry_seconds)
        if status not in _WAITING:
            return file_id
        now = time.monotonic()
        if now >= next_notice:
            _log.warning(
                "%s has been processing the file %s (status %r) for %.0f s; waiting up to %.0f minutes.",
                *(wire.profile.name, file_id, status, now - started, most / 60),
            )
            next_notice = now + 10 * limits.notice_seconds
        if now - started > most:
            raise BackendError(
                f"{wire.profile.name} is still processing the file {file_id} after {most / 60:.0f} "
                f"minutes: its status is {status!r}.",
                remedy="Run the same command later: it continues from here.",
                passing=True,
            )
        time.sleep(min(pause, _LONGEST_PAUSE))
        pause = min(pause * 2, 5.0)


def _status_of_file(wire: Wire, file_id: str) -> str:
    with wire.translate_errors("waiting for the file"):
        found: FileObject = wire.patient.files.retrieve(file_id)
        if _id_of(found) != file_id:
            raise ValueError(f"it is about the file {found.id!r}, not {file_id!r}")
    status = line_of(getattr(found, "status", None) or "processed")
    if status in _BAD:
        details = line_of(getattr(found, "status_details", None) or status)
        raise DataError(
            f"{wire.profile.name} rejected the file: {details}.",
            remedy=f"Compare with what was sent, and fix the data: the file is {line_of(found.filename)}.",
        )
    return status


def _id_of(made: Any) -> str:
    found = getattr(made, "id", None)
    if not isinstance(found, str) or not found:
        raise ValueError("the answer has no id")
    return found


def _md5(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
