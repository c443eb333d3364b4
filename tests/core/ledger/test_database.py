"""The file itself: migrations, refusals, and many processes that are killed at any moment."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tuneport.contract.events import Event, utc_now
from tuneport.errors import HomeError
from tuneport.ledger import Ledger
from tuneport.ledger.database import migrations, refuse_network
from tuneport.refs import Ref

HERE = Path(__file__).parent
COMMON = """
import sys
from tuneport.contract.events import Event, utc_now
from tuneport.ledger import Ledger
from tuneport.refs import Ref

def intend(ledger, identity, reuse=False):
    return ledger.record_intent(
        backend="torch", base=Ref("torch", "x"), identity=identity, fingerprint="f", stem="race", reuse=reuse)
"""


def script(text: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COMMON + text, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def outputs(children: list[subprocess.Popen[str]]) -> list[list[str]]:
    lines = [child.communicate(timeout=60)[0].split() for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    return lines


def version(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return found


def test_a_new_file_is_durable_and_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    ledger = Ledger.open(path)
    assert version(path) == len(migrations())
    with ledger._database.read() as sql:
        settings = [
            sql.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert settings == ["wal", 2, 1]


@pytest.mark.parametrize("dump", sorted(HERE.glob("v*.sql")), ids=lambda path: path.stem)
def test_a_file_of_each_older_version_is_brought_up_to_date_with_its_rows(dump: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(dump.read_text())
    connection.close()
    ledger = Ledger.open(path)
    assert version(path) == len(migrations())
    job = ledger.job("torch:tickets-7k2m")
    assert (job.base, job.settings, str(job.status)) == (Ref("torch", "smollm2-135m"), {"rank": 16}, "running")
    assert job.run is not None
    assert ledger.run(job.run).job == job.ref
    assert [event.message for event in ledger.history.events(job.ref)] == ["started", "step 1"]
    assert (ledger.history.cursor("logger", job.ref), dict(ledger.scratch(job.intent))) == (1, {"upload": ["file-1"]})


def test_a_config_with_the_old_name_of_a_grader_has_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript((HERE / "v2.sql").read_text())
    old = "normalised"  # codespell:ignore
    config = {"data": {"system": f'Say "grader": "{old}".'}, "compare": {"grader": old}}
    with connection:
        connection.execute("UPDATE jobs SET config = ?", (json.dumps(config),))
    connection.close()
    assert Ledger.open(path).job("torch:tickets-7k2m").config == {**config, "compare": {"grader": "normalized"}}


def test_every_version_has_its_dump(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    Ledger.open(path)
    kept = [int(dump.stem[1:]) for dump in HERE.glob("v*.sql")]
    assert sorted(kept) == list(range(1, len(migrations()) + 1))


def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    Ledger.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(HomeError, match=r"written by a newer tuneport \(its version 99(.|\n)*pip install -U tuneport"):
        Ledger.open(path)
    assert version(path) == 99


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE scratch (mine TEXT)")  # in the way of the first migration's last table
    connection.close()
    with pytest.raises(HomeError, match="scratch already exists"):
        Ledger.open(path)
    connection = sqlite3.connect(path)
    assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master")] == ["scratch"]
    connection.close()


def test_a_damaged_file_and_a_missing_folder_are_home_errors(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"not a database " * 100)
    with pytest.raises(HomeError, match=r"(?s)cannot be used: file is not a database.*Move it"):
        Ledger.open(path)
    with pytest.raises(HomeError, match=r"(?s)unable to open.*TUNEPORT_HOME"):
        Ledger.open(tmp_path / "missing" / "ledger.sqlite3")


def test_a_full_disk_is_reported_and_loses_nothing(tmp_path: Path) -> None:
    text = """
import resource, signal
from tuneport.errors import HomeError
ledger = Ledger.open(sys.argv[1])
job = intend(ledger, "i")
scratch = ledger.scratch(job.intent)
scratch["before"] = 1
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
written = 0
try:
    while True:
        scratch[str(written)] = "x" * 500
        written += 1
except HomeError as error:
    assert "Is the disk full?" in str(error), error
assert len(scratch) == written + 1
print(job.intent, written)
"""
    path = tmp_path / "ledger.sqlite3"
    [[intent, written]] = outputs([script(text, path)])
    scratch = Ledger.open(path).scratch(intent)
    assert len(scratch) == int(written) + 1
    scratch["after"] = 2


def test_a_network_file_system_is_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    share = tmp_path / "the share"
    inside = share / "home"
    inside.mkdir(parents=True)
    escaped = str(share).replace(" ", r"\040")

    def mounted(*rows: str) -> Path:
        mounts.write_text("".join(f"{row} rw 0 0\n" for row in rows))
        return mounts

    refuse_network(inside / "l", mounted("/dev/sda / ext4"))
    for kind in ("nfs4", "cifs", "fuse.sshfs", "lustre", "smb3"):
        with pytest.raises(HomeError, match=rf"network file system \({kind}\)(.|\n)*TUNEPORT_HOME"):
            refuse_network(inside / "l", mounted("/dev/sda / ext4", f"server:/x {escaped} {kind}"))
    refuse_network(inside / "l", mounted("/dev/sda / ext4", f"s:/x {escaped} nfs", f"/dev/sdb {escaped} ext4"))
    refuse_network(tmp_path / "l", mounted("/dev/sda / ext4", f"server:/x {escaped} nfs"))
    refuse_network(inside / "l", tmp_path / "no-such-table")


def test_eight_processes_open_a_new_ledger_and_get_distinct_names(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    text = "ledger = Ledger.open(sys.argv[1])\nfor n in range(5): print(intend(ledger, f'{sys.argv[2]}-{n}').ref.name)"
    names = [name for lines in outputs([script(text, path, child) for child in range(8)]) for name in lines]
    assert len(set(names)) == 40
    assert {job.ref.name for job in Ledger.open(path).jobs()} == set(names)


def test_of_processes_that_start_the_same_thing_at_once_one_does(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    text = "print(intend(Ledger.open(sys.argv[1]), 'same', reuse=True).intent)"
    intents = {line for lines in outputs([script(text, path) for _ in range(4)]) for line in lines}
    assert len(intents) == 1


def test_pollers_that_see_the_same_events_number_them_without_gap_or_repeat(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    ledger = Ledger.open(path)
    ref = ledger.record_intent(backend="hosted", base=Ref("hosted", "x"), identity="i", fingerprint="f").ref
    text = """
