"""Checkpoints that are whole or not there: written beside, sealed by a manifest, renamed into place."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.plugin import Checkpoint, open_regular
from tuneport_torch.jobs.folder import read_file, sync

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
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            sync(self.folder.parent)
        folder, unfinished = self.folder / _name(step), self.folder / f"{_UNFINISHED}{_name(step)}"
        try:
            unfinished.mkdir()
            _write(unfinished, step, tensors, state)
            if folder.exists():  # a broken one: a whole one would have been gone on with
                _discard(folder)
            unfinished.rename(folder)
            sync(self.folder)
        except BaseException:
            self.sweep()
            raise
        self._prune(folder, state.get("best_step"))
        return folder

    def newest_whole(self, tell: Callable[[str], None] = lambda _: None) -> Saved | None:
        """The newest checkpoint that is as it was written, or None; `tell` hears about each newer one that is not."""
        folders = self._folders()
        for folder in reversed(folders):
            broken = _why_broken(folder)
            if broken is None:
                return _saved(folder)
            then = "Going back to the one before" if folder != folders[0] else "There is none before: starting anew"
            tell(f"Checkpoint {folder.name} is not used: {broken}. {then}.")
        return None

    def at(self, step: int) -> Saved | None:
        """The checkpoint of that step, if it is there and whole."""
        folder = self.folder / _name(step)
        return _saved(folder) if folder in self._folders() and _why_broken(folder) is None else None

    def list(self) -> _List[Checkpoint]:
        """The checkpoints that are there, oldest first, by their manifests; tensors are not read."""
        listed = [(folder, state) for folder in self._folders() if (state := _whole_state(folder)) is not None]
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

    def _prune(self, saved: Path, best_step: int | None) -> None:
        """Let go of what is older than the newest `keep`, but for the best; and of what claims to be newer than what
        was just saved: it was broken, or training would have gone on from there.
        """
        folders = self._folders()
        newest = folders.index(saved) + 1
        kept = {*folders[max(0, newest - self.keep) : newest]}
        if best_step is not None:
            kept.add(self.folder / _name(best_step))
        for folder in folders:
            if folder not in kept:
                with suppress(OSError):  # the next one to be saved tries again
                    _discard(folder)


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
        sync(path)
    sync(folder)


def _why_broken(folder: Path) -> str | None:
    try:
        manifest = _manifest(folder)
        if manifest["format"] != 1:
            return f"{_MANIFEST} has format {manifest['format']}, of a newer version of tuneport"
        if _name(manifest["step"]) != folder.name or _STATE not in manifest["files"]:
            return f"{_MANIFEST} is of another checkpoint"
        files = {name: (facts["size"], facts["sha256"]) for name, facts in manifest["files"].items()}
    except FileNotFoundError:
        return f"{_MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{_MANIFEST} cannot be read ({type(error).__name__})"
    for name, (size, sha256) in files.items():
        path = folder / name
        try:
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, {_MANIFEST} says {size}"
            if _sha256(path) != sha256:
                return f"{name} is not the file of {_MANIFEST}, by SHA-256"
        except FileNotFoundError:
            return f"{name} of {_MANIFEST} is missing"
        except OSError as error:
            return f"{name} of {_MANIFEST} cannot be read ({error.strerror})"
    return None


def _whole_state(folder: Path) -> Mapping[str, Any] | None:
    """What was saved beside the tensors, or None where that or the manifest has changed; newest_whole says why."""
    try:
        raw, manifest = read_file(folder / _STATE), _manifest(folder)
        whole = hashlib.sha256(raw).hexdigest() == manifest["files"][_STATE]["sha256"]
        ours = whole and _name(manifest["step"]) == folder.name
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return json.loads(raw) if ours else None


def _manifest(folder: Path) -> Any:
    return json.loads(read_file(folder / _MANIFEST))


def _discard(folder: Path) -> None:
    """Remove a checkpoint in such an order that a kill meanwhile leaves no half of one under its name."""
    doomed = folder.with_name(f"{_UNFINISHED}{folder.name}.old")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _saved(folder: Path) -> Saved:
    state = json.loads(read_file(folder / _STATE))
    return Saved(folder, state["step"], state)


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
