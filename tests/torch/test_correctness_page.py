"""docs/correctness.md names existing tests."""

import re
from pathlib import Path


def test_every_test_that_the_page_names_is_there():
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (Path(__file__).parents[2] / "docs/correctness.md").read_text())
    assert len(named) > 30
    here = Path(__file__).parent
    gone = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (here / file).read_text()]
    assert not gone
