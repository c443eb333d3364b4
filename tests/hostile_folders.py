"""Model folders that an attacker could hand over: named ones, made by hand, and mutations of real files."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEEP = '{"a":' * 200_000 + "1" + "}" * 200_000
Attack = Callable[[Path], None]
"""Changes a copy of a real folder."""


def changed(file: str, **changes: Any) -> Attack:
    """Keys of a JSON file replaced."""

    def attack(folder: Path) -> None:
        path = folder / file
        told = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**told, **changes}))

    return attack


def written(file: str, content: str | bytes) -> Attack:
    def attack(folder: Path) -> None:
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)

    return attack


def pipe(file: str) -> Attack:
    def attack(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        os.mkfifo(folder / file)

    return attack


def linked(file: str, target: str) -> Attack:
    def attack(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        (folder / file).symlink_to(target)

    return attack


def directory(file: str) -> Attack:
    def attack(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        (folder / file).mkdir()

    return attack


def listening(file: str) -> Attack:
    def attack(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        here = Path.cwd()
        os.chdir(folder)  # the name of a socket has few bytes
        try:
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(file)
        finally:
            os.chdir(here)

    return attack


def header(change: Callable[[dict[str, Any]], Any]) -> Attack:
    """The header of model.safetensors changed, its weights left."""

    def attack(folder: Path) -> None:
        path = folder / "model.safetensors"
        whole = path.read_bytes()
        length = int.from_bytes(whole[:8], "little")
        told = json.loads(whole[8 : 8 + length])
        raw = change(told)
        raw = (raw if isinstance(raw, str) else json.dumps(told if raw is None else raw)).encode()
        path.write_bytes(len(raw).to_bytes(8, "little") + raw + whole[8 + length :])

    return attack


def entry(**changes: Any) -> Attack:
    """Keys of one tensor's entry in the header replaced."""
    return header(lambda told: told[max(told)].update(changes))


def tokenizer(change: Callable[[dict[str, Any]], Any]) -> Attack:
    def attack(folder: Path) -> None:
        path = folder / "tokenizer.json"
        told = json.loads(path.read_text())
        changed = change(told)
        path.write_text(json.dumps(told if changed is None else changed))

    return attack


def replaced(pattern: str, content: str, times: int = 1) -> dict[str, Any]:
    """A normalizer that replaces text, again and again."""
    one = {"type": "Replace", "pattern": {"String": pattern}, "content": content}
    return {"type": "Sequence", "normalizers": [one] * times}


