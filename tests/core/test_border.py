"""Each way to break the contract ends in one clear message that names the backend and the method."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import tuneport
from tuneport import Event, Job, JobState, Message, Plan, Quantity, Ref, Removal, Reply, Status
from tuneport.errors import (
    BackendError,
    JobFailed,
    JobNotFinished,
    JobNotFound,
    UnavailableError,
    UnsupportedError,
    WaitTimeout,
)
from tuneport.plugin import (
    Availability,
    BaseInfo,
    Capabilities,
    DataRules,
    MemoryNotebook,
    Settings,
    TrainRequest,
    utc_now,
)

NOW = utc_now()
GRAY, ONE = Ref("acme", "gray"), Ref("acme", "one")
LINEAGE = tuneport.Lineage(base="acme:gray", job="acme:one", data_fingerprint="", created=NOW.isoformat())


class Model(tuneport.Model):
    export_kinds = ("file",)
    push_kinds = ("file",)
    can_score = True

    def __init__(self, ref: Ref = ONE, lineage: tuneport.Lineage | None = LINEAGE, **returns: Any) -> None:
        self.ref, self.lineage, self.returns = ref, lineage, returns

    def generate(self, prompts: Sequence[Sequence[Message]], options: Any) -> list[Reply]:
        return returned(self.returns, "generate", [Reply(text="yes") for _ in prompts])

    def generate_stream(self, prompt: Sequence[Message], options: Any) -> Any:
        return returned(self.returns, "generate_stream", iter(["y", "es"]))

    def compute_score(self, dataset: tuneport.Dataset) -> tuneport.Score:
        return returned(self.returns, "compute_score", tuneport.Score(loss=1, token_accuracy=1, tokens=1, examples=1))

    def write_export(self, path: Path, kind: str, dtype: str | None) -> Path:
        if "write_export" not in self.returns:
            path.write_text("weights")
        return returned(self.returns, "write_export", path)

    def write_push(self, repository: str, kind: str, request: Any) -> tuneport.Publication:
        return returned(self.returns, "write_push", None)

    def ensure_ready(self) -> str | None:
        return returned(self.returns, "ensure_ready", None)


class TheJob(Job):
    poll_seconds = 0.001
    outage_seconds = 0.05

    def __init__(self, **returns: Any) -> None:
        self.ref, self.returns = Ref("acme", "one"), returns

    def state(self) -> JobState:
        return returned(self.returns, "state", JobState(status=Status.SUCCEEDED))

    def events(self, after: int = 0) -> Iterable[Event]:
        return returned(self.returns, "events", [])

    def cancel(self) -> None:
        returned(self.returns, "cancel", None)

    def result(self) -> tuneport.Model:
        return returned(self.returns, "result", Model())

    def delete(self, *, dry_run: bool = False) -> Removal:
        return returned(self.returns, "delete", Removal(removed=["all"]))

    def prune(self, *, dry_run: bool = False) -> int:
        return returned(self.returns, "prune", 0)

    def checkpoints(self) -> list[tuneport.Checkpoint]:
        return returned(self.returns, "checkpoints", [])


class Acme(tuneport.Backend):
    name = "acme"
    capabilities = Capabilities(methods=frozenset({"sft"}))

    def __init__(self, **returns: Any) -> None:
        self.returns = returns

    @property
    def settings_class(self) -> type[Settings]:
        return returned(self.returns, "settings_class", Settings)

    def start(self, request: TrainRequest) -> Job:
        return returned(self.returns, "start", TheJob())

    def job(self, name: str) -> Job:
        return returned(self.returns, "job", TheJob())

    def model(self, name: str) -> tuneport.Model:
        return returned(self.returns, "model", Model(GRAY, None))

    def plan(self, request: TrainRequest) -> Plan:
        return returned(self.returns, "plan", Plan(base="acme:gray", rows=1))

    def rules(self, base: str) -> DataRules:
        return returned(self.returns, "rules", DataRules())

    def check_base(self, base: str) -> None:
        returned(self.returns, "check_base", None)

    def bases(self) -> list[BaseInfo]:
        return returned(self.returns, "bases", [])

    def missing(self, name: str) -> str:
        return returned(self.returns, "missing", "")

    def availability(self) -> Availability:
        return returned(self.returns, "availability", Availability(ready=True))


def returned(returns: dict[str, Any], method: str, good: Any) -> Any:
    """The return under test, an exception raised, or the good one."""
    value = returns.get(method, good)
    if isinstance(value, BaseException):
        raise value
    return value


REQUEST = TrainRequest(
    intent="i", name="one", base=GRAY, train=tuneport.Dataset.from_examples([]), settings=Settings(), metadata={}
)
CALLS: dict[str, Callable[[Any], Any]] = {
    "settings_class": lambda b: b.settings_class,
    "start": lambda b: b.start(REQUEST),
    "job": lambda b: b.job("one"),
    "model": lambda b: b.model("gray"),
    "plan": lambda b: b.plan(REQUEST),
    "rules": lambda b: b.rules("gray"),
    "check_base": lambda b: b.check_base("gray"),
    "bases": lambda b: b.bases(),
    "missing": lambda b: b.missing("one"),
    "availability": lambda b: b.availability(),
    "state": lambda j: j.state(),
    "events": lambda j: list(j.events()),
    "cancel": lambda j: j.cancel(),
    "result": lambda j: j.result(),
    "delete": lambda j: j.delete(),
    "prune": lambda j: j.prune(),
    "checkpoints": lambda j: j.checkpoints(),
    "generate": lambda m: m.ask("hello"),
    "generate_stream": lambda m: list(m.stream("hello")),
    "compute_score": lambda m: m.score(tuneport.Dataset.from_examples([])),
    "write_export": lambda m: m.export(os.devnull + "-none", "file"),
    "write_push": lambda m: m.push("a/b", "file"),
    "ensure_ready": lambda m: m.ensure_ready(),
}
OWNERS: dict[str, tuple[str, Callable[..., Any]]] = {
    **dict.fromkeys(list(CALLS)[:10], ("Backend", Acme)),
    **dict.fromkeys(list(CALLS)[10:17], ("Job", TheJob)),
    **dict.fromkeys(list(CALLS)[17:], ("Model", Model)),
}


def event(seq: int = 1, **changes: Any) -> Event:
    return Event(**{"seq": seq, "time": NOW, "kind": "log", "message": "hello", **changes})


def state(**changes: Any) -> JobState:
    return JobState(**{"status": Status.RUNNING, **changes})


def plan(**changes: Any) -> Plan:
    return Plan(**{"base": "acme:gray", "rows": 1, **changes})


def usd(value: Any, unit: str = "USD") -> Quantity:
    return Quantity(value=value, unit=unit, source="a guess")


def rules(**changes: Any) -> DataRules:
    return DataRules(**changes)


def checkpoint(**changes: Any) -> tuneport.Checkpoint:
    return tuneport.Checkpoint(**{"name": "step-1", "step": 1, "created": NOW, **changes})


NAIVE = datetime(2026, 1, 1)
ELSEWHERE = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))

WRONG: list[tuple[str, Any, str]] = [
    ("settings_class", None, "None (NoneType) is not a subclass of Settings"),
    ("start", None, "not Job"),
    ("start", "text", "'text' (str), not Job"),
    ("job", 42, "42 (int), not Job"),
    ("model", None, "not Model"),
    ("plan", None, "not Plan"),
    ("plan", plan(rows=-1), "rows is -1; it must be at least 0"),
    ("plan", plan(usd=None), "usd is None (NoneType), not a Quantity"),
    ("plan", plan(tokens=10), "tokens is 10 (int), not a Quantity"),
    ("plan", plan(usd=usd(-5)), "usd is -5; it must be at least 0"),
    ("plan", plan(usd=usd(math.nan)), "usd is nan"),
    ("plan", plan(usd=usd("1")), "usd is '1' (str), not int or float"),
    ("plan", plan(usd=usd(1, "EUR")), "usd: the unit is 'EUR', not USD"),
    ("plan", plan(resolved={"x": object()}), "resolved is not JSON"),
    ("plan", plan(notes=(1,)), "a note is 1 (int), not str"),
    ("rules", None, "not DataRules"),
    ("rules", rules(shapes={"sft": frozenset({"conversations"})}), "conversations is not a shape"),
    ("rules", rules(shapes={"SFT": frozenset({"conversation"})}), "'SFT' is not a method"),
    ("rules", rules(roles=frozenset({"User"})), "User is not a role"),
    ("rules", rules(check_row="text"), "check_row is 'text' (str), not a function"),
    ("bases", None, "not list or tuple"),
    ("bases", ["gray"], "a base is 'gray' (str), not BaseInfo"),
    ("bases", [BaseInfo(ref=Ref("other", "x"), description="")], "the base other:x belongs to another backend"),
    ("missing", None, "not str"),
    ("availability", None, "not Availability"),
    ("availability", Availability(ready="yes"), "ready is 'yes' (str), not bool"),
    ("availability", Availability(ready=True, details={"x": object()}), "details is not JSON"),
    ("state", None, "not JobState"),
    ("state", "running", "not JobState"),
    ("state", state(status="running"), "status is 'running' (str), not Status"),
    ("state", state(step=9, total_steps=3), "step is 9 of 3"),
    ("state", state(step=-1), "step is -1"),
    ("state", state(step="3"), "step is '3' (str), not int"),
    ("state", state(details={"x": object()}), "details is not JSON"),
    ("state", state(created=NAIVE), "created is 2026-01-01 00:00:00, not a time in UTC with its zone"),
    ("state", state(finished=ELSEWHERE), "not a time in UTC"),
    ("state", state(seconds_left=math.inf), "seconds_left is inf"),
    ("state", state(message=None), "message is None (NoneType), not str"),
    ("events", None, "the events are None (NoneType), not a list"),
    ("events", [event(2)], "after=0 gives an event with seq 2 where 1 is next"),
    ("events", [event(1), event(1)], "seq 1 where 2 is next"),
    ("events", [event(1), event(3)], "seq 3 where 2 is next"),
    ("events", [event(0)], "seq 0 where 1 is next"),
    ("events", ["text"], "an event is 'text' (str), not Event"),
    ("events", [event(kind="weird")], "event 1: kind is 'weird' (str), not one of checkpoint, log, metric, status"),
    ("events", [event(level="loud")], "level is 'loud' (str), not one of error, info, warning"),
    ("events", [event(time=NAIVE)], "event 1: time is"),
    ("events", [event(message=None)], "event 1: message is None"),
    ("events", [event(data={"x": object()})], "event 1: data is not JSON"),
    ("events", [event(kind="metric", data={"train_loss": math.nan})], "data is not JSON"),
    ("events", [event(kind="metric", data={"train_loss": "0.5"})], "train_loss is '0.5' (str)"),
    ("result", None, "the model is None"),
    ("result", "text", "the model is 'text' (str), not Model"),
    ("result", Model(Ref("acme", "two")), "the model's ref is acme:two, not acme:one"),
    ("result", Model(lineage=None), "the model has no lineage"),
    ("delete", None, "not Removal"),
    ("delete", ["all"], "not Removal"),
    ("delete", Removal(removed="all"), "removed is 'all' (str), not list or tuple"),
    ("prune", -5, "the number of bytes is -5"),
    ("prune", None, "the number of bytes is None"),
    ("checkpoints", [checkpoint(step=-1)], "step is -1"),
    ("checkpoints", [checkpoint(uses=frozenset({"fly"}))], "uses has fly; there are answer, download, resume"),
    ("checkpoints", [checkpoint(expires=NAIVE)], "expires is"),
    ("generate", [], "0 replies to 1 prompts"),
    ("generate", None, "None (NoneType), not list or tuple"),
    ("generate", ["text"], "a reply is 'text' (str), not Reply"),
    ("generate", [Reply(text="a"), Reply(text="b")], "2 replies to 1 prompts"),
    ("generate", [Reply(text=None)], "a reply's text is None"),
    ("generate_stream", None, "not an iterator"),
    ("compute_score", tuneport.Score(loss=math.nan, token_accuracy=1, tokens=1, examples=1), "loss is nan"),
    ("write_export", Path("/nowhere/at/all"), "nothing was written to /nowhere/at/all"),
    ("write_push", None, "the publication is None"),
    ("ensure_ready", 5, "5 (int), not str or None"),
]


@pytest.mark.parametrize(("method", "value", "problem"), WRONG, ids=[f"{one[0]}: {one[2][:40]}" for one in WRONG])
def test_a_wrong_return_names_backend_and_method(method: str, value: Any, problem: str, tmp_path: Path) -> None:
    kind, owner = OWNERS[method]
    call = CALLS[method] if method != "write_export" else lambda m: m.export(tmp_path / "out", "file")
    with pytest.raises(BackendError) as caught:
        call(owner(**{method: value}))
    assert caught.value.message.startswith(f"The backend 'acme' returned a wrong value from {kind}.{method}: ")
    assert problem in caught.value.message
    assert "Report it to the author of" in str(caught.value.remedy)


@pytest.mark.parametrize("method", list(CALLS))
def test_a_foreign_exception_becomes_one_clear_error(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, owner = OWNERS[method]
    call = CALLS[method] if method != "write_export" else lambda m: m.export(tmp_path / "out", "file")
    with pytest.raises(BackendError) as caught:
        call(owner(**{method: ZeroDivisionError("by zero")}))
    assert caught.value.message == f"The backend 'acme' failed in {kind}.{method}: ZeroDivisionError: by zero"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    monkeypatch.setenv("TUNEPORT_STRICT", "1")
    with pytest.raises(ZeroDivisionError):
        call(owner(**{method: ZeroDivisionError("by zero")}))


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("method", ["start", "state", "generate"])
def test_an_interrupt_is_never_swallowed(method: str, end: type[BaseException]) -> None:
    with pytest.raises(end):
        CALLS[method](OWNERS[method][1](**{method: end()}))


def test_an_error_of_the_backends_own_names_it_once() -> None:
    for message in ("net gone", "acme is down"):
        with pytest.raises(UnavailableError) as caught:
            TheJob(state=UnavailableError(message)).state()
        assert caught.value.message == ("acme: net gone" if message == "net gone" else message)


def test_a_good_backend_crosses_the_border_unchanged() -> None:
    backend, job = Acme(), TheJob(events=[event(1), event(2)])
    assert backend.plan(REQUEST).usd.value is None
    assert backend.start(REQUEST).ref == Ref("acme", "one")
    assert [one.seq for one in job.events()] == [1, 2]
    assert job.result().ask("hello") == "yes"
    assert list(Model().stream("hello")) == ["y", "es"]


def test_the_model_of_a_job_that_has_not_succeeded_is_refused() -> None:
    with pytest.raises(JobNotFinished, match="its model does not exist yet"):
        TheJob(state=state()).result()
    with pytest.raises(JobFailed):
        TheJob(state=state(status=Status.FAILED)).result()


def test_a_terminal_status_stays() -> None:
    job = TheJob(state=state(status=Status.SUCCEEDED))
    assert job.status is Status.SUCCEEDED
    job.returns["state"] = state(status=Status.RUNNING)
    assert job.status is Status.SUCCEEDED


def test_functions_of_the_data_rules_are_behind_the_border_too() -> None:
    example = tuneport.Completion(prompt="a", completion="b")
    wrong = Acme(rules=rules(count_tokens=lambda rows: [1], check_row=lambda row: None, preview=lambda row: 1 / 0))
    found = wrong.rules("gray")
    assert found.count_tokens is not None and found.check_row is not None and found.preview is not None
    with pytest.raises(BackendError, match=r"from DataRules.count_tokens: 1 lengths for 2 rows"):
        found.count_tokens([example, example])
    with pytest.raises(BackendError, match=r"from DataRules.check_row: the findings are None"):
        found.check_row(example)
    with pytest.raises(BackendError, match=r"failed in DataRules.preview: ZeroDivisionError"):
        found.preview(example)


def test_a_plugin_that_calls_itself_sees_its_own_exceptions() -> None:
    class Careful(TheJob):
        def cancel(self) -> None:
            with pytest.raises(ZeroDivisionError):
                self.state()

    Careful(state=ZeroDivisionError()).cancel()


def test_a_verb_that_the_backend_does_not_declare_is_refused() -> None:
    job = TheJob()
    job.verbs = frozenset()
    with pytest.raises(UnsupportedError, match="The backend 'acme' does not support cancel"):
        job.cancel()
    job.verbs = frozenset({"cancel"})
    job.cancel()


class Flaky(TheJob):
    """Answers, then fails a few times, then succeeds."""

    def __init__(self, error: Exception, times: int) -> None:
        super().__init__()
        self.error, self.left, self.looks = error, times, 0

    def state(self) -> JobState:
        self.looks += 1
        if self.looks == 1:
            return state()
        if self.left:
            self.left -= 1
            raise self.error
        return JobState(status=Status.SUCCEEDED)


def test_a_moment_without_network_does_not_end_a_wait() -> None:
    assert Flaky(UnavailableError("net gone"), times=2).wait().ref == Ref("acme", "one")
    assert list(Flaky(UnavailableError("net gone"), times=2).follow()) == []


def test_an_outage_that_lasts_ends_a_wait_and_says_that_the_job_continues() -> None:
    with pytest.raises(WaitTimeout, match="net gone") as caught:
        Flaky(UnavailableError("net gone"), times=10_000).wait()
    assert "The job continues" in str(caught.value.remedy)


def test_what_was_missing_from_the_start_is_not_waited_for() -> None:
    with pytest.raises(UnavailableError, match="no key"):
        TheJob(state=UnavailableError("no key")).wait()


def test_a_bug_ends_a_wait_and_says_that_the_job_continues() -> None:
    with pytest.raises(BackendError, match="ZeroDivisionError") as caught:
        Flaky(ZeroDivisionError(), times=1).wait()  # type: ignore[arg-type]  # any exception
    assert "The job continues" in str(caught.value.remedy)


def test_settling_without_a_look_certifies_nothing() -> None:
    lost = Acme(job=JobNotFound("no such job"))
    with pytest.raises(JobNotFinished, match="may have been started"):
        lost.settle("one")
    lost.capabilities = Capabilities(methods=frozenset({"sft"}), local=True)
    with pytest.raises(JobNotFound):
        lost.settle("one")


def test_a_notebook_in_memory_numbers_events_once() -> None:
    notebook = MemoryNotebook()
    assert [one.seq for one in notebook.append([("a", event(0)), ("b", event(0)), ("a", event(0))])] == [1, 2]
    assert notebook.append([("b", event(0))]) == []
    assert [one.seq for one in notebook.events(1)] == [2]


def test_a_hung_backend_keeps_no_other_waiting() -> None:
    from tuneport.loader import ask_together

    release = threading.Event()
    found = ask_together([("slow", "slow", release.wait), ("quick", "quick", lambda: True)], seconds=0.2)
    release.set()
    assert found["quick"] is True
    assert isinstance(found["slow"], UnavailableError)
    assert "did not answer within" in str(found["slow"])


def test_an_exit_in_one_backend_reaches_the_caller() -> None:
    from tuneport.loader import ask_together

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        ask_together([("acme", "acme", leave)])


HANGS = """
import threading, tuneport, tuneport.plugin
TUNEPORT_API = 1
class Toy(tuneport.Backend):
    name = "toy"
    capabilities = tuneport.plugin.Capabilities(methods=frozenset({"sft"}))
    settings_class = tuneport.plugin.Settings
    def start(self, request): raise tuneport.errors.UnsupportedError("a toy")
    def job(self, name): raise tuneport.errors.JobNotFound(name)
    def model(self, name): raise tuneport.errors.ModelNotFound(name)
    def plan(self, request): raise tuneport.errors.UnsupportedError("a toy")
    def bases(self):
        print("asked", flush=True)
        threading.Event().wait()
@tuneport.plugin.hookimpl
def tuneport_backends(): return [Toy()]
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_listing_while_a_backend_hangs(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    (tmp_path / "toys.py").write_text(HANGS)
    info = tmp_path / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tuneport]\ntoys = toys\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "TUNEPORT_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "tuneport.cli", "models"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        time.sleep(0.05)
        process.send_signal(sent)
        assert process.wait() == code
