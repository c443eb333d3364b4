"""An export loads in other programs with the same answers, or is not written."""

import json

import pytest
import torch

from tiny_tuned import LINEAGE, logits, opened, tune
from tuneport import Completion, Conversation, Message
from tuneport.errors import BackendError, UnavailableError, UnsupportedError, UsageError
from tuneport_torch import bases, export
from tuneport_torch.bases.loading import load_model
from tuneport_torch.model import TorchModel
from tuneport_torch.text.load import load_codec


@pytest.fixture(params=["tiny_llama", "tiny_qwen3"])
def folder(request):
    """A base: one with tied embeddings, one without."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def tuned(folder, tmp_path):
    """(the live model, the folder that holds it)"""
    return tune(folder, tmp_path / "model"), tmp_path / "model"


def with_giants(base_folder, path):
    """The same model with weights beyond float16's range: values times a million, and their projection a millionth."""
    model, codec = load_model(bases.resolve(str(base_folder))), load_codec(bases.resolve(str(base_folder)))
    attention = model.model.layers[0].self_attn
    with torch.no_grad():
        attention.v_proj.weight.mul_(1e6)
        attention.o_proj.weight.div_(1e6)
    model.save_pretrained(path)
    codec.save(path)
    codec.close()


def test_an_adapter_over_its_base_is_the_model_that_was_trained(tuned):
    live, path = tuned
    again = load_model(bases.resolve(str(path)))
    assert torch.allclose(logits(again), logits(live), atol=2e-5)
    assert all(weight.requires_grad for weight in again.parameters())  # for it can be a base
    bare = load_model(bases.resolve(str(path)).parent)
    assert not torch.allclose(logits(bare), logits(live), atol=1e-2)


def test_a_tuned_model_knows_its_lineage_and_brings_its_system_prompt(tuned):
    model = opened(tuned[1])
    assert model.lineage == LINEAGE
    with_it = [{"role": "system", "content": "Answer with one word."}, {"role": "user", "content": "Hello"}]
    assert model.ask("Hello", max_tokens=8) == model.reply(with_it, max_tokens=8).text
    model.close()