def split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def adapter(base: Any, **changes: Any) -> Attack:
    """An adapter folder inside, and the attack is on that: tests name FOLDER/adapter."""
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4.0, "lora_dropout": 0.0, "base_model_name_or_path": base}

    def attack(folder: Path) -> None:
        for name in ("adapter", "other"):
            inner = folder / name
            inner.mkdir()
            told = {**config, **changes}
            if isinstance(base, str):
                told["base_model_name_or_path"] = base.format(
                    folder=folder, other="other" if name == "adapter" else "adapter"
                )
            (inner / "adapter_config.json").write_text(json.dumps(told))
            (inner / "adapter_model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())

    return attack


def record(**changes: Any) -> Attack:
    """A tuneport.json as training writes it, with keys replaced."""
    lineage = {"base": "torch:x", "job": "torch:y", "data_fingerprint": "0", "created": "2026-01-01T00:00:00+00:00"}
    told = {
        "format": 1,
        "base": {"name": "/nowhere", "fingerprint": "0"},
        "lineage": lineage,
        "style": "chat",
        "stop_ids": [2],
        "golden": [1, 2],
        "template_sha256": None,
    }
    return written("tuneport.json", json.dumps({**told, **changes}))


FOLDERS: dict[str, Attack] = {
    # config.json
    "text_config is a text": changed("config.json", text_config="deep"),
    "text_config is a list": changed("config.json", text_config=[1]),
    "a billion layers": changed("config.json", num_hidden_layers=10**9),
    "layers are a text": changed("config.json", num_hidden_layers="2"),
    "a trillion wide": changed("config.json", hidden_size=2**40),
    "a trillion in the middle": changed("config.json", intermediate_size=2**40),
    "larger than its weights": changed("config.json", intermediate_size=200_000),
    "a negative vocabulary": changed("config.json", vocab_size=-5),
    "no heads": changed("config.json", num_attention_heads=0),
    "heads are a list": changed("config.json", num_attention_heads=[4, "x"]),
    "heads of a billion": changed("config.json", num_key_value_heads=2**30),
    "eos_token_id is an object": changed("config.json", eos_token_id={"a": 1}),
    "eos_token_id is nested": changed("config.json", eos_token_id=[[2]]),
    "dtype is no type": changed("config.json", dtype="float7", torch_dtype="float7"),
    "dtype is a list": changed("config.json", dtype=["float32"]),
    "model_type is a list": changed("config.json", model_type=["llama"]),
    "model_type is unknown": changed("config.json", model_type="zebra"),
    "model_type is another": changed("config.json", model_type="gpt2"),
    "positions without end": changed("config.json", max_position_embeddings=2**60),
    "positions are a text": changed("config.json", max_position_embeddings="many"),
    "rope is a text": changed("config.json", rope_parameters="yarn", rope_scaling="yarn"),
    "rope lacks everything": changed("config.json", rope_parameters={"rope_type": "yarn"}),
    "activation is unknown": changed("config.json", hidden_act="boom"),
    "tying is a text": changed("config.json", tie_word_embeddings="maybe"),
    "quantized by nobody": changed("config.json", quantization_config={"quant_method": "x", "bits": -1}),
    "quantized by a text": changed("config.json", quantization_config="four"),
    "code of its own": changed("config.json", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}),
    "architectures are numbers": changed("config.json", architectures=[1]),
    "config nested deeply": written("config.json", DEEP),
    "config is a list": written("config.json", "[1]"),
    "config of 6 MB": written("config.json", '{"model_type":"llama","a":[' + "[],[]," * 1_000_000 + "[]]}"),
    "config is no text": written("config.json", b"\xff\xfe\x00"),
    "config is a pipe": pipe("config.json"),
    "config is a directory": directory("config.json"),
    "config is a socket": listening("config.json"),
    "config is a device": linked("config.json", "/dev/zero"),
    "config is its own link": linked("config.json", "config.json"),
    "config is another's": linked("config.json", "/etc/hosts"),
    "weights are a pipe": pipe("model.safetensors"),
    "weights are a device": linked("model.safetensors", "/dev/zero"),
    "generation_config stops at an object": changed("generation_config.json", eos_token_id={"a": 1}),
    "generation_config is a pipe": pipe("generation_config.json"),
    "generation_config is odd": changed("generation_config.json", temperature="hot", max_length=-3, num_beams=10**9),
    # safetensors
    "header of 2^63 bytes": written("model.safetensors", (2**63).to_bytes(8, "little") + b"{}"),
    "header nested deeply": header(lambda told: DEEP),
    "header is a list": header(lambda told: [1]),
    "offsets are texts": entry(data_offsets=["0", "8"]),
    "offsets are negative": entry(data_offsets=[-8, 0]),
    "offsets overlap": entry(data_offsets=[0, 512]),
    "offsets of 2^62": entry(data_offsets=[0, 2**62]),
    "shape is a text": entry(shape="128"),
    "shape is nested": entry(shape=[[128]]),
    "shape is negative": entry(shape=[-128]),
    "shape of 2^60": entry(shape=[2**30, 2**30]),
    "shape of many axes": entry(shape=[2**62] * 50_000),
    "dtype of a tensor unknown": entry(dtype="F7"),
    "tensor is a number": header(lambda told: {**told, max(told): 7}),
    # index
    "index leads up": changed("model.safetensors.index.json", weight_map={"a": "../../secret.safetensors"}),
    "index leads to the root": changed("model.safetensors.index.json", weight_map={"a": "/etc/passwd"}),
    "index is a list of names": changed("model.safetensors.index.json", weight_map=["model.safetensors"]),
    "index names a number": changed("model.safetensors.index.json", weight_map={"a": 5}),
    "index names the folder": changed("model.safetensors.index.json", weight_map={"a": "."}),
    "index names a pickle": changed("model.safetensors.index.json", weight_map={"a": "model.bin"}),
    "index nested deeply": written(
        "model.safetensors.index.json", '{"weight_map":{"a":"model.safetensors"},"x":' + DEEP + "}"
    ),
    "index is a pipe": pipe("model.safetensors.index.json"),
    "index is odd inside": changed(
        "model.safetensors.index.json", weight_map={"a": "model.safetensors"}, metadata=[1, {"total_size": "x"}]
    ),
    # tokenizer
    "normalizer multiplies": tokenizer(lambda told: told.update(normalizer=replaced("a", "a" * 1000, 4))),
    "normalizer multiplies a bit": tokenizer(lambda told: told.update(normalizer=replaced("a", "aaa", 3))),
    "normalizer of many steps": tokenizer(lambda told: told.update(normalizer=replaced("zz", "y", 200_000))),
    "cut that never ends": tokenizer(lambda told: told.update(pre_tokenizer=split(r"(a+)+(a+)+(a+)+$|((a|a)*)*b"))),
    "cut that panics": tokenizer(lambda told: told.update(pre_tokenizer=split(r"(?:(?:a+)+)+(?=z)"))),
    "cut is no expression": tokenizer(lambda told: told.update(pre_tokenizer=split("(("))),
    "added token of number 10^9": tokenizer(
        lambda told: told["added_tokens"].append({**told["added_tokens"][0], "id": 10**9, "content": "<x>"})
    ),
    "added token without text": tokenizer(
        lambda told: told["added_tokens"].append({**told["added_tokens"][0], "content": ""})
    ),
    "100,000 control tokens": tokenizer(
        lambda told: told["added_tokens"].extend(
            {**told["added_tokens"][0], "id": 600 + n, "content": f"<{n}>"} for n in range(100_000)
        )
    ),
    "vocabulary numbers repeat": tokenizer(
        lambda told: told["model"].update(vocab=dict.fromkeys(told["model"]["vocab"], 7))
    ),
    "vocabulary of number 2^31": tokenizer(lambda told: told["model"]["vocab"].update(zz=2**31)),
    "merges of nothing": tokenizer(lambda told: told["model"].update(merges=[["q", "never"]])),
    "padding of a billion": tokenizer(
        lambda told: told.update(
            padding={
                "strategy": {"Fixed": 10**9},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "x",
            }
        )
    ),
    "truncation with a stride": tokenizer(
        lambda told: told.update(
            truncation={"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 5}
        )
    ),
    "decoder multiplies": tokenizer(
        lambda told: told.update(
            decoder={
                "type": "Sequence",
                "decoders": [
                    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                    *([{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 4),
                ],
            }
        )
    ),
    "tokenizer is empty": written("tokenizer.json", "{}"),
    "tokenizer nested deeply": written("tokenizer.json", DEEP),
    "tokenizer is a pipe": pipe("tokenizer.json"),
    "tokenizer is a link out": linked("tokenizer.json", "/etc/hosts"),
    "tokenizer_config is odd": changed(
        "tokenizer_config.json", eos_token=["x"], bos_token=5, add_bos_token="yes", chat_template=[1, {"name": 2}]
    ),
    "tokenizer_config is a list": written("tokenizer_config.json", "[]"),
    "special tokens are a pipe": pipe("special_tokens_map.json"),
    "template is a pipe": pipe("chat_template.jinja"),
    "template is no text": written("chat_template.jinja", b"\xff\xfe"),
    "template is a secret": linked("chat_template.jinja", "/etc/hosts"),
    "vocab.txt is a pipe": pipe("vocab.txt"),
    # what training writes
    "record is a list": written("tuneport.json", "[1]"),
    "record of odd stops": record(stop_ids={"a": 1}),
    "record of odd ids": record(golden=["x"]),
    "record without lineage": record(lineage=None),
    "record with another lineage": record(lineage={"zebra": 1}),
    "record nested deeply": written("tuneport.json", DEEP),
}

ADAPTERS: dict[str, Attack] = {
    "adapter over itself": adapter("{folder}/adapter"),
    "adapters over each other": adapter("{folder}/{other}"),
    "adapter over a list": adapter(["x"]),
    "adapter over a number": adapter(5),
    "adapter over nothing": adapter(None),
    "adapter over a null byte": adapter("/a\0b"),
    "adapter over nobody's home": adapter("~nobody-of-that-name/x"),
    "adapter of rank 2^40": adapter("{folder}", r=2**40),
    "adapter of rank text": adapter("{folder}", r="16"),
    "adapter of rank 0": adapter("{folder}", r=0),
    "adapter of dropout 7": adapter("{folder}", lora_dropout=7),
    "adapter for other layers": adapter("{folder}"),
    "adapter of an odd kind": adapter("{folder}", peft_type=["LORA"]),
}


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
    "nothing inside": llama(),
    "no bytes": b"",
}


WRONG: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 7, 2**31, 2**63, 2**64, 10**9, 10**30, 0.5, 1e308, float("nan"), float("inf")),
    *("", "x", "\0", "a" * 20_000, "../../x", "\ud800", [], {}, [[]], ["x"], [1, 2], [2**40], {"a": 1}, {"type": "x"}),
    json.loads("[" * 100 + "]" * 100),
)
"""What a place in a JSON file is replaced with."""

