"""What a start meets and what passes leaves the job in the queue; what stays as it is ends it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Served, install_parrot, install_plugin, jsonl, until_over

PASSING = {
    "import": "A package that training needs cannot be imported.",
    "disk": "No space left on device.",
    "outage": "The service cannot be reached.",
    "service": "The service answered 503.",
    "home": "The ledger is locked.",
    "memory": "The server is out of memory.",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("faults")
    site = install_plugin(install_parrot(folder / "packages"), Path(__file__).parent / "jay.py")
    served = Served(folder / "home", "--models", "blue=jay:grey", site=site)
    yield served.start()
    served.end()


@pytest.fixture
def fault(served: Served) -> Iterator[Path]:
    path = served.home / "jay" / "fault"
    path.parent.mkdir(exist_ok=True)
    yield path
    path.unlink(missing_ok=True)


def begin(served: Served, client) -> str:
    file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune").id
    return client.fine_tuning.jobs.create(model="blue", training_file=file).id


def warnings(client, id_: str) -> list[str]:
    return [one.message for one in client.fine_tuning.jobs.list_events(id_, limit=100) if one.level == "warn"]


def test_a_fault_that_passes_leaves_the_job_in_the_queue_and_says_why(served: Served, fault: Path) -> None:
    with served.client() as client:
        jobs = {}
        for kind, said in PASSING.items():
            fault.write_text(kind)
            jobs[kind] = begin(served, client)
            deadline = time.monotonic() + 60
            while not warnings(client, jobs[kind]):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert warnings(client, jobs[kind])[-1] == f"Not started yet, and tried again: {said}"
            assert client.fine_tuning.jobs.retrieve(jobs[kind]).status in ("validating_files", "queued")
        served.kill()  # the next server finds them in the queue
        served.start()
        fault.unlink()
        for kind, id_ in jobs.items():
            assert until_over(client, id_).status == "succeeded", kind


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        ("rows", "invalid_training_file", "Row 3 is empty."),
        ("settings", "training_not_started", "The rate is too high."),
        ("mistake", "server_error", "The server could not start the training; its log says why."),
    ],
)
def test_what_comes_again_ends_the_job(served: Served, fault: Path, kind: str, code: str, said: str) -> None:
    fault.write_text(kind)
    with served.client() as client:
        job = until_over(client, begin(served, client))
        assert (job.status, job.error.code, job.error.message) == ("failed", code, said)
