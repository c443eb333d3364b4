"""Checkpoints that are whole or not there: written beside, checked by manifest, renamed into place."""

from __future__ import annotations

from pathlib import Path


class Store:
    """The checkpoints of one job, in its folder `checkpoints/`. `list()` needs no torch; see module for the format."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep
