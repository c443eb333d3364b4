"""What a weights file says of itself, read from its first bytes: no torch, no numpy, and no weights in memory."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_HEADER_LIMIT = 256 * 2**20  # a header larger than this is not a header


class BadHeader(ValueError):  # noqa: N818 - reads as what happened
    """The file is not what its name says, or is cut short."""


@dataclass(frozen=True, slots=True)
class Header:
    """A file's metadata and the shape of each tensor in it."""

    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(math.prod(shape) for shape in self.shapes.values())


def read_safetensors(path: Path) -> Header:
    """The header of a .safetensors file; raises BadHeader. Format: huggingface.co/docs/safetensors."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, _HEADER_LIMIT):
            raise BadHeader(f"{path} is not a whole safetensors file.")
        try:
            raw = json.loads(file.read(length))
            metadata = raw.pop("__metadata__", {})
            shapes = {name: tuple(entry["shape"]) for name, entry in raw.items()}
            end = max((entry["data_offsets"][1] for entry in raw.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadHeader(f"{path} has no readable safetensors header.") from error
    if 8 + length + end != size:
        raise BadHeader(f"{path} is cut short: its header tells of {8 + length + end:,} bytes, {size:,} are there.")
    return Header(metadata, shapes)


_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LENGTH = struct.Struct("<Q")


def read_gguf(path: Path) -> Header:
    """The metadata of a .gguf file, arrays left out; raises BadHeader. Format: ggml's docs/gguf.md, versions 2, 3."""
    with path.open("rb") as file:
        try:
            if file.read(4) != b"GGUF":
                raise BadHeader(f"{path} is not a GGUF file.")
            version, tensors, pairs = _unpack(file, "IQQ")
            if version not in (2, 3):
                raise BadHeader(f"{path} is GGUF version {version}; versions 2 and 3 can be read.")
            metadata = {}
            for _ in range(pairs):
                key = _text(file)
                value = _value(file, _unpack(file, "I")[0])
                if value is not None:
                    metadata[key] = value
            shapes = {}
            for _ in range(tensors):
                name = _text(file)
                (dimensions,) = _unpack(file, "I")
                shapes[name] = tuple(_unpack(file, "Q" * dimensions))
                _unpack(file, "IQ")
        except (struct.error, UnicodeDecodeError, KeyError, OverflowError) as error:
            raise BadHeader(f"{path} is cut short or damaged.") from error
    return Header(metadata, shapes)


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        return _unpack(file, _SCALARS[kind])[0]
    inner, count = _unpack(file, "IQ")
    if inner == _STRING:
        _skip_texts(file, count)
    elif inner == _ARRAY:
        for _ in range(count):
            _value(file, _ARRAY)
    else:
        file.seek(count * struct.calcsize("<" + _SCALARS[inner]), 1)
    return None


def _skip_texts(file: BinaryIO, count: int) -> None:
    """Go past so many texts, block by block: a vocabulary has a hundred thousand."""
    block, at = b"", 0
    for _ in range(count):
        if at + _LENGTH.size > len(block):
            file.seek(at - len(block), 1)
            block, at = file.read(1 << 16), 0
        at += _LENGTH.size + _LENGTH.unpack_from(block, at)[0]
    file.seek(at - len(block), 1)


def _text(file: BinaryIO) -> str:
    (length,) = _unpack(file, "Q")
    if length > _HEADER_LIMIT:
        raise OverflowError(length)
    return file.read(length).decode()


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    layout = "<" + layout
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
