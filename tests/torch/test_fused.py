import pytest
import torch
from torch import nn

import tiny_training as tiny
from tuneport_torch.bases import lora
from tuneport_torch.bases.lora_layer import join
from tuneport_torch.engine.forward import Packed, pack
from tuneport_torch.engine.fused import fuse, rms_norm, rotary, swiglu

NORMS = {"llama": 5, "qwen3": 9, "mistral": 5, "gemma2": 9, "gemma3_text": 13, "granite": 5}
GATED_BY_SILU = ("llama", "qwen3", "mistral", "granite")  # Gemma's gates are gelu


def own(model):
    """The modules that use a fused function."""
    return [module for module in model.modules() if "forward" in module.__dict__]


@pytest.mark.parametrize("kind", NORMS)
def test_norms_gates_and_rotary_positions_of_every_family_are_proven_and_taken_over(kind):
    model = tiny.model(kind)
    undo = fuse(model)
    names = [type(module).__name__ for module in own(model)]
    assert sum(name.endswith("RMSNorm") for name in names) == NORMS[kind]
    assert sum(name.endswith("Attention") for name in names) == 2
    assert sum(name.endswith("MLP") for name in names) == (2 if kind in GATED_BY_SILU else 0)
    undo()
    assert not own(model)


def test_gpt2_has_nothing_to_fuse():
    model = tiny.model("gpt2")
    fuse(model)
    assert not own(model)


def test_a_norm_that_computes_something_else_keeps_its_own():
    class OddRMSNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.eps = nn.Parameter(torch.ones(8)), 1e-6

        def forward(self, x):
            return x / x.abs().mean(-1, keepdim=True) * self.weight

    model = nn.Sequential(OddRMSNorm())
    fuse(model)
    assert not own(model)


def test_a_gate_that_computes_something_else_keeps_its_own():
    class OddMLP(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_proj, self.up_proj, self.down_proj = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.down_proj(torch.relu(self.gate_proj(x)) * self.up_proj(x))

    model = nn.Sequential(OddMLP())
    fuse(model)
    assert not own(model)


def test_no_other_model_of_the_family_is_touched():
    model, other = tiny.model(), tiny.model()
    fuse(model)
    assert own(model)
    assert not own(other)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_the_norm_has_the_gradients_of_its_formula(offset):
    torch.manual_seed(0)
    x, outer = torch.randn(2, 2, 5, 7, dtype=torch.float32)
    x.requires_grad_()
    weight = torch.randn(7, requires_grad=True)

    def plain(x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * (weight + offset)

    ours = rms_norm(x, weight, 1e-5, offset)
    torch.testing.assert_close(ours, plain(x))
    torch.testing.assert_close(
        torch.autograd.grad(ours, (x, weight), outer), torch.autograd.grad(plain(x), (x, weight), outer)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gate_has_the_bits_of_autograds_operations_and_keeps_only_its_inputs(dtype):
    torch.manual_seed(0)
    gate, up, outer = (torch.randn(2, 5, 7, dtype=dtype) for _ in range(3))
    inputs = gate.requires_grad_(), up.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        ours = swiglu(*inputs)
    plain = nn.functional.silu(gate) * up
    assert torch.equal(ours, plain)
    for one, other in zip(
        torch.autograd.grad(ours, inputs, outer), torch.autograd.grad(plain, inputs, outer), strict=True
    ):
        assert torch.equal(one, other)
    assert [tensor.data_ptr() for tensor in kept] == [gate.data_ptr(), up.data_ptr()]


def test_a_rotation_is_computed_in_float32_and_rounded_once():
    torch.manual_seed(0)
    query, key = torch.randn(1, 3, 5, 8), torch.randn(1, 2, 5, 8)
    cos, sin = torch.randn(2, 1, 5, 8)
    exact = rotary(query.bfloat16().float(), key.bfloat16().float(), cos, sin)
    for ours, wanted in zip(rotary(query.bfloat16(), key.bfloat16(), cos, sin), exact, strict=True):
        assert torch.equal(ours, wanted.bfloat16())


def packed_gradients(model, rows, dtype):
    forward = Packed(model, dtype)
    forward.open()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = forward.loss(forward.pack(rows))
    loss.backward()
    forward.close()
    return loss.detach(), {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


def adapted_model(kind):
    model = tiny.model(kind)
    torch.manual_seed(1)
    lora.attach(model)
    for layer in lora.adapter_layers(model).values():
        nn.init.normal_(layer.lora_B, std=0.1)
    return model


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_and_joined_layers_have_the_gradients_of_a_plain_float32_reference(kind, dtype):
    rows = [(torch.tensor(row.ids), torch.tensor(row.weights)) for row in tiny.rows(5)]
    model = adapted_model(kind)
    total = torch.zeros(())
    for ids, weights in rows:
        logits = model(ids[None], use_cache=False).logits[0, :-1]
        total = total + (nn.functional.cross_entropy(logits, ids[1:], reduction="none") * weights[1:]).sum()
    total.backward()
    wanted = {name: w.grad for name, w in model.named_parameters() if w.grad is not None}
    loss, grads = packed_gradients(adapted_model(kind), rows, dtype)
    exact = dtype == torch.float32
    torch.testing.assert_close(loss, total.detach(), rtol=1e-5 if exact else 2e-2, atol=0.0)
    assert set(grads) == set(wanted)
    for name, grad in grads.items():
        apart = float((grad - wanted[name]).norm() / wanted[name].norm())
        assert apart < (1e-4 if exact else 0.1), f"{name}: {apart}"


def test_layers_that_read_the_same_input_compute_as_they_do_alone():
    model = adapted_model("llama")
    mlp, x = model.model.layers[0].mlp, torch.randn(1, 6, 32, requires_grad=True)

    def results():
        out = mlp(x)
        return [out, *torch.autograd.grad(out.square().sum(), [x, *(w for w in mlp.parameters() if w.requires_grad)])]

    alone = results()
    undo = join(model)
    assert mlp.gate_proj.siblings is mlp.up_proj.siblings is not None
    torch.testing.assert_close(results(), alone)
    undo()
    assert mlp.gate_proj.siblings is None


def test_an_input_that_was_written_to_is_computed_again():
    model = adapted_model("llama")
    join(model)
    mlp, x = model.model.layers[0].mlp, torch.randn(1, 6, 32)
    mlp.gate_proj(x)
    x.zero_()
    assert not bool(mlp.up_proj(x).any())


def test_activation_checkpointing_gives_the_same_gradients_through_joined_layers():
    rows = [(torch.tensor(row.ids), torch.tensor(row.weights)) for row in tiny.rows(5)]
    _, kept = packed_gradients(adapted_model("llama").train(), rows, torch.float32)
    again = adapted_model("llama").train()
    again.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    _, computed_twice = packed_gradients(again, rows, torch.float32)
    torch.testing.assert_close(computed_twice, kept)


def test_packing_leaves_a_model_as_it_found_it():
    model = adapted_model("qwen3")
    packed = Packed(model, torch.float32)
    packed.open()
    packed.hidden(pack([(torch.arange(4), torch.ones(4))], model.device))
    packed.close()
    assert not own(model)
    assert all(layer.siblings is None for layer in lora.adapter_layers(model).values())
