"""The queue for the device."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneport.local.folder import Folder
from tuneport.local.owner import Owner
from tuneport.local.slots import Slots


@pytest.fixture
def owners(own_home: Path):
    """Three jobs whose owners live."""
    made = {}
    for name in ("a", "b", "c"):
        Folder.named("bayes", name).path.mkdir()
        made[name] = Owner.take(Folder.named("bayes", name))
        Slots("bayes").join(name, "cpu")
    return made


def claim(name: str, devices=("cpu",), per_device: int = 1) -> str | None:
    return Slots("bayes").claim(name, "cpu" if devices == ("cpu",) else "cuda", devices, per_device)


def test_first_come_first_served(owners) -> None:
    assert claim("b") is None
    assert claim("a") == "cpu"
    assert [Slots("bayes").position(name) for name in "abc"] == [0, 1, 2]
    Slots("bayes").leave("a")
    assert claim("c") is None
    assert claim("b") == "cpu"
    assert claim("b") == "cpu"


def test_the_place_of_a_dead_job_is_given_away(owners) -> None:
    assert claim("a") == "cpu"
    owners["a"].give_back()
    owners["b"].give_back()
    assert Slots("bayes").position("c") == 0 or claim("c") == "cpu"
    assert Slots("bayes").position("a") is None


def test_a_job_that_comes_back_stands_at_the_end(owners) -> None:
    Slots("bayes").join("a", "cpu")
    assert claim("a") is None
    assert claim("b") == "cpu"
    assert Slots("bayes").position("a") == 2


def test_each_gpu_takes_one_job_and_more_when_asked(owners) -> None:
    for name in "abc":
        Slots("bayes").join(name, "cuda")
    gpus = ("cuda:0", "cuda:1")
    assert [claim(name, gpus) for name in "abc"] == ["cuda:0", "cuda:1", None]
    assert claim("c", gpus, per_device=2) == "cuda:0"


def test_jobs_for_the_cpu_do_not_wait_for_those_on_a_gpu(owners) -> None:
    Slots("bayes").join("a", "cuda")
    assert claim("a", ("cuda:0",)) == "cuda:0"
    assert claim("b") == "cpu"
