"""The header of a weights file, read without torch, numpy or the weights.

Every count and length in a file is compared with the file's size before anything of that size is read or made.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tuneport_torch.bases.files import open_regular

_HEADER_BYTES = 16 * 2**20  # of a safetensors header, enough for 130,000 tensors
_KEY_BYTES = 2**16  # ggml's docs/gguf.md: a key has at most 65,535 bytes
_TEXT_BYTES = 2**24  # of a text in a GGUF header: chat templates have some kilobytes
_KEPT_BYTES = 2**26  # of all texts that are kept
_PAIRS = 2**16
_TENSORS = 2**16
_ELEMENTS = 2**21  # of all arrays: a vocabulary of 262,000 tokens takes 1.3 million
_AXES = 8


class BadHeader(ValueError):  # noqa: N818 - names the thing
    """The file is not what its name says, or is cut short."""


@dataclass(frozen=True, slots=True)
class Header:
    """A file's metadata, the shape of each tensor in it, and the number of bytes before the tensors."""

    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    length: int = 0

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(_elements(shape) for shape in self.shapes.values())


class _Tensor(msgspec.Struct):
    """An entry of a safetensors header. `__metadata__`, whose values are texts, is read as one too."""

    dtype: str = ""
    shape: list[int] | str = ""
    data_offsets: tuple[int, int] | str = ""


