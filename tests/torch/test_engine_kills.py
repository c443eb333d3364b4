"""Training is killed by SIGKILL at random moments: the result has the bits of an uninterrupted run."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from tiny_victims import Victims
from tuneport_torch.engine.checkpoint import Store

KILLS = int(os.environ.get("TUNEPORT_TEST_ENGINE_KILLS", "100"))  # of the long version
OPTIONS = {
    "epochs": 60,
    "tokens_per_step": 32,
    "evaluate_every": 4,
    "patience": 5,
    "schedule": "constant",
    "checkpoint_every": 2,
    "keep_checkpoints": 1,
}
MODES = {
    "lora": {"learning_rate": 2e-3, "adapter": {"dropout": 0.2}},
    "full": {"learning_rate": 5e-4, "mode": "full"},
}


@pytest.fixture(scope="module")
def victims():
    program = Victims()
    yield program
    program.close()


def log(folder: Path) -> dict[str, list[tuple]]:
    """The reports of each step, with repetitions."""
    reported: dict[str, list[tuple]] = {}
    for line in (folder / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "metric":
            numbers = [event.get(name) for name in ("train_loss", "valid_loss", "learning_rate", "grad_norm", "tokens")]
            reported.setdefault(event["step"], []).append(tuple(numbers))
    return reported


def ending(folder: Path) -> tuple[dict, dict]:
    """Result and weights of a finished training run."""
    ended = json.loads((folder / "result.json").read_text())
    del ended["result"]["setup_seconds"]
    return ended["result"], ended["weights"]


def files(folder: Path) -> dict[str, str]:
    """The digests of the newest checkpoint. state.json contains the time, so its facts are compared."""
    saved = Store(folder / "checkpoints").newest_intact()
    manifest = json.loads((saved.folder / "manifest.json").read_text())["files"]
    digests = {name: facts["sha256"] for name, facts in manifest.items() if name != "state.json"}
    return {**digests, "state": {name: value for name, value in saved.state.items() if name != "created"}}


def names(folder: Path) -> set[str]:
    """The existing checkpoints, intact or not."""
    return {path.name for path in (folder / "checkpoints").glob("*")}


def killed(victims: Victims, folder: Path, options: dict, chance: random.Random, most: int) -> int:
    """Train, killed up to `most` times at random moments. Returns the number of kills."""
    folder.mkdir()
    kills = 0
    while not (folder / "result.json").exists():
        pid = victims.start(do="train", folder=str(folder), options=options)
        if kills == most:
            assert victims.end() == 0
            return kills
        seen = names(folder)
        if chance.random() < 0.7:  # after something is written, so that there is progress; otherwise at any moment
            while names(folder) == seen and not (folder / "result.json").exists():
                time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.3))
        kills += victims.kill(pid)
    return kills


def killed_often(victims: Victims, folder: Path, mode: str, wanted: int) -> None:
    options = {**OPTIONS, **MODES[mode]}
    undisturbed = folder / "undisturbed"
    undisturbed.mkdir()
    victims.start(do="train", folder=str(undisturbed), options=options)
    assert victims.end() == 0
    result, weights = ending(undisturbed)
    assert result["stopped"] == "patience"
    assert 0 < result["best_step"] < result["step"]
    chance, kills, number = random.Random(f"{mode} {wanted}"), 0, 0
    expected, kept = log(undisturbed), files(undisturbed)
    while kills < wanted:
        number += 1
        one = folder / f"killed-{number}"
        kills += killed(victims, one, options, chance, wanted - kills)
        assert ending(one) == (result, weights)
        assert files(one) == kept
        reported = log(one)
        assert reported.keys() == expected.keys()
        assert all(set(repeated) == set(expected[step]) for step, repeated in reported.items())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
def test_a_repeatedly_killed_run_ends_with_the_bits_of_an_uninterrupted_one(
    victims: Victims, tmp_path: Path, mode: str
) -> None:
    killed_often(victims, tmp_path, mode, 10)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mode", MODES)
def test_a_training_killed_a_hundred_times_ends_with_the_bits_of_one_that_was_not(
    victims: Victims, tmp_path: Path, mode: str
) -> None:
    killed_often(victims, tmp_path, mode, KILLS // len(MODES))
