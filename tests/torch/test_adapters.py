"""Adapters of other tools: plain LoRA computes as PEFT does, everything else is refused with a remedy."""

import dataclasses
import json
import shutil

import pytest
import torch

import tiny_training as tiny
import tuneport
from torch_jobs import begin, settled
from tuneport.errors import UnavailableError, UnsupportedError
from tuneport_torch import bases
from tuneport_torch.bases import adapter, lora
from tuneport_torch.bases.loading import load_model

peft = pytest.importorskip("peft")

PLAIN = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


def logits(model):
    ids = torch.arange(2 * 9).view(2, 9)
    with torch.no_grad():
        return model.eval()(input_ids=ids, use_cache=False).logits


def write(folder, *, embeddings="auto", **options):
    """An adapter as PEFT writes it, with weights that change the model's answers."""
    theirs = peft.get_peft_model(tiny.model(), peft.LoraConfig(**{**PLAIN, **options}))
    torch.manual_seed(3)
    for name, weight in theirs.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    theirs.save_pretrained(folder, save_embedding_layers=embeddings)
    return folder


def change(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write(tmp_path_factory.mktemp("adapters") / "plain")


@pytest.fixture
def changed(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "adapter")


def test_every_setting_of_the_installed_peft_is_known():
    known = adapter.ANY | adapter.NEUTRAL
    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert fields <= known, f"Decide what these settings of a newer PEFT mean: {sorted(fields - known)}"
    assert not adapter.ANY & adapter.NEUTRAL


def test_every_setting_that_peft_declares_as_a_variant_is_refused_when_set():
    variants = {field.name for field in dataclasses.fields(peft.LoraConfig) if field.metadata.get("is_lora_variant")}
    assert variants
    assert variants <= adapter.NEUTRAL


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"init_lora_weights": False},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": "eva"},
        {"init_lora_weights": "mica"},
        {"target_modules": r".*\.(up|down)_proj"},
        {"layers_to_transform": [1]},
        {"exclude_modules": ["v_proj"]},
        {"lora_dropout": 0.3},
        {"target_modules": "all-linear"},
    ],
    ids=str,
)
def test_each_kind_that_is_loaded_computes_as_in_peft(options, tmp_path):
    folder = write(tmp_path / "adapter", **options)
    theirs = peft.PeftModel.from_pretrained(tiny.model(), folder)
    ours, bare = tiny.model(), logits(tiny.model())
    lora.load_peft(ours, folder)
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(ours), bare, atol=1e-2)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga", "a_newer_start"])
def test_a_start_that_changes_the_base_is_refused_with_the_cure(start, changed):
    change(changed, init_lora_weights=start)
    with pytest.raises(UnsupportedError, match=rf"init_lora_weights is '{start}'[\s\S]*path_initial_model"):
        adapter.read_lora(changed)


def test_an_adapter_that_peft_converts_by_the_remedy_is_loaded(tmp_path):
    """The conversion that the error proposes gives plain LoRA with the same logits."""
    options = peft.LoraConfig(**{**PLAIN, "init_lora_weights": "pissa"})
    theirs = peft.get_peft_model(tiny.model(), options)
    start = tmp_path / "start"
    theirs.peft_config["default"].init_lora_weights = True  # as in PEFT's own recipe
    theirs.save_pretrained(start)
    torch.manual_seed(3)
    for name, weight in theirs.named_parameters():
        if "lora_B" in name:
            weight.data += 0.1 * torch.randn_like(weight)
    wanted = logits(theirs)
    theirs.peft_config["default"].init_lora_weights = "pissa"
    theirs.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=str(start))
    ours = tiny.model()
    lora.load_peft(ours, tmp_path / "plain")
    torch.testing.assert_close(logits(ours), wanted, rtol=1e-3, atol=1e-3)


OTHER = {
    "use_dora": True, "lora_bias": True, "bias": "all", "modules_to_save": ["lm_head"], "use_qalora": True,
    "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 2}, "alora_invocation_tokens": [1, 2],
    "layer_replication": [[0, 2], [1, 2]], "target_parameters": ["mlp.experts"], "trainable_token_indices": [3],
    "use_bdlora": {"nblocks": 2}, "kasa_config": {"beta": 1e-4}, "velora_config": {"num_groups": 4},
    "monteclora_config": {"num_samples": 2}, "arrow_config": {"top_k": 2}, "megatron_config": {"hidden_size": 8},
    "ensure_weight_tying": True, "scale_of_a_newer_peft": 0, "newer_config": {"kind": "other"},
}  # fmt: skip


def test_the_list_of_refused_settings_is_complete():
    assert OTHER.keys() >= adapter.NEUTRAL


@pytest.mark.parametrize("key", OTHER)
def test_every_setting_that_makes_another_model_is_refused_by_name(key, changed):
    change(changed, **{key: OTHER[key]})
    with pytest.raises(UnsupportedError, match=rf"{key} is[\s\S]*merge_and_unload") as refusal:
        adapter.check_adapter(changed)
    assert ("does not know" in str(refusal.value)) == (key not in adapter.NEUTRAL)


