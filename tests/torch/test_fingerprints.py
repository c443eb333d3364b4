"""Every file that a model or tokenizer is loaded from changes its fingerprint, and nothing is read from elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tuneport.errors import UnavailableError
from tuneport_torch.bases import facts, resolve
from tuneport_torch.bases.facts import first_fingerprint
from tuneport_torch.bases.loading import load_model

# Python sees what Python opens; the weights are opened by safetensors, in Rust.
LISTENING = """
import os, sys
folder, opened = os.path.realpath(sys.argv[1]), set()
def hear(event, given):
    if event == "open" and isinstance(given[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(given[0]))
        if path.startswith(folder + os.sep):
            opened.add(os.path.relpath(path, folder))
sys.addaudithook(hear)
from tuneport_torch.bases import resolve
from tuneport_torch.bases.loading import load_model
from tuneport_torch.text.sandbox.convert_tokenizer import convert
from tuneport_torch.text.load import load_codec
load_model(resolve(folder))
load_codec(resolve(folder)).close()
convert(folder, None, sys.argv[2], trust_remote_code=False)
print("\\n".join(sorted(opened)))
"""


@pytest.fixture
def full(tiny_llama: Path, tmp_path: Path) -> Path:
    """A folder with every kind of file that a loader looks for, its weights in folders below."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_llama, tmp_path / "full")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "shards").mkdir()
    places = {name: f"shards/{number % 2}.safetensors" for number, name in enumerate(sorted(tensors))}
    for place in set(places.values()):
        some = {name: tensors[name] for name in tensors if places[name] == place}
        save_file(some, folder / place, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (folder / "added_tokens.json").write_text(json.dumps({"<|im_end|>": 2}))
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(merges))
    for extra in ("chat_templates", "additional_chat_templates"):
        (folder / extra).mkdir()
        (folder / extra / "rag.jinja").write_text("{{ messages }}")
    return folder


def test_every_file_that_is_opened_is_in_the_fingerprint(full: Path, tmp_path: Path) -> None:
    opened: set[str] = set()
    for kind in ("tokenizer.json", "vocab.json"):
        if kind == "vocab.json":  # the tokenizer is made from that and merges.txt
            (full / "tokenizer.json").rename(full / "kept")
            reported = json.loads((full / "tokenizer_config.json").read_text())
            (full / "tokenizer_config.json").write_text(json.dumps({**reported, "tokenizer_class": "GPT2Tokenizer"}))
        command = [sys.executable, "-c", LISTENING, str(full), str(tmp_path / kind)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        opened |= {name for name in ran.stdout.split() if (full / name).is_file()}
    (full / "kept").rename(full / "tokenizer.json")
    assert {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} < opened
    assert {"model.safetensors.index.json", "shards/0.safetensors", "vocab.json", "merges.txt"} < opened
    before = resolve(str(full)).fingerprint
    for name in sorted(opened):
        whole = (full / name).read_bytes()
        (full / name).write_bytes(whole + b" " if not name.endswith(".safetensors") else whole[:-1] + b"\1")
        assert resolve(str(full)).fingerprint != before, name
        (full / name).write_bytes(whole)
    assert resolve(str(full)).fingerprint == before


def test_an_older_fingerprint_is_still_known(tmp_path: Path, tiny_llama: Path) -> None:
    folder = tmp_path / "older"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "generation_config.json", "a.safetensors", "notes.txt"):
        (folder / name).write_bytes(name.encode())
    assert (
        first_fingerprint(folder) == "d34868bfd69084099422d769cbd308f8045df63f7398065ba96603804a2712f4"
    )  # computed by the first version
    base = resolve(str(tiny_llama))
    assert base.matches(first_fingerprint(tiny_llama))
    assert base.matches(base.fingerprint)
    assert not base.matches("0" * 64)


def test_links_may_only_lead_into_the_hubs_blobs(tiny_llama: Path, tmp_path: Path) -> None:
    root = tmp_path / "models--org--tiny"
    blobs, snapshot, outside = root / "blobs", root / "snapshots" / ("a" * 40), tmp_path / "elsewhere"
    for folder in (blobs, snapshot, outside):
        folder.mkdir(parents=True)
    for number, file in enumerate(sorted(tiny_llama.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert load_model(resolve(str(snapshot))).num_parameters() == resolve(str(tiny_llama)).facts.parameters
    for name in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"):
        folder = shutil.copytree(tiny_llama, tmp_path / f"linked-{name}")
        (folder / name).rename(outside / name)
        (folder / name).symlink_to(outside / name)
        with pytest.raises(UnavailableError, match="outside the model's folder"):
            resolve(str(folder))


def test_unchanged_files_are_hashed_once_and_a_change_is_always_seen(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"a" * 1000)
    times = file.stat()
    time.sleep(2.1)  # a fresh file is hashed at every call, because its time stamps may not show a second change
    first = facts.fingerprint(file)
    hits = facts._cached_digest.cache_info().hits
    assert facts.fingerprint(file) == first
    assert facts._cached_digest.cache_info().hits == hits + 1
    file.write_bytes(b"b" * 1000)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert facts.fingerprint(file) != first
