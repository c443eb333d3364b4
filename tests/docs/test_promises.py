"""docs/promises.md names experiments that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_experiment_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "docs" / "promises.md").read_text())
    assert len(named) > 40
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text()]
    assert not missing


def test_every_promise_has_an_experiment() -> None:
    text = (ROOT / "docs" / "promises.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert all(re.search(r"`tests/[\w/]+\.py::test_\w+`", row) for row in rows)
