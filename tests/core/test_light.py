"""What is absent after an import is a promise too."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "peft", "openai", "pyarrow", "numpy", "pandas")
LATER = (*HEAVY, "pydantic", "pluggy", "rich", "typer", "ruamel", "msgspec", "psutil", "sqlite3", "asyncio")


HELP = "import contextlib\nfrom tuneport.cli import main\nwith contextlib.suppress(SystemExit): main({arguments})"


def modules_after(code: str, *, whole: bool = False) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(' '.join(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = done.stdout.splitlines()[-1].split()
    return set(names) if whole else {name.partition(".")[0] for name in names}


def test_importing_tuneport_imports_no_third_party_package() -> None:
    bare = modules_after("pass")
    assert not (modules_after("import tuneport") - bare) & set(LATER)


@pytest.mark.parametrize("name", ["Dataset", "Job", "Model", "plugin.Backend", "train", "open_job", "plugin.hookimpl"])
def test_a_public_name_imports_nothing_heavy(name: str) -> None:
    assert not modules_after(f"import tuneport.plugin; tuneport.{name}") & set(HEAVY)


def test_loading_our_plugins_imports_nothing_heavy_and_no_settings_model() -> None:
    found = modules_after("from tuneport.loader import load; load().infos()")
    assert not found & {*HEAVY, "pydantic"}


def test_the_command_lines_help_imports_nothing_heavy_and_no_room_that_it_does_not_show() -> None:
    found = modules_after(HELP.format(arguments=["--help"]), whole=True)
    assert not found & {*HEAVY, "pydantic", "msgspec", "sqlite3", "psutil", "ruamel.yaml", "rich", "asyncio"}
    rooms = {name.removeprefix("tuneport.").partition(".")[0] for name in found if name.startswith("tuneport.")}
    assert rooms == {
        "cli",
        "contract",
        "doors",
        "errors",
        "loader",
        "plugin",
        "printable",
        "refs",
        "terminal",
    }


def test_the_help_of_one_command_asks_no_plugin() -> None:
    found = modules_after(HELP.format(arguments=["check", "--help"]), whole=True)
    assert not {name for name in found if name.startswith(("tuneport_", "tuneport.loader", "tuneport.dataset"))}
