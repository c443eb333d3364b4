"""A real Chromium, a server with a slow backend, and the rules that every page must follow."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from serving import PARROT, Served, install_plugin, jsonl

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

if find_spec("playwright") is None:
    collect_ignore_glob = ["test_*.py"]

HERE = Path(__file__).parent
PATIENCE = 30_000  # milliseconds
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    found = os.environ.get("TUNEPORT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail(f"No browser: install one of {', '.join(NAMES)}, or let TUNEPORT_CHROMIUM name one.")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox does not start for root
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    site = tmp_path_factory.mktemp("site")
    for plugin in (PARROT, HERE / "songbird.py"):
        install_plugin(site, plugin)
    made = Served(tmp_path_factory.mktemp("served") / "home", "--models", "finch=songbird:finch", site=site)
    yield made.start()
    made.end()
    assert "Traceback" not in made.stderr(), made.stderr()[-4000:]


class Visitor:
    """A page in a separate browser, and what went wrong in it: scripts or requests of other sites, policy
    violations.
    """

    def __init__(self, chromium: Browser, served: Served, token: str, **options) -> None:
        self.served, self.token = served, token
        self.origin = served.url.removesuffix("/v1")
        self._context = chromium.new_context(base_url=self.origin, **options)
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.wrong: list[str] = []
        self.page.on("dialog", lambda one: (self.wrong.append(f"dialog: {one.message}"), one.dismiss()))
        self.page.on("pageerror", lambda one: self.wrong.append(f"error: {one}"))
        self.page.on("console", lambda one: self.wrong.append(f"console: {one.text}") if one.type == "error" else None)
        self.page.on("request", self._look)

    def _look(self, request) -> None:
        if not request.url.startswith(f"{self.origin}/"):
            self.wrong.append(f"request: {request.url}")

    def log_in(self) -> Visitor:
        self.page.goto("/")
        self.page.fill("#token", self.token)
        self.page.press("#token", "Enter")
        self.page.wait_for_url(f"{self.origin}/")
        return self

    def close(self) -> None:
        self._context.close()


@pytest.fixture
def token(served: Served, request: pytest.FixtureRequest) -> str:
    return served.add_token("t" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12])


@pytest.fixture
def visit(chromium: Browser, served: Served, token: str):
    """Open browsers; at the end of the test, nothing may have gone wrong in any of them."""
    opened: list[Visitor] = []

    def visit(**options) -> Visitor:
        opened.append(Visitor(chromium, served, token, **options))
        return opened[-1]

    yield visit
    for one in opened:
        one.close()
    assert [wrong for one in opened for wrong in one.wrong] == []


@pytest.fixture
def visitor(visit) -> Visitor:
    return visit().log_in()


@pytest.fixture
def page(visitor: Visitor) -> Page:
    return visitor.page


@pytest.fixture
def client(served: Served, token: str):
    with served.client(token) as client:
        yield client


@pytest.fixture
def start(client):
    """Start a job over the wire. Returns its id."""

    def start(rows: bytes = jsonl(), epochs: int = 1, **options) -> str:
        file = client.files.create(file=("rows.jsonl", rows), purpose="fine-tune").id
        asked = {"n_epochs": epochs}
        return client.fine_tuning.jobs.create(model="finch", training_file=file, hyperparameters=asked, **options).id

    return start
