"""A model out of here: what training leaves on disk, and the forms that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.errors import UnavailableError, UsageError
from tuneport_torch.export.card import Facts
from tuneport_torch.export.folders import DTYPES, adapter, check_adapter, merged
from tuneport_torch.export.gguf_file import check_gguf, gguf
from tuneport_torch.export.modelfile import ollama
from tuneport_torch.export.saved import save

if TYPE_CHECKING:
    from tuneport_torch.bases import Base

__all__ = ["Facts", "adapter", "check", "gguf", "merged", "ollama", "save", "write"]


def write(base: Base, path: Path, kind: str, dtype: str | None = None, facts: Facts | None = None) -> Path:
    """Write a model as one of the kinds adapter, merged, gguf (a file) and ollama; see the function of that name."""
    from safetensors import SafetensorError

    check(base, kind, dtype)
    try:
        return _written(base, path, kind, dtype, facts)
    except (OSError, SafetensorError) as error:
        raise UnavailableError(
            f"{path} could not be written whole, so nothing is left of it: {error}.",
            remedy="Free some space, or name another place.",
        ) from error


def _written(base: Base, path: Path, kind: str, dtype: str | None, facts: Facts | None) -> Path:
    match kind:
        case "adapter":
            return adapter(base, path, facts)
        case "gguf":
            return gguf(base, path, dtype=dtype)
        case "ollama":
            return ollama(base, path, facts, dtype=dtype)
    return merged(base, path, facts, dtype=dtype and DTYPES[dtype])


def check(base: Base, kind: str, dtype: str | None = None) -> None:
    """Raise UnsupportedError or UsageError for what cannot be written, as far as can be told without the weights."""
    if kind == "adapter":
        check_adapter(base)
        if dtype is not None:
            raise UsageError("An adapter is exported as it was trained, in float32.", remedy="Leave --dtype out.")
    elif kind in ("gguf", "ollama"):
        check_gguf(base, dtype)
    elif dtype is not None and dtype not in DTYPES:
        raise UsageError(f"A merged model is not stored as {dtype!r}.", remedy=f"Choose one of: {', '.join(DTYPES)}")
