"""Keys in the system's keyring: an encrypted one of keyrings.alt, chosen as keyring documents it."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

import tuneport
from tuneport.cli.app import invoke
from tuneport_openai.wire import keys, profiles
from tuneport_openai.wire.client import Wire
from wire_server import KEY, WireServer

keyring = pytest.importorskip("keyring", reason="needs the extra: pip install 'tuneport[keyring]'")
pytest.importorskip("keyrings.alt", reason="needs a keyring that can be tested: pip install keyrings.alt")
ENCRYPTED = "keyrings.alt.file.EncryptedKeyring"


def choose(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make this process use that keyring, as if it had been started with the variable."""
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", name)
    chosen = keyring.core.load_env()
    monkeypatch.setattr(keyring.core, "_keyring_backend", chosen)
    return chosen


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An unlocked keyring in a folder of its own, and no key in the environment."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("LAB_API_KEY")
    chosen = choose(ENCRYPTED, monkeypatch)
    chosen.keyring_key = "the keyring's own password"
    return chosen


def type_in(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def keep(monkeypatch: pytest.MonkeyPatch, value: str = KEY) -> int:
    type_in(f"{value}\n", monkeypatch)
    return invoke(["profiles", "key", "lab"])


def test_a_key_of_the_keyring_is_sent_and_is_nowhere_in_clear(
    ring: Any, lab: WireServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keep(monkeypatch) == 0
    said = "".join(capsys.readouterr())
    assert f"the keyring (service tuneport, user lab@{lab.url.split('/')[2]})" in said
    Wire(profiles.profile("lab")).once.files.list()
    assert lab.asked[-1][2]["authorization"] == f"Bearer {KEY}"
    assert KEY not in said
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def test_a_training_runs_with_a_key_of_the_keyring(
    ring: Any, lab: WireServer, rows: tuneport.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(monkeypatch)
    tuneport.loader.load.cache_clear()
    assert tuneport.open_backend("lab").availability().ready
    assert tuneport.train("lab:base", rows).wait().ask("Question 1 about pin") == "pin"


def test_the_list_says_where_each_key_comes_from_without_opening_the_keyring(
    ring: Any, lab: WireServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(monkeypatch)
    choose("keyring.backends.fail.Keyring", monkeypatch)
    capsys.readouterr()
    invoke(["profiles", "list", "--json"])
    openai, _, _, mine = json.loads(capsys.readouterr().out)["profiles"]
    assert (openai["key_from"], openai["keyring"]) == (None, None)
    assert (mine["key_from"], mine["keyring"]) == ("keyring", {"service": "tuneport", "user": f"lab@{lab.url[7:-3]}"})
    invoke(["profiles", "list"])
    assert "without a key: OPENAI_API_KEY is not set" in capsys.readouterr().out


def test_the_variable_goes_first(ring: Any, lab: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch, "of-the-keyring")
    monkeypatch.setenv("LAB_API_KEY", KEY)
    assert keys.source(profiles.profile("lab")) == "environment"
    assert keys.Key(profiles.profile("lab")).reveal() == KEY


def test_another_address_does_not_get_the_key(ring: Any, lab: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch)
    elsewhere = profiles.add("lab", "http://127.0.0.1:9/v1")
    assert keys.source(elsewhere) is None
    with pytest.raises(tuneport.errors.ConfigError, match="LAB_API_KEY is not set") as caught:
        _ = Wire(elsewhere).once
    assert "tuneport profiles key lab" in str(caught.value)
    assert keys.source(profiles.add("lab", lab.url)) == "keyring"


def test_a_key_is_removed_alone_or_with_its_profile(
    ring: Any, lab: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = profiles.profile("lab").account
    for command in (["profiles", "key", "lab", "--remove"], ["profiles", "remove", "lab"]):
        keep(monkeypatch)
        assert ring.get_password("tuneport", account) == KEY
        assert invoke(command) == 0
        assert ring.get_password("tuneport", account) is None
    assert invoke(["profiles", "key", "lab"]) == 2, "the profile no longer exists"


def test_a_key_that_the_server_repeats_is_redacted(ring: Any, lab: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch)
    lab.refuse["GET /v1/files"] = (401, {"error": {"message": f"Incorrect API key {KEY}"}}, {})
    wire = Wire(profiles.profile("lab"))
    with (
        pytest.raises(tuneport.errors.UnavailableError, match="key in the keyring") as caught,
        wire.translate_errors("listing"),
    ):
        wire.once.files.list()
    assert KEY not in str(caught.value)
    cause = caught.value.__cause__
    assert isinstance(cause, openai.APIStatusError)
    assert KEY not in f"{cause} {cause.body} {cause.response.text}"


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("keyrings.alt.file.PlaintextKeyring", "writes keys to an unencrypted file"),
        ("keyring.backends.null.Keyring", "does not keep the key"),
        ("keyring.backends.fail.Keyring", "could not keep the key of lab"),
    ],
)
def test_a_keyring_that_does_not_keep_keys_safely_is_refused(
    backend: str,
    said: str,
    ring: Any,
    lab: WireServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    choose(backend, monkeypatch)
    assert keep(monkeypatch) == 2
    assert said in capsys.readouterr().err
    assert keys.source(profiles.profile("lab")) is None
    assert not list(tmp_path.rglob("keyring_pass.cfg"))


class Telling(keyring.backend.KeyringBackend):
    """A keyring whose errors hold what it was given."""

    priority = 0.1

    def get_password(self, service: str, username: str) -> str | None:
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise keyring.errors.PasswordSetError(f"no room for {password}")


def test_a_keyrings_message_with_the_key_is_not_repeated(
    ring: Any, lab: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring.core, "_keyring_backend", Telling())
    with pytest.raises(tuneport.errors.ConfigError, match="could not keep the key of lab: PasswordSetError") as caught:
        keys.keep(profiles.profile("lab"), KEY)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_keyring_that_lost_the_key_says_so(ring: Any, lab: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch)
    ring.delete_password("tuneport", profiles.profile("lab").account)
    with pytest.raises(tuneport.errors.ConfigError, match="no longer has a key for lab@"):
        _ = Wire(profiles.profile("lab")).once


def test_without_the_package_one_line_says_what_to_install(
    ring: Any, lab: WireServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert keep(monkeypatch) == 2
    assert "pip install 'tuneport[keyring]'" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["", "two words", "schlüssel", "a\tb"])
def test_what_cannot_be_a_key_is_refused_and_not_repeated(
    value: str, ring: Any, lab: WireServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keep(monkeypatch, value) == 2
    assert not value or value not in capsys.readouterr().err


def test_a_terminal_does_not_show_what_is_typed(ring: Any, lab: WireServer) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "tuneport.cli", "profiles", "key", "lab"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    for asked, answer in [(b"only: ", KEY), (b"new keyring: ", "password"), (b"the password: ", "password")]:
        while asked not in shown.splitlines()[-1] if shown else True:
            shown += os.read(ours, 1024)
        os.write(ours, f"{answer}\n".encode())
    while b"the keyring (service tuneport" not in shown:
        shown += os.read(ours, 1024)
    assert process.wait(60) == 0
    os.close(ours)
    assert KEY.encode() not in shown
    assert keys.source(profiles.profile("lab")) == "keyring"
