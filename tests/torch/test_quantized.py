"""QLoRA on a CPU: the same code as on a GPU, on tiny models."""

import json
from importlib.util import find_spec

import pytest
import torch
from pydantic import ValidationError
from torch import nn

import tiny_training as tiny
from tuneport_torch.bases import lora
from tuneport_torch.bases.lora_layer import LoraLinear
from tuneport_torch.config import TorchSettings

here = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
CPU = torch.device("cpu")
WIDE = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32}


def test_weights_in_4_bits_cannot_be_trained_in_full():
    with pytest.raises(ValidationError, match="set mode to lora"):
        TorchSettings(mode="full", quantize="nf4")


@here
def test_a_weight_in_4_bits_is_near_the_one_it_was():
    torch.manual_seed(0)
    layer = LoraLinear(nn.Linear(128, 256), 4, 8.0, 0.0)
    before = layer.base.weight.detach().clone()
    layer.quantize(CPU)
    assert layer.base.weight.shape == before.shape
    assert float((layer.base.weight - before).norm() / before.norm()) < 0.12


@here
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_gradients_equal_those_over_the_dequantized_weights(kind):
    changes = WIDE if kind == "llama" else {"n_embd": 128}
    ids = torch.randint(0, tiny.VOCABULARY, (1, 20), generator=torch.Generator().manual_seed(0))

    def gradients(*, spread: bool):
        model = tiny.model(kind, **changes)
        torch.manual_seed(1)
        lora.attach(model)
        for layer in lora.adapter_layers(model).values():
            nn.init.normal_(layer.lora_B, std=0.1)
            plain = layer.base
            layer.quantize(CPU)
            if spread:
                weight = layer.base.weight
                with torch.no_grad():
                    plain.weight.copy_(weight.t() if layer.transposed else weight)
                layer.base = plain
        loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        return loss.detach(), {name: w.grad for name, w in model.named_parameters() if w.grad is not None}

    torch.testing.assert_close(gradients(spread=False), gradients(spread=True))


@here
def test_a_model_learns_over_weights_in_4_bits_nearly_as_over_its_own(tmp_path):
    outcomes = {
        kind: tiny.trained(tmp_path / kind, tiny.model("llama", **WIDE), quantize=kind) for kind in ("none", "nf4")
    }
    whole, quantized = (outcomes[kind].result.train_loss for kind in ("none", "nf4"))
    assert quantized < 0.9 * outcomes["nf4"].losses[0]
    assert quantized == pytest.approx(whole, rel=0.1)


@here
def test_trained_weights_are_written_as_a_plain_adapter_and_merged_over_the_original_base(tmp_path):
    outcome = tiny.trained(tmp_path / "run", tiny.model("llama", **WIDE), quantize="nf4")
    lora.save_peft(outcome.model, tmp_path / "adapter", "some/base")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["peft_type"] == "LORA"
    with pytest.raises(TypeError, match="load the adapter over the original base"):
        lora.merge(outcome.model)
    whole = tiny.model("llama", **WIDE)
    lora.load_peft(whole, tmp_path / "adapter")
    lora.merge(whole)
    assert not lora.adapter_layers(whole)
