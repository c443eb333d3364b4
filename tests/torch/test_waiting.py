"""Jobs in the queue: their memory, and what happens when they or others are killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from torch_jobs import (
    begin,
    gone,
    kill,
    log,
    no_worker_is_left,  # noqa: F401 - a fixture
    parent,
    runners,
    seqs,
    settled,
    until,
)
from tuneport import JobState, Status
from tuneport.local import LocalJob
from tuneport.local.folder import Folder
from tuneport.local.owner import Owner
from tuneport.local.slots import Slots
from tuneport_torch import TorchBackend

pytestmark = pytest.mark.timeout(400)
FEW_MB = 6e6  # of private memory; measured: 3 MB. A worker that only waits takes over 40


class Busy:
    """A job of this process that has the device."""

    def __init__(self) -> None:
        folder = Folder.named("torch", "busy")
        folder.path.mkdir()
        owner = Owner.take(folder)
        assert owner is not None
        self._owner = owner
        assert Slots("torch").claim("busy", "cpu", ["cpu"], 1) == "cpu"

    def end(self) -> None:
        Slots("torch").leave("busy")
        self.let_go()

    def let_go(self) -> None:
        """As when it is killed: its ticket stays, and nobody holds its lock."""
        self._owner.let_go()


@pytest.fixture
def busy(own_home: Path) -> Busy:
    return Busy()


def soon(fact: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def waiting(job: LocalJob) -> JobState:
    state = job.state()
    assert state.status is Status.QUEUED, log(job)
    assert state.message.startswith("Waiting for the cpu device: "), state
    return state


def private(job: LocalJob) -> int:
    """Bytes that the job's processes share with no other."""
    return sum(psutil.Process(pid).memory_full_info().uss for pid in runners(job))


def queued(base: Path, count: int) -> list[LocalJob]:
    jobs = [begin(base, f"queued-{n}", count=5) for n in range(count)]
    time.sleep(1.5)  # a worker that starts by mistake has started by then
    assert [waiting(job).queue_position for job in jobs] == list(range(1, count + 1))
    assert [len(runners(job)) for job in jobs] == [1] * count
    sizes = [private(job) for job in jobs]
    print(f"{count} queued jobs: {sum(sizes) / 1e6:.0f} MB, the largest {max(sizes) / 1e6:.1f} MB")
    assert 0 < max(sizes) < FEW_MB, sizes
    return jobs


def test_ten_queued_jobs_take_a_few_megabytes_each(tiny_llama: Path, busy: Busy) -> None:
    jobs = queued(tiny_llama, 10)
    for job in jobs[1:]:
        assert kill(job)
    assert {job.status for job in jobs[1:]} == {Status.INTERRUPTED}
    jobs[0].cancel()


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_queued_jobs_take_a_few_megabytes_each_and_train_in_order(tiny_llama: Path, busy: Busy) -> None:
    jobs = queued(tiny_llama, 100)
    for job in jobs[5:]:
        job.cancel()
        assert job.status is Status.CANCELLED
    busy.end()
    for job in jobs[:5]:
        soon(lambda job=job: job.status.terminal, 300)
        assert job.status is Status.SUCCEEDED, log(job)
    began = [next(one.time for one in job.events() if one.data.get("status") == "running") for job in jobs[:5]]
    assert began == sorted(began)


def test_the_job_on_the_device_is_killed_and_the_next_one_starts(tiny_llama: Path, busy: Busy) -> None:
    first, second = (begin(tiny_llama, name, count=5) for name in ("first", "second"))
    assert (waiting(first).queue_position, waiting(second).queue_position) == (1, 2)
    busy.let_go()
    assert settled(first).status is Status.SUCCEEDED, log(first)
    assert settled(second).status is Status.SUCCEEDED, log(second)
    messages = [event.message for event in second.events() if event.data.get("status") == "queued"]
    assert messages == ["Waiting for the cpu device: 2 jobs ahead of it."]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_queued_job_that_was_ended_is_interrupted_and_resumes_at_the_end(
    tiny_llama: Path, busy: Busy, number: int
) -> None:
    first, second = (begin(tiny_llama, name, count=5) for name in ("first", "second"))
    assert kill(first, number)
    soon(lambda: first.status is Status.INTERRUPTED)
    state = first.state()
    assert state.message == "The process that waited for the device was ended."
    assert state.remedy == "Run: tuneport resume torch:first"
    soon(lambda: Slots("torch").position("second") == 1)
    first.resume()
    assert (waiting(second).queue_position, waiting(first).queue_position) == (1, 2)
    for job in (second, first):
        job.cancel()
    assert seqs(first) == list(range(1, len(seqs(first)) + 1))


def test_a_restart_of_the_machine_leaves_a_queued_job_that_resumes(tiny_llama: Path, busy: Busy) -> None:
    job = begin(tiny_llama, "job", count=5)
    assert kill(job)
    owner = job.folder.path / "owner.json"
    signed = msgspec.json.decode(owner.read_bytes())
    signed["identity"]["boot"] = "an earlier one"
    owner.write_bytes(msgspec.json.encode(signed))
    state = job.state()
    assert state.status is Status.INTERRUPTED
    assert state.message == "The machine was restarted while the job waited for the device."
    job.resume()
    assert waiting(job).queue_position == 1
    job.cancel()


def test_a_queued_job_is_paused_resumed_and_cancelled(tiny_llama: Path, busy: Busy) -> None:
    job, other = (begin(tiny_llama, name, count=5) for name in ("job", "other"))
    job.pause()
    assert settled(job).status is Status.PAUSED, log(job)
    assert gone(job)
    job.resume()
    assert waiting(job).queue_position == 2
    job.cancel()
    assert job.status is Status.CANCELLED
    assert gone(job)
    assert not any(event.data.get("status") in ("preparing", "running") for event in job.events())
    assert Slots("torch").position("job") is None
    other.cancel()


def test_the_queue_outlives_who_filled_it(tiny_llama: Path, busy: Busy) -> None:
    process = parent(tiny_llama, "orphan", "an-intent", start_new_session=True)
    assert process.stdout.readline().strip() == "started"
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal
    assert process.wait(60) != 0
    process.stdout.close()
    job = TorchBackend().job("orphan")
    assert waiting(job).queue_position == 1
    busy.end()
    assert until(job, "preparing", "running").status in ("preparing", "running"), log(job)
    job.cancel()


def test_a_queue_that_was_lost_is_formed_again(tiny_llama: Path, busy: Busy, own_home: Path) -> None:
    jobs = [begin(tiny_llama, name, count=5) for name in ("first", "second")]
    (own_home / "slots" / "torch" / "queue").write_bytes(b"\xff torn\n")
    soon(lambda: {Slots("torch").position("first"), Slots("torch").position("second")} & {0})
    assert sorted(filter(None, (job.state().queue_position for job in jobs))) in ([1], [])
    for job in jobs:
        job.cancel()
    busy.end()