_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8}
_BITS |= {"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32}
_BITS |= {"F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64}


def read_safetensors(path: Path) -> Header:
    """The header of a .safetensors file; raises BadHeader. Format: huggingface.co/docs/safetensors."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise BadHeader(f"{path} is not a complete safetensors file.")
        if length > _HEADER_BYTES:
            raise BadHeader(f"{path} has a header of {length:,} bytes; at most {_HEADER_BYTES:,} are read.")
        raw = file.read(length)
    try:
        entries = msgspec.json.decode(raw, type=dict[str, _Tensor])
    except (ValueError, RecursionError) as error:
        raise BadHeader(f"{path} has no readable safetensors header.") from error
    entries.pop("__metadata__", None)
    end = 0
    for name, entry in sorted(entries.items(), key=_place):
        begin = end
        end = _end(path, name, entry, begin, size - 8 - length)
    if 8 + length + end != size:
        raise BadHeader(f"{path} is cut short: its header describes {8 + length + end:,} bytes, the file has {size:,}.")
    shapes = {name: tuple(entry.shape) for name, entry in entries.items() if isinstance(entry.shape, list)}
    return Header({}, shapes, 8 + length)


def _place(item: tuple[str, _Tensor]) -> tuple[int, int]:
    offsets = item[1].data_offsets
    return offsets if isinstance(offsets, tuple) else (-1, -1)


def _end(path: Path, name: str, entry: _Tensor, begin: int, size: int) -> int:
    """Where the tensor's bytes end; raises BadHeader unless they follow the last tensor's and fit its shape."""
    problem = f"{path} has a damaged safetensors header: {name[:200]!r}"
    if not isinstance(entry.shape, list) or not isinstance(entry.data_offsets, tuple):
        raise BadHeader(f"{problem} has no shape or no offsets.")
    bits, (start, end) = _BITS.get(entry.dtype), entry.data_offsets
    if bits is None:
        raise BadHeader(f"{problem} is of an unknown type, {entry.dtype[:40]!r}.")
    if len(entry.shape) > _AXES or any(axis < 0 for axis in entry.shape):
        raise BadHeader(f"{problem} has an impossible shape.")
    if start != begin or end < start:
        raise BadHeader(f"{problem} does not begin where the tensor before it ends.")
    if end > size:
        raise BadHeader(f"{path} is cut short: its header describes {end:,} bytes of weights, the file has {size:,}.")
    if _elements(entry.shape) * bits != 8 * (end - start):
        raise BadHeader(f"{problem} has a shape that its {end - start:,} bytes do not fit.")
    return end


def _elements(shape: Sequence[int]) -> int:
    """The number of elements of a shape."""
    count = 1
    for axis in shape:
        count *= axis
    return count


_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LENGTH = struct.Struct("<Q")


def read_gguf(path: Path) -> Header:
    """The metadata of a .gguf file, arrays left out; raises BadHeader. Format: ggml's docs/gguf.md, versions 2, 3."""
    with open_regular(path) as file:
        try:
            return _Gguf(path, file).header()
        except (struct.error, UnicodeDecodeError, KeyError, OverflowError) as error:
            raise BadHeader(f"{path} is cut short or damaged.") from error


class _Gguf:
    """Reads one GGUF file from its start, and knows how much of it is left."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._size = os.fstat(file.fileno()).st_size
        self._kept = self._elements = 0

    def header(self) -> Header:
        if self._read(4) != b"GGUF":
            raise BadHeader(f"{self._path} is not a GGUF file.")
        version, tensors, pairs = self._unpack("IQQ")
        if version not in (2, 3):
            raise BadHeader(f"{self._path} is GGUF version {version}; versions 2 and 3 can be read.")
        if pairs > _PAIRS or tensors > _TENSORS:
            raise BadHeader(f"{self._path} is damaged: it claims {pairs:,} values and {tensors:,} tensors.")
        metadata = {}
        for _ in range(pairs):
            key = self._text(_KEY_BYTES)
            value = self._value(self._unpack("I")[0])
            if value is not None:
                metadata[key] = value
        shapes = dict(self._tensor() for _ in range(tensors))
        header = Header(metadata, shapes, self._file.tell())
        left = self._size - self._file.tell()
        if header.parameters > 8 * left:  # no format has less than a bit per weight
            raise BadHeader(f"{self._path} is cut short: {header.parameters:,} weights cannot be in {left:,} bytes.")
        return header

    def _tensor(self) -> tuple[str, tuple[int, ...]]:
        name = self._text(_KEY_BYTES)
        (axes,) = self._unpack("I")
        if axes > _AXES:
            raise BadHeader(f"{self._path} is damaged: a tensor has {axes:,} axes.")
        shape = self._unpack("Q" * axes)
        _, offset = self._unpack("IQ")
        if offset > self._size:
            raise BadHeader(f"{self._path} is cut short: a tensor begins at {offset:,}, after its end.")
        return name, shape

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text(_TEXT_BYTES)
        if kind != _ARRAY:
            return self._unpack(_SCALARS[kind])[0]
        inner, count = self._unpack("IQ")
        self._elements += count
        if self._elements > _ELEMENTS:
            raise BadHeader(f"{self._path} is damaged: its arrays have {self._elements:,} elements and more.")
        if inner == _ARRAY:
            raise BadHeader(f"{self._path} has an array of arrays, which no model's GGUF file has.")
        if inner == _STRING:
            self._skip_texts(count)
        else:
            self._skip(count * struct.calcsize("<" + _SCALARS[inner]))
        return None

    def _skip_texts(self, count: int) -> None:
        """Skip texts, block by block: a vocabulary has a hundred thousand."""
        block, at = b"", 0
        for _ in range(count):
            if at + _LENGTH.size > len(block):
                self._skip(at - len(block))
                block, at = self._file.read(1 << 16), 0
            at += _LENGTH.size + _LENGTH.unpack_from(block, at)[0]
        self._skip(at - len(block))

    def _skip(self, count: int) -> None:
        if count > self._size - self._file.tell():
            raise OverflowError(count)
        self._file.seek(count, 1)

    def _text(self, limit: int) -> str:
        (length,) = self._unpack("Q")
        self._kept += length
        if length > limit or self._kept > _KEPT_BYTES:
            raise BadHeader(f"{self._path} is damaged: a text has {length:,} bytes.")
        return self._read(length).decode()

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        layout = "<" + layout
        return struct.unpack(layout, self._read(struct.calcsize(layout)))

    def _read(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise OverflowError(count)
        return self._file.read(count)
