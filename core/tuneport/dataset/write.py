"""Examples to files that other tools read."""

from __future__ import annotations

import contextlib
import gzip
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from tuneport.dataset.example import Completion, Conversation, Example, canonical
from tuneport.errors import UsageError
from tuneport.homefolder import local_path

_TAG = {"conversation": len(b'"shape":"conversation",'), "completion": len(b'"shape":"completion",')}
_encode = msgspec.json.Encoder(order="deterministic").encode


def write(examples: Iterable[Example], path: Path, format: str, shapes: int) -> Path:  # noqa: A002 - as in Dataset.write
    """Write examples of so many shapes to a new file, whole or not at all."""
    if format not in ("auto", "jsonl"):
        raise UsageError(f"Datasets are written as JSONL, not as {format!r}.", remedy="Leave format out.")
    if format == "auto":
        named_jsonl(path)
    new_file(path)
    encode = encoder(shapes)
    with whole_file(path) as file:
        for example in examples:
            file.write(encode(example) + b"\n")
    return path


def named_jsonl(path: Path) -> None:
    """Raise UsageError where the name says another format than JSONL, which would be read as that."""
    if not path.name.endswith((".jsonl", ".jsonl.gz", ".ndjson")):
        raise UsageError(
            f"{path} does not end in .jsonl, and JSON lines are what is written.", remedy=f"Write to {path.stem}.jsonl."
        )


def encoder(shapes: int) -> Callable[[Example], bytes]:
    """What makes lines of a file of so many shapes: that of trainers, or our own, which tells shapes apart."""
    return line if shapes <= 1 else canonical


def new_file(path: Path) -> None:
    """Raise UsageError when that file is there already."""
    if local_path(path).exists():
        raise UsageError(f"{path} already exists.", remedy="Name a new file, or remove the old one first.")


def line(example: Example) -> bytes:
    """An example in the shape that trainers take: messages; prompt and completion; or OpenAI's preference pairs."""
    if isinstance(example, Conversation | Completion):
        tag = _TAG["conversation" if isinstance(example, Conversation) else "completion"]
        return b"{" + _encode(example)[1 + tag :]
    prompt: dict[str, object] = {"messages": example.prompt}
    if example.tools:
        prompt["tools"] = example.tools
    return _encode({"input": prompt, "preferred_output": example.chosen, "non_preferred_output": example.rejected})


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that appears under its name only once it is complete."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", remedy="Name another folder.") from error
    try:
        with os.fdopen(handle, "wb") as raw:
            os.fchmod(raw.fileno(), 0o644)
            if path.name.endswith(".gz"):
                with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:
                    yield cast("BinaryIO", packed)
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
