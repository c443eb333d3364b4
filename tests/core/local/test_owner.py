"""Who may write a job's folder, and what is left of one that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import pytest

from tuneport import Status
from tuneport.errors import JobNotFound
from tuneport.local.eventlog import EventReader
from tuneport.local.folder import Folder, write_record
from tuneport.local.intents import claim_intent, release_intent
from tuneport.local.owner import Fenced, Owner, holder
from tuneport.local.process import Identity


@pytest.fixture
def folder(own_home: Path) -> Folder:
    made = Folder.named("bayes", "tickets-1")
    made.path.mkdir()
    return made


def elsewhere(code: str, *arguments: object, **options) -> subprocess.Popen[str]:
    """A Python process of our own; its first line says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


HOLD = """
    import sys, time
    from pathlib import Path
    from tuneport.local.folder import Folder
    from tuneport.local.owner import Owner
    owner = Owner.take(Folder(Path(sys.argv[1])))
    print("ready" if owner else "refused", flush=True)
    time.sleep(60)
"""


def seqs(folder: Folder) -> list[int]:
    return [event.seq for event in EventReader(folder.events_file).after(0)]


def test_one_process_owns_a_folder_at_a_time(folder: Folder) -> None:
    other = elsewhere(HOLD, folder.path)
    try:
        assert Owner.take(folder) is None
        assert holder(folder).identity.pid == other.pid
    finally:
        other.kill()
        other.wait()
    assert not holder(folder).alive
    owner = Owner.take(folder)
    assert owner is not None
    assert owner.epoch == 2
    owner.give_back()
    assert not holder(folder).alive


