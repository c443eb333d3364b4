"""The recipes of docs/clients.md run as they are shown, by unmodified clients against a real server."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Served
from tiny_models import make_tokenizer, write_llama

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text()
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INSTALL = re.compile(r"^(pip|npm) install (.+)$", re.MULTILINE)
MODULES = {"The official Python client": "openai"}  # what the development environment may have
ROWS = 24
SECONDS = 600  # against a hang

SECTIONS = {title: BLOCK.findall(text) for title, text in SECTION.findall(PAGE)}
PYTHON = [title for title, blocks in SECTIONS.items() if any(language == "python" for language, _ in blocks)]
NODE = [title for title, blocks in SECTIONS.items() if any(language == "javascript" for language, _ in blocks)]
HERE = [title for title in PYTHON if title in MODULES and importlib.util.find_spec(MODULES[title])]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The model of the page is a tiny random one, whose template writes tool calls."""
    folder = write_llama(tmp_path_factory.mktemp("bases") / "tiny-llama", make_tokenizer())
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{# calls are written as <tool_call> #}")
    made = Served(tmp_path_factory.mktemp("served") / "home", "--models", f"smollm2-135m=torch:{folder}")
    yield made.start()
    made.end()
    assert "Traceback" not in made.stderr(), made.stderr()[-4000:]


def code(title: str, language: str) -> str:
    return "\n".join(text for one, text in SECTIONS[title] if one == language)


def packages(title: str) -> list[str]:
    found = INSTALL.search(code(title, "sh"))
    assert found, f"{title} does not say what to install"
    return shlex.split(found[2])


def run(command: list[str], folder: Path, **environment: str) -> None:
    """Run a command in a folder that holds the rows of the page's fine-tuning."""
    rows = (ROOT / "examples" / "serve" / "tickets.jsonl").read_text().splitlines(keepends=True)[:ROWS]
    (folder / "tickets.jsonl").write_text("".join(rows))
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    kept |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HOME": str(folder), "DSPY_CACHEDIR": str(folder / "dspy")}
    done = subprocess.run(
        command, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"


def recipe(python: Path, title: str, served: Served, folder: Path) -> None:
    """Run the Python blocks of a section as one program."""
    script = folder / "recipe.py"
    script.write_text(code(title, "python"))
    run([str(python), str(script)], folder, OPENAI_BASE_URL=served.url, OPENAI_API_KEY=served.token)


def test_every_section_with_a_recipe_is_run() -> None:
    assert set(MODULES) <= set(PYTHON)
    assert len(PYTHON) == 6
    assert len(NODE) == 2
    assert all(packages(title) for title in PYTHON + NODE)


@pytest.mark.parametrize("title", HERE)
@pytest.mark.timeout(SECONDS)
def test_a_client_that_is_installed_runs_its_recipes(title: str, served: Served, tmp_path: Path) -> None:
    recipe(Path(sys.executable), title, served, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("title", "wanted"),
    [*((title, None) for title in PYTHON), ("The official Python client", ["openai<3"])],
    ids=lambda value: str(value).lower().replace(" ", "-"),
)
def test_a_python_client_of_its_own_environment_runs_its_recipes(
    title: str, wanted: list[str] | None, served: Served, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *(wanted or packages(title))], check=True)
    subprocess.run([python, "-m", "pip", "list", "--not-required", "--format=freeze"], check=True)  # for the table
    recipe(python, title, served, tmp_path)


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
@pytest.mark.parametrize("title", NODE)
def test_a_node_client_runs_its_recipes(title: str, served: Served, tmp_path: Path) -> None:
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent", *packages(title)], cwd=tmp_path, check=True
    )
    subprocess.run(["npm", "ls", "--depth=0"], cwd=tmp_path, check=True)
    script = tmp_path / "recipe.mjs"
    script.write_text(code(title, "javascript"))
    run(["node", str(script)], tmp_path, OPENAI_BASE_URL=served.url, OPENAI_API_KEY=served.token)
