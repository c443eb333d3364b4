"""A passing fault of a start leaves the job in the queue; a permanent one ends it."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Served, install_parrot, install_plugin, jsonl, until_over
from tuneport.errors import BackendError, UnavailableError, UsageError
from tuneport_server.background.faults import fault_of
from tuneport_server.background.open_jobs import Retries

PASSING = {
    "import": "A package that training needs cannot be imported.",
    "disk": "No space left on device.",
    "outage": "jay: The service cannot be reached.",
    "service": "jay: The service answered 503.",
    "home": "The ledger is locked.",
    "memory": "The server is out of memory.",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("faults")
    site = install_plugin(install_parrot(folder / "packages"), Path(__file__).parent / "jay.py")
    served = Served(folder / "home", "--models", "blue=jay:gray,green=parrot:gray", site=site)
    yield served.start()
    served.end()


@pytest.fixture
def fault(served: Served) -> Iterator[Path]:
    path = served.home / "jay" / "fault"
    path.parent.mkdir(exist_ok=True)
    yield path
    path.unlink(missing_ok=True)


def begin(client, **more: str) -> str:
    file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune").id
    return client.fine_tuning.jobs.create(model="blue", training_file=file, **more).id


def warned(client, id_: str) -> str:
    """Return the job's event about a start that failed."""
    deadline = time.monotonic() + 60
    while True:
        events = client.fine_tuning.jobs.list_events(id_, limit=100)
        found = [one.message for one in events if one.level == "warn"]
        if found:
            return found[-1]
        assert client.fine_tuning.jobs.retrieve(id_).status != "failed", list(events)
        assert time.monotonic() < deadline, list(events)
        time.sleep(0.05)


def test_a_fault_that_passes_leaves_the_job_in_the_queue_and_says_why(served: Served, fault: Path) -> None:
    with served.client() as client:
        jobs = {}
        for kind, said in PASSING.items():
            fault.write_text(kind)
            jobs[kind] = begin(client)
            assert warned(client, jobs[kind]) == f"Not started yet; the server tries again: {said}"
            assert client.fine_tuning.jobs.retrieve(jobs[kind]).status in ("validating_files", "queued")
        served.kill()  # the next server finds them in the queue
        served.start()
        fault.unlink()
        for kind, id_ in jobs.items():
            assert until_over(client, id_).status == "succeeded", kind


ENDS = {
    "rows": ("invalid_training_file", "Row 3 is empty."),
    "settings": ("training_not_started", "The rate is too high."),
    "mistake": ("server_error", "The server could not start the training; see the server log."),
    "broken": ("training_not_started", "jay: The service answered in another language."),
}


def test_a_permanent_fault_ends_the_job(served: Served, fault: Path) -> None:
    for kind in ENDS:
        fault.with_suffix(f".{kind}").write_text(kind)
    with served.client() as client:
        jobs = {kind: begin(client, suffix=kind) for kind in ENDS}
        for kind, id_ in jobs.items():
            job = until_over(client, id_)
            assert (job.status, job.error.code, job.error.message) == ("failed", *ENDS[kind])
            warned = [one.message for one in client.fine_tuning.jobs.list_events(id_) if one.level == "warn"]
            assert len(warned) == (kind in ("mistake", "broken")), "what may pass is tried again first, and says so"


def test_passing_faults_are_retried_longer_than_slow_rows() -> None:
    passing, lasting = (BackendError("It broke.", passing=one) for one in (True, False))
    here, away = (UnavailableError("It is not there.", passing=one) for one in (False, True))
    tries = [fault_of(one).tries for one in (UsageError("No."), lasting, passing, here, away)]
    assert tries[0] == 1
    assert 3 < tries[1] < 10
    assert 200 < tries[2] < 400
    assert tries[3] == tries[4] > 100_000
    assert [fault_of(one, checking=True).tries for one in (here, away)] == [tries[1], tries[4]]
    retries, before = Retries(), time.monotonic()
    assert not retries.is_waiting
    assert [retries.postpone() for _ in range(20)] == list(range(1, 21))
    assert retries.is_waiting
    assert 290 < retries.not_before - before < 310


def test_a_start_without_room_waits_for_room(served: Served) -> None:
    """A limit on the size of files acts like a full disk: the backend cannot write its copy."""
    pairs = [(f"{'My card never arrived. ' * 40}{number}", "card") for number in range(3000)]
    with served.client() as client:
        pid, free = served.process.pid, resource.RLIM_INFINITY
        file = client.files.create(file=("rows.jsonl", jsonl(pairs)), purpose="fine-tune").id
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (2_000_000, free))
        try:
            job = client.fine_tuning.jobs.create(model="green", training_file=file).id
            assert warned(client, job) == "Not started yet; the server tries again: File too large."
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (free, free))
        assert until_over(client, job).status == "succeeded"
