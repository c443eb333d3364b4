"""Starting the detached worker of a job."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from tuneport.contract.events import Status
from tuneport.errors import UnavailableError
from tuneport.homefolder import home
from tuneport.local import waiting
from tuneport.local.owner import Fenced, Owner
from tuneport.local.process import Identity
from tuneport.local.slots import Slots, describe_place
from tuneport.local.trainer import Trainer, read_settings
from tuneport.local.vanished import WAITS


def launch(owner: Owner, trainer: Trainer) -> None:
    """Put the job into the queue, pass its folder to a new process, and return at once.

    That process waits in 3 MB and becomes the worker when its turn comes. It inherits the lock, so that at no moment
    another process could take it, and has its own session, so that neither this process nor the terminal ends it.
    """
    folder = owner.folder
    for request in ("pause", "pausing"):
        folder.withdraw_request(request)
    pool = trainer.devices(read_settings(trainer, folder.request()))
    names = [device.name for device in pool.devices]
    slots = Slots(folder.backend)
    slots.join(folder.name, pool.kind)
    if not names or slots.claim(folder.name, pool.kind, names, pool.per_device):
        owner.status(Status.QUEUED, "Starting a worker.", native="starting", queue_position=None, finished=None)
    else:
        place = slots.position(folder.name) or 1
        message = describe_place(pool.kind, place)
        owner.status(Status.QUEUED, message, native=WAITS, queue_position=place, finished=None)
    turn = [slots.folder, slots.jobs, folder.name, pool.kind, ",".join(names), str(pool.per_device)]
    try:
        worker = _spawn(owner, turn, trainer)
    except OSError as error:
        remedy = f"Then run: tuneport resume {folder.ref}"
        owner.status(Status.INTERRUPTED, f"The worker could not be started: {error}.", remedy=remedy, level="error")
        slots.leave(folder.name)
        raise UnavailableError(f"The worker of {folder.ref} could not be started: {error}.", remedy=remedy) from error
    try:
        owner.verify()
        owner.sign(Identity.of(worker.pid, leads_group=True))  # as the worker does; but it may first wait for long
    except Fenced:  # this process was held up, and the worker has come and gone meanwhile
        pass
    owner.let_go()
    threading.Thread(target=worker.wait, daemon=True).start()  # takes its exit code, so that no zombie stays


def _spawn(owner: Owner, turn: list[str], trainer: Trainer) -> subprocess.Popen[bytes]:
    folder, lock, epoch = owner.folder, str(owner.lock), str(owner.epoch)
    worker = [sys.executable, "-P", "-m", "tuneport.local.worker", str(folder.path), lock, epoch]
    queued = [sys.executable, "-I", "-S", waiting.__file__, *turn, lock, epoch]
    with folder.log.open("ab") as log:
        return subprocess.Popen(
            [*queued, *worker],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[owner.lock],
            start_new_session=True,
            cwd=folder.path,
            env={**trainer.environment, **os.environ, "TUNEPORT_HOME": str(home())},
        )
