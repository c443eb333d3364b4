"""Checkpoints that are complete or absent: written under another name, sealed by a manifest, then renamed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuneport.contract.events import utc_now
from tuneport.contract.state import Checkpoint
from tuneport.doors import LOCAL, public
from tuneport.files import open_regular, sync
from tuneport.local.folder import read_file

_List = list  # within Checkpoints the name means its method
_MANIFEST = "manifest.json"
_STATE = "state.json"
_UNFINISHED = ".unfinished-"


@public(LOCAL)
@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint whose every byte was compared with its manifest. `folder` holds the files that were written, `state`
    the facts that were saved with them.
    """

    folder: Path
    step: int
    state: Mapping[str, Any]


@public(LOCAL)
class Checkpoints:
    """The checkpoints of one job: a folder `step-00000012` each, with the author's files, `state.json` and a manifest
    of sizes and SHA-256. One process writes at a time; any may read.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, step: int, write: Callable[[Path], object], state: Mapping[str, Any]) -> Path:
        """Save the state after a step: `write` gets an empty folder and puts files into it. The newest `keep` and
        `state["best_step"]` stay, older ones are removed.

        Raises OSError, and what `write` raises, when it cannot be written, above all on a full disk. The earlier
        checkpoints are then unchanged.
        """
        self.sweep()
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            sync(self.folder.parent)
        folder, unfinished = self.folder / _name(step), self.folder / f"{_UNFINISHED}{_name(step)}"
        try:
            unfinished.mkdir()
            write(unfinished)
            _seal(unfinished, step, state)
            if folder.exists():  # a damaged one: training would have continued from a complete one
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
        """The checkpoint of that step, if there is one and it is complete."""
        folder = self.folder / _name(step)
        return _read_saved(folder) if folder in self._folders() and _why_broken(folder) is None else None

    def list(self) -> _List[Checkpoint]:
        """The checkpoints that are there, oldest first, by their manifests; other files are not read."""
        listed = [(folder, state) for folder in self._folders() if (state := _read_state(folder)) is not None]
        best = listed[-1][1].get("best_step") if listed else None
        return [
            Checkpoint(
                name=folder.name,
                step=state["step"],
                created=datetime.fromisoformat(state["created"]),
                metrics=state.get("metrics", {}),
                best=state["step"] == best,
                uses=frozenset({"resume"}),
            )
            for folder, state in listed
        ]

    def sweep(self) -> None:
        """Remove what a killed or failed save left."""
        for orphan in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(orphan, ignore_errors=True)

    def _folders(self) -> _List[Path]:
        return sorted(self.folder.glob("step-*[0-9]"))

    def _prune(self, saved: Path, best_step: int | None) -> None:
        """Remove what is older than the newest `keep`, except the best; and what claims to be newer than what was just
        saved: it was damaged, or training would have continued from it.
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


def _seal(folder: Path, step: int, state: Mapping[str, Any]) -> None:
    """Write the facts and the manifest, and flush all files to disk."""
    facts = {**state, "step": step, "created": utc_now().isoformat()}
    (folder / _STATE).write_text(json.dumps(facts))
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": _sha256(path)} for path in paths
    }
    (folder / _MANIFEST).write_text(json.dumps({"format": 1, "step": step, "files": files}, indent=1))
    for path in folder.rglob("*"):
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
    """The facts that were saved, or None where they or the manifest have changed; `newest_intact` reports why."""
    try:
        raw, manifest = read_file(folder / _STATE), _manifest(folder)
        same = hashlib.sha256(raw).hexdigest() == manifest["files"][_STATE]["sha256"]
        ours = same and _name(manifest["step"]) == folder.name
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return json.loads(raw) if ours else None


def _manifest(folder: Path) -> Any:
    return json.loads(read_file(folder / _MANIFEST))


def _discard(folder: Path) -> None:
    """Remove a checkpoint in such an order that a kill leaves no incomplete one under its name."""
    doomed = folder.with_name(f"{_UNFINISHED}{folder.name}.old")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _read_saved(folder: Path) -> Saved:
    state = json.loads(read_file(folder / _STATE))
    return Saved(folder, state["step"], state)


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
