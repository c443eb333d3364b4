"""A home and plugins of one's own for every test of the core."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent

ROWS = [
    ("My card never arrived", "card_arrival"),
    ("where on earth is the card I ordered", "card_arrival"),
    ("still no card in the letterbox, third week now", "card_arrival"),
    ("has the new debit card been posted yet?", "card_arrival"),
    ("I forgot my PIN", "pin"),
    ("how do I choose another pin code", "pin"),
    ("pin is blocked after three tries", "pin"),
    ("need to change the PIN on this thing", "pin"),
    ("refund still missing from my account", "refund"),
    ("when do I get my money back for the shoes", "refund"),
    ("they promised a refund on Monday. Nothing.", "refund"),
    ("Can you reverse the purchase I made by mistake", "refund"),
]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def parrot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The parrot backend, installed for real: found through its entry point like any third-party plugin."""
    from tuneport import loader

    site = tmp_path / "site"
    info = site / "parrot-0.1.dist-info"
    info.mkdir(parents=True)
    shutil.copy(HERE / "loader" / "parrot.py", site / "parrot.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[tuneport]\nparrot = parrot\n")
    monkeypatch.syspath_prepend(str(site))
    loader.load.cache_clear()
    yield
    loader.load.cache_clear()


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    """Twelve support messages with their labels."""
    file = tmp_path / "tickets.csv"
    lines = ["text,label", *(f'"{text}",{label}' for text, label in ROWS)]
    file.write_text("\n".join(lines) + "\n")
    return file
