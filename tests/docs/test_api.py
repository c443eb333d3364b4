"""docs/api.md and the public modules name the same things."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import api_page  # noqa: E402 - the folder had to be named first


def test_every_exported_name_is_on_the_page_and_nothing_else() -> None:
    names = re.findall(r"^### `(.+)`$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    exported = [f"{door.__name__}.{name}" for door in api_page.public_modules() for name in api_page.exports(door)]
    assert sorted(names) == sorted(exported)
    assert len(names) == len(set(names))


def test_an_exported_name_says_where_users_import_it_from() -> None:
    doors = api_page.public_modules()
    for door in doors:
        for name in api_page.exports(door):
            value = getattr(door, name)
            module = getattr(value, "__module__", None)
            if module is None or not module.startswith("tuneport") or name == "Example":
                continue
            assert module in api_page.DOORS, f"{door.__name__}.{name} says {module}"
            assert getattr(sys.modules[module], name) is value


def test_the_page_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "docs" / "api_page.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
