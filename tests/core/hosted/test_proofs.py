"""Each proof that nothing starts twice, against a service that fails after it has started the job."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

import tuneport
from depot import KEY, Depot, DepotServer, hasty
from dying import Killed, kill_at, start_and_settle
from tuneport import Dataset
from tuneport.errors import BackendError, BudgetError, JobNotFinished, JobNotFound, TuneportError, UsageError
from tuneport.hosted import ClientId, Http, InDoubt, Label, Proof, RefusedAddress, Scan, Token, Unsent

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


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("after", [False, True])
def test_an_end_at_any_request_leaves_one_job(
    depot: DepotServer, proof: Proof, monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool
) -> None:
    monkeypatch.setattr(Depot, "endpoint", hasty(pause=0.5, certain=0))
    revive = kill_at(monkeypatch, number, after=after)
    with pytest.raises(Killed):
        tuneport.train("depot:base", ROWS)
    revive()
    start_and_settle("depot:base", Dataset.load(ROWS)).wait()
    assert len(depot.jobs) == 1


def test_six_threads_start_one_job_under_a_fault(depot: DepotServer, proof: Proof) -> None:
    depot.fault = "500"
    refs: list[str] = []
    rows = Dataset.load(ROWS)
    threads = [
        threading.Thread(target=lambda: refs.append(str(start_and_settle("depot:base", rows).ref))) for _ in range(6)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(refs) == 6
    assert len(set(refs)) == len(depot.jobs) == 1


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
    for _ in range(2):
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
    found = [one.message for one in job.events() if one.message.startswith("look")]
    assert found == sorted(set(found))
    assert [one.seq for one in job.events()] == list(range(1, len(list(job.events())) + 1))
    assert list(job.events())[-1].data["status"] == "succeeded"


def test_an_offer_over_the_budget_starts_nothing(depot: DepotServer, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    config = tmp_path / "tune.yaml"
    config.write_text("model: depot:base\ndata: {train: rows.jsonl}\nbudget: {usd: 2}\n")
    depot.price = 5.0
    with pytest.raises(BudgetError, match=r"5.00 US dollars"):
        tuneport.run(config, wait=False)
    depot.price = None
    with pytest.raises(BudgetError, match="unknown amount"):
        tuneport.run(config, wait=False)
    assert not depot.jobs
    depot.price = 1.5
    job = tuneport.run(config, wait=False).job
    assert job.state().details["quote"]["usd"] == 1.5
    assert len(depot.jobs) == 1


def test_an_answer_that_is_not_of_the_wire_is_a_backend_error(depot: DepotServer) -> None:
    model = tuneport.train("depot:base", ROWS).wait()
    depot.chat_answer = {"choices": []}
    with pytest.raises(BackendError, match="not in the OpenAI API format"):
        model.ask("hello")
    depot.chat_answer = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}
    assert model.ask("hello") == "yes"


def test_an_author_whose_call_breaks_is_named(depot: DepotServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Depot, "find_file", lambda *_: {}["id"])
    with pytest.raises(BackendError, match="Depot could not be read"):
        tuneport.train("depot:base", ROWS)
    assert not depot.jobs


def test_a_page_instead_of_json_is_asked_for_again_and_never_believed(depot: DepotServer) -> None:
    http = Http(hasty(pause=0.5, retries=2))
    depot.pages = 2
    assert http.again("GET", "/price") == {"usd": 1.0}
    depot.pages = 9
    with pytest.raises(InDoubt, match="not JSON"):
        http.again("GET", "/price")


def test_a_server_that_is_silent_leaves_doubt_and_one_that_is_gone_does_not(depot: DepotServer) -> None:
    http = Http(hasty(read=0.2, retries=0))
    depot.fault = "slow"
    with pytest.raises(InDoubt, match="was lost"):
        http.once("POST", "/jobs", {"mark": "m", "file": "f"})
    depot.close()
    with pytest.raises(Unsent, match="could not be reached"):
        Http(hasty(retries=0)).once("POST", "/jobs", {"mark": "m", "file": "f"})


@pytest.mark.parametrize("name", ["../files", "a/../../b", "."])
def test_a_name_cannot_leave_its_path(depot: DepotServer, name: str) -> None:
    with pytest.raises(UsageError):
        Http(Depot.endpoint).find(f"/jobs/{name}")
    assert not depot.asked


@pytest.mark.parametrize("intent", ["0d9ac7ac-3b1e-4b6e-9d6f-3f0e2f7a9c11"])
def test_marks_follow_from_the_intent(intent: str) -> None:
    assert ClientId().mark(intent) == "tp-0d9ac7ac3b1e4b6e9d6f3f0e2f7a9c11"
    assert Scan().mark(intent) == "0d9ac7ac3b1e"
    assert Label().mark(intent) == Token().mark(intent) == intent


def test_a_redirect_to_a_signed_address_is_handed_to_the_author(depot: DepotServer) -> None:
    with pytest.raises(RefusedAddress) as caught:
        Http(Depot.endpoint).once("POST", "/uploads", form={"purpose": "fine-tune", "name": "rows.jsonl"})
    assert caught.value.status == 302
    assert caught.value.headers["location"] == "http://127.0.0.1:9/put?signature=s"
    assert depot.forms == [b"purpose=fine-tune&name=rows.jsonl"]


def test_a_file_of_the_service_is_fetched_with_the_key_within_its_bounds(depot: DepotServer) -> None:
    http, into = Http(replace(Depot.endpoint, header="X-API-Key", scheme="")), BytesIO()
    http.fetch("/weights", into, most_bytes=100)
    assert into.getvalue() == b"weights"
    assert depot.keys[-1] == KEY
    with pytest.raises(InDoubt, match="larger than"):
        http.fetch("/weights", BytesIO(), most_bytes=3)


def test_a_deletion_whose_answer_is_lost_counts(depot: DepotServer) -> None:
    http = Http(hasty(pause=0.5))
    assert http.delete("/things/lost") is True
    assert http.delete("/things/absent") is False


def test_pages_that_lead_in_a_circle_end(depot: DepotServer) -> None:
    with pytest.raises(BackendError, match="repeats the pages"):
        list(Http(Depot.endpoint).pages("/circle", "items"))


def test_pages_follow_the_cursor_of_the_service(depot: DepotServer) -> None:
    assert list(Http(Depot.endpoint).pages("/cursor", "items", cursor=("next", "from"))) == [1, "b"]
