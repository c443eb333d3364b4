"""What a job's verbs do, seen from outside: real workers, a tiny real model."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import pytest

import tuneport
from tiny_tuned import tune
from torch_jobs import (
    SMALL,
    begin,
    gone,
    kill,
    log,
    losses,
    no_worker_is_left,  # noqa: F401 - a fixture
    request,
    rows,
    runners,
    seqs,
    settled,
    until,
    weights,
)
from tuneport import Conversation, Dataset, Message, Status
from tuneport.errors import JobCancelled, JobFailed, JobNotFinished, JobNotFound, UnavailableError, UsageError
from tuneport.local.folder import Folder
from tuneport.local.owner import Owner
from tuneport.workflow import report
from tuneport_torch import TorchBackend

pytestmark = pytest.mark.timeout(240)


def statuses(job) -> list[str]:
    return [event.data["status"] for event in job.events() if event.kind == "status"]


def test_a_job_whose_layers_cannot_be_compiled_says_so_and_trains_without(
    tiny_llama: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    job = TorchBackend().start(request(tiny_llama, "compiled", compile=True))
    assert job.wait(timeout=200)
    shown = [event.message for event in job.events() if event.level == "warning"]
    assert [message for message in shown if message.startswith("Training continues without compiled layers: ")]
    assert job.state().details["compile"] is True


def test_a_job_goes_from_start_to_model_and_can_be_read_all_the_while(tiny_llama: Path, own_home: Path) -> None:
    asked = request(tiny_llama, "plain")
    job = TorchBackend().start(asked)
    assert job.status is Status.QUEUED or runners(job)
    assert TorchBackend().start(asked).ref == job.ref
    again = TorchBackend().job("plain")
    seen = []
    for event in again.follow():
        seen.append(event.seq)
        assert again.state().step >= 0
    assert seen == seqs(job)
    assert {"step", "train_loss", "tokens"} <= set(again.metrics()[0])
    model = again.wait(timeout=1)
    assert model.lineage.job == "torch:plain"
    assert model.lineage.data_fingerprint == asked.train.fingerprint
    state = again.state()
    assert state.step == state.total_steps
    assert state.tokens > 0
    assert state.finished > state.started > state.created
    plan = TorchBackend().plan(asked)
    assert set(plan.reasons) == set(state.details["reasons"])
    shown = state.details["resolved"]
    assert 10**7 < state.details["peak_memory"] < 10**11
    assert (shown["precision"], shown["tokens_per_step"], shown["epochs"]) == ("float32", 64, 2)
    assert (shown["learning_rate"], shown["total_steps"]) == (plan.resolved["learning_rate"], state.total_steps)
    assert state.details["reasons"]["learning_rate"].startswith("auto: ")
    assert statuses(job)[0] == "queued"
    assert statuses(job)[-2:] == ["preparing", "succeeded"]
    assert seqs(job) == list(range(1, len(seqs(job)) + 1))
    assert gone(job)
    with pytest.raises(UsageError, match="over"):
        job.resume()
    with pytest.raises(UsageError, match="nothing to pause"):
        job.pause()
    job.cancel()
    assert job.status is Status.SUCCEEDED
    with pytest.raises(UsageError, match="another job"):
        TorchBackend().start(request(tiny_llama, "plain"))


def test_pause_keeps_a_checkpoint_and_resume_continues_to_the_same_end(tiny_llama: Path, own_home: Path) -> None:
    straight = begin(tiny_llama, "straight", slots=2)
    job = begin(tiny_llama, "paused", slots=2)
    until(job, "running")
    job.pause()
    assert job.status in (Status.PAUSING, Status.PAUSED)
    state = settled(job)
    assert state.status is Status.PAUSED, log(job)
    assert "tuneport resume torch:paused" in state.remedy
    if state.step > 0:
        assert job.checkpoints()[-1].step == state.step
    with pytest.raises(JobNotFinished):
        job.wait(timeout=1)
    job.resume()
    assert job.status not in (Status.PAUSED, Status.INTERRUPTED)
    job.wait(timeout=120)
    assert settled(straight).status is Status.SUCCEEDED
    assert losses(job) == losses(straight)
    assert weights(job) == weights(straight)
    assert "paused" in statuses(job)


def test_a_pause_that_is_taken_back_at_once_does_not_end_the_job(tiny_llama: Path, own_home: Path) -> None:
    job = begin(tiny_llama, "changed-mind")
    for _ in range(3):
        job.pause()
        job.resume()
    assert settled(job).status is Status.SUCCEEDED, log(job)


def test_cancel_is_final_and_may_be_repeated(tiny_llama: Path, own_home: Path) -> None:
    job = begin(tiny_llama, "unwanted")
    until(job, "running")
    job.cancel()
    job.cancel()
    assert job.status is Status.CANCELLED
    with pytest.raises(JobCancelled):
        job.wait(timeout=5)
    with pytest.raises(UsageError):
        job.resume()
    assert statuses(job)[-1] == "cancelled"
    before = len(seqs(job))
    assert gone(job)
    assert len(seqs(job)) == before
    with pytest.raises(JobCancelled):
        TorchBackend().model("unwanted")


def test_a_worker_that_does_not_answer_is_killed_by_cancel(tiny_llama: Path, own_home: Path) -> None:
    job = begin(tiny_llama, "deaf")
    until(job, "preparing")
    assert kill(job, signal.SIGSTOP)
    job.cancel()
    assert job.status is Status.CANCELLED
    assert gone(job)


def test_a_killed_worker_leaves_an_interrupted_job_that_says_what_to_type(tiny_llama: Path, own_home: Path) -> None:
    job = begin(tiny_llama, "killed")
    until(job, "preparing")
    assert kill(job)
    state = settled(job)
    assert state.status is Status.INTERRUPTED
    assert "was killed" in state.message
    assert "out of memory" in state.message
    assert "tuneport resume torch:killed" in state.remedy
    job.pause()
    assert job.status is Status.PAUSED
    job.cancel()
    assert job.status is Status.CANCELLED


def test_a_job_killed_before_its_first_checkpoint_says_that_it_starts_again(tiny_llama: Path, own_home: Path) -> None:
    job = begin(tiny_llama, "early", checkpoint_every=1000, evaluate_every=1000, count=200)
    while job.state().step < 2:
        time.sleep(0.01)
    assert kill(job)
    with pytest.raises(JobNotFinished, match="tuneport resume torch:early"):
        TorchBackend().model("early")
    job.resume()
    assert job.folder.status().step == 0
    assert settled(job).status is Status.SUCCEEDED, log(job)
    assert "interrupted" in statuses(job)
    assert [event.message for event in job.events() if "starts again" in event.message]


def test_a_model_whose_base_is_gone_is_still_described(tiny_llama: Path, own_home: Path, tmp_path: Path) -> None:
    base = tmp_path / "first"
    tune(tiny_llama, base)
    job = tuneport.train(f"torch:{base}", rows(8), epochs=1, settings=SMALL)
    assert settled(job).status is Status.SUCCEEDED, log(job)
    assert tuneport.models()[0].present
    shutil.rmtree(base)
    model = job.result()
    assert model.lineage.base == f"torch:{base}"
    with pytest.raises(UnavailableError, match="was deleted or moved"):
        model.ask("Hello")
    assert not tuneport.models()[0].present
    assert "was deleted or moved" in report(job.ref).read_text()


def test_a_restarted_machine_is_distinguished_from_a_killed_worker(tiny_llama: Path, own_home: Path) -> None:
    job = begin(tiny_llama, "rebooted", count=5)
    assert kill(job)
    owner = job.folder.path / "owner.json"
    before = msgspec.json.decode(owner.read_bytes())
    owner.write_bytes(msgspec.json.encode({**before, "identity": {**before["identity"], "boot": "an earlier one"}}))
    state = job.state()
    assert state.status is Status.INTERRUPTED
    assert state.message == "The machine was restarted while the job ran."
    job.cancel()
    assert job.status is Status.CANCELLED


def test_a_worker_that_is_asked_to_end_keeps_a_checkpoint_first(tiny_llama: Path, own_home: Path) -> None:
    job = begin(tiny_llama, "shutdown")
    until(job, "running")
    kill(job, signal.SIGTERM)
    state = settled(job)
    assert state.status is Status.INTERRUPTED, log(job)
    assert "SIGTERM" in state.message
    assert not state.step or job.checkpoints()[-1].step == state.step
    job.cancel()


def test_jobs_wait_for_the_device_in_the_order_they_came(tiny_llama: Path, own_home: Path) -> None:
    jobs = [begin(tiny_llama, f"queued-{n}", count=20) for n in range(3)]
    third = until(jobs[2], "queued", "running")
    while jobs[2].state().queue_position is None and not jobs[2].status.terminal:
        time.sleep(0.02)
    third = jobs[2].state()
    assert third.status is Status.QUEUED
    assert third.queue_position == 2
    jobs[1].cancel()
    assert settled(jobs[0]).status is Status.SUCCEEDED, log(jobs[0])
    assert settled(jobs[2]).status is Status.SUCCEEDED, log(jobs[2])
    ended, began = list(jobs[0].events())[-1].time, [e for e in jobs[2].events() if e.data.get("status") == "running"]
    assert began[0].time > ended


def test_deleting_says_what_goes_and_takes_it_all(tiny_llama: Path, own_home: Path) -> None:
    job = begin(tiny_llama, "doomed", count=5)
    with pytest.raises(JobNotFinished, match="must end"):
        job.delete()
    job.cancel()
    shown = job.delete(dry_run=True)
    assert job.folder.path.exists()
    assert any("train.jsonl (" in line and "bytes)" in line for line in shown.removed)
    assert job.delete() == shown
    assert [path.name for path in (own_home / "jobs" / "torch").iterdir()] == [".intents"]
    with pytest.raises(JobNotFound):
        job.state()
    with pytest.raises(JobNotFound):
        TorchBackend().job("doomed")


def test_a_full_disk_pauses_the_job_and_resume_finishes_it(tiny_llama: Path, own_home: Path) -> None:
    """A limit on the size of files stands for the full disk: writes fail in the same places."""
    code = """
        import resource, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        from torch_jobs import begin
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        begin(Path(sys.argv[2]), "full", count=20)
    """
    here = str(Path(__file__).parent.parent)
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), here, str(tiny_llama)], check=True)
    job = TorchBackend().job("full")
    state = settled(job)
    assert state.status is Status.PAUSED, f"{state} {log(job)}"
    assert "limit on the size of files" in state.message
    assert "Free some space" in state.remedy
    assert "tuneport resume torch:full" in state.remedy
    job.resume()
    assert settled(job).status is Status.SUCCEEDED, log(job)
    assert seqs(job) == list(range(1, len(seqs(job)) + 1))


def test_a_start_without_room_says_so_and_leaves_no_job(tiny_llama: Path, own_home: Path) -> None:
    asked = request(tiny_llama, "no-room", count=400)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, limit[1]))
    try:
        with pytest.raises(UnavailableError, match="no room"):
            TorchBackend().start(asked)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    with pytest.raises(JobNotFound):
        TorchBackend().job("no-room")
    job = TorchBackend().start(asked)
    job.cancel()


def test_a_base_that_vanished_interrupts_and_resume_works_when_it_is_back(tiny_llama: Path, own_home: Path) -> None:
    base = own_home / "base"
    shutil.copytree(tiny_llama, base)
    job = begin(base, "vanished", count=20)
    until(job, "preparing")
    assert kill(job)
    base.rename(own_home / "away")
    job.resume()
    state = settled(job)
    assert state.status is Status.INTERRUPTED, log(job)
    assert str(base) in state.message
    assert "Traceback" in log(job)
    (own_home / "away").rename(base)
    job.resume()
    assert settled(job).status is Status.SUCCEEDED, log(job)


def test_a_base_that_changed_under_a_job_is_refused(tiny_llama: Path, own_home: Path) -> None:
    base = own_home / "base"
    shutil.copytree(tiny_llama, base)
    job = begin(base, "swapped", count=20)
    kill(job)
    config = msgspec.json.decode((base / "config.json").read_bytes())
    (base / "config.json").write_bytes(msgspec.json.encode({**config, "rope_theta": 5.0}))
    job.resume()
    state = settled(job)
    assert state.status is Status.INTERRUPTED, log(job)
    assert "no longer the model" in state.message
    job.cancel()


def test_rows_that_cannot_be_trained_on_fail_the_job_with_their_reason(tiny_llama: Path, own_home: Path) -> None:
    turns = (Message(role="user", content="hi"), Message(role="assistant", content="yo"))
    wrong = Conversation(messages=turns, tools=({"type": "function", "function": {"name": "weather"}},))
    long = Conversation(messages=(Message(role="user", content="hi " * 2000), Message(role="assistant", content="yo")))
    asked = request(tiny_llama, "wrong-rows")
    object.__setattr__(asked, "train", Dataset.from_examples([*rows(3), wrong, long]))
    job = TorchBackend().start(asked)
    state = settled(job)
    assert state.status is Status.FAILED, log(job)
    assert "2 of 5 rows" in state.message
    assert "row 4: tools-ignored" in state.message
    assert "row 5: too-long" in state.message
    assert "tuneport check" in state.remedy
    with pytest.raises(JobFailed, match="too-long"):
        job.wait(timeout=5)


def test_a_damaged_snapshot_fails_the_job(tiny_llama: Path, own_home: Path) -> None:
    job = begin(tiny_llama, "damaged", count=10)
    kill(job)
    snapshot = job.folder.path / "train.jsonl"
    snapshot.write_bytes(snapshot.read_bytes().replace(b"card", b"cart"))
    job.resume()
    state = settled(job)
    assert state.status is Status.FAILED, log(job)
    assert "has changed since the job was started" in state.message


def test_starting_imports_no_torch(tiny_llama: Path, own_home: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        from torch_jobs import begin
        from tuneport_torch import TorchBackend
        job = begin(Path(sys.argv[2]), "light", count=5)
        TorchBackend().plan(__import__("torch_jobs").request(Path(sys.argv[2]), "plan"))
        job.cancel()
        assert not {"torch", "transformers", "peft"} & set(sys.modules)
    """
    here = str(Path(__file__).parent.parent)
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), here, str(tiny_llama)], check=True)


def test_a_worker_that_lost_its_folder_stops_and_writes_nothing(tiny_llama: Path, own_home: Path) -> None:
    job = begin(tiny_llama, "robbed")
    until(job, "preparing")
    pids = runners(job)
    owner = job.folder.path / "owner.json"
    stolen = msgspec.json.decode(owner.read_bytes())
    owner.write_bytes(msgspec.json.encode({**stolen, "epoch": stolen["epoch"] + 1}))
    written = len(seqs(job))
    while pids and set(runners(job)) & set(pids):
        time.sleep(0.05)
    assert len(seqs(job)) - written <= 1  # what was being written at that moment
    job.cancel()


def test_a_second_worker_by_hand_is_refused(tiny_llama: Path, own_home: Path) -> None:
    folder = Folder.named("torch", "taken")
    folder.path.mkdir()
    owner = Owner.take(folder)
    second = subprocess.run(
        [sys.executable, "-m", "tuneport.local.worker", str(folder.path)], capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert "already has a worker" in second.stderr
    owner.give_back()
