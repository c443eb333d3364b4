"""The docs page and the example match the server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from serving import Served
from tuneport_server.app import WIRE
from tuneport_server.limits import ResourceLimits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "server.md").read_text()


def test_the_page_lists_every_limit_with_its_default() -> None:
    table = PAGE.partition("### Limits")[2].partition("\n## ")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.MULTILINE))
    defaults = ResourceLimits().model_dump() | {
        "model_bytes": "half of the memory",
        "connections": "what open files allow",
    }
    assert listed == {name: f"{value:,}" if isinstance(value, int) else value for name, value in defaults.items()}


def test_the_page_names_every_route() -> None:
    for module in WIRE:
        for route in module.ROUTES:
            assert "/".join(route.path.split("/")[:4]).split("/{")[0] in PAGE


def test_the_example_needs_nothing_but_the_official_client(shared: Served, token: str) -> None:
    script = ROOT / "examples" / "serve" / "client.py"
    assert "tuneport" not in re.sub(r'""".*?"""', "", script.read_text(), flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, str(script), "gray"],
        env={**os.environ, "OPENAI_BASE_URL": shared.url, "OPENAI_API_KEY": token},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Step 1/1: training loss=0.50" in done.stdout
    assert done.stdout.splitlines()[-1] in {"late_delivery", "damaged_item", "change_address", "product_question"}
