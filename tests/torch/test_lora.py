import json

import pytest
import torch
from torch import nn

import tiny_training as tiny
from tuneport.errors import UnsupportedError, UsageError
from tuneport_torch.bases import lora
from tuneport_torch.bases.lora_layer import LoraLinear


def shaken(model):
    """Adapters whose B is no longer zero, so that they change something."""
    torch.manual_seed(1)
    for layer in lora.adapter_layers(model).values():
        nn.init.normal_(layer.lora_B, std=0.1)
    return model.eval()


def logits(model):
    ids = torch.arange(2 * 9).view(2, 9)
    with torch.no_grad():
        return model(ids, use_cache=False).logits


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_a_new_adapter_changes_nothing_and_leaves_out_the_head(kind):
    model = tiny.model(kind).eval()
    before = logits(model)
    names = lora.attach(model)
    assert torch.allclose(logits(model), before, atol=1e-5)
    assert names
    assert not any("lm_head" in name for name in names)
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_every_trained_weight_gets_a_gradient_and_no_frozen_one(kind):
    model = tiny.model(kind)
    lora.attach(model)
    shaken(model).train()
    model(torch.arange(10)[None], use_cache=False).logits.logsumexp(-1).sum().backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is not None and bool(weight.grad.abs().sum() > 0)) == weight.requires_grad, name


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_layer_has_the_gradients_of_its_formula(dropout):
    torch.manual_seed(0)
    layer = LoraLinear(nn.Linear(5, 7).requires_grad_(requires_grad=False), 3, 6.0, dropout)
    nn.init.normal_(layer.lora_B)
    x = torch.randn(2, 4, 5, requires_grad=True)
    outer = torch.randn(2, 4, 7)
    wanted_by = (x, layer.lora_A, layer.lora_B)
    torch.manual_seed(3)
    ours = layer(x)
    torch.manual_seed(3)
    via = nn.functional.dropout(x, dropout) if dropout else x
    plain = (
        nn.functional.linear(x, layer.base.weight, layer.base.bias) + 2.0 * via @ layer.lora_A.t() @ layer.lora_B.t()
    )
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(
        torch.autograd.grad((ours * outer).sum(), wanted_by), torch.autograd.grad((plain * outer).sum(), wanted_by)
    )


def test_frozen_weights_rounded_once_compute_the_same_bits_as_autocast():
    ids = torch.arange(12)[None]
    outputs = []
    for cast in (False, True):
        torch.manual_seed(0)
        model = tiny.model()
        lora.attach(model)
        shaken(model)
        if cast:
            lora.cast_frozen(model, torch.bfloat16)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            outputs.append(model(ids, use_cache=False).logits)
    assert torch.equal(*outputs)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_merging_gives_the_same_logits_in_plain_layers(kind):
    model = tiny.model(kind)
    lora.attach(model)
    before = logits(shaken(model))
    lora.merge(model)
    assert not lora.adapter_layers(model)
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_peft_loads_our_adapters_with_equal_logits(kind, tmp_path):
    peft = pytest.importorskip("peft")
    model = tiny.model(kind)
    torch.manual_seed(5)
    lora.attach(model, rank=4, alpha=12.0)
    wanted = logits(shaken(model))
    lora.save_peft(model, tmp_path, "some/base", "abc123")
    theirs = peft.PeftModel.from_pretrained(tiny.model(kind), tmp_path).eval()
    torch.testing.assert_close(logits(theirs), wanted, rtol=1e-4, atol=1e-4)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("some/base", "abc123")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_adapters_written_by_peft_load_with_equal_logits(kind, tmp_path):
    peft = pytest.importorskip("peft")
    options = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
    )
    theirs = peft.get_peft_model(tiny.model(kind), options).eval()
    theirs.save_pretrained(tmp_path)
    model = tiny.model(kind)
    lora.load_peft(model, tmp_path)
    torch.testing.assert_close(logits(model.eval()), logits(theirs), rtol=1e-4, atol=1e-4)


def test_other_kinds_of_adapter_are_refused_with_the_cure(tmp_path):
    model = tiny.model()
    lora.attach(model)
    lora.save_peft(model, tmp_path, "some/base")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(UnsupportedError, match=r"use_dora[\s\S]*merge_and_unload"):
        lora.load_peft(tiny.model(), tmp_path)


def test_only_named_layers_get_an_adapter():
    names = lora.attach(tiny.model(), targets=("q_proj", "layers.1.mlp.up_proj"))
    assert names == [
        "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj",
    ]  # fmt: skip


@pytest.mark.parametrize(("target", "says"), [("query", "up_proj, v_proj"), ("lm_head", "cannot have")])
def test_a_wrong_target_is_refused_and_the_error_lists_the_right_ones(target, says):
    with pytest.raises(UsageError, match=says):
        lora.attach(tiny.model(), targets=(target,))
