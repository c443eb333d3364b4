"""Models in folders and .gguf files."""

from __future__ import annotations

from pathlib import Path

from tuneport.errors import ModelNotFound
from tuneport_torch.bases.base import Base
from tuneport_torch.bases.facts import describe, facts_of_folder, facts_of_gguf, fingerprint, is_complete
from tuneport_torch.bases.files import no_weights, read_json


def open_folder(folder: Path) -> Base:
    """The model in a folder with config.json and .safetensors files. Raises ModelNotFound or UnavailableError."""
    if not read_json(folder / "config.json"):
        raise ModelNotFound(
            f"{folder} contains no model: it has no readable config.json.",
            remedy="Name the folder that contains config.json and the .safetensors files.",
        )
    if not is_complete(folder):
        raise no_weights(folder)
    facts = facts_of_folder(folder)
    return Base(
        name=str(folder),
        kind="folder",
        path=folder,
        fingerprint=fingerprint(folder),
        description=describe(facts, folder.name),
        upstream=str(folder),
        facts=facts,
    )


def open_gguf(path: Path) -> Base:
    """The model in a .gguf file. Raises UnavailableError if the file is damaged."""
    facts = facts_of_gguf(path)
    return Base(
        name=str(path),
        kind="gguf",
        path=path,
        fingerprint=fingerprint(path),
        description=describe(facts, path.stem),
        upstream=str(path),
        facts=facts,
    )
