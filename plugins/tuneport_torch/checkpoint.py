"""Checkpoints that are whole or not there: written beside, sealed by a manifest, renamed into place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

_List = list  # within Store the name means its method
_MANIFEST = "manifest.json"
_STATE = "state.json"
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint whose every byte was compared with its manifest. `state` is what was saved beside the tensors."""

    folder: Path
    step: int
    state: Mapping[str, Any]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors that were saved under that name, on the CPU."""
        from safetensors.torch import load_file

        return load_file(self.folder / f"{name}.safetensors")


class Store:
    """The checkpoints of one job: a folder `step-00000012` each, with `NAME.safetensors`, `state.json` and a manifest
    of sizes and SHA-256. One process writes at a time; any may read. Only reading and writing tensors imports torch.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
        """Keep the state after a step; the newest `keep` and `state["best_step"]` stay, older ones go.

        Raises OSError or safetensors' error when it cannot be written, a full disk above all. The checkpoints that were
        there before are then as they were.
        """
        self.sweep()
        self.folder.mkdir(parents=True, exist_ok=True)
        folder, unfinished = self.folder / _name(step), self.folder / f"{_UNFINISHED}{_name(step)}"
        try:
            unfinished.mkdir()
            _write(unfinished, step, tensors, state)
            if folder.exists():  # a broken one, or the same state once more
                folder.rename(self.folder / f"{_UNFINISHED}replaced")
            unfinished.rename(folder)
            _sync(self.folder)
        except BaseException:
            self.sweep()
            raise
        self._prune(state.get("best_step"))
        return folder

    def newest_whole(self, tell: Callable[[str], None] = lambda _: None) -> Saved | None:
        """The newest checkpoint that is as it was written, or None; `tell` hears about each newer one that is not."""
        for folder in reversed(self._folders()):
            broken = _why_broken(folder)
            if broken is None:
                return _saved(folder)
            tell(f"Checkpoint {folder.name} is not used: {broken}. Going back to the one before.")
        return None

    def at(self, step: int) -> Saved | None:
        """The checkpoint of that step, if it is there and whole."""
        folder = self.folder / _name(step)
        return _saved(folder) if folder in self._folders() and _why_broken(folder) is None else None

    def list(self) -> _List[Checkpoint]:
        """The checkpoints that are there, oldest first, by their manifests; tensors are not read."""
        listed: list[tuple[Path, Mapping[str, Any]]] = []
        for folder in self._folders():
            try:
                listed.append((folder, json.loads((folder / _STATE).read_bytes())))
            except (OSError, ValueError):
                continue  # newest_whole says why
        best = listed[-1][1].get("best_step") if listed else None
        return [
            Checkpoint(
                name=folder.name,
                step=state["step"],
                created=datetime.fromisoformat(state["created"]),
                metrics=state.get("metrics", {}),
                best=state["step"] == best,
            )
            for folder, state in listed
        ]

    def sweep(self) -> None:
        """Remove what a killed or failed save left behind."""
        for orphan in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(orphan, ignore_errors=True)

    def _folders(self) -> _List[Path]:
        return sorted(self.folder.glob("step-*[0-9]"))

    def _prune(self, best_step: int | None) -> None:
        folders = self._folders()
        kept = {*folders[-self.keep :]}
        if best_step is not None:
            kept.add(self.folder / _name(best_step))
        for folder in folders:
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _write(folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    from safetensors.torch import save_file

    for name, named in tensors.items():
        save_file(
            {key: tensor.detach().cpu().contiguous() for key, tensor in named.items()}, folder / f"{name}.safetensors"
        )
    facts = {**state, "step": step, "created": datetime.now(UTC).isoformat()}
    (folder / _STATE).write_text(json.dumps(facts))
    files = {path.name: {"size": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(folder.iterdir())}
    (folder / _MANIFEST).write_text(json.dumps({"format": 1, "step": step, "files": files}, indent=1))
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


def _why_broken(folder: Path) -> str | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        if manifest["format"] != 1:
            return f"its format is {manifest['format']}, of a newer version of tuneport"
        for name, facts in manifest["files"].items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != facts["size"]:
                return f"{name} has {path.stat().st_size} bytes instead of {facts['size']}"
            if _sha256(path) != facts["sha256"]:
                return f"the bytes of {name} have changed"
        if _name(manifest["step"]) != folder.name or _STATE not in manifest["files"]:
            return "its manifest is of another checkpoint"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its manifest cannot be read ({type(error).__name__})"
    return None


def _saved(folder: Path) -> Saved:
    state = json.loads((folder / _STATE).read_bytes())
    return Saved(folder, state["step"], state)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, outlast a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
