"""The long version: thousands of faulted creations, their processes killed at random moments (make soak)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

import pytest

from fault_proxy import FaultProxy
from tuneport import Dataset, Ref
from tuneport.errors import JobError, JobNotFound, TuneportError
from tuneport.ledger import Ledger
from tuneport.plugin import home, utc_now
from tuneport_openai.start import submit
from tuneport_openai.start.rules import write_rows
from tuneport_openai.wire.client import Wire
from tuneport_openai.wire.limits import Limits
from tuneport_openai.wire.profiles import Profile
from wire_server import WireServer

IMPATIENT = Limits(read_seconds=0.15, create_seconds=0.15, search_seconds=0.01)
STARTS = int(os.environ.get("TUNEPORT_SOAK_STARTS", "2000"))


@pytest.mark.soak
def test_no_kill_and_no_fault_makes_two_jobs_of_one_intent(server: WireServer, rows: Dataset) -> None:
    proxy = FaultProxy(server.url, seed=1)
    proxy.fault = "random"
    server.file_looks = 0
    draw = random.Random(2)
    wire = Wire(Profile(name="lab", base_url=proxy.url, key="LAB_API_KEY", limits=IMPATIENT))
    _ = wire.once, wire.patient  # made here, so that no child spends its life on loading certificates
    file = write_rows(rows, home("openai", "files"))
    facts = {"path": str(file.path), "sha256": file.sha256, "bytes": file.bytes, "name": file.name}
    kills, scratches = 0, []
    with Ledger.open() as ledger:
        for number in range(STARTS):
            proxy.lag = draw.choice([0, 0, 1, 3])
            record = ledger.record_intent(
                backend="lab", base=Ref("lab", "base"), identity=str(number), fingerprint="", stem="soak"
            )
            scratch = ledger.scratch(record.intent)
            body = {"model": "base", "metadata": {"tuneport_intent": record.intent}}
            created = utc_now().isoformat()
            scratch["request"] = {"intent": record.intent, "body": body, "files": {"train": facts}, "created": created}
            for _ in range(4):
                kills += _finish_in_a_child(wire, record.ref, scratch, draw)
                if "job" in scratch:
                    break
            jobs = server.of_intent(record.intent)
            assert len(jobs) <= 1, record.intent
            assert scratch.get("job") in (None, *jobs)
            scratches.append((record.ref, scratch))
        proxy.fault, proxy.lag = None, 0
        doubts = never = 0
        for ref, scratch in scratches:
            try:
                submit.conclude(wire, ref, scratch)
            except JobNotFound:  # its start was over a quarter of an hour ago
                assert server.of_intent(scratch["request"]["intent"]) == []
                never += 1
            except JobError:
                doubts += 1
    proxy.close()
    adopted = {scratch["job"] for _, scratch in scratches if "job" in scratch}
    assert adopted == set(server.jobs)
    assert len(server.jobs) == server.calls("POST", "/v1/fine_tuning/jobs")
    assert kills > STARTS / 10
    print(
        f"{STARTS} starts, {kills} kills, {len(server.jobs)} jobs, all found; "
        f"{doubts} starts stay in doubt, {never} certainly made no job"
    )


def _finish_in_a_child(wire: Wire, ref: Ref, scratch: object, draw: random.Random) -> bool:
    """Carry a submission on in a process that may be killed at any moment; whether it was."""
    patience = draw.choice([0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 5.0])
    child = os.fork()
    if child == 0:
        with contextlib.suppress(JobError, TuneportError):
            submit.finish(wire, ref, scratch)
        os._exit(0)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True
