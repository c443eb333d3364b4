"""The access rule is in one place: SQL only in the store, and routes get only what belongs to their owner."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tuneport_server
from tuneport_server.store import SERVER_EVENTS, Owned, Store, UnknownCursorError

ROOT = Path(tuneport_server.__file__).parent
SOURCES = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}
ROUTES = sorted(name for name in SOURCES if name.startswith(("routes/", "page/")))
SQL = re.compile(
    r"\b(SELECT\b.*\bFROM|INSERT (OR \w+ )?INTO|UPDATE \w+ SET|DELETE FROM|PRAGMA|CREATE TABLE)\b", re.DOTALL
)
# What a route may import from the store: types, numbers, and the error of a list.
ALLOWED = {"Owned", "Row", "UnknownCursorError"}


def texts(tree: ast.AST) -> list[str]:
    return [one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def imports(tree: ast.AST) -> set[tuple[str, str]]:
    found = {(one.name, "") for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {(node.module or "", one.name) for one in node.names}
    return found


def test_only_the_store_contains_sql() -> None:
    with_sql = {name for name, tree in SOURCES.items() if any(map(SQL.search, texts(tree)))}
    with_driver = {name for name, tree in SOURCES.items() if ("sqlite3", "") in imports(tree)}
    assert with_sql >= {"store/owned.py", "store/jobs.py", "store/schema.py"}, "the pattern finds SQL where it is"
    assert {name for name in with_sql | with_driver if not name.startswith("store/")} == set()


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_reaches_the_store_only_through_its_owner(name: str) -> None:
    tree = SOURCES[name]
    for module, imported in imports(tree):
        if module.startswith("tuneport_server.store"):
            assert (module, imported in ALLOWED) == ("tuneport_server.store", True), imported
        assert module != "tuneport_server.opening"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("store", "_store", "_database"), ast.unparse(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "of":
            assert ast.unparse(node.func.value) == "server.events", "only owned_of() chooses an owner"


@pytest.fixture
def other(tmp_path: Path):
    """What one owner sees of a store in which only another has something."""
    store = Store(tmp_path / "server.sqlite3")
    mine = store.of("me")
    mine.add_file(
        "file-1", bytes=3, created=1, filename="a.jsonl", purpose="fine-tune", status="uploaded", expires=None
    )
    store.files.add_check("file-1", {"details": None, "refused": False})
    mine.add_upload("upload_1", bytes=3, filename="a", purpose="fine-tune", created=1, expires=2, file_seconds=None)
    mine.add_part("part_1", "upload_1", bytes=3, lines=1, created=1)
    values = {"model": "gray", "base": "parrot:gray", "tuned": "ft:1", "training_file": "file-1", "request": "{}"}
    mine.add_job("ftjob-1", **values, created=1.0, same="hash", retry=1, metadata="{}", status="succeeded")
    yield store.of("other"), mine
    store.close()


def seen(owned: Owned) -> list[object]:
    return [
        owned.job("ftjob-1"), owned.jobs(), owned.jobs(bare=True), owned.open_jobs(),
        owned.models(), owned.model("ft:1"),
        owned.events("ftjob-1", SERVER_EVENTS), owned.repeated_job("hash", 1, 1.0, 10.0),
        owned.file("file-1"), owned.files(), owned.file_count(), owned.check("file-1"),
        owned.upload("upload_1"), owned.parts("upload_1"),
    ]  # fmt: skip


def test_an_owner_sees_nothing_of_another(other: tuple[Owned, Owned]) -> None:
    theirs, mine = other
    assert all(seen(mine)), "there is something to see"
    assert not any(seen(theirs))
    for lists, id_ in ((theirs.jobs, "ftjob-1"), (theirs.files, "file-1")):
        with pytest.raises(UnknownCursorError):
            lists(id_)


def test_an_owner_changes_nothing_of_another(other: tuple[Owned, Owned]) -> None:
    theirs, mine = other
    before = [dict(mine.job("ftjob-1") or {}), dict(mine.file("file-1") or {}), dict(mine.upload("upload_1") or {})]
    theirs.update_job("ftjob-1", status="failed", want="cancel")
    theirs.keep_events("ftjob-1", [{"message": "mine now"}])
    theirs.mark_file_deleted("file-1", 2)
    assert theirs.complete_upload("upload_1", "file-1") == []
    after = [dict(mine.job("ftjob-1") or {}), dict(mine.file("file-1") or {}), dict(mine.upload("upload_1") or {})]
    assert after == before
    assert len(mine.parts("upload_1")) == 1
    assert [one["message"] for one in mine.events("ftjob-1", SERVER_EVENTS)] == ["Created fine-tuning job: ftjob-1"]
