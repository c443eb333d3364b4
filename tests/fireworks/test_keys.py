"""The key goes to Fireworks' host and nowhere else: no file, no message, no other host."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

import tuneport
from fireworks_schemas import KEY
from fireworks_server import FireworksServer
from tuneport import Dataset
from tuneport.errors import ConfigError, TuneportError, UnavailableError
from tuneport_fireworks import Fireworks

MODEL = "fireworks:tiny-chat"


def _all_bytes(folder: Path) -> bytes:
    return b"".join(one.read_bytes() for one in folder.rglob("*") if one.is_file())


def test_no_file_of_home_holds_the_key_or_a_signed_address(server: FireworksServer, rows: Dataset, home: Path) -> None:
    server.metrics = b'{"step": 1, "loss": 2.5}\n'
    server.flow, server.failure = ("RUNNING", "FAILED"), f"the key {KEY} is bad"
    with pytest.raises(tuneport.errors.JobFailed) as caught:
        tuneport.train(MODEL, rows).wait()
    kept = _all_bytes(home)
    assert KEY not in str(caught.value)
    assert KEY.encode() not in kept
    assert b"X-Goog-Signature" not in kept


def test_a_refused_key_is_in_no_message(monkeypatch: pytest.MonkeyPatch, rows: Dataset) -> None:
    monkeypatch.setenv("FIREWORKS_API_KEY", "fw-wrong-key-0123456789")
    with pytest.raises(UnavailableError, match="FIREWORKS_API_KEY") as caught:
        tuneport.train(MODEL, rows)
    assert "fw-wrong-key-0123456789" not in "".join(traceback.format_exception(caught.value))


def test_a_redirect_is_not_followed(server: FireworksServer, rows: Dataset) -> None:
    server.break_next("GET", "/accounts", "redirect", times=9)
    with pytest.raises(TuneportError, match="another address"):
        tuneport.train(MODEL, rows)
    assert not [path for _, path, *_ in server.asked if path.startswith("STORE")]


def test_the_key_goes_only_to_the_api(server: FireworksServer, rows: Dataset) -> None:
    server.metrics = b'{"step": 1, "loss": 2.5}\n'
    tuneport.train(MODEL, rows).wait()
    stored = [headers for _, path, headers, _ in server.asked if path.startswith("STORE")]
    assert stored
    assert not any("Authorization" in headers for headers in stored)


def test_a_large_file_goes_to_a_signed_address_without_the_key(
    server: FireworksServer, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fireworks, "largest_request", 100)
    tuneport.train(MODEL, rows)
    puts = [headers for verb, path, headers, _ in server.asked if verb == "PUT" and path.startswith("STORE")]
    assert len(puts) == 1
    assert "Authorization" not in puts[0]
    assert len(server.jobs) == 1


def test_a_job_at_another_address_is_not_asked_about(
    server: FireworksServer, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tuneport.train(MODEL, rows)
    other = FireworksServer()
    monkeypatch.setenv("FIREWORKS_BASE_URL", other.url)
    with pytest.raises(ConfigError, match="was started at"):
        tuneport.open_job(job.ref)
    assert not other.asked
    monkeypatch.setenv("FIREWORKS_BASE_URL", server.url)
    job.wait()
    monkeypatch.setenv("FIREWORKS_BASE_URL", other.url)
    over = tuneport.open_job(job.ref)
    assert over.state().status == "succeeded"
    for ask in (over.result, over.delete):
        with pytest.raises(ConfigError, match="was started at"):
            ask()
    assert not other.asked
    other.close()


@pytest.mark.parametrize("address", ["http://example.com", "ftp://127.0.0.1", "https://me:pw@example.com", "nowhere"])
def test_an_address_that_would_leak_the_key_is_refused(
    monkeypatch: pytest.MonkeyPatch, rows: Dataset, address: str
) -> None:
    monkeypatch.setenv("FIREWORKS_BASE_URL", address)
    with pytest.raises(TuneportError, match="FIREWORKS_BASE_URL"):
        tuneport.train(MODEL, rows)


def test_without_a_key_the_backend_is_listed_with_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIREWORKS_API_KEY")
    found = tuneport.open_backend("fireworks").availability()
    assert not found.ready
    assert found.plans
    assert "FIREWORKS_API_KEY is not set" in found.reason


def test_the_key_may_be_in_the_keyring(
    server: FireworksServer, rows: Dataset, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keyring = pytest.importorskip("keyring")
    kept = pytest.importorskip("keyrings.alt.file").PlaintextKeyring()
    kept.file_path = str(tmp_path / "ring")
    before = keyring.get_keyring()
    keyring.set_keyring(kept)
    try:
        keyring.set_password("tuneport", f"fireworks@{server.url.removeprefix('http://')}", KEY)
        monkeypatch.setenv("FIREWORKS_API_KEY", "keyring")
        tuneport.train(MODEL, rows)
        assert KEY.encode() not in _all_bytes(home)
        monkeypatch.setenv("FIREWORKS_BASE_URL", server.store_url)
        with pytest.raises(ConfigError, match="no key for"):
            tuneport.train(MODEL, rows, again=True)
    finally:
        keyring.set_keyring(before)
    assert len(server.jobs) == 1


def test_one_of_several_accounts_has_to_be_named(
    server: FireworksServer, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.more_accounts = ["accounts/other"]
    with pytest.raises(ConfigError, match="FIREWORKS_ACCOUNT_ID"):
        tuneport.train(MODEL, rows)
    monkeypatch.setenv("FIREWORKS_ACCOUNT_ID", "acme")
    tuneport.train(MODEL, rows)
    assert len(server.jobs) == 1
