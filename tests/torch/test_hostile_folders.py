"""A hostile model folder ends in a TuneportError or in success: within 500 MB and 10 s, never in a traceback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from folder_doors import Doors
from hostile_folders import ADAPTERS, FOLDERS, GGUFS


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    made = Doors(tmp_path_factory.mktemp("doors-home"))
    yield made
    made.close()


def assert_held(found: dict[str, str], *doors: str) -> None:
    faults = {door: said for door, said in found.items() if said.startswith("FAULT")}
    assert not faults, "\n".join(f"{door}: {said}" for door, said in faults.items())
    assert {*doors} <= {*found}


def test_a_real_folder_passes_every_door(doors: Doors, tiny_llama: Path) -> None:
    assert set(doors.go(tiny_llama).values()) == {"ok"}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_hostile_folder_is_refused_or_read(doors: Doors, tiny_llama: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    FOLDERS[name](folder)
    assert_held(doors.go(folder), "check", "plan", "text", "ask")


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_hostile_adapter_is_refused_or_read(doors: Doors, tiny_llama: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    ADAPTERS[name](folder)
    found = doors.go(folder / "adapter")
    assert_held(found, "check", "plan", "text", "ask")
    assert found["ask"] != "ok"


@pytest.mark.parametrize("name", GGUFS)
def test_a_hostile_gguf_file_is_refused(doors: Doors, tmp_path: Path, name: str) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(GGUFS[name])
    found = doors.go(file, "check", "plan")
    assert_held(found, "check", "plan")
