"""Model folders that an attacker could hand over: named ones, made by hand, and mutations of real files."""

from __future__ import annotations

import json
import os
import socket
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
        value = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**value, **changes}))

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
        value = json.loads(whole[8 : 8 + length])
        raw = change(value)
        raw = (raw if isinstance(raw, str) else json.dumps(value if raw is None else raw)).encode()
        path.write_bytes(len(raw).to_bytes(8, "little") + raw + whole[8 + length :])

    return attack


def entry(**changes: Any) -> Attack:
    """Keys of one tensor's entry in the header replaced."""
    return header(lambda value: value[max(value)].update(changes))


def tokenizer(change: Callable[[dict[str, Any]], Any]) -> Attack:
    def attack(folder: Path) -> None:
        path = folder / "tokenizer.json"
        value = json.loads(path.read_text())
        changed = change(value)
        path.write_text(json.dumps(value if changed is None else changed))

    return attack


def next_to_a_token(more: str) -> Attack:
    """A key that no added token has, as text, in front of the first one's content."""

    def attack(folder: Path) -> None:
        path = folder / "tokenizer.json"
        path.write_text(path.read_text().replace('"content":', f'{more},"content":', 1))

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
            value = {**config, **changes}
            if isinstance(base, str):
                value["base_model_name_or_path"] = base.format(
                    folder=folder, other="other" if name == "adapter" else "adapter"
                )
            (inner / "adapter_config.json").write_text(json.dumps(value))
            (inner / "adapter_model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())

    return attack


def both(*attacks: Attack) -> Attack:
    def attack(folder: Path) -> None:
        for one in attacks:
            one(folder)

    return attack


def without_tokenizer(**files: str | bytes) -> Attack:
    """No tokenizer.json, and files of the older kinds instead: `a__b` is the file a.b."""

    def attack(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        for name, content in files.items():
            written(".".join(name.rsplit("__", 1)), content)(folder)

    return attack


def hard_linked(file: str, outside: str) -> Attack:
    def attack(folder: Path) -> None:
        away = folder.parent / outside
        (folder / file).rename(away)
        os.link(away, folder / file)

    return attack


def many(count: int, name: str) -> Attack:
    def attack(folder: Path) -> None:
        for number in range(count):
            (folder / name.format(number)).touch()

    return attack


def record(**changes: Any) -> Attack:
    """A tuneport.json as training writes it, with keys replaced."""
    lineage = {"base": "torch:x", "job": "torch:y", "data_fingerprint": "0", "created": "2026-01-01T00:00:00+00:00"}
    value = {
        "format": 1,
        "base": {"name": "/nowhere", "fingerprint": "0"},
        "lineage": lineage,
        "style": "chat",
        "stop_ids": [2],
        "golden": [1, 2],
        "template_sha256": None,
    }
    return written("tuneport.json", json.dumps({**value, **changes}))


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
    "header nested deeply": header(lambda value: DEEP),
    "header is a list": header(lambda value: [1]),
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
    "tensor is a number": header(lambda value: {**value, max(value): 7}),
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
    "normalizer multiplies": tokenizer(lambda value: value.update(normalizer=replaced("a", "a" * 1000, 4))),
    "normalizer multiplies a bit": tokenizer(lambda value: value.update(normalizer=replaced("a", "aaa", 3))),
    "normalizer of many steps": tokenizer(lambda value: value.update(normalizer=replaced("zz", "y", 200_000))),
    "cut that never ends": tokenizer(lambda value: value.update(pre_tokenizer=split(r"(a+)+(a+)+(a+)+$|((a|a)*)*b"))),
    "cut that panics": tokenizer(lambda value: value.update(pre_tokenizer=split(r"(?:(?:a+)+)+(?=z)"))),
    "cut is no expression": tokenizer(lambda value: value.update(pre_tokenizer=split("(("))),
    "added token of number 10^9": tokenizer(
        lambda value: value["added_tokens"].append({**value["added_tokens"][0], "id": 10**9, "content": "<x>"})
    ),
    "added token without text": tokenizer(
        lambda value: value["added_tokens"].append({**value["added_tokens"][0], "content": ""})
    ),
    "100,000 control tokens": tokenizer(
        lambda value: value["added_tokens"].extend(
            {**value["added_tokens"][0], "id": 600 + n, "content": f"<{n}>"} for n in range(100_000)
        )
    ),
    "vocabulary numbers repeat": tokenizer(
        lambda value: value["model"].update(vocab=dict.fromkeys(value["model"]["vocab"], 7))
    ),
    "vocabulary of number 2^31": tokenizer(lambda value: value["model"]["vocab"].update(zz=2**31)),
    "merges of nothing": tokenizer(lambda value: value["model"].update(merges=[["q", "never"]])),
    "padding of a billion": tokenizer(
        lambda value: value.update(
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
        lambda value: value.update(
            truncation={"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 5}
        )
    ),
    "decoder multiplies": tokenizer(
        lambda value: value.update(
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
    # numbers that JSON does not have, keys said twice, names that are no text
    "config of no numbers": written("config.json", '{"model_type":"llama","vocab_size":NaN,"hidden_size":Infinity}'),
    "rope of no number": changed("config.json", rope_theta=float("nan"), rope_parameters={"rope_theta": float("inf")}),
    "norm of no number": changed("config.json", rms_norm_eps=float("nan"), initializer_range=float("-inf")),
    "number of 5,000 digits": written("config.json", '{"model_type":"llama","vocab_size":' + "9" * 5000 + "}"),
    "number of 400 digits": changed("config.json", vocab_size=10**400),
    "model_type said twice": written("config.json", '{"model_type":"llama","model_type":["x"],"vocab_size":1}'),
    "file names that are no text": lambda folder: (folder / os.fsdecode(b"\xff\xfe.json")).write_text("{}"),
    "file names that steer": written("\x1b]0;x\x07\u202e.json", "{"),
    "file names that differ in case": both(written("Config.json", "{"), written("TOKENIZER.JSON", "[")),
    "100,000 files": many(12_000, "{0}.json"),
    "code with the model": both(
        changed("config.json", auto_map={"AutoModelForCausalLM": "--../../evil.M", "AutoTokenizer": ["evil.T", None]}),
        written("evil.py", "raise SystemExit('the code of a model was run')"),
    ),
    "code for the tokenizer": both(
        changed(
            "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
        ),
        written("evil.py", "raise SystemExit('the code of a model was run')"),
    ),
    "code to generate": both(
        lambda folder: (folder / "custom_generate").mkdir(),
        written("custom_generate/generate.py", "raise SystemExit('the code of a model was run')"),
    ),
    # links and special files
    "folder of templates leads out": linked("chat_templates", "/etc"),
    "folder of templates is a pipe": pipe("additional_chat_templates"),
    "weights of another name are a pipe": pipe("other.safetensors"),
    "weights are another file as well": hard_linked("model.safetensors", "elsewhere"),
    "added tokens are a device": linked("added_tokens.json", "/dev/random"),
    "merges are a socket": listening("merges.txt"),
    "preprocessor is a pipe": pipe("preprocessor_config.json"),
    # generation
    "generation_config of 6 MB": written("generation_config.json", '{"bad_words_ids":[' + "[1]," * 1_500_000 + "[1]]}"),
    "generation_config is nested deeply": written("generation_config.json", DEEP),
    "generation_config stops at 2^62": changed("generation_config.json", eos_token_id=[2**62], pad_token_id="x"),
    "generation_config stops everywhere": changed("generation_config.json", eos_token_id=list(range(500))),
    "generation_config of another class": changed(
        "generation_config.json", cache_implementation="x", watermarking_config={"a": []}, compile_config=[1]
    ),
    # safetensors
    "metadata is a list": header(lambda value: {**value, "__metadata__": [1]}),
    "metadata of numbers": header(lambda value: {**value, "__metadata__": {"format": 5}}),
    "metadata names another format": header(lambda value: {**value, "__metadata__": {"format": "tf"}}),
    "tensor said twice": header(lambda value: json.dumps(value)[:-1] + "," + json.dumps(value)[1:]),
    "header padded with zeros": header(lambda value: json.dumps(value) + "\0" * 64),
    "tensor without a name": header(lambda value: {("" if one == max(value) else one): value[one] for one in value}),
    # index
    "index leads up and down again": changed(
        "model.safetensors.index.json", weight_map={"a": "x/../../model/model.safetensors"}
    ),
    "index names a name of a mile": changed(
        "model.safetensors.index.json", weight_map={"a": "a" * 5000 + ".safetensors"}
    ),
    "index names half a character": changed("model.safetensors.index.json", weight_map={"a": "\ud800.safetensors"}),
    "index names a shard below a file": changed(
        "model.safetensors.index.json", weight_map={"a": "config.json/a.safetensors"}
    ),
    # templates
    "template that never ends": written("chat_template.jinja", "{% for a in range(10**9) %}{% endfor %}"),
    "template of much text": written("chat_template.jinja", "{{ 'a' * 10**10 }}"),
    "template is no template": written("chat_template.jinja", "{% if %}{{"),
    "template nested deeply": written("chat_template.jinja", "{{" + "(" * 5000 + ")" * 5000 + "}}"),
    "template calls for attributes": written("chat_template.jinja", "{{ messages.__class__.__mro__ }}"),
    "templates without a name": changed("tokenizer_config.json", chat_template=[{"name": [1], "template": {}}] * 1000),
    "template is an object": both(
        lambda folder: (folder / "chat_template.jinja").unlink(missing_ok=True),
        changed("tokenizer_config.json", chat_template={"default": "x"}),
    ),
    "special tokens of odd kinds": changed(
        "special_tokens_map.json", eos_token={"content": [1]}, bos_token=[["x"]], additional_special_tokens="x"
    ),
    # large tokenizers
    "tokenizer of 41 MB": written("tokenizer.json", '{"version":"1.0",' + " " * 42_000_000 + "}"),
    "8 million objects next to a token": next_to_a_token('"x":[' + "{}," * 8_000_000 + "{}]"),
    "model of 10 million numbers": written("tokenizer.json", '{"version":"1.0","model":[' + "0," * 10**7 + "0]}"),
}

OLDER: dict[str, Attack] = {
    "no tokenizer": without_tokenizer(),
    "tokenizer of sentencepiece without end": without_tokenizer(
        tokenizer__model=b"\x0a\xff\xff\xff\xff\x0f" + b"a" * 64
    ),
    "words that are no text": without_tokenizer(vocab__txt=b"\xff\xfe\n" * 100),
    "merges of nothing known": without_tokenizer(vocab__json='{"a":0}', merges__txt="#version: 0.2\nq z\n\n\n x\n"),
    "vocabulary of odd numbers": without_tokenizer(vocab__json='{"a":-1,"b":1e400}', merges__txt="a b"),
}
"""Folders without a tokenizer.json, which must be converted: that takes seconds."""

ADAPTERS: dict[str, Attack] = {
    "adapter over itself": adapter("{folder}/adapter"),
    "adapters over each other": adapter("{folder}/{other}"),
    "adapter over a list": adapter(["x"]),
    "adapter over a number": adapter(5),
    "adapter over nothing": adapter(None),
    "adapter over a null byte": adapter("/a\0b"),
    "adapter over a name without end": adapter("a" * 20_000),
    "adapter over a path without end": adapter("./" + "a" * 20_000),
    "adapter over no hub name": adapter("a/-b"),
    "adapter over a revision that leads up": adapter("a/b@../../../../etc/hosts"),
    "adapter over nobody's home": adapter("~nobody-of-that-name/x"),
    "adapter of rank 2^40": adapter("{folder}", r=2**40),
    "adapter of rank text": adapter("{folder}", r="16"),
    "adapter of rank 0": adapter("{folder}", r=0),
    "adapter of dropout 7": adapter("{folder}", lora_dropout=7),
    "adapter for other layers": adapter("{folder}"),
    "adapter of an odd kind": adapter("{folder}", peft_type=["LORA"]),
    "adapter of odd modules": adapter(
        "{folder}", target_modules={"a": 1}, layers_to_transform=[[1]], modules_to_save=5
    ),
    "adapter of no number": adapter("{folder}", lora_alpha=float("nan")),
    "adapter scaled without end": adapter("{folder}", lora_alpha=1e308, use_rslora="yes"),
    "adapter over a device": adapter("/dev/zero"),
    "adapter over half a character": adapter("a/\ud800"),
}
