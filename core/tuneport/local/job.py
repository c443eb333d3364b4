"""A handle on a training on this machine: everything it knows is in the job's folder."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from tuneport.contract.events import Event, Status, utc_now
from tuneport.contract.facts import Lineage
from tuneport.contract.job import Job
from tuneport.contract.state import Checkpoint, JobState, Removal
from tuneport.doors import LOCAL, public
from tuneport.errors import BackendError, JobNotFinished, UsageError
from tuneport.local.checkpoints import Checkpoints
from tuneport.local.disk import needs_room
from tuneport.local.eventlog import EventReader, JobStatus
from tuneport.local.folder import Folder, read_file, size_of
from tuneport.local.intents import release_intent
from tuneport.local.launch import launch
from tuneport.local.owner import Holder, Owner, holder
from tuneport.local.slots import Slots, describe_place
from tuneport.local.vanished import WAITS, explain_absence
from tuneport.local.work import LINEAGE
from tuneport.refs import Ref
from tuneport.units import size

if TYPE_CHECKING:
    from tuneport.contract.model import Model
    from tuneport.local.trainer import Trainer

_OBEY_SECONDS = 5.0  # a worker that has not obeyed a cancel by then is killed
_END_SECONDS = 15.0  # how long a deletion waits for the worker of a job that is over
_PAUSE_SECONDS = 120.0  # how long a resume waits for the last checkpoint of a worker that is pausing


@public(LOCAL)
class LocalJob(Job):
    """A training on this machine. The worker is a separate process: a handle reads, asks and, if need be, kills."""

    poll_seconds: float = 0.5
    delivers_events = True  # the worker does

    def __init__(self, trainer: Trainer, folder: Folder) -> None:
        self.ref = Ref.parse(folder.ref)
        self.folder = folder
        self._trainer = trainer
        self._slots = Slots(folder.backend)
        self._reader = EventReader(folder.events_file)

    def state(self) -> JobState:
        """The job's state: what its worker wrote last, and whether that worker is running."""
        request = self.folder.request()
        owner, now = holder(self.folder), self.folder.status()
        if now is None or (not _is_resting(now) and not (owner and owner.alive)):
            now = self.folder.latest_status()  # a worker writes its last status before it ends: look again
            owner = holder(self.folder)
        status, message, remedy, place = now.status, now.message, now.remedy, now.queue_position
        if status is Status.QUEUED and now.native == WAITS:
            kind, place = self._slots.place(self.folder.name) or ("", None)  # it changes without being written down
            message = describe_place(kind, place) if place else "Starting a worker."
        if not _is_resting(now):
            if not (owner and owner.alive):
                status = Status.INTERRUPTED
                message, remedy = explain_absence(self.folder, owner, self._trainer.less_memory)
            elif self.folder.has_request("cancel"):
                status, message = Status.CANCELLING, "It ends when the worker has finished its current work."
            elif self.folder.has_request("pause") or self.folder.has_request("pausing"):
                status = Status.PAUSING
        return JobState(
            status=status,
            native=now.native,
            message=message,
            remedy=remedy,
            step=now.step,
            total_steps=now.total_steps,
            tokens=now.tokens,
            queue_position=(place or None) if status is Status.QUEUED else None,
            seconds_left=now.seconds_left if status is Status.RUNNING else None,
            created=datetime.fromisoformat(request["created"]),
            started=now.started,
            finished=now.finished,
            details={**now.details, **self._details(owner)},
        )

    def events(self, after: int = 0) -> Iterable[Event]:
        """The job's events after number `after`, complete lines only, while the worker continues to write."""
        self.folder.request()
        return self._reader.after(after)

    @needs_room
    def cancel(self) -> None:
        """End the job permanently, whatever it is doing. A worker that does not respond within seconds is killed."""
        if self.status.terminal:
            return
        self.folder.make_request("cancel")
        started = time.monotonic()
        while not self.status.terminal:
            owner = Owner.take(self.folder)
            if owner is not None:
                with owner:
                    if not owner.now.status.terminal:
                        owner.status(Status.CANCELLED, "Cancelled.", finished=utc_now())
                self._slots.leave(self.folder.name)
                return
            waited = time.monotonic() - started
            current = holder(self.folder)
            if waited > _OBEY_SECONDS and current is not None and current.identity is not None:
                current.identity.kill_group()
            if waited > 3 * _OBEY_SECONDS:
                raise BackendError(
                    f"The worker of {self.ref} does not stop and cannot be killed from here.",
                    remedy=f"It is process {current.identity.pid if current and current.identity else '?'}, perhaps in "
                    "another container or of another user: end it there. The job then stays cancelled.",
                )
            time.sleep(0.05)

    @needs_room
    def pause(self) -> None:
        """Stop after the current step and save a checkpoint. Returns at once; `follow` ends when it is done."""
        status = self.status
        if status.terminal:
            raise UsageError(f"{self.ref} is {status}: there is nothing to pause.")
        if status is Status.INTERRUPTED:
            owner = Owner.take(self.folder)
            if owner is not None:
                with owner:
                    owner.status(Status.PAUSED, "Paused.", remedy=f"Run: tuneport resume {self.ref}")
                return
        if status is not Status.PAUSED:
            self.folder.make_request("pause")

    @needs_room
    def resume(self) -> None:
        """Continue from the last complete checkpoint. Called twice, or by two processes, it starts one worker."""
        found = self.state()
        status = found.status
        if status.terminal:
            raise UsageError(
                f"{self.ref} is {status}: it is over and cannot be resumed.",
                remedy="Start the run again: tuneport run … --again",
            )
        self.folder.withdraw_request("pause")
        deadline = time.monotonic() + _PAUSE_SECONDS
        while (owner := Owner.take(self.folder)) is None:
            status = self.status
            if status.terminal or not (status.idle or status is Status.PAUSING):
                return  # it is over, or it runs
            if time.monotonic() > deadline:
                raise JobNotFinished(
                    f"{self.ref} is still writing its last checkpoint.",
                    ref=str(self.ref),
                    status=status,
                    remedy=f"Wait a moment, then run: tuneport resume {self.ref}",
                )
            time.sleep(0.1)
        with owner:
            if not (owner.now.status.terminal or self.folder.has_request("cancel")):
                if found.status is Status.INTERRUPTED and not _is_resting(owner.now):
                    owner.status(Status.INTERRUPTED, found.message, level="warning", remedy=found.remedy)
                if not self.checkpoints():
                    owner.progress(step=0, tokens=0, seconds_left=None)
                launch(owner, self._trainer)

    def checkpoints(self) -> list[Checkpoint]:
        """The complete checkpoints, oldest first."""
        return Checkpoints(self.folder.checkpoints).list()

    def result(self) -> Model:
        """The tuned model. Raises JobFailed, JobCancelled or JobNotFinished where there is none."""
        self.require_success()
        try:
            lineage = Lineage.from_dict(msgspec.json.decode(read_file(self.folder.model / LINEAGE)))
        except FileNotFoundError:  # the backend keeps it elsewhere
            lineage = None
        except (OSError, msgspec.DecodeError, TypeError) as error:
            raise BackendError(
                f"{self.folder.model / LINEAGE} cannot be read: {error}.", remedy="Restore the file."
            ) from error
        return self._trainer.load(self.ref, self.folder.model, lineage)

    def delete(self, *, dry_run: bool = False) -> Removal:
        """Remove the folder with data snapshot, checkpoints and model. Returns a line for each part, with its size."""
        state, intent = self.state(), self.folder.request()["intent"]
        running = JobNotFinished(
            f"{self.ref} is {state.status}: it must end before it can be deleted.",
            ref=str(self.ref),
            status=state.status,
            remedy=f"Run: tuneport cancel {self.ref}",
        )
        if not (state.status.terminal or state.status.idle):
            raise running
        lines = self._parts()
        if dry_run:
            return Removal(removed=lines)
        deadline = time.monotonic() + _END_SECONDS
        while (owner := Owner.take(self.folder)) is None:  # the worker of a job that is over may still be ending
            if time.monotonic() > deadline:
                raise running
            time.sleep(0.05)
        doomed = self.folder.path.with_name(f".deleted-{uuid.uuid4().hex}")
        self.folder.path.rename(doomed)  # at once, so that no reader sees an incomplete job
        owner.let_go()
        release_intent(self.folder.backend, intent)
        for remains in doomed.parent.glob(".deleted-*"):  # and what a killed deletion left
            shutil.rmtree(remains, ignore_errors=True)
        return Removal(removed=lines)

    def prune(self, *, dry_run: bool = False) -> int:
        """Remove the checkpoints of a job that is over; its model is kept. Returns how many bytes that frees."""
        kept = self.folder.checkpoints
        if not self.state().status.terminal or not kept.is_dir():
            return 0
        freed = sum(file.stat().st_size for file in kept.rglob("*") if file.is_file())
        if freed and not dry_run:
            shutil.rmtree(kept, ignore_errors=True)
        return freed

    def _parts(self) -> list[str]:
        lines = []
        for part in sorted(self.folder.path.iterdir()):
            count = sum(map(size_of, part.rglob("*"))) if part.is_dir() else size_of(part)
            if count:
                lines.append(f"{part} ({size(count)})")
        return lines

    def _details(self, owner: Holder | None) -> dict[str, object]:
        facts: dict[str, object] = {"folder": str(self.folder.path), "log": str(self.folder.log)}
        if owner is not None and owner.identity is not None and owner.alive:
            facts["pid"] = owner.identity.pid
            if owner.silent_seconds is not None:
                facts["seconds_since_sign_of_life"] = round(owner.silent_seconds, 1)
        return facts


def _is_resting(now: JobStatus) -> bool:
    return now.status.terminal or now.status.idle
