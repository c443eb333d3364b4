"""Dense copies of `.gguf` models: the same numbers, only used when complete, limited, and harmless when they fail."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time

import pytest
import torch

from tiny_models import shape, write
from tuneport.plugin import home
from tuneport_torch import export
from tuneport_torch.bases import dense, resolve
from tuneport_torch.bases.dense import DenseCopy
from tuneport_torch.bases.loading import load_model

LOAD = """
import sys
from tuneport_torch.bases import resolve
from tuneport_torch.bases.loading import load_model
print(load_model(resolve(sys.argv[1])).num_parameters())
"""


@pytest.fixture(scope="module")
def gguf(tmp_path_factory, tiny_tokenizer):
    """A model of 3 million parameters, so that a copy is worth it."""
    from transformers import LlamaConfig

    place = tmp_path_factory.mktemp("dense")
    config = LlamaConfig(**{**shape(tiny_tokenizer), "hidden_size": 256, "intermediate_size": 1536})
    return export.export_gguf(
        resolve(str(write(place / "base", config, tiny_tokenizer))), place / "base.gguf", dtype="q8_0"
    )


def copies():
    return sorted(home("cache", "dense").iterdir())


def load(path, dtype="float32"):
    return load_model(resolve(str(path)), dtype=dtype)


def assert_same(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert dict(model.named_buffers()).keys() == dict(other.named_buffers()).keys()
    both = [{**one.config.to_dict(), "transformers_version": None} for one in (model, other)]
    assert both[0] == both[1]
    assert model.generation_config.to_dict() == other.generation_config.to_dict()
    assert (model.name_or_path, model.training) == (other.name_or_path, other.training)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_copy_is_made_once_and_gives_the_very_same_model(gguf, dtype):
    first = load(gguf, dtype)
    (copy,) = copies()
    made = (copy / "model.safetensors").stat().st_mtime_ns
    again = load(gguf, dtype)
    assert_same(first, again)
    assert copies() == [copy]
    assert (copy / "model.safetensors").stat().st_mtime_ns == made
    moved = shutil.copy(gguf, gguf.parent / f"moved-{dtype}.gguf")
    load(moved, dtype)
    assert copies() == [copy]  # named after the content, not the path


def test_the_copy_is_loaded(gguf):
    """Proven with a copy that was changed together with its checksums."""
    from safetensors.torch import load_file, save_file

    load(gguf)
    (copy,) = copies()
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], 7.0)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    record = json.loads((copy / "copy.json").read_bytes())
    record["files"]["model.safetensors"] = dense._checksum(copy / "model.safetensors")
    (copy / "copy.json").write_text(json.dumps(record))
    assert load(gguf).model.norm.weight[0].item() == 7.0


def test_training_on_a_loaded_copy_does_not_change_it(gguf):
    load(gguf)
    model = load(gguf)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    assert DenseCopy(gguf, "float32").is_intact()


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


DAMAGE = {
    "a flipped bit": lambda copy: flip(copy / "model.safetensors"),
    "cut short": lambda copy: os.truncate(copy / "model.safetensors", 1000),
    "no weights": lambda copy: (copy / "model.safetensors").unlink(),
    "another config": lambda copy: (copy / "config.json").write_text("{}"),
    "no record": lambda copy: (copy / "copy.json").unlink(),
    "a damaged record": lambda copy: (copy / "copy.json").write_text('{"files": {"x": 3}}'),
    "a record that is no JSON": lambda copy: (copy / "copy.json").write_bytes(b"\0\xff"),
}


@pytest.fixture(scope="module")
def wanted(gguf, tmp_path_factory):
    before = os.environ.get("TUNEPORT_HOME")
    os.environ["TUNEPORT_HOME"] = str(tmp_path_factory.mktemp("home"))
    try:
        return load(gguf), home("cache", "dense")
    finally:
        os.environ.pop("TUNEPORT_HOME") if before is None else os.environ.update(TUNEPORT_HOME=before)


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_copy_is_made_again(kind, gguf, wanted):
    shutil.copytree(wanted[1], home("cache", "dense"), dirs_exist_ok=True)
    (copy,) = copies()
    DAMAGE[kind](copy)
    assert_same(load(gguf), wanted[0])
    assert copies() == [copy]
    assert DenseCopy(gguf, "float32").is_intact()


def test_another_file_at_the_same_path_has_another_copy(gguf, tmp_path):
    """The middle of a large file counts too."""
    path = tmp_path / "one.gguf"
    raw = bytearray(gguf.read_bytes())
    path.write_bytes(raw)
    first, before = DenseCopy(path, "float32"), path.stat()
    raw[len(raw) // 3] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert DenseCopy(path, "float32").folder != first.folder
    assert DenseCopy(path, "bfloat16").folder != DenseCopy(path, "float32").folder


def test_processes_that_unpack_at_once_all_get_the_model(gguf, own_home):
    started = [
        subprocess.Popen([sys.executable, "-c", LOAD, str(gguf)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert len({process.communicate()[0] for process in started}) == 1
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(copies()) == 1
    assert DenseCopy(gguf, "float32").is_intact()


def test_without_room_the_model_loads_as_before_with_a_warning(gguf, own_home):
    """A limit on file sizes simulates a full disk."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    said = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)" + LOAD
    run = subprocess.run(
        [sys.executable, "-c", said, str(gguf)], capture_output=True, text=True, preexec_fn=limit, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "could not be kept" in run.stderr
    assert "tuneport prune" in run.stderr
    assert copies() == []


def test_the_copies_that_were_not_used_for_longest_make_room(gguf, own_home):
    place = home("cache", "dense")
    for age, name in enumerate(("newest", "middle", "oldest")):
        folder = home("cache", "dense", name)
        (folder / "copy.json").write_text('{"files": {}}')
        (folder / "weights").touch()
        os.truncate(folder / "weights", 8 * 2**30)  # takes no blocks
        when = time.time() - 1000 * (1 + age)
        os.utime(folder / "copy.json", (when, when))
    abandoned = home("cache", "dense", ".new-killed")
    os.utime(abandoned, (1, 1))
    load(gguf)
    assert {one.name for one in copies()} == {"newest", "middle", DenseCopy(gguf, "float32").folder.name}
    assert sum(one.stat().st_size for one in place.rglob("*") if one.is_file()) <= dense.MOST_BYTES


def test_a_small_model_leaves_no_copy(tiny_llama, tmp_path):
    load(export.export_gguf(resolve(str(tiny_llama)), tmp_path / "tiny.gguf"))
    assert copies() == []
