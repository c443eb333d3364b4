"""What training writes beside a tuned model, and what it says of the base under it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from tuneport.errors import UnavailableError
from tuneport.plugin import Lineage
from tuneport_torch.bases.files import read_json

TUNED = "tuneport.json"
"""The file that makes a folder one of our tuned models; export.py writes it."""

MOST_ADAPTERS = 8
"""How many adapters may stand one over the other."""


class _Under(msgspec.Struct):
    name: str
    fingerprint: str
    near: str | None = None


class _Record(msgspec.Struct):
    """What a tuneport.json must hold; see export/saved.py."""

    base: _Under
    lineage: Lineage
    style: Literal["chat", "plain"]
    stop_ids: list[int]
    golden: list[int]
    template_sha256: str | None


def read_record(path: Path | None) -> dict[str, Any] | None:
    """What training wrote beside one of our tuned models (export/ says what); None for any other model. Raises
    UnavailableError for a damaged one.
    """
    record = read_json(path / TUNED) if path is not None and path.is_dir() else {}
    if not record:
        return None
    try:
        msgspec.convert(record, _Record)
        Lineage.from_dict(record["lineage"])
    except (msgspec.ValidationError, TypeError) as error:
        raise UnavailableError(
            f"{path}/{TUNED} is damaged, or of a newer version of tuneport: {error}.",
            remedy="Copy it again, or update tuneport.",
        ) from error
    return record


def missing_base(folder: Path) -> str:
    """The base under one of our tuned models, by its ref, where it was a file or folder that is gone; else nothing.
    Looks at names only.
    """
    for _ in range(MOST_ADAPTERS):
        record = read_record(folder)
        if record is None or not (folder / "adapter_config.json").is_file():
            return ""
        name: str = record["base"]["name"]
        if not name.startswith("/"):
            return ""
        if not Path(name).exists():
            return str(record["lineage"]["base"])
        folder = Path(name)
    return ""
