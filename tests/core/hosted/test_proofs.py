"""Each proof that nothing starts twice, against a service that fails after it has started the job."""

from __future__ import annotations

import pytest

import tuneport
from depot import Depot, DepotServer, hasty
from tuneport.errors import BudgetError, JobNotFinished, JobNotFound, TuneportError, UsageError
from tuneport.hosted import Label, Proof, Scan, Token

ROWS = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]
FAULTS = ("500", "page", "slow")


@pytest.fixture(params=["label", "scan", "token"])
def proof(request: pytest.FixtureRequest, depot: DepotServer, monkeypatch: pytest.MonkeyPatch) -> Proof:
    made: Proof = {"label": Label(), "scan": Scan(), "token": Token()}[request.param]
    depot.is_token = request.param == "token"
    depot.prefix = "my-model-" if request.param == "scan" else ""
    monkeypatch.setattr(Depot, "proof", made)
    monkeypatch.setattr(Depot, "endpoint", hasty(read=0.3, create=0.3, pause=0.5))
    return made


def creations(depot: DepotServer) -> int:
    return depot.asked.count("POST /jobs")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_job_that_was_started_is_found(depot: DepotServer, proof: Proof, fault: str) -> None:
    depot.fault = fault
    job = tuneport.train("depot:base", ROWS)
    assert len(depot.jobs) == 1
    assert creations(depot) == (2 if proof.is_replayable else 1)
    job.wait()


def test_a_job_that_a_list_shows_late_is_found(depot: DepotServer, proof: Proof) -> None:
    depot.fault, depot.lag, depot.broken_lists = "500", 1, 2
    tuneport.train("depot:base", ROWS)
    assert len(depot.jobs) == 1


def test_a_refusal_is_certain(depot: DepotServer, proof: Proof) -> None:
    depot.fault = "refused"
    with pytest.raises(UsageError, match="bad epochs"):
        tuneport.train("depot:base", ROWS)
    tuneport.train("depot:base", ROWS)
    assert len(depot.jobs) == 1


def test_a_job_that_no_list_shows_is_unconfirmed_and_never_sent_again(
    depot: DepotServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Depot, "endpoint", hasty(pause=0.5))
    depot.fault, depot.lag = "lost", 1000
    with pytest.raises(JobNotFinished, match="may have been started") as caught:
        tuneport.train("depot:base", ROWS)
    with pytest.raises(TuneportError):
        tuneport.train("depot:base", ROWS)
    assert creations(depot) == 1
    with pytest.raises(JobNotFinished):
        tuneport.settle(caught.value.ref)
    assert tuneport.open_job(caught.value.ref).state().status == "unconfirmed"


def test_it_is_certain_after_a_while_and_the_same_run_starts_it(
    depot: DepotServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Depot, "endpoint", hasty(pause=0.5, certain=0))
    depot.fault = "lost"
    with pytest.raises(JobNotFinished) as caught:
        tuneport.train("depot:base", ROWS)
    with pytest.raises(JobNotFound, match="has no job"):
        tuneport.settle(caught.value.ref)
    tuneport.train("depot:base", ROWS)
    assert len(depot.jobs) == 1


def test_a_list_that_cannot_be_read_is_never_certain(depot: DepotServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Depot, "endpoint", hasty(pause=0.5, certain=0, retries=0))
    depot.fault, depot.broken_lists = "lost", 1000
    with pytest.raises(JobNotFinished) as caught:
        tuneport.train("depot:base", ROWS)
    with pytest.raises(JobNotFinished):
        tuneport.settle(caught.value.ref)


def test_the_services_log_is_kept_once_and_from_where_it_ended(depot: DepotServer) -> None:
    job = tuneport.train("depot:base", ROWS)
    other = tuneport.open_job(job.ref)
    for _ in range(4):
        job.state()
        other.state()
    told = [one.message for one in job.events() if one.message.startswith("look")]
    assert told == sorted(set(told))
    assert [one.seq for one in job.events()] == list(range(1, len(list(job.events())) + 1))
    assert list(job.events())[-1].data["status"] == "succeeded"


def test_a_model_that_no_other_service_needs_answers_nothing_of_the_wire(depot: DepotServer) -> None:
    model = tuneport.train("depot:base", ROWS).wait()
    with pytest.raises(TuneportError):
        model.ask("hello")


def test_an_offer_over_the_budget_starts_nothing(depot: DepotServer, tmp_path: object) -> None:
    del tmp_path
    depot.price = 5.0
    assert tuneport.train("depot:base", ROWS).state().details["quote"]["usd"] == 5.0
    assert issubclass(BudgetError, TuneportError)
