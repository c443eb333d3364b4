"""A run from a config file: train at Fireworks, deploy, compare with the base, report; then again, for nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tuneport
from fireworks_rows import ROWS
from fireworks_server import BASE, FireworksServer
from tuneport.errors import BudgetError

CONFIG = """\
model: fireworks:tiny-chat
data: {train: rows.jsonl, holdout: 0.25}
train: {epochs: 2}
backends: {fireworks: {deploy: true, usd_per_million_tokens: 1000}}
"""


@pytest.fixture
def config(server: FireworksServer, tmp_path: Path) -> Path:
    server.flow = ("RUNNING", "COMPLETED")
    server.models[BASE]["supportsServerless"] = True
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    path = tmp_path / "tune.yaml"
    path.write_text(CONFIG)
    return path


def test_a_run_trains_compares_and_reports_once(server: FireworksServer, config: Path) -> None:
    server.answers = {row["messages"][1]["content"]: row["messages"][2]["content"] for row in ROWS}
    first = tuneport.run(config)
    assert first.comparison is not None
    assert first.report is not None
    assert first.report.is_file()
    asked = len(server.asked)
    again = tuneport.run(config)
    assert again.job.ref == first.job.ref
    assert len(server.jobs) == len(server.deployments) == 1
    assert not [path for _, path, *_ in server.asked[asked:] if "/chat/" in path or ":upload" in path]


def test_fireworks_own_count_of_the_tokens_is_held_against_the_budget(server: FireworksServer, config: Path) -> None:
    planned = tuneport.plan("fireworks:tiny-chat", ROWS, epochs=2, settings={"usd_per_million_tokens": 1000}).usd.value
    assert planned is not None
    config.write_text(f"{CONFIG}budget: {{usd: {planned:.4f}}}\n")
    server.tokens_factor = 10
    with pytest.raises(BudgetError, match="by Fireworks' count"):
        tuneport.run(config)
    assert not server.jobs
    server.tokens_factor = 0.1
    server.datasets.clear()  # it counts once, when it gets the file
    assert tuneport.run(config, wait=False).job.state().details["quote"]["usd"] < planned