ledger = Ledger.open(sys.argv[1])
for end in range(1, 31):
    seen = [(f"e{n}", Event(seq=0, time=utc_now(), kind="log", message=f"m{n}")) for n in range(end)]
    for event in ledger.history.append(sys.argv[2], seen): print(event.message)
"""
    handed = outputs([script(text, path, ref) for _ in range(2)])
    events = ledger.history.events(ref)
    assert [event.seq for event in events] == list(range(1, 31))
    assert [event.message for event in events] == [f"m{n}" for n in range(30)]
    assert sorted(handed[0] + handed[1]) == sorted(event.message for event in events)


def test_nothing_committed_is_lost_when_writers_are_killed(tmp_path: Path) -> None:
    """A writer says each row only after it was written; killed at a random moment, every row it said is there."""
    path = tmp_path / "ledger.sqlite3"
    text = """
ledger = Ledger.open(sys.argv[1])
job = intend(ledger, sys.argv[2])
print(job.intent, flush=True)
scratch = ledger.scratch(job.intent)
for n in range(100_000):
    scratch[str(n)] = n
    ledger.history.append(job.ref, [(str(n), Event(seq=0, time=utc_now(), kind="log", message=str(n)))])
    print(n, flush=True)
"""
    chance = random.Random(7)
    for kill in range(10):
        child = script(text, path, kill)
        assert child.stdout is not None
        intent, last = child.stdout.readline().strip(), -1
        for _ in range(chance.randrange(15)):
            last = int(child.stdout.readline())
        child.kill()
        rest = child.stdout.read().split("\n")[:-1]
        child.wait()
        child.stdout.close()
        last = int(rest[-1]) if rest else last

        ledger = Ledger.open(path)
        with ledger._database.read() as sql:
            assert sql.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert set(map(str, range(last + 1))) <= set(ledger.scratch(intent))
        seqs = [event.seq for event in ledger.history.events(ledger.jobs(1)[0].ref)]
        assert seqs == list(range(1, len(seqs) + 1))
        assert len(seqs) >= last + 1
        ledger.close()


def test_opening_the_ledger_again_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    """Else a process that opens and closes it meanwhile takes itself for the last one and deletes the other's log."""
    path = tmp_path / "ledger.sqlite3"
    names_of = "import sqlite3, sys; print(*(row[0] for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2])))"
    look = [sys.executable, "-c", names_of, str(path), "SELECT name FROM jobs ORDER BY rowid"]
    with Ledger.open(path) as first:
        names = []
        for number in range(3):
            with Ledger.open(path):
                pass
            subprocess.run(look, check=True, capture_output=True)
            job = first.record_intent(
                backend="torch", base=Ref("torch", "x"), identity=f"{number}", fingerprint="f", stem="kept"
            )
            names.append(job.ref.name)
            found = subprocess.run(look, check=True, capture_output=True, text=True)
            assert found.stdout.split() == names
    with Ledger.open(path) as ledger:
        assert [ref.name for ref in ledger.refs()] == names[::-1]


def test_opening_waits_for_another_process_that_is_creating_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.2, other.execute, ["COMMIT"])
    release.start()
    assert Ledger.open(path).jobs() == []
    release.join()
    other.close()


def test_a_forked_child_uses_a_connection_of_its_own(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite3")
    job = ledger.record_intent(backend="b", base=Ref("b", "x"), identity="i", fingerprint="f")
    child = os.fork()
    if child == 0:
        try:
            ledger.history.append(job.ref, [("c", Event(seq=0, time=utc_now(), kind="log", message="child"))])
        finally:
            os._exit(len(ledger._database._inherited))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    ledger.history.append(job.ref, [("p", Event(seq=0, time=utc_now(), kind="log", message="parent"))])
    assert [event.message for event in ledger.history.events(job.ref)] == ["child", "parent"]


def test_a_ledger_that_another_process_holds_is_reported_as_busy(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    ledger = Ledger(path, busy_seconds=0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(HomeError, match=r"(?s)database is locked.*Another process"):
        ledger.begin_run("i", {})
    holder.execute("COMMIT")
    holder.close()
    assert json.dumps(dict(ledger.begin_run("i", {"a": 1}).config)) == '{"a": 1}'
