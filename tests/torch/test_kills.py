"""Workers and parents are killed at random points: the results are the same as without kills."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import uuid
from pathlib import Path

import pytest

from torch_jobs import (
    begin,
    kill,
    log,
    losses,
    no_worker_is_left,  # noqa: F401 - a fixture
    parent,
    rows,
    runners,
    seqs,
    settled,
    until,
    weights,
)
from tuneport import Status
from tuneport.local import LocalJob
from tuneport.local.owner import holder
from tuneport_torch import TorchBackend

KILLS = int(os.environ.get("TUNEPORT_TEST_KILLS", "150"))  # of the long version


@pytest.fixture
def undisturbed(tiny_llama: Path, own_home: Path) -> LocalJob:
    """A job that nobody killed."""
    job = begin(tiny_llama, "undisturbed")
    assert settled(job).status is Status.SUCCEEDED, log(job)
    return job


def resume_twice_at_once(job: LocalJob) -> None:
    handles = [TorchBackend().job(job.ref.name) for _ in range(2)]
    threads = [threading.Thread(target=handle.resume) for handle in handles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def killed_until_done(base: Path, name: str, chance: random.Random, kills: int) -> tuple[LocalJob, int]:
    """A job whose worker is killed at up to `kills` random points, most of them while it trains; how often it was."""
    job = begin(base, name, slots=2)
    done = 0
    while done < kills:
        if chance.random() < 0.6:
            until(job, "running")
            time.sleep(chance.uniform(0, 0.6))
        else:
            time.sleep(chance.uniform(0, 1.5))
        done += kill(job)
        if job.status.terminal:
            break
        resume_twice_at_once(job)
        assert len(runners(job)) <= 1
    settled(job)
    return job, done


def many_kills(base: Path, undisturbed: LocalJob, wanted: int, side_by_side: int = 2) -> None:
    chance = random.Random(20)
    total, jobs = 0, []

    def one(number: int, seed: float) -> None:
        nonlocal total
        job, done = killed_until_done(base, f"killed-{number}", random.Random(seed), wanted // 2)
        jobs.append(job)
        total += done

    number = 0
    while total < wanted:
        threads = [threading.Thread(target=one, args=(number + n, chance.random())) for n in range(side_by_side)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        number += side_by_side
        assert len(jobs) == number, "a job's thread broke"
    expected = losses(undisturbed)
    for job in jobs:
        assert job.status is Status.SUCCEEDED, log(job)
        assert weights(job) == weights(undisturbed)
        assert losses(job) == expected
        assert seqs(job) == list(range(1, len(seqs(job)) + 1))
        steps = [event.data["step"] for event in job.events() if event.kind == "checkpoint"]
        assert steps == sorted(set(steps))
        assert not list(job.folder.path.glob(".*.tmp"))


@pytest.mark.timeout(600)
def test_a_job_killed_again_and_again_ends_as_if_nothing_had_happened(tiny_llama: Path, undisturbed: LocalJob) -> None:
    many_kills(tiny_llama, undisturbed, 16)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_job_killed_a_hundred_times_ends_as_if_nothing_had_happened(tiny_llama: Path, undisturbed: LocalJob) -> None:
    many_kills(tiny_llama, undisturbed, KILLS)


@pytest.mark.timeout(300)
def test_killing_the_parent_at_any_moment_leaves_no_job_or_a_complete_one(tiny_llama: Path, own_home: Path) -> None:
    chance, intent = random.Random(8), str(uuid.uuid4())
    for _ in range(6):
        process = parent(tiny_llama, "orphan", intent, start_new_session=True)
        time.sleep(chance.uniform(0, 0.15))
        os.killpg(process.pid, signal.SIGKILL)  # with all that a terminal takes along when it closes
        process.wait()
        process.stdout.close()
        time.sleep(0.3)
        folder = own_home / "jobs" / "torch" / "orphan"
        if (folder / "request.json").exists():
            job = TorchBackend().job("orphan")
            assert len(runners(job)) <= 1
            assert len(list(job.folder.rows("train", job.folder.request()["data"]["train"]["fingerprint"]))) == 60
    process = parent(tiny_llama, "orphan", intent)
    assert process.stdout.readline().strip() == "started"
    process.kill()
    process.wait()
    process.stdout.close()
    job = TorchBackend().job("orphan")
    assert settled(job).status is Status.SUCCEEDED, log(job)
    assert seqs(job) == list(range(1, len(seqs(job)) + 1))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("names", [("same", "same"), ("first", "second")])
def test_two_processes_that_start_one_intent_at_once_start_one_job(
    names: tuple[str, str], tiny_llama: Path, own_home: Path
) -> None:
    intent = str(uuid.uuid4())
    processes = [parent(tiny_llama, name, intent) for name in names]
    lines = [process.stdout.readline().strip() for process in processes]
    # Both get the same job. The border refuses it for the process that asked for another name.
    assert sorted(lines) == (["started", "started"] if names[0] == names[1] else ["", "started"])
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
    folders = [path.name for path in (own_home / "jobs" / "torch").iterdir() if not path.name.startswith(".")]
    assert len(folders) == 1
    job = TorchBackend().job(folders[0])
    assert len(runners(job)) == 1
    assert holder(job.folder).epoch == 1
    job.cancel()


def test_a_start_that_was_cut_off_while_writing_is_written_again(tiny_llama: Path, own_home: Path) -> None:
    folder = own_home / "jobs" / "torch" / "half"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"shape":"conv')
    job = begin(tiny_llama, "half", count=5)
    assert len(list(job.folder.rows("train", rows(5).fingerprint))) == 5
    job.cancel()