def test_a_zombie_counts_as_dead(folder: Folder) -> None:
    other = elsewhere(HOLD, folder.path)
    os.kill(other.pid, signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and its exit code is not taken
    assert not holder(folder).alive
    other.wait()


def test_a_pid_that_was_given_to_another_process_is_not_the_owner() -> None:
    me = Identity.of(os.getpid())
    assert me.alive()
    assert not Identity(me.pid, me.started - 1, me.boot, me.namespace).alive()
    assert not Identity(me.pid, me.started, "another boot", me.namespace).alive()
    assert Identity(me.pid, me.started, "another boot", me.namespace).is_from_earlier_boot


def test_an_owner_in_another_container_lives_as_long_as_its_heart_beats() -> None:
    me = Identity.of(os.getpid())
    away = Identity(me.pid, me.started, me.boot, "pid:[1]")
    assert not away.alive()
    assert away.alive(time.monotonic())
    assert not away.alive(time.monotonic() - 1000)


def test_children_that_hold_a_dead_owners_lock_are_killed(folder: Folder) -> None:
    code = """
        import os, sys, time
        from pathlib import Path
        from tuneport.local.folder import Folder
        from tuneport.local.owner import Owner
        from tuneport.local.process import Identity
        owner = Owner.take(Folder(Path(sys.argv[1])))
        owner.sign(Identity.of(os.getpid(), leads_group=True))
        if os.fork() == 0:
            time.sleep(60)
        print("ready", flush=True)
        time.sleep(60)
    """
    other = elsewhere(code, folder.path, start_new_session=True)
    other.kill()
    other.wait()
    owner = Owner.take(folder)
    assert owner is not None
    with pytest.raises(ProcessLookupError):
        for _ in range(200):  # the child is killed; its new parent takes its exit code in its own time
            os.killpg(other.pid, 0)
            time.sleep(0.01)
    owner.give_back()


def test_an_owner_whose_epoch_is_over_writes_nothing(folder: Folder) -> None:
    owner = Owner.take(folder)
    owner.status(Status.RUNNING, "Training.")
    write_record(
        folder.path / "owner.json", {**msgspec.json.decode((folder.path / "owner.json").read_bytes()), "epoch": 9}
    )
    with pytest.raises(Fenced):
        owner.status(Status.FAILED, "No.")
    with pytest.raises(Fenced):
        owner.beat()
    assert folder.status().status is Status.RUNNING
    assert seqs(folder) == [1]
    owner.let_go()


@pytest.mark.parametrize("torn", [b'{"seq":3,"ti', b"\0\0\0\0\n", b'{"seq":7}\n', b"\xff\xfe\n{}\n"])
def test_a_torn_tail_is_cut_off_by_the_next_owner(folder: Folder, torn: bytes) -> None:
    owner = Owner.take(folder)
    owner.event("log", "one")
    owner.event("log", "two")
    owner.give_back()
    with folder.events_file.open("ab") as stream:
        stream.write(torn)
    owner = Owner.take(folder)
    owner.event("log", "three")
    owner.give_back()
    assert [(event.seq, event.message) for event in EventReader(folder.events_file).after(0)] == [
        (1, "one"),
        (2, "two"),
        (3, "three"),
    ]


def test_a_reader_sees_complete_lines_only_and_continues_where_it_stopped(folder: Folder) -> None:
    owner, reader = Owner.take(folder), EventReader(folder.events_file)
    owner.event("log", "one")
    assert [event.seq for event in reader.after(0)] == [1]
    with folder.events_file.open("ab") as stream:
        stream.write(b'{"seq":2,"ti')
    assert list(reader.after(1)) == []
    os.truncate(folder.events_file, folder.events_file.stat().st_size - 12)
    owner.event("log", "two")
    owner.event("log", "three")
    assert [event.seq for event in reader.after(1)] == [2, 3]
    assert [event.seq for event in reader.after(2)] == [3]
    assert [event.seq for event in reader.after(0)] == [1, 2, 3]
    owner.give_back()


def test_steps_that_are_trained_again_are_not_reported_again(folder: Folder) -> None:
    owner = Owner.take(folder)
    for step in (1, 2, 3):
        owner.event("metric", f"step {step}", step=step, train_loss=1 / step)
    owner.event("metric", "validation", step=2, valid_loss=0.5)
    owner.event("checkpoint", "kept", step=2)
    owner.give_back()
    owner = Owner.take(folder)  # resumed from the checkpoint of step 2
    owner.event("metric", "step 3", step=3, train_loss=1 / 3)
    owner.event("metric", "validation", step=2, valid_loss=0.5)
    owner.event("metric", "step 4", step=4, train_loss=1 / 4)
    owner.event("checkpoint", "kept", step=4)
    steps_seen = [(event.kind, event.data["step"]) for event in EventReader(folder.events_file).after(0)]
    steps = [("metric", 1), ("metric", 2), ("metric", 3), ("metric", 2), ("checkpoint", 2)]
    assert steps_seen == [*steps, ("metric", 4), ("checkpoint", 4)]
    owner.give_back()


def test_a_status_whose_file_was_not_written_any_more_is_found_in_the_events(folder: Folder) -> None:
    owner = Owner.take(folder)
    owner.status(Status.RUNNING, "Training.")
    before = (folder.path / "status.json").read_bytes()
    owner.status(Status.SUCCEEDED, "Done.")
    (folder.path / "status.json").write_bytes(before)
    assert folder.latest_status().status is Status.SUCCEEDED
    owner.give_back()
    owner = Owner.take(folder)
    assert owner.now.status is Status.SUCCEEDED
    (folder.path / "status.json").write_bytes(b"")  # as a power cut may leave it
    assert folder.latest_status().message == "Done."
    owner.give_back()


def test_what_a_killed_writer_left_half_written_is_swept(folder: Folder) -> None:
    (folder.path / ".status.json.abc.tmp").write_text("{")
    Owner.take(folder).give_back()
    assert not list(folder.path.glob(".*.tmp"))


def test_an_intent_belongs_to_the_name_that_came_first(own_home: Path) -> None:
    assert claim_intent("bayes", "1234", "a") == "a"
    assert claim_intent("bayes", "1234", "b") == "a"
    assert claim_intent("bayes", "5678", "b") == "b"
    release_intent("bayes", "1234")
    assert claim_intent("bayes", "1234", "c") == "c"


@pytest.mark.parametrize("name", ["../etc", "a/b", "", ".hidden", "~", "a" * 300, "x\n"])
def test_a_name_that_could_leave_home_is_no_job(own_home: Path, name: str) -> None:
    with pytest.raises(JobNotFound):
        Folder.named("bayes", name)
