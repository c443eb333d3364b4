"""Checkpoints that are complete or absent: written to a temporary folder with a manifest, then renamed."""

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

from tuneport.plugin import Checkpoint, open_regular, sync
from tuneport_torch.jobs.folder import read_file

if TYPE_CHECKING:
    from torch import Tensor

_List = list  # within Store `list` is a method
_MANIFEST = "manifest.json"
_STATE = "state.json"
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint whose files match its manifest. `state` is what was saved besides the tensors."""

    folder: Path
    step: int
    state: Mapping[str, Any]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors saved under that name, on the CPU."""
        from safetensors.torch import load_file

        return load_file(self.folder / f"{name}.safetensors")


class Store:
    """The checkpoints of one job: each is a folder `step-00000012` with `NAME.safetensors`, `state.json` and a manifest
    of sizes and SHA-256. One process may write at a time; any may read. Only reading and writing tensors imports torch.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
        """Save the state after a step. The newest `keep` checkpoints and `state["best_step"]` stay; others are deleted.

        Raises OSError or safetensors' error if it cannot be written, for example because the disk is full. Then the
        existing checkpoints do not change.
        """
        self.sweep()
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            sync(self.folder.parent)
        folder, unfinished = self.folder / _name(step), self.folder / f"{_UNFINISHED}{_name(step)}"
        try:
            unfinished.mkdir()
            _write(unfinished, step, tensors, state)
            if folder.exists():  # a broken one: training would have resumed from an intact one
                _discard(folder)
            unfinished.rename(folder)
            sync(self.folder)
        except BaseException:
            self.sweep()
            raise
        self._prune(folder, state.get("best_step"))
        return folder

    def newest_intact(self, report: Callable[[str], None] = lambda _: None) -> Saved | None:
        """The newest intact checkpoint, or None. `report` gets a message about each newer one that is damaged."""
        folders = self._folders()
        for folder in reversed(folders):
            broken = _why_broken(folder)
            if broken is None:
                return _read_saved(folder)
            then = "Trying the one before" if folder != folders[0] else "There is none before it: starting over"
            report(f"Checkpoint {folder.name} is not used: {broken}. {then}.")
        return None

    def at(self, step: int) -> Saved | None:
        """The checkpoint of that step, if it exists and is intact."""
        folder = self.folder / _name(step)
        return _read_saved(folder) if folder in self._folders() and _why_broken(folder) is None else None

    def list(self) -> _List[Checkpoint]:
        """The existing checkpoints by their manifests, oldest first. Tensors are not read."""
        listed = [(folder, state) for folder in self._folders() if (state := _read_state(folder)) is not None]
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
        """Remove what killed or failed saves left behind."""
        for orphan in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(orphan, ignore_errors=True)

    def _folders(self) -> _List[Path]:
        return sorted(self.folder.glob("step-*[0-9]"))

    def _prune(self, saved: Path, best_step: int | None) -> None:
        """Delete all but the newest `keep` and the best. Those with a later step than the one just saved are deleted
        too: they are damaged, or training would have resumed from there.
        """
        folders = self._folders()
        newest = folders.index(saved) + 1
        kept = {*folders[max(0, newest - self.keep) : newest]}
        if best_step is not None:
            kept.add(self.folder / _name(best_step))
        for folder in folders:
            if folder not in kept:
                with suppress(OSError):  # the next save tries again
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
            return f"{_MANIFEST} has format {manifest['format']}, from a newer version of tuneport"
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
                return f"the SHA-256 of {name} differs from {_MANIFEST}"
        except FileNotFoundError:
            return f"{name} of {_MANIFEST} is missing"
        except OSError as error:
            return f"{name} of {_MANIFEST} cannot be read ({error.strerror})"
    return None


def _read_state(folder: Path) -> Mapping[str, Any] | None:
    """The state besides the tensors; None if it or the manifest was changed, as `newest_intact` reports."""
    try:
        raw, manifest = read_file(folder / _STATE), _manifest(folder)
        intact = hashlib.sha256(raw).hexdigest() == manifest["files"][_STATE]["sha256"]
        ours = intact and _name(manifest["step"]) == folder.name
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return json.loads(raw) if ours else None


def _manifest(folder: Path) -> Any:
    return json.loads(read_file(folder / _MANIFEST))


def _discard(folder: Path) -> None:
    """Remove a checkpoint so that a kill in between leaves no part of it under its name."""
    doomed = folder.with_name(f"{_UNFINISHED}{folder.name}.old")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _read_saved(folder: Path) -> Saved:
    state = json.loads(read_file(folder / _STATE))
    return Saved(folder, state["step"], state)


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
