"""The reference pages say what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tuneport.config import RunConfig, load_config

DOCS = Path(__file__).parents[2] / "docs"


def test_the_pages_written_from_the_code_are_up_to_date() -> None:
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_of_the_config_has_every_key_and_an_example_that_loads(tmp_path: Path) -> None:
    page = (DOCS / "config.md").read_text()
    for name, field in RunConfig.model_fields.items():
        assert f"`{name}`" in page
        for key in getattr(field.annotation, "model_fields", ()):
            assert f"| `{key}` |" in page
    example = page.split("```yaml\n")[1].split("```")[0]
    path = tmp_path / "tune.yaml"
    path.write_text(example)
    assert load_config(path).section("torch") == {"learning_rate": 2e-4, "adapter": {"rank": 16}}


@pytest.mark.parametrize("arguments", [["--check"], []])
def test_a_stale_page_is_named_and_rewritten(tmp_path: Path, arguments: list[str]) -> None:
    script = tmp_path / "docs" / "generate.py"
    script.parent.mkdir()
    (tmp_path / "examples").mkdir()
    script.write_text((DOCS / "generate.py").read_text())
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=60)
    assert "docs/config.md" in done.stdout, done.stderr
    assert done.returncode == (1 if arguments else 0)
    assert (tmp_path / "docs" / "config.md").is_file() is not bool(arguments)