@pytest.mark.parametrize("kind", ["ADALORA", "IA3", "lora", None, 3])
def test_an_adapter_of_another_kind_is_refused(kind, changed):
    change(changed, peft_type=kind)
    with pytest.raises(UnsupportedError, match="peft_type"):
        adapter.read_lora(changed)


def test_a_setting_of_a_newer_peft_that_is_not_in_use_changes_nothing(changed):
    change(changed, newer_a=None, newer_b=False, newer_c={}, newer_d=[])
    assert adapter.read_lora(changed).r == 4


def over(changed, name):
    change(changed, base_model_name_or_path=name)
    return str(changed)


def test_the_refusal_comes_before_anything_is_loaded(changed, tiny_llama):
    change(changed, use_dora=True)
    with pytest.raises(UnsupportedError, match="use_dora"):
        bases.resolve(over(changed, str(tiny_llama)))


def test_the_error_names_weights_besides_lora(tmp_path, tiny_llama):
    folder = tmp_path / "adapter"
    theirs = peft.get_peft_model(tiny.model(tie_word_embeddings=False), peft.LoraConfig(**PLAIN))
    theirs.save_pretrained(folder, save_embedding_layers=True)
    with pytest.raises(
        UnsupportedError, match=r"more than LoRA weights: embed_tokens, lm_head\.[\s\S]*merge_and_unload"
    ):
        bases.resolve(over(folder, str(tiny_llama)))


def test_an_adapter_on_the_embedding_or_on_the_head_is_refused(tmp_path, tiny_llama):
    embedding = write(tmp_path / "embedding", target_modules=["q_proj", "embed_tokens"])
    with pytest.raises(UnsupportedError, match="more than LoRA weights: embed_tokens"):
        bases.resolve(over(embedding, str(tiny_llama)))
    head = write(tmp_path / "head", embeddings=False, target_modules=["q_proj", "lm_head"])
    with pytest.raises(UnsupportedError, match="output head"):
        lora.load_peft(tiny.model(), head)


def test_an_adapter_in_a_pickle_is_refused_with_the_cure(changed, tiny_llama):
    (changed / "adapter_model.safetensors").rename(changed / "adapter_model.bin")
    with pytest.raises(UnavailableError, match=r"pickle, adapter_model\.bin[\s\S]*save_pretrained"):
        bases.resolve(over(changed, str(tiny_llama)))
    (changed / "adapter_model.bin").unlink()
    with pytest.raises(UnavailableError, match=r"has no adapter_model\.safetensors"):
        bases.resolve(over(changed, str(tiny_llama)))


@pytest.mark.parametrize("place", ["next to it", "working folder", "above"])
@pytest.mark.parametrize("name", ["models/base", "./models/base"])
def test_a_relative_base_path_is_a_folder_before_it_is_a_hub_id(place, name, tiny_llama, tmp_path, monkeypatch):
    roots = {"next to it": tmp_path / "runs" / "one", "working folder": tmp_path / "work", "above": tmp_path}
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    shutil.copytree(tiny_llama, roots[place] / "models" / "base")
    real = peft.LoraConfig(**PLAIN, init_lora_weights=False)
    folder = tmp_path / "runs" / "one" / "adapter"
    peft.get_peft_model(load_model(bases.resolve(str(tiny_llama))), real).save_pretrained(folder)
    base = bases.resolve(over(folder, name))
    assert base.parent is not None
    assert base.parent.path == roots[place] / "models" / "base"
    assert load_model(base).num_parameters() == base.facts.parameters


def test_a_relative_base_path_to_nothing_is_a_hub_id(changed, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnavailableError, match="owner/model is not on this machine") as refusal:
        bases.resolve(over(changed, "owner/model"))
    assert "If owner/model is a folder, write its full path" in refusal.value.remedy


def test_a_base_in_the_working_folder_is_found_by_the_job_and_from_any_other_folder(tiny_llama, tmp_path, monkeypatch):
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    for place in (work, elsewhere):
        place.mkdir()
    shutil.copytree(tiny_llama, work / "models" / "base")
    folder = tmp_path / "adapters" / "one"
    real = peft.LoraConfig(**PLAIN, init_lora_weights=False)
    peft.get_peft_model(load_model(bases.resolve(str(tiny_llama))), real).save_pretrained(folder)
    over(folder, "models/base")
    monkeypatch.chdir(work)
    assert bases.resolve(str(folder)).near == str(work)
    job = begin(folder, "near", count=12)
    monkeypatch.chdir(elsewhere)
    assert settled(job).status.value == "succeeded"
    model = job.result()
    assert model.reply("Hello", max_tokens=2).completion_tokens
    model.close()
    assert tuneport.open_model("torch:near").memory
