"""The start of a job: its rows are checked in a limited process, tokens take turns, and unwanted starts end."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from serving import PATIENCE, Served, install_parrot, install_plugin, jsonl, until_checked, until_over

LIMITS = [resource.getrlimit(one) for one in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_CORE)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    packages = tmp_path_factory.mktemp("snail") / "packages"
    return install_plugin(install_parrot(packages), Path(__file__).parent / "snail.py")


@pytest.fixture
def served(tmp_path: Path, site: Path) -> Iterator[Served]:
    memory = ("--limit", "check_memory=400000000")
    served = Served(tmp_path / "home", "--models", "slow=snail:gray", *memory, site=site)
    yield served.start()
    if served.process is not None:
        served.end()


def create(client, first: str, more: bytes = b"") -> str:
    """Create a job whose first row asks that."""
    rows = jsonl([(first, "yes")]) + jsonl()[jsonl().index(b"\n") + 1 :] + more
    file = client.files.create(file=("rows.jsonl", rows), purpose="fine-tune").id
    until_checked(client, file)
    return client.fine_tuning.jobs.create(model="slow", training_file=file).id


def noted(served: Served, word: str) -> list[list[str]]:
    """Return what the backend has logged after a word, in order."""
    log = served.home / "snail" / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.split(maxsplit=2)[1:] for line in lines if line.startswith(f"{word} ")]


def checked(served: Served) -> list[str]:
    """Return the names of the rows whose checks have started, in order."""
    return [name for name, _ in noted(served, "check")]


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def let(served: Served, name: str) -> None:
    (served.home / "snail" / name).touch()


def test_expensive_starts_of_some_tokens_delay_no_other_token(served: Served) -> None:
    greedy, second, other = (served.client(served.add_token(name)) for name in ("greedy", "second", "other"))
    for number in range(3):
        create(greedy, f"slow G{number}")
    wait_for(lambda: checked(served) == ["G0"], "a check begins")
    done = until_over(other, create(other, "quick 1"))
    assert done.status == "succeeded"
    assert checked(served) == ["G0"], "a token leaves a process to others"
    for number in range(3):
        create(second, f"slow S{number}")
    wait_for(lambda: checked(served) == ["G0", "S0"], "both have one")
    waits = create(other, "slow O")
    assert len(list(other.fine_tuning.jobs.list_events(waits))) == 1
    assert other.files.retrieve(done.training_file).status == "processed"
    assert other.files.content(done.result_files[0]).read().startswith(b"step,")
    let(served, "G0")
    wait_for(lambda: len(checked(served)) > 2, "another check begins")
    assert checked(served) == ["G0", "S0", "O"], "it is the turn of who has waited for longest"
    let(served, "O")
    assert until_over(other, waits).status == "succeeded"
    for client in (greedy, second):
        for job in client.fine_tuning.jobs.list(limit=100):
            if job.status != "succeeded":
                assert client.fine_tuning.jobs.cancel(job.id).status in ("cancelled", "succeeded")


def test_canceling_a_job_ends_its_check_and_makes_room(served: Served) -> None:
    with served.client() as client:
        first, second, third = (create(client, f"slow {name}") for name in ("A", "B", "C"))
        wait_for(lambda: checked(served) == ["A"], "a check begins")
        (process,) = [psutil.Process(int(pid)) for _, pid in noted(served, "check")]
        assert client.fine_tuning.jobs.cancel(first).status == "cancelled"
        assert process.wait(PATIENCE) is None
        wait_for(lambda: checked(served) == ["A", "B"], "the next one has its turn")
        let(served, "B")
        assert until_over(client, second).status == "succeeded"
        wait_for(lambda: checked(served) == ["A", "B", "C"], "the last one has its turn")
        let(served, "C")
        assert until_over(client, third).status == "succeeded"
        assert [name for name, _ in noted(served, "start")] == ["B", "C"]
        said = [one.message for one in client.fine_tuning.jobs.list_events(first)]
        assert said[0] == "The job was canceled."


def test_a_killed_servers_start_ends_and_the_job_is_started_once(served: Served) -> None:
    with served.client() as client:
        job = create(client, "slow A")
        wait_for(lambda: checked(served) == ["A"], "a check begins")
        process = psutil.Process(int(noted(served, "check")[0][1]))
        served.kill()
        served.start()
        wait_for(lambda: checked(served) == ["A", "A"], "the next server checks the rows again")
        assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "one ends before the other begins"
        let(served, "A")
        assert until_over(client, job).status == "succeeded"
        assert len(noted(served, "start")) == 1
        messages = [one.message for one in client.fine_tuning.jobs.list_events(job)]
        assert len([one for one in messages if one.startswith("Validating")]) == 1
        waits = create(client, "slow B")
        wait_for(lambda: checked(served)[-1] == "B", "a check begins")
        process = psutil.Process(int(noted(served, "check")[-1][1]))
        served.end()
        assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        let(served, "B")
        served.start()
        assert until_over(client, waits).status == "succeeded"


def test_the_check_of_a_jobs_rows_is_limited_and_its_training_is_not(served: Served) -> None:
    with served.client() as client:
        broken = create(client, "broken")
        fine = until_over(client, create(client, "quick A"))
        assert fine.status == "succeeded"
        assert noted(served, "start") == [["A", str(LIMITS)]], "what a backend starts inherits no bound"
        huge = until_over(client, create(client, "huge 1000000000"))
        assert (huge.status, huge.error.code) == ("failed", "invalid_training_file")
        assert huge.error.message == "Checking the rows takes more than 400,000,000 bytes of memory."
        said = until_over(client, broken).error.message
        assert said == "The check of the rows ended 3 times without a result."
        slow = create(client, "slow X")
        served.end()
        served._arguments += ("--limit", "check_seconds=2")
        served.start()
        job = until_over(client, slow)
        assert (job.status, job.error.message) == ("failed", "The check of the rows takes more than 2 seconds.")


def test_an_interrupted_start_is_repeated_and_finds_the_training(served: Served) -> None:
    with served.client() as client:
        job = create(client, "dying A")
        assert until_over(client, job).status == "succeeded"
        said = [one.message for one in client.fine_tuning.jobs.list_events(job) if one.level == "warn"]
        assert said == ["Not started yet; the server tries again: The start was interrupted. See the server log."]
    facts = (served.home / "parrot").glob("*/facts.json")
    assert len({json.loads(file.read_text())["intent"] for file in facts}) == 1


def test_errors_found_in_an_upload_are_not_checked_again(served: Served) -> None:
    with served.client() as client:
        wrong = json.dumps({"messages": [{"role": "wizard", "content": "x"}]}).encode() + b"\n"
        job = until_over(client, create(client, "slow A", wrong))
        assert (job.status, job.error.code, job.error.param) == ("failed", "invalid_training_file", "training_file")
        assert job.error.message.startswith("line 13 at /messages/0/role: unknown-role: ")
        assert checked(served) == []
