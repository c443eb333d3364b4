"""Examples to JSONL files that other trainers read."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from tuneport.dataset.example import Completion, Conversation, Example, canonical
from tuneport.errors import UsageError
from tuneport.files import replace_file
from tuneport.homefolder import local_path

_TAG = {"conversation": len(b'"shape":"conversation",'), "completion": len(b'"shape":"completion",')}
_encode = msgspec.json.Encoder(order="deterministic").encode


def write_examples(examples: Iterable[Example], path: Path, format: str, shapes: int) -> Path:  # noqa: A002 - as in Dataset.write
    """Write examples of that many shapes to a new file, which appears only when it is complete."""
    if format not in ("auto", "jsonl"):
        raise UsageError(f"Datasets are written as JSONL, not as {format!r}.", remedy="Leave out the format.")
    if format == "auto":
        require_jsonl_name(path)
    require_new(path)
    encode = choose_encoder(shapes)
    with open_new_file(path) as file:
        for example in examples:
            file.write(encode(example) + b"\n")
    return path


def require_jsonl_name(path: Path) -> None:
    """Raise UsageError where the name says that the file is not JSONL: it would be read as another format."""
    if not path.name.endswith((".jsonl", ".jsonl.gz", ".ndjson")):
        raise UsageError(
            f"{path} does not end in .jsonl, but the output is JSON Lines.", remedy=f"Write to {path.stem}.jsonl."
        )


def require_new(path: Path) -> None:
    """Raise UsageError when the file exists."""
    if local_path(path).exists():
        raise UsageError(f"{path} already exists.", remedy="Name a new file, or remove the old one first.")


def choose_encoder(shapes: int) -> Callable[[Example], bytes]:
    """The function that encodes a line: in the form of other trainers, or in our own, which tags several shapes."""
    return encode_for_trainers if shapes <= 1 else canonical


def encode_for_trainers(example: Example) -> bytes:
    """An example as other trainers read it: messages, prompt and completion, or OpenAI's preference pairs."""
    if isinstance(example, Conversation | Completion):
        tag = _TAG["conversation" if isinstance(example, Conversation) else "completion"]
        return b"{" + _encode(example)[1 + tag :]
    prompt: dict[str, object] = {"messages": example.prompt}
    if example.tools:
        prompt["tools"] = example.tools
    return _encode({"input": prompt, "preferred_output": example.chosen, "non_preferred_output": example.rejected})


@contextmanager
def open_new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file, compressed if its name ends in .gz, that appears under its name only when it is complete."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(replace_file(path))
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}.", remedy="Name another folder.") from error
        if path.name.endswith(".gz"):
            packed = stack.enter_context(gzip.GzipFile(fileobj=file, mode="wb", mtime=0))
            file = cast("BinaryIO", packed)
        yield file
