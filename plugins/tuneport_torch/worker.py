"""The process that owns a job's folder and trains it: `python -m tuneport_torch.worker FOLDER`.

It lives in a session of its own. Nobody talks to it but through the folder: requests are files, answers are events.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import tuneport
import tuneport.plugin
from tuneport.plugin import Example, Status, utc_now
from tuneport_torch.engine.checkpoint import Store
from tuneport_torch.jobs import devices, slots
from tuneport_torch.jobs.failures import explain
from tuneport_torch.jobs.folder import Folder
from tuneport_torch.jobs.owner import BEAT_SECONDS, Fenced, Owner

_LOOK_SECONDS = 0.25  # how often requests are looked for
_LAST_DELIVERY_SECONDS = 10.0  # how long slow observers may keep a finished worker alive
_FENCED = 3  # exit code of a worker that lost its folder


def main(arguments: list[str]) -> int:
    """Own the folder and bring its job to an end. LOCK and EPOCH come from a parent that hands its ownership over."""
    folder = Folder(Path(arguments[0]))
    faulthandler.enable()  # a crash in native code leaves its trace in the log
    if len(arguments) == 3:
        owner: Owner | None = Owner.adopt(folder, int(arguments[1]), int(arguments[2]))
    else:
        owner = Owner.take(folder)
    if owner is None:
        sys.stderr.write(f"{folder.ref} has a runner already.\n")
        return 1
    return Worker(owner).work()


class Worker:
    """Stages, requests and signals around `training.train_job`, which does the work."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.folder = owner.folder
        self.tokens_trained = 0  # by this worker, since its first word on them
        self._training = False  # then the loop obeys by itself, after a checkpoint
        self._signalled = ""
        self._pausing = False
        self._news = threading.Event()
        self._over = threading.Event()
        self._first_tokens: int | None = None

    def work(self) -> int:
        """Bring the job to an end of some kind; the exit code is 0 unless it failed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a limit on file sizes is an error like a full disk
        observers = threading.Thread(target=self._deliver, name="observers", daemon=True)
        observers.start()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        try:
            self._obey()  # a request may be why the process that waited in the queue became this one
            self.owner.keep_reserve()
            self._work()
        except BaseException as error:  # noqa: BLE001 - whatever ends the worker is told in the folder first
            self._fail(error)
        slots.leave(self.folder.name)
        self.owner.free_reserve()
        self._over.set()
        self._news.set()
        observers.join(_LAST_DELIVERY_SECONDS)
        return int(self.owner.now.status is Status.FAILED)

    def _work(self) -> None:
        if self.owner.now.status.terminal:
            return
        from tuneport_torch.training import train_job

        stopped = train_job(self)
        if stopped == "pause":
            self._stopped()
        elif stopped == "cancel":
            self._settle(Status.CANCELLED, "Cancelled.", finished=utc_now())

    def stage(self, status: Status, message: str, **changes: Any) -> None:
        """Tell that a stage begins."""
        with self.owner.mutex:
            self._training = status is Status.RUNNING
            self.owner.status(status, message, **changes)
        self._news.set()

    def emit(self, kind: str, message: str, *, level: str = "info", **data: Any) -> None:
        """Tell an event of the training; the loop's voice."""
        self.owner.event(kind, message, level=level, **data)
        changes = {name: data[name] for name in ("step", "total_steps", "tokens", "seconds_left") if name in data}
        late = kind == "checkpoint" and data["step"] < self.owner.now.step  # it took some steps to reach the disk
        if changes and not late:
            self.owner.progress(**changes)
        if "tokens" in data:
            self._first_tokens = data["tokens"] if self._first_tokens is None else self._first_tokens
            self.tokens_trained = data["tokens"] - self._first_tokens
        self._news.set()

    def examples(self, part: str) -> Iterator[Example]:
        """The examples of one part of the job's data, checked against their fingerprint."""
        return self.folder.rows(part, self.folder.request()["data"][part]["fingerprint"])

    def note(self, activity: str) -> None:
        """Show what the job is doing now."""
        self.owner.progress(native=activity)

    def should_stop(self) -> Literal["pause", "cancel"] | None:
        """What the loop should stop for, if anything; cheap enough to ask at every step."""
        if self.folder.asks("cancel"):
            return "cancel"
        if not (self._pausing or self._signalled or self._obey_pause()):
            return None
        self.owner.status(Status.PAUSING, "Keeping a checkpoint, then stopping.")
        return "pause"

    def device(self, setting: str, per_device: int) -> devices.Device:
        """Wait in the queue for a device, and get it; raises UnavailableError where there is none of the kind."""
        kind = devices.pool(setting)
        found = {device.name: device for device in devices.devices(kind)}
        if not found:
            raise tuneport.errors.UnavailableError(
                f"There is no {kind} device on this machine that PyTorch could use.",
                remedy="Look at `tuneport doctor`, or train elsewhere: --set backends.torch.device=cpu",
            )
        while (name := slots.claim(self.folder.name, kind, list(found), per_device)) is None:
            place = slots.position(self.folder.name)
            if place and place != self.owner.now.queue_position:
                self.stage(Status.QUEUED, slots.told(kind, place), queue_position=place)
            time.sleep(_LOOK_SECONDS)
        return found[name]

    def _watch(self) -> None:
        """Beat, and obey requests that must not wait for the main thread, which may be deep in a kernel."""
        import psutil

        process, last = psutil.Process(), 0.0
        while not self._over.wait(_LOOK_SECONDS):
            try:
                if time.monotonic() - last >= BEAT_SECONDS:
                    last = time.monotonic()
                    self.owner.beat(rss=process.memory_info().rss, available=psutil.virtual_memory().available)
                self._obey()
            except Fenced as error:
                sys.stderr.write(f"{error}\n")
                os._exit(_FENCED)
            except OSError as error:  # a full disk: the main thread meets it too and says so
                sys.stderr.write(f"No sign of life could be written: {error}\n")

    def _obey(self) -> None:
        with self.owner.mutex:
            if self.owner.now.status.terminal or self.owner.now.status.idle:
                return
            if self.folder.asks("cancel"):
                self._settle(Status.CANCELLED, "Cancelled.", finished=utc_now())
                Store(self.folder.checkpoints).sweep()  # one may be half written
            elif self._training or not (self._signalled or self._obey_pause()):
                return
            else:
                self._stopped()
            slots.leave(self.folder.name)
            os._exit(0)  # with the mutex held: no line is torn, and there is no work that is not in a checkpoint

    def _obey_pause(self) -> bool:
        """Take a request to pause, unless somebody takes it back first."""
        try:
            (self.folder.path / "pause").rename(self.folder.path / "pausing")
        except FileNotFoundError:
            return False
        self._pausing = True
        return True

    def _stopped(self) -> None:
        resume = f"Run: tuneport resume {self.folder.ref}"
        if self._signalled:
            self._settle(Status.INTERRUPTED, f"The worker was asked to end ({self._signalled}).", remedy=resume)
        else:
            self._settle(Status.PAUSED, "Paused.", remedy=resume)

    def _settle(self, status: Status, message: str, **changes: Any) -> None:
        with self.owner.mutex:
            if not self.owner.now.status.terminal:
                self.owner.status(status, message, queue_position=None, seconds_left=None, **changes)

    def _fail(self, error: BaseException) -> None:
        traceback.print_exception(error, file=sys.stderr)
        if isinstance(error, Fenced):
            os._exit(_FENCED)
        resumable = any(self.folder.checkpoints.glob("step-*"))
        ending = explain(error, self.folder, resumable=resumable)
        finished = utc_now() if ending.status.terminal else None
        self._settle(ending.status, ending.message, remedy=ending.remedy, level="error", finished=finished)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._signalled = signal.Signals(number).name

    def _deliver(self) -> None:
        """Hand events to the observers, from a thread of their own: a slow or broken one delays nothing."""
        from tuneport_torch.job import TorchJob

        job = TorchJob(self.folder)
        while True:
            self._news.wait()
            self._news.clear()
            ending = self._over.is_set()
            try:
                for observer, reason in tuneport.plugin.open_notebook(job.ref).deliver(job).items():
                    sys.stderr.write(f"The observer {observer} broke: {reason}\n")
            except BaseException:  # noqa: BLE001 - a stranger's code must not end a training
                traceback.print_exc(file=sys.stderr)
            if ending:
                return
            time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # at once: whatever counts is on disk, and taking torch apart takes longer than it should
