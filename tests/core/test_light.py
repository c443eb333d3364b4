"""What is absent after an import is a promise too."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "peft", "openai", "pyarrow", "numpy", "pandas")
LATER = (*HEAVY, "pydantic", "pluggy", "rich", "typer", "ruamel", "msgspec", "psutil", "sqlite3", "asyncio")


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(' '.join(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_importing_tuneport_imports_no_third_party_package() -> None:
    bare = modules_after("pass")
    assert not (modules_after("import tuneport") - bare) & set(LATER)


@pytest.mark.parametrize("name", ["Dataset", "Job", "Model", "Backend", "train", "open_job", "hookimpl"])
def test_a_public_name_imports_nothing_heavy(name: str) -> None:
    assert not modules_after(f"import tuneport; tuneport.{name}") & set(HEAVY)


def test_loading_our_plugins_imports_nothing_heavy_and_no_settings_model() -> None:
    found = modules_after("from tuneport.plugins import load; load().infos()")
    assert not found & {*HEAVY, "pydantic"}


def test_the_command_lines_help_imports_nothing_heavy_and_no_settings_model() -> None:
    code = "import contextlib\nfrom tuneport.cli import main\nwith contextlib.suppress(SystemExit): main(['--help'])"
    assert not modules_after(code) & {*HEAVY, "pydantic", "msgspec", "sqlite3"}
