"""Named endpoints: what may be one, what is kept of it, and that its key goes nowhere else."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path

import pytest

import tuneport
from tuneport import Dataset
from tuneport.plugin import alternatives
from tuneport_openai.wire import profiles
from tuneport_openai.wire.client import Wire
from tuneport_openai.wire.limits import Limits
from wire_server import KEY, WireServer


def test_some_profiles_are_built_in_and_others_are_kept() -> None:
    assert list(profiles.profiles()) == ["openai", "azure", "nebius"]
    made = profiles.add("lab", "https://gpu.example.org/v1/")
    assert (made.base_url, made.key, made.vendor) == ("https://gpu.example.org/v1", "LAB_API_KEY", "other")
    assert profiles.profile("lab") == made
    profiles.remove("lab")
    with pytest.raises(tuneport.errors.NotFoundError, match="no profile 'lab'"):
        profiles.profile("lab")


def test_azures_address_is_completed_from_the_environment_and_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com/")
    assert profiles.profile("azure").base_url == "https://mine.openai.azure.com/openai/v1"
    made = profiles.add("eu", "https://theirs.openai.azure.com/openai/v1/")
    assert (made.base_url, made.vendor) == ("https://theirs.openai.azure.com/openai/v1", "azure")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.org/v1", "unencrypted"),
        ("https://user:secret@example.org/v1", "a name or a password"),
        ("https://example.org/v1?key=1", "not the address"),
        ("ftp://example.org", "not the address"),
        ("nonsense", "not the address"),
        ("https://example.org:port", "not valid"),
    ],
)
def test_a_key_is_sent_to_no_such_address(url: str, said: str) -> None:
    with pytest.raises(tuneport.errors.UsageError, match=said) as caught:
        profiles.add("lab", url)
    assert "secret" not in str(caught.value)


def test_a_key_given_in_place_of_its_variables_name_is_refused_and_not_repeated() -> None:
    with pytest.raises(tuneport.errors.UsageError, match="not the key itself") as caught:
        profiles.add("lab", "https://example.org/v1", key="sk-proj-abc")
    assert "sk-proj" not in str(caught.value)


@pytest.mark.parametrize("name", ["openai", "Lab", "a:b", "../x", ""])
def test_some_names_are_refused(name: str) -> None:
    with pytest.raises(tuneport.errors.UsageError):
        profiles.add(name, "https://example.org/v1")


def test_a_damaged_file_is_named_and_nothing_is_lost(own_home: Path) -> None:
    profiles.add("lab", "https://example.org/v1")
    (own_home / "profiles.json").write_text("{")
    with pytest.raises(tuneport.errors.ConfigError, match=r"profiles\.json is damaged"):
        profiles.profiles()
    with pytest.raises(tuneport.errors.ConfigError):
        profiles.add("other", "https://example.org/v1")
    assert (own_home / "profiles.json").read_text() == "{"


def test_the_file_has_no_key_and_only_its_owner_can_read_it(own_home: Path) -> None:
    profiles.add("lab", "https://example.org/v1")
    file = own_home / "profiles.json"
    assert KEY not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_limits_are_kept_with_the_profile_and_govern_its_jobs(lab: WireServer, rows: Dataset) -> None:
    limits = ("outage_seconds=7", "poll_seconds=0.02", "request_bytes=100", "part_bytes=300", "retry_seconds=0")
    made = profiles.add("lab", lab.url, limits=limits)
    assert profiles.profile("lab") == made
    assert profiles.add("other", "https://example.org/v1").poll_seconds == 5.0
    assert profiles.add("near", "http://127.0.0.1:1/v1").poll_seconds == 0.5
    assert profiles.profile("lab").limits == made.limits  # a change of another profile leaves them
    tuneport.loader.load.cache_clear()
    job = tuneport.train("lab:base", rows)
    job.wait()
    assert (job.poll_seconds, job.outage_seconds) == (0.02, 7.0)
    (sent,) = lab.uploads.values()
    assert len(sent["parts"]) > 1
    assert profiles.add("lab", lab.url).limits == Limits()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("outage_second=7", r"Did you mean outage_seconds\?"),
        ("7", "is not a limit"),
        ("retries=1.5", "whole number"),
        ("read_seconds=nan", "not a value for read_seconds"),
        ("read_seconds=-1", "not a value for read_seconds"),
        ("answer_seconds=inf", "not a value for answer_seconds"),
        ("part_bytes=0", "not a value for part_bytes"),
        ("part_bytes=", "not a value for part_bytes"),
    ],
)
def test_a_text_that_is_not_a_limit_is_refused(text: str, said: str, own_home: Path) -> None:
    with pytest.raises(tuneport.errors.UsageError, match=said):
        profiles.add("lab", "https://example.org/v1", limits=[text])
    assert "lab" not in profiles.profiles()
    name, _, value = text.partition("=")
    stored = {"base_url": "https://example.org/v1", "key": "K", "vendor": "other", "limits": {name: value}}
    (own_home / "profiles.json").write_text(json.dumps({"profiles": {"lab": stored}}))
    with pytest.raises(tuneport.errors.ConfigError, match=r"profiles\.json is damaged"):
        profiles.profiles()


def test_every_limit_is_in_the_docs_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "openai.md").read_text()
    listed = re.findall(r"(?m)^\| `(\w+)` \| ([\d.,]*) \| (.+) \|$", page.partition("### Limits")[2])
    default = {name: float(number.replace(",", "")) if number else None for name, number, _ in listed}
    assert default == asdict(Limits())
    assert {name: words for name, _, words in listed} == {
        one.name: one.metadata["description"] for one in fields(Limits)
    }


def test_the_commands_add_list_and_remove(capsys: pytest.CaptureFixture[str]) -> None:
    from tuneport.cli.app import invoke

    def cli(*arguments: str) -> str:
        invoke(["profiles", *arguments])
        said = capsys.readouterr()
        return said.out + said.err

    assert "with the key in the variable LAB_API_KEY." in cli("add", "lab", "http://127.0.0.1:1/v1")
    assert "lab     http://127.0.0.1:1/v1" in cli("list")
    assert "is not a limit" in cli("add", "lab", "http://127.0.0.1:1/v1", "--limit", "speed=9")
    limited = cli(
        "add", "lab", "http://127.0.0.1:1/v1", "--limit", "retries=0", "--limit", "read_seconds=0.5", "--json"
    )
    assert json.loads(limited)["profile"]["limits"] == {"retries": 0, "read_seconds": 0.5}
    assert "another plugin's backend" in cli("add", "torch", "https://example.org/v1")
    assert "Removed lab" in cli("remove", "lab")
    assert "lab" not in cli("list")


def test_a_job_of_a_removed_profile_says_what_is_missing_and_what_to_type(lab: WireServer, rows: Dataset) -> None:
    from tuneport import loader

    job = tuneport.train("lab:base", rows)
    assert profiles.remove("lab")
    loader.load.cache_clear()
    for act in (tuneport.open_job, tuneport.open_model, tuneport.delete, tuneport.settle):
        with pytest.raises(tuneport.errors.ConfigError, match="the profile lab was removed") as caught:
            act(job.ref)
        assert f"tuneport profiles add lab {lab.url}" in str(caught.value)
    assert [one.ref for one in tuneport.jobs()] == [job.ref]
    with pytest.raises(tuneport.errors.UnavailableError, match="its profile was removed"):
        tuneport.train("lab:base", rows, again=True)
    assert "lab" not in " ".join(alternatives("openai"))
    profiles.add("lab", lab.url)
    loader.load.cache_clear()
    assert tuneport.open_job(job.ref).wait().ask("Question 1 about pin") == "pin"


def test_a_job_that_is_over_is_read_and_deleted_here_when_its_profile_was_removed(
    lab: WireServer, rows: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    from tuneport import loader
    from tuneport.cli.app import invoke

    job = tuneport.train("lab:base", rows)
    job.wait()
    events, sent = list(job.events()), Path(job.state().details["sent"])
    profiles.remove("lab")
    loader.load.cache_clear()
    asked = len(lab.asked)
    again = tuneport.open_job(job.ref)
    assert (again.status, list(again.events()), again.checkpoints()) == (tuneport.Status.SUCCEEDED, events, [])
    assert invoke(["show", str(job.ref)]) == 0
    assert invoke(["watch", str(job.ref)]) == 0
    for act in (lambda: tuneport.open_model(job.ref), lambda: again.result().ask("pin?")):
        with pytest.raises(tuneport.errors.ConfigError, match="was removed"):
            act()
    capsys.readouterr()
    assert invoke(["delete", str(job.ref), "--yes"]) == 0
    assert f"may be at {lab.url}" in capsys.readouterr().out
    assert not sent.exists()
    assert tuneport.jobs() == []
    assert len(lab.asked) == asked


def test_a_finished_job_asks_nothing_of_the_host_that_its_profile_leads_to_now(lab: WireServer, rows: Dataset) -> None:
    from tuneport import loader

    job = tuneport.train("lab:base", rows)
    job.wait()
    other = WireServer()
    try:
        profiles.add("lab", other.url)
        loader.load.cache_clear()
        assert tuneport.open_job(job.ref).status is tuneport.Status.SUCCEEDED
        with pytest.raises(tuneport.errors.ConfigError, match="was started at"):
            tuneport.train(str(job.ref), rows)
        tuneport.delete(job.ref)
        assert not other.asked
    finally:
        other.close()


def test_removing_a_profile_warns_of_jobs_that_are_not_over(
    lab: WireServer, rows: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    from tuneport import loader
    from tuneport.cli.app import invoke

    lab.flow = ("running",)
    job = tuneport.train("lab:base", rows)
    assert invoke(["profiles", "remove", "lab"]) == 0
    said = capsys.readouterr().err
    assert f"Not over: {job.ref} (running)" in said
    assert f"tuneport profiles add lab {lab.url}" in said
    loader.load.cache_clear()
    assert invoke(["jobs"]) == 0
    assert "running (last known)" in capsys.readouterr().out
    with pytest.raises(tuneport.errors.BackendNotFound, match="Did you mean") as caught:
        tuneport.plan("opena:base", rows)
    assert "lab" not in caught.value.message


def test_a_profile_that_no_job_was_started_at_is_gone_when_it_is_removed(lab: WireServer) -> None:
    from tuneport import loader

    assert not profiles.remove("lab")
    loader.load.cache_clear()
    assert "lab" not in tuneport.backends()


def test_the_name_of_a_removed_profile_goes_when_it_is_removed_once_more(lab: WireServer, rows: Dataset) -> None:
    from tuneport import loader

    job = tuneport.train("lab:base", rows)
    assert profiles.remove("lab")
    assert not profiles.remove("lab")
    loader.load.cache_clear()
    with pytest.raises(tuneport.errors.BackendNotFound):
        tuneport.open_job(job.ref)


def test_a_wire_refuses_redirects_to_other_hosts(server: WireServer, lab: WireServer) -> None:
    other = WireServer()
    try:
        server.refuse["GET /v1/files"] = (307, {}, {"Location": f"{other.url}/files"})
        wire = Wire(profiles.profile("lab"))
        with pytest.raises(tuneport.TuneportError), wire.translate_errors("listing"):
            wire.once.files.list()
        assert not other.asked
    finally:
        other.close()


def test_what_the_environment_means_for_openai_goes_to_no_other_host(
    lab: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-real")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-real")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-real")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: real\nAuthorization: Bearer real")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    wire = Wire(profiles.profile("lab"))
    wire.once.files.list()
    ((_, _, headers, _),) = lab.asked
    assert "real" not in str(headers)
    assert headers["authorization"] == f"Bearer {KEY}"


def test_a_key_that_the_server_repeats_is_taken_out(lab: WireServer) -> None:
    import traceback

    lab.refuse["GET /v1/files"] = (401, {"error": {"message": f"Incorrect API key {KEY}"}}, {})
    wire = Wire(profiles.profile("lab"))
    with (
        pytest.raises(
            tuneport.errors.UnavailableError, match="does not accept the key in the variable LAB_API_KEY"
        ) as caught,
        wire.translate_errors("listing"),
    ):
        wire.once.files.list()
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_without_the_package_one_line_says_what_to_install(lab: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    answer = tuneport.backends()["lab"].availability()
    assert (answer.ready, answer.reason) == (False, "needs openai")
    assert answer.remedy == "Run: pip install 'tuneport[openai]'"


def test_importing_the_plugin_imports_no_openai() -> None:
    code = "import sys; from tuneport.loader import load; load().infos(); print('openai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ})
    assert done.stdout.strip() == "False", done.stderr
