"""The record next to a tuned model: its base, its lineage, and how to ask it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from tuneport.errors import UnavailableError
from tuneport.plugin import Lineage
from tuneport_torch.bases.files import read_json

TUNED = "tuneport.json"
"""The file that marks a folder as a tuned model; export/saved.py writes it."""

MOST_ADAPTERS = 8
"""How many adapters may be stacked."""


class _Under(msgspec.Struct):
    name: str
    fingerprint: str
    near: str | None = None


class _Record(msgspec.Struct):
    """The required content of a tuneport.json; see export/saved.py."""

    base: _Under
    lineage: Lineage
    style: Literal["chat", "plain"]
    stop_ids: list[int]
    golden: list[int]
    template_sha256: str | None


def read_record(path: Path | None) -> dict[str, Any] | None:
    """The record of a tuned model, as export/saved.py describes it; None for any other model. Raises UnavailableError
    for a damaged one.
    """
    record = read_json(path / TUNED) if path is not None and path.is_dir() else {}
    if not record:
        return None
    try:
        msgspec.convert(record, _Record)
        Lineage.from_dict(record["lineage"])
    except (msgspec.ValidationError, TypeError) as error:
        raise UnavailableError(
            f"{path}/{TUNED} is damaged, or was written by a newer version of tuneport: {error}.",
            remedy="Copy it again, or update tuneport.",
        ) from error
    return record


def missing_base(folder: Path) -> str:
    """The ref of a tuned model's base if that was a file or folder which is gone; otherwise "". Checks only that the
    path exists.
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
