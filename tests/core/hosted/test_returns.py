"""What an author's calls return is checked, and an error names the call and the author."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

import tuneport
from depot import Depot, DepotServer, hasty
from tuneport.errors import BackendError, JobNotFinished, ModelNotFound, TuneportError
from tuneport.hosted import Belonging, Entry, HostedBackend, Label, Report

ROWS = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]


def returns(value: Any) -> Any:
    return lambda *_: value


def replace(monkeypatch: pytest.MonkeyPatch, name: str, call: Any) -> None:
    """Give Depot another call, as its author would have written it."""
    checked = type("Depot", (Depot,), {name: call, "__module__": "depot"})
    monkeypatch.setattr(Depot, name, vars(checked)[name])


@pytest.mark.parametrize(
    ("call", "value", "problem"),
    [
        ("write_body", {"epochs": {1}}, "the body is not JSON"),
        ("write_body", None, "the body is None"),
        ("write_row", "x", "the row is 'x'"),
        ("read_price", 4.0, "the value is 4.0"),
        ("find_file", 5, "the value is 5"),
        ("send_file", None, "the value is None"),
        ("send_file", "", "the value is empty"),
        ("is_file_ready", None, "the value is None"),
        ("quote", 4.0, "the value is 4.0"),
        ("read_account", None, "the value is None"),
    ],
)
def test_a_wrong_value_before_the_start_creates_nothing(
    depot: DepotServer, monkeypatch: pytest.MonkeyPatch, call: str, value: Any, problem: str
) -> None:
    replace(monkeypatch, call, returns(value))
    with pytest.raises(BackendError, match=rf"returned a wrong value from Depot\.{call}: {problem}") as caught:
        tuneport.train("depot:base", ROWS)
    assert caught.value.remedy is not None
    assert "the author of depot" in caught.value.remedy
    assert not depot.jobs


@pytest.mark.parametrize(
    ("call", "value", "problem"),
    [
        ("look", None, "the value is None"),
        ("look", Report(id="job-1", word=None), "word is None"),  # type: ignore[arg-type]  # wrong on purpose
        ("look", Report(id="job-1", word="working", started=datetime(2026, 11, 29)), "started is"),
        ("look", Report(id="job-1", word="working", usd="1"), "usd is '1'"),  # type: ignore[arg-type]  # as above
        ("read_entries", None, "the value is None"),
        ("read_entries", [Entry(id=1, message="")], "an entry's id is 1"),  # type: ignore[arg-type]  # as above
        ("read_entries", [Entry(id="1", message="", data={"x": {1}})], "entry 1: data is not JSON"),
    ],
)
def test_a_wrong_report_is_not_kept(
    depot: DepotServer, monkeypatch: pytest.MonkeyPatch, call: str, value: Any, problem: str
) -> None:
    job = tuneport.train("depot:base", ROWS)
    with monkeypatch.context() as patch:
        replace(patch, call, returns(value))
        with pytest.raises(BackendError, match=rf"Depot\.{call}: {problem}"):
            job.state()
    job.wait()  # the author has corrected it


def test_a_wrong_answer_about_the_creation_is_a_doubt_that_names_it(
    depot: DepotServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Depot, "endpoint", hasty(pause=0.01))
    replace(monkeypatch, "create", returns(None))
    with pytest.raises(JobNotFinished, match=r"ended with a wrong value, Depot\.create: the value is None"):
        tuneport.train("depot:base", ROWS)
    assert not depot.jobs


def test_an_exception_names_the_function_and_its_author(depot: DepotServer, monkeypatch: pytest.MonkeyPatch) -> None:
    job = tuneport.train("depot:base", ROWS)
    del depot.jobs["job-1"]["mark"]
    with pytest.raises(BackendError, match=r"failed in Job\.state \(Depot\.look\): KeyError: 'mark'") as caught:
        job.state()
    assert caught.value.remedy is not None
    assert "the author of depot" in caught.value.remedy


def test_what_must_stay_is_not_removed(depot: DepotServer, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    kept = Belonging(what="the file", remove=lambda: not removed.append("file"), keep="another job uses it")
    monkeypatch.setattr(Depot, "belongings", returns([kept]))
    job = tuneport.train("depot:base", ROWS)
    job.wait()
    assert job.delete().kept == ["the file at Depot: another job uses it"]
    assert not removed


@pytest.mark.parametrize(("name", "value"), [("proof", Label), ("words", None), ("words", {"waiting": "queued"})])
def test_a_wrong_description_is_found_when_the_plugin_is_loaded(name: str, value: Any) -> None:
    wrong = type("Wrong", (Depot,), {name: value})
    with pytest.raises(Exception, match=rf"Wrong\.{name}"):
        HostedBackend(wrong())


def test_an_empty_name_of_a_base_is_wrong(depot: DepotServer, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, "model_name", returns(""))
    with pytest.raises(TuneportError, match=r"Depot\.model_name: the value is empty") as caught:
        tuneport.train("depot:base", ROWS)
    assert not isinstance(caught.value, ModelNotFound)
