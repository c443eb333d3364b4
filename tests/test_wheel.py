"""What is shipped works: the wheel, built and installed away from the source tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def sources() -> set[str]:
    """Every file of our import packages, as the wheel should name it."""
    packages = [ROOT / "core" / "tuneport", *(ROOT / "plugins").glob("tuneport_*/__init__.py")]
    folders = [one.parent if one.is_file() else one for one in packages]
    return {
        str(file.relative_to(folder.parent))
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network: what the build needs is installed already."""
    folder = tmp_path_factory.mktemp("wheel")
    command = (*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    subprocess.run(command, check=True, timeout=120)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = (*PIP, "install", "--no-deps", "--no-index", "--target", str(folder), str(wheel))
    subprocess.run(command, check=True, timeout=120)
    return folder


def installed(site: Path, cwd: Path, *arguments: str) -> str:
    """What the installed command line prints. `-S` leaves out the .pth file that leads to the source tree."""
    paths = os.pathsep.join([str(site), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    environment = {**os.environ, "PYTHONPATH": paths, "TUNEPORT_HOME": str(cwd / "home"), "TUNEPORT_PLUGINS": ""}
    command = [sys.executable, "-S", "-m", "tuneport.cli", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_contains_all_of_our_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if not name.partition("/")[0].endswith(".dist-info")}
    packages = {name.partition("/")[0] for name in names}
    assert {"tuneport", "tuneport_torch"} <= packages
    assert names == {name for name in sources() if name.partition("/")[0] in packages}
    assert {f"{package}/py.typed" for package in packages} <= names
    assert {"tuneport/reports/page.css", "tuneport/reports/page.js"} <= names
    assert any(name.startswith("tuneport/ledger/migrations/") and name.endswith(".sql") for name in names)


def test_what_is_installed_runs_without_the_source_tree(site: Path, tmp_path: Path) -> None:
    assert installed(site, tmp_path, "--version").startswith("tuneport 0.")
    plugins = json.loads(installed(site, tmp_path, "plugins", "--json"))["plugins"]
    assert "torch" in {one["name"] for one in plugins if one["status"] != "broken"}
    assert all(Path(one["origin"]).is_relative_to(site) for one in plugins)


def test_what_is_installed_checks_data_and_opens_its_ledger(site: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nwhere is it,post\nmoney please,refund\n")
    assert json.loads(installed(site, tmp_path, "check", "rows.csv", "--json"))["used"] == 2
    assert json.loads(installed(site, tmp_path, "jobs", "--json"))["jobs"] == []