def test_a_merged_export_loads_with_transformers_alone_and_gives_the_live_models_logits(tuned, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    live, path = tuned
    out = opened(path).export(tmp_path / "out" / "merged", "merged")
    model = AutoModelForCausalLM.from_pretrained(out)
    assert torch.allclose(logits(model), logits(live), atol=2e-5)
    assert model.config.tie_word_embeddings == live.config.tie_word_embeddings
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template == load_codec(bases.resolve(str(path))).template.source
    assert GenerationConfig.from_pretrained(out).eos_token_id == tokenizer.eos_token_id
    assert {file.suffix for file in out.iterdir()} == {".safetensors", ".json", ".jinja", ".md"}
    assert opened(out).lineage == LINEAGE


def test_an_adapter_export_loads_with_peft_and_gives_the_live_models_logits(tuned, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    live, path = tuned
    out = opened(path).export(tmp_path / "adapter", "adapter")
    config = json.loads((out / "adapter_config.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"])
    assert torch.allclose(logits(PeftModel.from_pretrained(base, out)), logits(live), atol=2e-5)
    assert AutoTokenizer.from_pretrained(out).chat_template
    assert "torch:tickets-1" in (out / "README.md").read_text()
    assert opened(out).lineage == LINEAGE


def test_a_fully_trained_model_is_saved_and_exported_in_full(folder, tmp_path):
    live = tune(folder, tmp_path / "model", whole=True)
    model = opened(tmp_path / "model")
    assert torch.equal(logits(load_model(bases.resolve(str(tmp_path / "model")))), logits(live))
    with pytest.raises(UnsupportedError, match="Export it as: merged"):
        model.export(tmp_path / "adapter", "adapter")
    out = model.export(tmp_path / "merged", "merged")
    assert torch.equal(logits(load_model(bases.resolve(str(out)))), logits(live))


def test_a_tuned_model_is_a_base_and_the_chain_merges_to_what_was_trained(tiny_llama, tmp_path):
    tune(tiny_llama, tmp_path / "first")
    live = tune(tmp_path / "first", tmp_path / "second")
    base = bases.resolve(str(tmp_path / "second"))
    assert base.parent.parent.path == tiny_llama
    assert torch.allclose(logits(load_model(base)), logits(live), atol=2e-5)
    with pytest.raises(UnsupportedError, match="adapter over another adapter"):
        opened(tmp_path / "second").export(tmp_path / "adapter", "adapter")
    out = opened(tmp_path / "second").export(tmp_path / "merged", "merged")
    assert torch.allclose(logits(load_model(bases.resolve(str(out)))), logits(live), atol=2e-5)


def test_a_merged_export_in_16_bit_is_rounded_once_from_float32(tuned, tmp_path):
    _, path = tuned
    export.export_merged(bases.resolve(str(path)), tmp_path / "merged", dtype="bfloat16")
    stored = load_model(bases.resolve(str(tmp_path / "merged")))
    merged = load_model(bases.resolve(str(path)))
    for (name, have), want in zip(stored.named_parameters(), merged.parameters(), strict=True):
        assert torch.equal(have, want.bfloat16().float()), name
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"


def test_rounding_an_adapters_model_spares_the_rotary_frequencies(tuned):
    loaded = load_model(bases.resolve(str(tuned[1])), dtype="bfloat16")
    assert loaded.dtype == torch.bfloat16
    assert {buffer.dtype for buffer in loaded.buffers()} == {torch.float32}


def test_an_export_that_would_answer_differently_leaves_nothing_behind(tiny_llama, tmp_path):
    with_giants(tiny_llama, tmp_path / "giants")
    with pytest.raises(BackendError, match=r"(?s)Rounding to float16 changes the model's answers.*a wider --dtype"):
        opened(tmp_path / "giants").export(tmp_path / "out" / "merged", "merged", dtype="f16")
    with pytest.raises(BackendError, match="Rounding to f16"):
        opened(tmp_path / "giants").export(tmp_path / "out" / "model.gguf", "gguf", dtype="f16")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_export_over_something_is_refused(tuned, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for kind in ("merged", "adapter", "ollama"):
        with pytest.raises(UsageError, match="already exists"):
            export.write(bases.resolve(str(tuned[1])), tmp_path / "full", kind)
    (tmp_path / "empty").mkdir()
    assert export.export_adapter(bases.resolve(str(tuned[1])), tmp_path / "empty") == tmp_path / "empty"


def test_a_base_is_exported_completely_and_unchanged(tiny_llama, tmp_path):
    out = TorchModel.base(str(tiny_llama)).export(tmp_path / "merged", "merged")
    assert torch.equal(logits(load_model(bases.resolve(str(out)))), logits(load_model(bases.resolve(str(tiny_llama)))))


def test_another_template_than_the_trainings_is_an_error_on_loading(tuned):
    template = tuned[1] / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "helper"))
    with pytest.raises(UnavailableError, match=r"chat template .* has changed since"):
        opened(tuned[1]).ask("Hello")


def test_another_base_than_the_trainings_is_an_error_on_naming(tiny_llama, tmp_path):
    import shutil

    shutil.copytree(tiny_llama, tmp_path / "base")
    tune(tmp_path / "base", tmp_path / "model")
    weights = bytearray((tmp_path / "base" / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "base" / "model.safetensors").write_bytes(weights)
    with pytest.raises(UnavailableError, match="have changed since"):
        bases.resolve(str(tmp_path / "model"))


def test_an_adapter_that_peft_made_is_a_model_here_with_its_bases_tokenizer(tiny_llama, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_llama)
    live = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)).eval()
    live.save_pretrained(tmp_path / "adapter")
    model = opened(tmp_path / "adapter")
    assert model.lineage is None
    assert model.reply("Hello", max_tokens=3).prompt_tokens
    assert torch.allclose(logits(model._loaded.model), logits(live), atol=2e-5)
    model.close()


def test_a_model_trained_on_completions_is_prompted_with_plain_text(tiny_llama, tmp_path):
    tune(tiny_llama, tmp_path / "model", style="plain")
    model = opened(tmp_path / "model")
    model.lineage = None
    codec = load_codec(bases.resolve(str(tmp_path / "model")))
    assert model.reply("My card", max_tokens=2).prompt_tokens == len(codec.encode("My card").ids)
    assert model.compute_score(
        [Completion("My", " card"), Conversation((Message("user", "a"), Message("assistant", "b")))]
    )
    model.close()