SETTINGS = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("model.safetensors.index.json", "tuneport.json", "model.safetensors", "adapter/adapter_config.json"),
)
"""The files of a folder that have JSON in them; of the weights, the header."""


def places(told: Any, under: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in a JSON value."""
    inside = told.items() if isinstance(told, dict) else enumerate(told[:4]) if isinstance(told, list) else ()
    found = [under] if under else []
    for key, value in list(inside)[:40]:
        found += places(value, (*under, key))
    return found


def mutate_json(raw: bytes, draw: Callable[[int], int]) -> bytes:
    """One to three places replaced, removed, renamed or repeated; `draw(n)` gives a number below n."""
    told = json.loads(raw)
    for _ in range(1 + draw(3)):
        found = places(told)
        if not found:
            break
        *above, last = found[draw(len(found))]
        inside = told
        for key in above:
            inside = inside[key]
        what = draw(8)
        if what == 0:
            del inside[last]
        elif what == 1 and isinstance(inside, dict):
            inside[f"{last}_"] = inside.pop(last)
        elif what == 2 and isinstance(inside, list):
            inside += [inside[last]] * 50
        else:
            inside[last] = WRONG[draw(len(WRONG))]
    return json.dumps(told).encode()


def mutate_bytes(raw: bytes, draw: Callable[[int], int], within: int) -> bytes:
    """Bytes among the first `within` changed, cut out, put in, or numbers of 8 bytes made huge."""
    changed = bytearray(raw)
    for _ in range(1 + draw(3)):
        at, what = draw(max(1, min(within, len(changed)))), draw(5)
        if what == 0:
            changed[at : at + 1] = bytes([draw(256)])
        elif what == 1:
            del changed[at : at + 1 + draw(16)]
        elif what == 2:
            changed[at:at] = bytes([draw(256)]) * (1 + draw(16))
        elif what == 3:
            changed[at : at + 8] = (1 << draw(64)).to_bytes(8, "little")
        else:
            del changed[at:]
    return bytes(changed)


def mutate(folder: Path, file: str, draw: Callable[[int], int]) -> None:
    """One file of a folder mutated, with an eye for its structure."""
    path = folder / file
    raw = path.read_bytes()
    if draw(6) == 0:
        path.write_bytes(mutate_bytes(raw, draw, 4096))
    elif file.endswith(".json"):
        path.write_bytes(mutate_json(raw, draw))
    else:
        length = int.from_bytes(raw[:8], "little")
        header = mutate_json(raw[8 : 8 + length], draw)
        path.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length :])
