"""A handle on a local training: everything it knows stands in the job's folder."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from tuneport.errors import BackendError, JobNotFinished, UsageError
from tuneport.plugin import Checkpoint, Event, Job, JobState, Ref, Removal, Status, utc_now
from tuneport_torch.jobs import devices, slots
from tuneport_torch.jobs.folder import EventReader, Folder, JobStatus, release_intent, size_of
from tuneport_torch.jobs.launch import WAITS, launch, size, why_gone
from tuneport_torch.jobs.owner import Holder, Owner, holder

if TYPE_CHECKING:
    from tuneport_torch.model import TorchModel

_OBEY_SECONDS = 5.0  # a worker that has not obeyed a cancel by then is killed
_END_SECONDS = 15.0  # how long a deletion waits for a worker whose job is over
_PAUSE_SECONDS = 120.0  # how long a resume waits for the last checkpoint of a worker that is just pausing


class TorchJob(Job):
    """A training on this machine. The worker is a process of its own: a handle only reads, asks and, at need, kills."""

    poll_seconds: float = 0.5
    delivers_events = True  # the worker does

    def __init__(self, folder: Folder) -> None:
        self.ref = Ref("torch", folder.name)
        self.folder = folder
        self._reader = EventReader(folder.events_file)

    def state(self) -> JobState:
        """Where the job stands: what its worker wrote last, and whether that worker lives."""
        request = self.folder.request()
        owner, now = holder(self.folder), self.folder.status()
        if now is None or (not _settled(now) and not (owner and owner.alive)):
            now = self.folder.settled()  # a worker writes its last words before it ends: look again
            owner = holder(self.folder)
        status, message, remedy, place = now.status, now.message, now.remedy, now.queue_position
        if status is Status.QUEUED and now.native == WAITS:
            place = slots.position(self.folder.name)  # it changes while nobody writes it down
            kind = devices.pool(request["settings"]["device"])
            message = slots.told(kind, place) if place else "Starting a worker."
        if not _settled(now):
            if not (owner and owner.alive):
                status = Status.INTERRUPTED
                message, remedy = why_gone(self.folder, owner)
            elif self.folder.asks("cancel"):
                message = "Being cancelled."
            elif self.folder.asks("pause") or self.folder.asks("pausing"):
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
        """The job's events after number `after`, whole lines only, while the worker writes on."""
        self.folder.request()
        return self._reader.after(after)

    def cancel(self) -> None:
        """End the job for good, whatever it is doing: a worker that does not obey within seconds is killed."""
        if self.status.terminal:
            return
        self.folder.ask("cancel")
        begun = time.monotonic()
        while not self.status.terminal:
            owner = Owner.take(self.folder)
            if owner is not None:
                with owner:
                    if not owner.now.status.terminal:
                        owner.status(Status.CANCELLED, "Cancelled.", finished=utc_now())
                slots.leave(self.folder.name)
                return
            waited = time.monotonic() - begun
            current = holder(self.folder)
            if waited > _OBEY_SECONDS and current is not None and current.identity is not None:
                current.identity.kill_group()
            if waited > 3 * _OBEY_SECONDS:
                raise BackendError(
                    f"The worker of {self.ref} neither stops nor can be killed from here.",
                    remedy=f"It is process {current.identity.pid if current and current.identity else '?'}, perhaps in "
                    "another container or of another user: end it there. The job then stays cancelled.",
                )
            time.sleep(0.05)

    def pause(self) -> None:
        """Stop after the step at hand and keep a checkpoint. Returns at once; `follow` ends when it is done."""
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
            self.folder.ask("pause")

    def resume(self) -> None:
        """Go on from the last whole checkpoint. Asked twice, or by two at once, it starts one worker."""
        found = self.state()
        status = found.status
        if status.terminal:
            raise UsageError(
                f"{self.ref} is {status}: it is over and cannot be resumed.",
                remedy="Start the run again: tuneport run … --again",
            )
        self.folder.unask("pause")
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
                    remedy=f"Wait a little, then run: tuneport resume {self.ref}",
                )
            time.sleep(0.1)
        with owner:
            if not (owner.now.status.terminal or self.folder.asks("cancel")):
                if found.status is Status.INTERRUPTED and not _settled(owner.now):
                    owner.status(Status.INTERRUPTED, found.message, level="warning", remedy=found.remedy)
                if not self.checkpoints():
                    owner.progress(step=0, tokens=0, seconds_left=None)
                launch(owner)

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that are whole, oldest first."""
        from tuneport_torch.engine.checkpoint import Store

        return Store(self.folder.checkpoints).list()

    def result(self) -> TorchModel:
        """The tuned model; raises JobFailed, JobCancelled or JobNotFinished where there is none."""
        self.require_success()
        from tuneport_torch.model import TorchModel

        return TorchModel.tuned(self.folder.name)

    def delete(self, *, dry_run: bool = False) -> Removal:
        """Remove the folder with data snapshot, checkpoints and model; a line for each part, with its size."""
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
        while (owner := Owner.take(self.folder)) is None:  # a worker that has said its last word may still be ending
            if time.monotonic() > deadline:
                raise running
            time.sleep(0.05)
        doomed = self.folder.path.with_name(f".deleted-{uuid.uuid4().hex}")
        self.folder.path.rename(doomed)  # at once, so that no reader meets half a job
        owner.let_go()
        release_intent(intent)
        for remains in doomed.parent.glob(".deleted-*"):  # and what a killed deletion left
            shutil.rmtree(remains, ignore_errors=True)
        return Removal(removed=lines)

    def prune(self, *, dry_run: bool = False) -> int:
        """Remove the checkpoints of a job that is over: its model stands beside them. How many bytes that frees."""
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


def _settled(now: JobStatus) -> bool:
    return now.status.terminal or now.status.idle
