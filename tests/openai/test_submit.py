"""A submission cannot start twice, whatever breaks between it and the server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import tuneport
import tuneport.plugin
from fault_proxy import AFTER, BEFORE, FAULTS, FaultProxy
from tuneport import Dataset, Ref
from tuneport.errors import JobNotFinished, JobNotFound
from tuneport_openai.start import submit
from tuneport_openai.start.rules import write_rows
from tuneport_openai.wire.client import Wire
from tuneport_openai.wire.limits import Limits
from tuneport_openai.wire.profiles import Profile
from wire_server import KEY, WireServer

REF = Ref("lab", "tickets")
IMPATIENT = Limits(read_seconds=0.15, create_seconds=0.15, retry_seconds=0.0, search_seconds=0.01, retries=0)


@pytest.fixture
def proxy(server: WireServer) -> Iterator[FaultProxy]:
    made = FaultProxy(server.url)
    yield made
    made.close()


@pytest.fixture
def wire(proxy: FaultProxy) -> Wire:
    return Wire(Profile(name="lab", base_url=proxy.url, key="LAB_API_KEY", limits=IMPATIENT))


@pytest.fixture
def sent(rows: Dataset) -> dict[str, object]:
    """The facts of the file that is sent."""
    file = write_rows(rows, tuneport.plugin.home("openai", "files"))
    return {"path": str(file.path), "sha256": file.sha256, "bytes": file.bytes, "name": file.name}


def started(sent: dict[str, object]) -> dict[str, object]:
    """A scratch as a start leaves it before anything is sent."""
    intent = str(uuid.uuid4())
    body = {"model": "base", "metadata": {"tuneport_intent": intent}}
    request = {
        "intent": intent,
        "body": body,
        "files": {"train": sent},
        "created": tuneport.plugin.utc_now().isoformat(),
    }
    return {"request": request}


def intent_of(scratch: dict) -> str:
    return scratch["request"]["intent"]


def carry(wire: Wire, scratch: dict, ref: Ref = REF) -> str | None:
    """Start as somebody does who tries again and again; what kept it from being confirmed."""
    doubt = None
    for _ in range(2):
        try:
            submit.finish(wire, ref, scratch)
            return doubt
        except JobNotFinished as error:
            assert error.status == "unconfirmed"
            assert "tuneport settle lab:tickets" in (error.remedy or "")
            doubt = error.message
    return doubt


@pytest.mark.parametrize("fault", AFTER)
def test_a_job_that_was_started_is_found_and_adopted(
    fault: str, wire: Wire, proxy: FaultProxy, server: WireServer, sent: dict
) -> None:
    proxy.fault = fault
    scratch = started(sent)
    assert carry(wire, scratch) is None
    assert server.of_intent(intent_of(scratch)) == [scratch["job"]]
    assert server.calls("POST", "/v1/fine_tuning/jobs") == 1


@pytest.mark.parametrize("fault", BEFORE)
def test_a_start_that_may_have_been_lost_is_unconfirmed_and_never_sent_again(
    fault: str, wire: Wire, proxy: FaultProxy, server: WireServer, sent: dict
) -> None:
    proxy.fault = fault
    scratch = started(sent)
    assert carry(wire, scratch)
    proxy.fault = None
    assert carry(wire, scratch)
    assert not server.jobs
    assert proxy.suffered == [fault]


def test_a_hundred_faulted_creations_never_make_two_jobs_of_one_intent(
    wire: Wire, proxy: FaultProxy, server: WireServer, sent: dict
) -> None:
    proxy.fault = "random"
    server.file_looks = 0
    adopted = 0
    for number in range(100):
        proxy.lag = proxy.drawn.choice([0, 0, 1, 2, 5])
        proxy.broken_lists = int(number % 50 == 0)  # the client waits half a second before it asks again
        server.filters = number % 10 > 0
        scratch = started(sent)
        carry(wire, scratch)
        jobs = server.of_intent(intent_of(scratch))
        assert len(jobs) <= 1
        assert scratch.get("job") in (None, *jobs)
        adopted += "job" in scratch
    assert len(proxy.suffered) == 100
    assert set(proxy.suffered) == set(FAULTS)
    assert server.calls("POST", "/v1/fine_tuning/jobs") == len(server.jobs) == sum(f in AFTER for f in proxy.suffered)
    assert 0 < adopted <= len(server.jobs)
    assert len(server.files) == 1


def test_the_bare_client_makes_three_jobs_of_one_call(proxy: FaultProxy, server: WireServer, sent: dict) -> None:
    import openai

    proxy.fault = "500 after"
    client = openai.OpenAI(api_key=KEY, base_url=proxy.url)
    file = client.files.create(file=Path(str(sent["path"])), purpose="fine-tune")
    with pytest.raises(openai.InternalServerError):
        client.fine_tuning.jobs.create(model="base", training_file=file.id)
    assert len(server.jobs) == 3


def test_a_list_that_lags_is_looked_at_again(wire: Wire, proxy: FaultProxy, server: WireServer, sent: dict) -> None:
    proxy.fault, proxy.lag = "500 after", 2
    scratch = started(sent)
    submit.finish(wire, REF, scratch)
    assert server.of_intent(intent_of(scratch)) == [scratch["job"]]


def test_settle_adopts_a_job_that_shows_up_late(wire: Wire, proxy: FaultProxy, server: WireServer, sent: dict) -> None:
    proxy.fault, proxy.lag = "reset after", 100
    scratch = started(sent)
    assert carry(wire, scratch)
    with pytest.raises(JobNotFinished):
        submit.conclude(wire, REF, scratch)
    proxy.lag = 0
    submit.conclude(wire, REF, scratch)
    assert server.of_intent(intent_of(scratch)) == [scratch["job"]]


def test_settle_is_certain_only_after_a_quarter_of_an_hour(wire: Wire, proxy: FaultProxy, sent: dict) -> None:
    proxy.fault = "reset before"
    scratch = started(sent)
    assert carry(wire, scratch)
    with pytest.raises(JobNotFinished):
        submit.conclude(wire, REF, scratch)
    earlier = tuneport.plugin.utc_now() - timedelta(seconds=submit.CERTAIN_SECONDS + 1)
    scratch["create"] = {**scratch["create"], "at": earlier.isoformat()}
    with pytest.raises(JobNotFound, match="15 minutes after"):
        submit.conclude(wire, REF, scratch)


def test_settle_is_never_certain_while_the_list_cannot_be_read(
    wire: Wire, proxy: FaultProxy, server: WireServer, sent: dict
) -> None:
    proxy.fault = "reset before"
    scratch = started(sent)
    assert carry(wire, scratch)
    earlier = tuneport.plugin.utc_now() - timedelta(seconds=submit.CERTAIN_SECONDS + 1)
    scratch["create"] = {**scratch["create"], "at": earlier.isoformat()}
    server.refuse["GET /v1/fine_tuning/jobs"] = (401, {"error": {"message": "no"}}, {})
    with pytest.raises(JobNotFinished, match="does not accept the key"):
        submit.conclude(wire, REF, scratch)


def test_a_job_that_does_not_say_whose_it_is_keeps_the_start_in_doubt(
    wire: Wire, proxy: FaultProxy, server: WireServer, sent: dict
) -> None:
    proxy.fault = "reset after"
    server.filters = False
    scratch = started(sent)
    proxy.lag = 100
    assert carry(wire, scratch)
    proxy.lag = 0
    (job,) = server.jobs.values()
    job["metadata"] = None
    earlier = tuneport.plugin.utc_now() - timedelta(seconds=submit.CERTAIN_SECONDS + 1)
    scratch["create"] = {**scratch["create"], "at": earlier.isoformat()}
    with pytest.raises(JobNotFinished, match=f"may be the job {job['id']}"):
        submit.conclude(wire, REF, scratch)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429])
def test_a_refusal_in_the_wires_own_format_leaves_no_doubt(
    status: int, wire: Wire, server: WireServer, sent: dict
) -> None:
    server.refuse["POST /v1/fine_tuning/jobs"] = (status, {"error": {"message": "not you", "param": "model"}}, {})
    scratch = started(sent)
    with pytest.raises(tuneport.TuneportError, match="not you") as caught:
        submit.finish(wire, REF, scratch)
    assert not isinstance(caught.value, tuneport.errors.JobError | tuneport.errors.BackendError)
    assert "create" not in scratch


def test_a_connection_that_was_never_made_leaves_no_doubt(wire: Wire, proxy: FaultProxy, sent: dict) -> None:
    scratch = started(sent)
    gone = FaultProxy("http://127.0.0.1:9")
    url = gone.url
    gone.close()
    scratch["files"] = {"train": "file-1"}
    dead = Wire(Profile(name="lab", base_url=url, key="LAB_API_KEY", limits=IMPATIENT))
    with pytest.raises(tuneport.errors.UnavailableError, match="could not be reached"):
        submit._create(dead, REF, scratch)
    assert "create" not in scratch


def test_a_cancelled_start_is_never_finished(wire: Wire, server: WireServer, sent: dict) -> None:
    scratch = {**started(sent), "cancelled": "2026-01-01"}
    submit.finish(wire, REF, scratch)
    assert not server.jobs


def test_two_threads_that_finish_one_start_make_one_job(wire: Wire, server: WireServer, sent: dict) -> None:
    from concurrent.futures import ThreadPoolExecutor

    scratch = started(sent)
    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(submit.finish, wire, REF, scratch) for _ in range(4)]:
            one.result()
    assert server.of_intent(intent_of(scratch)) == [scratch["job"]]
    assert server.calls("POST", "/v1/files") == 1
