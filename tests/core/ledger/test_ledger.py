"""The ledger's verbs, in one process."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tuneport.contract.events import Event, Status
from tuneport.contract.state import JobState
from tuneport.errors import JobNotFound, NotFoundError, UsageError
from tuneport.ledger import STAGES, JobRecord, Ledger
from tuneport.refs import Ref

BASE = Ref("torch", "smollm2-135m")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "ledger.sqlite3")


def intend(ledger: Ledger, identity: str = "same", **more: object) -> JobRecord:
    given = {"backend": "torch", "base": BASE, "identity": identity, "fingerprint": "f" * 64, **more}
    return ledger.record_intent(**given)  # type: ignore[arg-type]  # a test passes what it likes


def event(message: str) -> Event:
    return Event(seq=0, time=datetime(2026, 1, 2, tzinfo=UTC), kind="log", message=message, data={"step": 1})


def test_a_job_comes_back_as_it_was_written(ledger: Ledger) -> None:
    run = ledger.begin_run("run", {})
    job = intend(
        ledger,
        stem="tickets",
        method="dpo",
        config={"model": "torch:smollm2-135m", "note": "naïve \ud800 text"},
        settings={"rank": 8},
        metadata={"team": "support"},
        run=run.id,
    )
    assert ledger.job(job.ref) == ledger.job(str(job.ref)) == intend(ledger, intent=job.intent) == job
    assert (job.intent_state, job.status, job.native) == ("intended", Status.QUEUED, "")
    assert (job.base, job.method, job.settings, job.metadata) == (BASE, "dpo", {"rank": 8}, {"team": "support"})
    assert (job.run, job.config["note"]) == (run.id, "naïve \ud800 text")
    assert job.created.tzinfo is not None


def test_a_name_is_the_stem_made_plain_with_letters_drawn_by_lot(ledger: Ledger) -> None:
    for stem, start in (("My Tickets (1)", "my-tickets-1-"), ("", "job-"), ("...", "job-"), ("x" * 99, "x" * 40 + "-")):
        name = intend(ledger, stem=stem).ref.name
        assert name.startswith(start)
        assert 4 <= len(name.removeprefix(start)) <= 6
        assert name.removeprefix(start).isalnum()


def test_a_reserved_name_is_never_given(ledger: Ledger) -> None:
    class Everything(list[str]):
        def __contains__(self, name: object) -> bool:
            return isinstance(name, str) and len(name) < len("a-123456")

    assert len(intend(ledger, stem="a", reserved=Everything()).ref.name) == len("a-123456")


def test_an_intent_asked_for_again_gives_the_same_job(ledger: Ledger) -> None:
    first = intend(ledger, intent="5f0c")
    assert intend(ledger, identity="another", intent="5f0c") == first
    assert len(ledger.jobs()) == 1


def test_reuse_finds_the_live_or_finished_job_and_no_failed_one(ledger: Ledger) -> None:
    first = intend(ledger, reuse=True)
    assert intend(ledger, reuse=True) == first
    ledger.keep_state(first.ref, JobState(status=Status.SUCCEEDED))
    assert intend(ledger, reuse=True).ref == first.ref
    again = intend(ledger)
    assert again.ref != first.ref
    found = ledger.find_live_or_finished("same")
    assert found == again
    for job in (first, again):
        ledger.forget(job.ref)
    third = intend(ledger, reuse=True)
    ledger.keep_state(third.ref, JobState(status=Status.FAILED))
    assert ledger.find_live_or_finished("same") is None
    assert intend(ledger, reuse=True).ref not in {first.ref, again.ref, third.ref}


def test_an_intent_goes_forward_only(ledger: Ledger) -> None:
    job = intend(ledger)
    assert ledger.mark_sent(job.intent).intent_state == "sent"
    assert ledger.mark_sent(job.intent).intent_state == "sent"
    unsure = ledger.doubt(job.intent)
    assert (unsure.intent_state, unsure.status) == ("unconfirmed", Status.UNCONFIRMED)
    with pytest.raises(
        UsageError, match=rf"unconfirmed already and cannot become sent(.|\n)*tuneport settle {job.ref}"
    ):
        ledger.mark_sent(job.intent)
    adopted = ledger.confirm(job.intent)
    assert (adopted.intent_state, adopted.status) == ("confirmed", Status.QUEUED)
    assert ledger.confirm(job.intent).intent_state == "confirmed"
    for act in (ledger.mark_sent, ledger.doubt, ledger.fail):
        with pytest.raises(UsageError, match="is confirmed already"):
            act(job.intent)


def test_a_start_that_failed_is_a_failed_job_with_its_reason(ledger: Ledger) -> None:
    job = ledger.fail(intend(ledger).intent, "the service refused the file")
    assert (job.status, job.reason) == (Status.FAILED, "the service refused the file")
    with pytest.raises(UsageError, match="is failed already"):
        ledger.confirm(job.intent)


def test_a_job_that_is_over_stays_over(ledger: Ledger) -> None:
    ref = intend(ledger).ref
    heard = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    running = ledger.keep_state(
        ref, JobState(status=Status.RUNNING, native="in_progress", step=3, total_steps=9), heard
    )
    assert (running.status, running.native, running.status_time) == (Status.RUNNING, "in_progress", heard)
    assert (running.step, running.total_steps) == (3, 9)
    ledger.keep_state(ref, JobState(status=Status.CANCELLED, native="stopped"))
    assert ledger.keep_state(ref, JobState(status=Status.RUNNING, native="in_progress")).status is Status.CANCELLED
    assert ledger.job(ref).native == "stopped"


def test_jobs_are_listed_newest_first(ledger: Ledger) -> None:
    refs = [intend(ledger, backend=backend).ref for backend in ("torch", "openai", "torch")]
    assert [job.ref for job in ledger.jobs()] == refs[::-1]
    assert [job.ref for job in ledger.jobs(1)] == [refs[2]]
    assert [job.ref for job in ledger.jobs(backend="openai")] == [refs[1]]


def test_a_forgotten_job_is_gone_from_every_list_and_its_name_stays_taken(ledger: Ledger) -> None:
    job = intend(ledger)
    ledger.scratch(job.intent)["file"] = "f-1"
    ledger.history.append(job.ref, [("a", event("a"))])
    ledger.history.set_cursor("logger", job.ref, 1)
    ledger.forget(job.ref)
    ledger.forget(job.ref)
    assert (ledger.jobs(), dict(ledger.scratch(job.intent))) == ([], {})
    with pytest.raises(JobNotFound, match=f"No job {job.ref} is known here"):
        ledger.job(job.ref)
    assert intend(ledger, intent=job.intent).ref == job.ref


def test_what_a_run_found_is_forgotten_with_its_last_job(ledger: Ledger) -> None:
    run = ledger.begin_run("run", {})
    ledger.advance(run.id, "compared", {"answers": ["private"]})
    first, second = (intend(ledger, run=run.id).ref for _ in range(2))
    ledger.forget(first)
    assert ledger.run(run.id).results
    ledger.forget(second)
    assert (ledger.run(run.id).stage, ledger.run(run.id).results) == ("checked", {})


def test_a_missing_source_is_reported_with_a_remedy(ledger: Ledger) -> None:
    for act in (ledger.job, ledger.history.events, ledger.forget, lambda ref: ledger.history.cursor("o", ref)):
        with pytest.raises(JobNotFound, match=r"No job torch:nothing is known here(.|\n)*tuneport jobs"):
            act("torch:nothing")
    with pytest.raises(JobNotFound, match="no intent 123"):
        ledger.mark_sent("123")
    with pytest.raises(NotFoundError, match="no run 123"):
        ledger.advance("123", "planned")


def test_a_run_never_goes_backwards(ledger: Ledger) -> None:
    run = ledger.begin_run("same", {"model": "torch:x"})
    assert (run.stage, run.results, run.job) == ("checked", {}, None)
    for stage in STAGES:
        run = ledger.advance(run.id, stage, {"at": stage})
        assert run.stage == stage
    renewed = ledger.advance(run.id, "compared", {"at": "again"})
    assert (renewed.stage, renewed.results["compared"]) == ("reported", {"at": "again"})
    assert renewed.has_reached("reported")
    assert list(renewed.results) == list(STAGES)


def test_the_same_run_is_found_again_and_again_starts_another(ledger: Ledger) -> None:
    first = ledger.begin_run("same", {"model": "torch:x"})
    ledger.advance(first.id, "planned")
    assert ledger.begin_run("same", {}) == ledger.run(first.id)
    second = ledger.begin_run("same", {}, again=True)
    assert second.id != first.id
    assert ledger.begin_run("same", {}) == second


def test_a_run_knows_its_newest_job(ledger: Ledger) -> None:
    run = ledger.begin_run("same", {})
    intend(ledger, run=run.id)
    newest = intend(ledger, run=run.id)
    assert ledger.run(run.id).job == newest.ref


def test_events_get_their_number_once(ledger: Ledger) -> None:
    ref, other = intend(ledger).ref, intend(ledger).ref
    first = ledger.history.append(ref, [("a", event("a")), ("b", event("b")), ("a", event("changed"))])
    assert [(one.seq, one.message) for one in first] == [(1, "a"), (2, "b")]
    second = ledger.history.append(ref, [("b", event("b")), ("c", event("c"))])
    assert [(one.seq, one.message) for one in second] == [(3, "c")]
    assert ledger.history.append(other, [("a", event("a"))])[0].seq == 1
    assert ledger.history.events(ref) == first + second
    assert ledger.history.events(ref, after=2) == second


def test_a_failing_source_of_events_leaves_none_of_them(ledger: Ledger) -> None:
    ref = intend(ledger).ref

    def source() -> object:
        yield "a", event("a")
        raise RuntimeError("the connection broke")

    with pytest.raises(RuntimeError, match="broke"):
        ledger.history.append(ref, source())  # type: ignore[arg-type]  # a generator of pairs
    assert ledger.history.events(ref) == []
    assert [one.seq for one in ledger.history.append(ref, [("a", event("a"))])] == [1]


def test_a_cursor_never_goes_back(ledger: Ledger) -> None:
    ref = intend(ledger).ref
    assert ledger.history.cursor("logger", ref) == 0
    ledger.history.set_cursor("logger", ref, 5)
    ledger.history.set_cursor("logger", ref, 3)
    assert (ledger.history.cursor("logger", ref), ledger.history.cursor("other", ref)) == (5, 0)


def test_scratch_is_a_mapping_that_another_process_sees(ledger: Ledger, tmp_path: Path) -> None:
    intent = intend(ledger).intent
    scratch = ledger.scratch(intent)
    scratch["upload"] = {"id": "file-1", "parts": [1, 2]}
    scratch["upload"] = {"id": "file-2"}
    scratch["naïve"] = None
    with Ledger.open(tmp_path / "ledger.sqlite3") as elsewhere:
        assert dict(elsewhere.scratch(intent)) == {"upload": {"id": "file-2"}, "naïve": None}
    del scratch["naïve"]
    assert (len(scratch), "naïve" in scratch, scratch.get("upload")) == (1, False, {"id": "file-2"})
    with pytest.raises(KeyError):
        del scratch["naïve"]
    with pytest.raises(TypeError):
        scratch["bad"] = object()
    assert list(scratch) == ["upload"]


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    intent = intend(ledger).intent

    def write(number: int) -> None:
        for step in range(5):
            ledger.scratch(intent)[f"{number}-{step}"] = step
        ledger.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.scratch(intent)) == 20
