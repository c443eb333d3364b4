"""GGUF files that an attacker could hand over."""

from __future__ import annotations

import struct


def gguf_text(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


def gguf(tensors: int, pairs: int, rest: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + rest


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return gguf_text(key) + struct.pack("<I", kind) + value


def llama(*pairs: bytes, tensor: bytes = b"", tensors: int = 0) -> bytes:
    kind = pair(b"general.architecture", 8, gguf_text(b"llama"))
    return gguf(tensors, 1 + len(pairs), kind + b"".join(pairs) + tensor)


GGUFS: dict[str, bytes] = {
    "a key of 8 GB": gguf(0, 1, gguf_text(b"abcde", 2**33)),
    "2^60 values": gguf(0, 2**60, b""),
    "2^60 tensors": gguf(2**60, 0, b""),
    "an array of 2^60 numbers": llama(pair(b"a", 9, struct.pack("<IQ", 0, 2**60))),
    "an array of 2^60 texts": llama(pair(b"a", 9, struct.pack("<IQ", 8, 2**60))),
    "an array of 2^60 arrays": llama(pair(b"a", 9, struct.pack("<IQ", 9, 2**60) + struct.pack("<IQ", 0, 0) * 1000)),
    "arrays in arrays": llama(pair(b"a", 9, struct.pack("<IQ", 9, 1) * 100_000)),
    "an array of a kind unknown": llama(pair(b"a", 9, struct.pack("<IQ", 77, 3))),
    "a value of a kind unknown": llama(pair(b"a", 77, b"")),
    "2^31 axes": llama(tensor=gguf_text(b"t") + struct.pack("<I", 2**31), tensors=1),
    "2^120 elements": llama(tensor=gguf_text(b"t") + struct.pack("<IQQ", 2, 2**60, 2**60) + bytes(12), tensors=1),
    "a tensor after the end": llama(
        tensor=gguf_text(b"t") + struct.pack("<IQ", 1, 1) + struct.pack("<IQ", 0, 2**62), tensors=1
    ),
    "a key that is no text": gguf(0, 1, pair(b"\xff\xfe", 4, bytes(4))),
    "version 99": gguf(0, 0, b"", version=99),
    "architecture is a number": gguf(0, 1, pair(b"general.architecture", 4, bytes(4))),
    "layers are a text": llama(pair(b"llama.block_count", 8, gguf_text(b"x"))),
    "vocabulary is negative": llama(pair(b"llama.vocab_size", 5, struct.pack("<i", -5))),
    "stop is a text": llama(pair(b"tokenizer.ggml.eos_token_id", 8, gguf_text(b"x"))),
    "an embedding of one axis": llama(
        tensor=gguf_text(b"token_embd.weight") + struct.pack("<IQ", 1, 4) + bytes(12) + bytes(64), tensors=1
    ),
    "a split part": llama(
        pair(b"split.count", 2, struct.pack("<H", 3)),
        pair(b"split.no", 2, struct.pack("<H", 1)),
        tensor=gguf_text(b"blk.0.attn_q.weight") + struct.pack("<IQ", 1, 4) + bytes(12) + bytes(64),
        tensors=1,
    ),
    "architecture is not known": gguf(0, 1, pair(b"general.architecture", 8, gguf_text(b"../../zebra"))),
    "architecture said twice": llama(pair(b"general.architecture", 4, bytes(4))),
    "a truth of 7": llama(pair(b"a", 7, b"\x07")),
    "a width that is no number": llama(pair(b"llama.embedding_length", 6, struct.pack("<f", float("nan")))),
    "positions without end": llama(pair(b"llama.context_length", 12, struct.pack("<d", float("inf")))),
    "a name of 60,000 bytes": llama(
        tensor=gguf_text(b"t" * 60_000) + struct.pack("<IQ", 1, 4) + bytes(12) + bytes(64), tensors=1
    ),
    "alignment of 0": llama(
        pair(b"general.alignment", 4, bytes(4)),
        tensor=gguf_text(b"token_embd.weight") + struct.pack("<IQQ", 2, 4, 4) + bytes(12) + bytes(64),
        tensors=1,
    ),
    "a tensor of a type unknown": llama(
        tensor=gguf_text(b"token_embd.weight") + struct.pack("<IQQ", 2, 4, 4) + struct.pack("<IQ", 99, 0) + bytes(64),
        tensors=1,
    ),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "nothing inside": llama(),
    "no bytes": b"",
}
