"""The process that owns a job's folder and trains it: `python -m tuneport.local.worker FOLDER`.

It has its own session. Other processes talk to it through the folder: requests are files, answers are events. What it
prints goes to the job's log.txt.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from tuneport.contract.events import Status, utc_now
from tuneport.errors import TuneportError, UnavailableError
from tuneport.loader import load
from tuneport.local.checkpoints import Checkpoints
from tuneport.local.control import Control, Stop
from tuneport.local.devices import Device
from tuneport.local.failures import explain
from tuneport.local.folder import Folder
from tuneport.local.job import LocalJob
from tuneport.local.owner import BEAT_SECONDS, Fenced, Owner
from tuneport.local.slots import Slots, describe_place
from tuneport.local.trainer import Trainer, read_settings
from tuneport.local.work import Stopped, Work
from tuneport.notebook import attach_notebook

_LOOK_SECONDS = 0.25  # how often requests are looked for
_LAST_DELIVERY_SECONDS = 10.0  # how long slow observers may keep a finished worker alive
_FENCED = 3  # exit code of a worker that lost its folder


def main(arguments: list[str]) -> int:
    """Own the folder and bring its job to an end. LOCK and EPOCH come from a parent that passes its ownership on."""
    folder = Folder(Path(arguments[0]))
    faulthandler.enable()  # a crash in native code leaves its trace in the log
    if len(arguments) == 3:
        owner: Owner | None = Owner.adopt(folder, int(arguments[1]), int(arguments[2]))
    else:
        owner = Owner.take(folder)
    if owner is None:
        sys.stderr.write(f"{folder.ref} already has a worker.\n")
        return 1
    return Worker(owner).run()


class Worker:
    """Stages, requests and signals around a backend's `work`. Without a `trainer`, the folder names the backend."""

    def __init__(self, owner: Owner, trainer: Trainer | None = None) -> None:
        self.owner = owner
        self.folder = owner.folder
        self.control = Control(owner)
        self.trainer = trainer
        self._slots = Slots(owner.folder.backend)
        self._over = threading.Event()

    def run(self) -> int:
        """Bring the job to an end of some kind. The exit code is 0 unless it failed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a limit on file sizes is an error like a full disk
        observers = threading.Thread(target=self._deliver, name="observers", daemon=True)
        try:
            self._follow_requests()  # a request may be why the process that waited in the queue became this one
            self.trainer = self.trainer or _find_trainer(self.folder.backend)
            observers.start()
            threading.Thread(target=self._watch, name="watch", daemon=True).start()
            self.owner.keep_reserve()
            self._work(self.trainer)
        except BaseException as error:  # noqa: BLE001 - whatever ends the worker is reported in the folder first
            self._fail(error)
        self._slots.leave(self.folder.name)
        self.owner.free_reserve()
        self._over.set()
        self.control.news.set()
        if observers.is_alive():
            observers.join(_LAST_DELIVERY_SECONDS)
        return int(self.owner.now.status is Status.FAILED)

    def _work(self, trainer: Trainer) -> None:
        if self.owner.now.status.terminal:
            return
        settings = read_settings(trainer, self.folder.request())
        checkpoints = Checkpoints(self.folder.checkpoints, trainer.keep_checkpoints(settings))
        work = Work(self.control, settings, checkpoints, self._claim_device(trainer, settings))
        if not self.folder.model.exists():  # else it was killed after saving the model and before reporting it
            self._report_resumption(checkpoints)
            self.control.stage(Status.PREPARING, "Reading the rows.", queue_position=None)
            if stop := _train(trainer, work):
                self._stop(stop)
                return
            if not self.folder.model.exists():
                raise UnavailableError(
                    f"The backend {self.folder.backend!r} finished without saving a model.",
                    remedy="Report it to the author of its plugin; `tuneport plugins` names them.",
                )
        self._succeed(*trainer.finish(work))

    def _succeed(self, remark: str, remedy: str | None) -> None:
        now = self.owner.now
        amount = f" {now.step} steps" if now.step else ""
        amount += f" on {now.tokens} tokens" if amount and now.tokens else ""
        self.control.stage(
            Status.SUCCEEDED,
            f"Trained{amount}. {remark}".rstrip(),
            remedy=remedy,
            finished=utc_now(),
            seconds_left=None,
            queue_position=None,
        )

    def _claim_device(self, trainer: Trainer, settings: Any) -> Device:
        """Wait in the queue for a device. Raises UnavailableError where this machine has none of the kind."""
        pool = trainer.devices(settings)
        found = {device.name: device for device in pool.devices}
        if not found:
            raise UnavailableError(
                f"There is no {pool.kind} device on this machine.",
                remedy="Check `tuneport doctor`, or choose another device in the backend's settings.",
            )
        while (name := self._slots.claim(self.folder.name, pool.kind, list(found), pool.per_device)) is None:
            place = self._slots.position(self.folder.name)
            if place and place != self.owner.now.queue_position:
                self.control.stage(Status.QUEUED, describe_place(pool.kind, place), queue_position=place)
            time.sleep(_LOOK_SECONDS)
        return found[name]

    def _report_resumption(self, checkpoints: Checkpoints) -> None:
        """Report a checkpoint whose writer was killed before it could, or that there is none yet."""
        kept = checkpoints.list()
        for one in kept:
            if one.step > self.owner.last_checkpoint_reported:
                self.control.emit("checkpoint", f"Checkpoint at step {one.step}.", step=one.step)
        if self.owner.last_step_reported > 0 and not kept:
            self.control.emit("log", "There is no checkpoint yet: training starts again from the beginning.")

    def _watch(self) -> None:
        """Write heartbeats, and follow requests that cannot wait for the main thread, which may be in a kernel."""
        import psutil

        process, last = psutil.Process(), 0.0
        while not self._over.wait(_LOOK_SECONDS):
            try:
                if time.monotonic() - last >= BEAT_SECONDS:
                    last = time.monotonic()
                    self.owner.beat(rss=process.memory_info().rss, available=psutil.virtual_memory().available)
                self._follow_requests()
            except Fenced as error:
                sys.stderr.write(f"{error}\n")
                os._exit(_FENCED)
            except OSError as error:  # a full disk: the main thread meets it too and reports it
                sys.stderr.write(f"No heartbeat could be written: {error}\n")

    def _follow_requests(self) -> None:
        control = self.control
        with self.owner.mutex:
            if self.owner.now.status.terminal or self.owner.now.status.idle:
                return
            if self.folder.has_request("cancel"):
                self._stop("cancel")
                Checkpoints(self.folder.checkpoints).sweep()  # one may be half written
            elif control.is_training or not (control.signal or control.take_pause()):
                return
            else:
                self._stop("pause")
            self._slots.leave(self.folder.name)
            os._exit(0)  # with the mutex held: no line is incomplete, and no work is lost that a checkpoint would have

    def _stop(self, stop: Stop) -> None:
        resume = f"Run: tuneport resume {self.folder.ref}"
        if stop == "cancel":
            self._conclude(Status.CANCELLED, "Cancelled.", finished=utc_now())
        elif self.control.signal:
            message = f"The worker received a signal to stop ({self.control.signal})."
            self._conclude(Status.INTERRUPTED, message, remedy=resume)
        else:
            self._conclude(Status.PAUSED, "Paused.", remedy=resume)

    def _conclude(self, status: Status, message: str, **changes: Any) -> None:
        with self.owner.mutex:
            if not self.owner.now.status.terminal:
                self.owner.status(status, message, queue_position=None, seconds_left=None, **changes)

    def _fail(self, error: BaseException) -> None:
        traceback.print_exception(error, file=sys.stderr)
        if isinstance(error, Fenced):
            os._exit(_FENCED)
        resumable = any(self.folder.checkpoints.glob("step-*"))
        less, install = (self.trainer.less_memory, self.trainer.install) if self.trainer else ("", "")
        ending = explain(error, self.folder, resumable=resumable, less_memory=less, install=install)
        finished = utc_now() if ending.status.terminal else None
        self._conclude(ending.status, ending.message, remedy=ending.remedy, level="error", finished=finished)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self.control.signal = signal.Signals(number).name

    def _deliver(self) -> None:
        """Pass events to the observers, in a separate thread: a slow or broken observer delays nothing."""
        assert self.trainer is not None
        job = LocalJob(self.trainer, self.folder)
        while True:
            self.control.news.wait()
            self.control.news.clear()
            ending = self._over.is_set()
            try:
                notebook = attach_notebook(job).notebook  # None for a job that no ledger knows
                for observer, reason in (notebook.deliver(job) if notebook else {}).items():
                    sys.stderr.write(f"The observer {observer} failed: {reason}\n")
            except BaseException:  # noqa: BLE001 - third-party code must not end a training
                traceback.print_exc(file=sys.stderr)
            if ending:
                return
            time.sleep(_LOOK_SECONDS)


def _train(trainer: Trainer, work: Work) -> Stop | None:
    try:
        stop = trainer.work(work)
    except Stopped as stopped:
        return stopped.stop
    if stop not in (None, "pause", "cancel"):
        raise TypeError(f"the backend's work() returned {stop!r} instead of None, 'pause' or 'cancel'")
    return stop


def _find_trainer(name: str) -> Trainer:
    """The backend of that name. Raises UnavailableError where its plugin is missing or broken: it may come back."""
    try:
        found = load().backend(name)
    except TuneportError as error:
        raise UnavailableError(error.message, remedy=error.remedy) from error
    if not isinstance(found, Trainer):
        raise UnavailableError(f"The backend {name!r} no longer trains in processes on this machine.")
    return found


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # at once: all that matters is on disk, and unloading large libraries takes longer than it should
