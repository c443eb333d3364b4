"""The bytes of files, parts and drafts on disk, each under its id, in step with their rows."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from tuneport.plugin import open_regular, sync, write_file
from tuneport_server.store import Row, Store

PURPOSE = "fine-tune"
"""The purpose of a file that is uploaded."""
RESULTS = "fine-tune-results"
"""The purpose of a file that a job has made."""


class Vault:
    """The folder of a server. Bytes are in place, flushed to disk, before their row is written."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._store = store
        self.files = folder / "files"  # uploaded files and results
        self.incoming = folder / "incoming"  # drafts; what is here when a server starts was never accepted
        self.inputs = folder / "inputs"  # links to the files of jobs that have not started
        self.parts = folder / "parts"  # parts of uploads
        for one in (self.files, self.incoming, self.inputs, self.parts):
            one.mkdir(mode=0o700, exist_ok=True)

    def open(self, file: Row) -> BufferedReader:
        """Open the bytes of a file. Raises FileNotFoundError if it was deleted since its row was read."""
        return open_regular(self.files / file["id"])

    def add_result(self, owner: str, job: str, text: str) -> str:
        """Add a file that a job made, once. Returns its id."""
        id_ = "file-" + job.removeprefix("ftjob-")
        write_file(self.files / id_, text, mode=0o600)
        with self._store.transaction():
            if self._store.files.get(id_) is None:
                values = {"bytes": len(text.encode()), "filename": "step_metrics.csv", "purpose": RESULTS}
                self._store.files.add(id_, owner, created=int(time.time()), status="processed", **values)
        return id_

    def remove_file(self, id_: str) -> None:
        """Remove the bytes of a file that is marked as deleted. A job that was created with it keeps its own link."""
        (self.files / id_).unlink(missing_ok=True)

    def remove_parts(self, ids: list[str]) -> None:
        """Remove the bytes of parts that are forgotten."""
        for id_ in ids:
            (self.parts / id_).unlink(missing_ok=True)

    def end_upload(self, id_: str, status: str) -> None:
        """Set the status of an upload if it is pending, and remove its parts."""
        self.remove_parts(self._store.uploads.end(id_, status))

    def drop_expired(self) -> list[str]:
        """Remove files and uploads whose time is over. Returns the ids of the files."""
        now = int(time.time())
        files = self._store.files.expired_ids(now)
        for id_ in files:
            self._store.files.mark_deleted(id_, now)
            self.remove_file(id_)
        self.drop_expired_uploads()
        return files

    def drop_expired_uploads(self) -> None:
        """Remove uploads whose time is over."""
        for id_ in self._store.uploads.expired_ids(int(time.time())):
            self.end_upload(id_, "expired")

    def bytes_used(self) -> int:
        """Return the bytes of all owners' files and parts."""
        return self._store.bytes_used()

    def input(self, job: str, param: str) -> Path:
        """Return the path of a job's own link to a file; `param` is the field of the request that names the file."""
        return self.inputs / f"{job}.{param}"

    @contextmanager
    def link_inputs(self, job: str, files: Mapping[str, str | None]) -> Iterator[Callable[[str], bool]]:
        """Yield a function that links one of `files` (param → file id) for a new job, and returns False if the file is
        gone. Use it inside the transaction that adds the job: the links are removed if the block fails.
        """

        def link(param: str) -> bool:
            try:
                _link(self.files / str(files[param]), self.input(job, param))
            except FileNotFoundError:
                return False
            sync(self.inputs)
            return True

        try:
            yield link
        except BaseException:
            for param in files:
                self.input(job, param).unlink(missing_ok=True)
            raise

    def release_inputs(self) -> None:
        """Remove the links of jobs that have started or are over."""
        found = list(self.inputs.iterdir())  # before the rows: a job that is being created has its link first
        held = {f"{row['job']}.{row['param']}" for row in self._store.files.list_held()}
        for link in found:
            if link.name not in held:
                link.unlink(missing_ok=True)

    @contextmanager
    def borrow(self, id_: str) -> Iterator[Path]:
        """Yield a link to a file that can be opened several times, even if the file is deleted meanwhile. The bytes
        come from the file itself or from a job that has a link to it. Raises FileNotFoundError if there is neither.
        """
        link = self.incoming / secrets.token_hex(16)
        held = self._store.files.list_held(id_)
        places = [self.files / id_, *(self.input(one["job"], one["param"]) for one in held)]
        try:
            for place in places[:-1]:
                with contextlib.suppress(FileNotFoundError):
                    _link(place, link)
                    break
            else:
                _link(places[-1], link)
            yield link
        finally:
            link.unlink(missing_ok=True)

    def clean(self) -> None:
        """Bring the folder in step with the rows after a server was killed."""
        for leftover in self.incoming.iterdir():
            leftover.unlink()
        for row in self._store.files.list_held():  # of jobs that an older server created
            link = self.input(row["job"], row["param"])
            if not link.exists() and (self.files / row["file"]).exists():
                _link(self.files / row["file"], link)
        self.drop_expired()
        self.release_inputs()
        _keep_only(self.files, self._store.files.present_ids())  # others were put in place, but their row never written
        _keep_only(self.parts, self._store.uploads.part_ids())


@contextmanager
def place(draft: Path, folder: Path, prefix: str) -> Iterator[str]:
    """Move a draft into a folder under a new id, and yield the id so that its row can be written. The file is removed
    if the block fails.
    """
    id_ = prefix + secrets.token_hex(12)
    target = folder / id_
    try:
        sync(draft)
        draft.replace(target)
        sync(folder)  # a row must never name a file that is not on disk
        yield id_
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _keep_only(folder: Path, names: set[str]) -> None:
    for file in folder.iterdir():
        if file.name not in names:
            file.unlink()


def _link(file: Path, target: Path) -> None:
    try:
        target.hardlink_to(file)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(file, target)
