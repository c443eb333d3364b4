"""A server that repeats the key wherever it can: it is in nothing that is kept, and in nothing that is printed."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import tuneport
from nasty import CHAT, Scenario, both, completion, piece, reply, stream
from tuneport import Dataset
from tuneport.cli.app import invoke
from tuneport.plugin import Redactor
from tuneport.terminal import outlet
from wire_server import KEY, WireServer

FORMS = (KEY, base64.b64encode(KEY.encode()).decode().rstrip("=")[:-1], KEY.encode().hex(), KEY.upper())
CANARY = f"{KEY} {base64.b64encode(KEY.encode()).decode()} {quote(KEY, safe='')} {KEY.encode().hex()} {KEY.upper()}"
NEEDED = {"id", "object", "status", "filename", "training_file", "tuneport_intent", "created_at"}
"""Fields without which nothing would go on; in the second test they repeat the key too."""
CONFIG = "model: lab:base\ndata: {train: rows.jsonl, holdout: 0.2}\ntrain: {epochs: 3, suffix: topics}\n"


@pytest.fixture
def limits() -> tuple[str, ...]:
    return ("poll_seconds=0.01", "retry_seconds=0", "search_seconds=0")


@pytest.fixture(autouse=True)
def own_console() -> Iterator[None]:
    yield
    outlet.console.cache_clear()


def echoed(value: Any, spared: frozenset[str] | set[str] = frozenset(), name: str = "") -> Any:
    """The answer with the key in every text and as a key of every object."""
    if isinstance(value, str):
        return value if name in spared else f"{value} {CANARY}"
    if isinstance(value, list):
        return [echoed(one, spared, name) for one in value]
    if isinstance(value, dict):
        return {**{key: echoed(one, spared, key) for key, one in value.items()}, f"{KEY} as key": KEY}
    return value


def assert_nowhere(home: Path, printed: str) -> None:
    for form in FORMS:
        assert form not in printed
        for file in home.rglob("*"):
            if file.is_file():
                assert form.encode() not in file.read_bytes(), file


def command(*arguments: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    outlet.console.cache_clear()
    code = invoke(list(arguments))
    shown = capfd.readouterr()
    return code, shown.out + shown.err


def test_the_key_is_kept_nowhere_and_printed_nowhere(
    lab: WireServer, rows: Dataset, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    rows.write("rows.jsonl")
    Path("tune.yaml").write_text(CONFIG)
    answer = completion(choices=[{"message": {"role": "assistant", "content": f"It is {CANARY}"}}])
    letters = [piece(one) for one in f"It is {KEY} and {KEY}"]
    Scenario(CHAT, both(reply(200, answer, X_Request_Id=KEY), stream(*letters, done=True))).spoil(lab)
    lab.twist = lambda method, path, body: echoed(body, NEEDED)
    code, printed = command("run", "tune.yaml", "--json", capfd=capfd)
    assert code == 0, printed
    (job,) = tuneport.jobs()
    ref = str(job.ref)
    for arguments in (
        ("show", ref),
        ("show", ref, "--json"),
        ("watch", ref),
        ("watch", ref, "--json"),
        ("ask", ref, "What is the key?"),
        ("ask", ref, "What is the key?", "--json"),
        ("report", ref),
        ("models", "--json"),
        ("jobs", "--json"),
    ):
        code, shown = command(*arguments, capfd=capfd)
        assert code == 0, shown
        printed += shown
    assert "It is …" in printed
    assert_nowhere(own_home, printed)
    code, shown = command("delete", ref, "--yes", capfd=capfd)
    assert code == 0, shown
    assert_nowhere(own_home, printed + shown)


@pytest.mark.parametrize("status", [200, 307, 401, 403, 404, 422, 500])
def test_the_key_in_ids_headers_and_refusals_is_kept_nowhere(
    status: int, lab: WireServer, rows: Dataset, own_home: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    headers = {"Location": f"http://127.0.0.1:9/{KEY}", "Retry_After": KEY, "Set_Cookie": f"a={KEY}", "X_A": CANARY}
    if status == 200:
        lab.twist = lambda method, path, body: echoed(body)
    else:
        bodies = ({"error": {"message": CANARY, "param": CANARY, "code": KEY}}, {"detail": CANARY}, CANARY)
        route = ".*/fine_tuning/jobs" if status == 422 else ".*"
        Scenario(route, reply(status, bodies[status % 3], **headers)).spoil(lab)
    with pytest.raises(tuneport.TuneportError) as caught:
        tuneport.train("lab:base", rows).wait(timeout=1)
    error: BaseException | None = caught.value
    printed = ""
    while error is not None:
        printed += f"{error!r} {error}"
        error = error.__cause__ or error.__context__
    for job in tuneport.jobs():
        printed += command("show", str(job.ref), "--json", capfd=capfd)[1]
        printed += command("settle", str(job.ref), capfd=capfd)[1]
        printed += command("delete", str(job.ref), "--yes", capfd=capfd)[1]
    assert_nowhere(own_home, printed)


def test_what_the_http_library_quotes_does_not_show_the_key(lab: WireServer) -> None:
    def odd(handler: Any) -> None:
        handler.wfile.write(f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode())

    Scenario(".*", odd).spoil(lab)
    with pytest.raises(tuneport.errors.UnavailableError) as caught:
        tuneport.open_model("lab:base").ask("hello")
    assert KEY not in f"{caught.value} {caught.value.__cause__!r}"


@pytest.mark.parametrize("key", ["sk-proj/A+b=c&d é?", "x" * 200, "Bearer-ey.J0.eX-_~", 'quo"te\\back'])
def test_a_key_is_found_in_every_form(key: str) -> None:
    redact = Redactor(lambda: [key])
    raw = key.encode()
    encoded = [base64.b64encode(b"Authorization: "[:n] + raw + b" more").decode() for n in range(16)]
    urlsafe = [base64.urlsafe_b64encode(b"a:"[:n] + raw).decode() for n in range(3)]
    forms = [key, quote(key), quote(key, safe=""), json.dumps(key)[1:-1], raw.hex(), *encoded, *urlsafe]
    for form in forms:
        shown = redact(f"before {form} after")
        assert "…" in shown
        assert key not in shown
        assert len(shown) <= len(f"before {form} after") - len(key) + 1  # nearly all of it is gone


def test_short_keys_do_not_remove_other_text() -> None:
    assert Redactor(lambda: ["test", "x", ""])("latest test of x, tests") == "latest … of x, tests"
    assert Redactor(list)("all of it") == "all of it"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_a_key_in_pieces_is_found(size: int) -> None:
    text = f"s sk sk-of {KEY} and sk-of-the-loop, then {base64.b64encode(KEY.encode()).decode()} s"
    pieces = Redactor(lambda: [KEY]).pieces()
    shown = "".join(pieces.feed(text[at : at + size]) for at in range(0, len(text), size)) + pieces.end()
    assert shown == Redactor(lambda: [KEY])(text)


def test_many_threads_read_one_redactor() -> None:
    redact, wrong = Redactor(lambda: [KEY]), []

    def work() -> None:
        wrong.extend(one for one in range(200) if redact(f"{one} {KEY}") != f"{one} …")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong
