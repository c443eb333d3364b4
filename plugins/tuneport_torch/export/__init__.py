"""Writes models: the folder that training leaves, and the formats that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.errors import UnavailableError, UsageError
from tuneport_torch.export.card import CardFacts
from tuneport_torch.export.folders import DTYPES, check_adapter, export_adapter, export_merged
from tuneport_torch.export.gguf_file import check_gguf, export_gguf
from tuneport_torch.export.modelfile import export_ollama
from tuneport_torch.export.saved import save

if TYPE_CHECKING:
    from tuneport_torch.bases import Base

__all__ = ["CardFacts", "check", "export_adapter", "export_gguf", "export_merged", "export_ollama", "save", "write"]


def write(base: Base, path: Path, kind: str, dtype: str | None = None, facts: CardFacts | None = None) -> Path:
    """Write a model as one of the kinds adapter, merged, gguf (a file) or ollama. See `export_adapter` and so on."""
    from safetensors import SafetensorError

    check(base, kind, dtype)
    try:
        return _write(base, path, kind, dtype, facts)
    except (OSError, SafetensorError) as error:
        raise UnavailableError(
            f"{path} could not be written completely, so it was removed: {error}.",
            remedy="Free some disk space, or choose another place.",
        ) from error


def _write(base: Base, path: Path, kind: str, dtype: str | None, facts: CardFacts | None) -> Path:
    match kind:
        case "adapter":
            return export_adapter(base, path, facts)
        case "gguf":
            return export_gguf(base, path, dtype=dtype)
        case "ollama":
            return export_ollama(base, path, facts, dtype=dtype)
    return export_merged(base, path, facts, dtype=dtype and DTYPES[dtype])


def check(base: Base, kind: str, dtype: str | None = None) -> None:
    """Raise UnsupportedError or UsageError for what cannot be written, as far as is known without the weights."""
    if kind == "adapter":
        check_adapter(base)
        if dtype is not None:
            raise UsageError("An adapter is exported as it was trained, in float32.", remedy="Leave out --dtype.")
    elif kind in ("gguf", "ollama"):
        check_gguf(base, dtype)
    elif dtype is not None and dtype not in DTYPES:
        raise UsageError(f"A merged model cannot be stored as {dtype!r}.", remedy=f"Choose one of: {', '.join(DTYPES)}")
