"""Small real jobs for the tests of the torch plugin, and ways to hurt them. As a program: a parent that starts one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from tuneport import Conversation, Dataset, JobState, Message, Ref
from tuneport.local import LocalJob
from tuneport.local.owner import holder
from tuneport.plugin import TrainRequest, TrainSettings
from tuneport_torch import TorchBackend, TorchSettings

SMALL = {"device": "cpu", "threads": 1, "precision": "float32", "tokens_per_step": 64, "tokens_per_batch": 64}
QUESTIONS = (
    "My card never arrived",
    "The transfer failed",
    "What is the exchange rate",
    "I was charged twice",
    "Hello",
)
ANSWERS = ("card", "transfer", "exchange", "refund", "greeting")


def rows(count: int, first: int = 0) -> Dataset:
    """Short conversations, all different."""
    return Dataset.from_examples(
        [
            Conversation(
                messages=(
                    Message(role="user", content=f"{QUESTIONS[n % 5]} {'very ' * (n % 3)}{n}"),
                    Message(role="assistant", content=ANSWERS[n % 5]),
                )
            )
            for n in range(first, first + count)
        ]
    )


def request(base: Path, name: str, *, count: int = 60, intent: str | None = None, **settings) -> TrainRequest:
    """A request for a small job: `count` rows of some 25 tokens, 2 or 3 rows a step, two epochs."""
    return TrainRequest(
        intent=intent or str(uuid.uuid4()),
        name=name,
        base=Ref("torch", str(base)),
        train=rows(count),
        validation=rows(6, first=1000),
        options=TrainSettings(epochs=2, seed=7),
        settings=TorchSettings.model_validate({**SMALL, "checkpoint_every": 3, **settings}),
    )


def begin(base: Path, name: str, **asked) -> LocalJob:
    return TorchBackend().start(request(base, name, **asked))


def until(job: LocalJob, *wanted: str, seconds: float = 120.0) -> JobState:
    """Poll until the job has one of the statuses, or is over or idle; its state then."""
    deadline = time.monotonic() + seconds
    while True:
        state = job.state()
        if state.status in wanted or state.status.terminal or state.status.idle:
            return state
        assert time.monotonic() < deadline, f"{state}\n{log(job)}"
        time.sleep(0.02)


def settled(job: LocalJob) -> JobState:
    return until(job)


def runners(job: LocalJob) -> list[int]:
    """The living workers of a job."""
    return _workers(str(job.folder.path))


@pytest.fixture(autouse=True)
def no_worker_is_left(own_home: Path):
    """A test that fails leaves no worker behind."""
    yield
    for pid in _workers(str(own_home)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _workers(under: str) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        ours = "tuneport.local.worker" in command and any(f"{part}/".startswith(f"{under}/") for part in command)
        if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def gone(job: LocalJob, seconds: float = 30.0) -> bool:
    """Whether the job's workers end by themselves within that time."""
    deadline = time.monotonic() + seconds
    while runners(job):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def kill(job: LocalJob, number: int = signal.SIGKILL) -> bool:
    """Send the job's worker a signal, and see it dead if it was SIGKILL; False when there is none."""
    owner = holder(job.folder)
    if owner is None or not owner.alive or owner.identity.pid == os.getpid():
        return False
    os.kill(owner.identity.pid, number)
    while number == signal.SIGKILL and owner.identity.alive():
        time.sleep(0.005)
    return True


def losses(job: LocalJob) -> list[tuple]:
    """The loss log: the losses of each step, in order."""
    return [
        (event.data["step"], event.data.get("train_loss"), event.data.get("valid_loss"))
        for event in job.events()
        if event.kind == "metric"
    ]


def weights(job: LocalJob) -> str:
    """A digest of the tuned weights."""
    digest = hashlib.sha256()
    for file in sorted(job.folder.model.rglob("*.safetensors")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def seqs(job: LocalJob) -> list[int]:
    return [event.seq for event in job.events()]


def log(job: LocalJob) -> str:
    return job.folder.log.read_text("utf-8", "replace") if job.folder.log.exists() else ""


def parent(base: Path, name: str, intent: str, **options) -> subprocess.Popen[str]:
    """A process that starts a job and then stays; it says "ready" just before it starts it and "started" after."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(base), name, intent], stdout=subprocess.PIPE, text=True, **options
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


if __name__ == "__main__":
    asked = request(Path(sys.argv[1]), sys.argv[2], intent=sys.argv[3])
    print("ready", flush=True)
    TorchBackend().start(asked)
    print("started", flush=True)
    time.sleep(600)
