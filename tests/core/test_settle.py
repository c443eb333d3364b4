"""A start that nobody could confirm is settled: found, certainly not there, or still in doubt."""

from __future__ import annotations

from pathlib import Path

import pytest

import tuneport
import tuneport.plugin
from tuneport import Dataset, Ref, Status
from tuneport.cli.app import invoke
from tuneport.ledger import JobRecord, Ledger

pytestmark = pytest.mark.usefixtures("parrot")


@pytest.fixture
def doubtful() -> JobRecord:
    """A start of which the ledger says that nobody could learn what became."""
    with Ledger.open() as ledger:
        record = ledger.record_intent(
            backend="parrot", base=Ref("parrot", "gray"), identity="one", fingerprint="", stem="lost"
        )
        ledger.mark_sent(record.intent)
        return ledger.doubt(record.intent)


def test_a_start_that_certainly_was_not_made_is_over_and_may_be_made_again(doubtful: JobRecord) -> None:
    with pytest.raises(tuneport.errors.JobNotFound):
        tuneport.settle(doubtful.ref)
    with Ledger.open() as ledger:
        record = ledger.job(doubtful.ref)
        assert (record.intent_state, record.status) == ("failed", Status.FAILED)
        assert ledger.find_live_or_finished("one") is None
    assert invoke(["settle", str(doubtful.ref)]) == 2


def test_a_start_that_is_found_is_confirmed(doubtful: JobRecord) -> None:
    folder = tuneport.plugin.home("parrot", doubtful.ref.name)
    (folder / "status").write_text("running")
    assert tuneport.settle(doubtful.ref).status is Status.RUNNING
    with Ledger.open() as ledger:
        record = ledger.job(doubtful.ref)
        assert (record.intent_state, record.status) == ("confirmed", Status.RUNNING)
    assert invoke(["settle", str(doubtful.ref), "--json"]) == 0


def test_a_start_that_stays_in_doubt_exits_3_and_stays_unconfirmed(
    doubtful: JobRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tuneport.plugin.home("parrot", doubtful.ref.name)
    (folder / "status").write_text("unconfirmed")
    assert invoke(["settle", str(doubtful.ref)]) == 3
    assert "still unconfirmed" in capsys.readouterr().err
    with Ledger.open() as ledger:
        assert ledger.job(doubtful.ref).intent_state == "unconfirmed"


def test_settling_a_job_that_is_known_changes_nothing(tickets: Path) -> None:
    job = tuneport.train("parrot:gray", Dataset.load(tickets))
    assert tuneport.settle(job.ref).status is Status.SUCCEEDED


def test_backends_are_listed_by_name() -> None:
    assert {"torch", "parrot"} <= set(tuneport.backends())
