"""Losses and gradients against a plain reference: float32, row by row, the model's own forward pass, autograd."""

from __future__ import annotations

import random
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

import tiny_training as tiny
from tuneport_torch import autos
from tuneport_torch.bases.lora import adapter_layers
from tuneport_torch.config import TorchSettings
from tuneport_torch.engine.checkpoint import read_tensors
from tuneport_torch.engine.compiled import compile_layers
from tuneport_torch.engine.objective import AnswerRows
from tuneport_torch.engine.pack import epoch_steps
from tuneport_torch.engine.prepare import prepare
from tuneport_torch.engine.schedule import learning_rate
from tuneport_torch.resolved import resolve

SHAPES = {  # kind and changes to it: Llama, Qwen3, Gemma and GPT-2, tied and untied, with and without a soft cap
    "llama, tied": ("llama", {}),
    "llama, untied, with biases": ("llama", {"tie_word_embeddings": False, "attention_bias": True}),
    "qwen3, untied": ("qwen3", {}),
    "qwen3, tied": ("qwen3", {"tie_word_embeddings": True}),
    "mistral, sliding": ("mistral", {}),
    "gemma2, soft caps, tied": ("gemma2", {}),
    "gemma3, sliding, tied": ("gemma3_text", {}),
    "granite, scaled": ("granite", {}),
    "gpt2, tied": ("gpt2", {}),
}
STEP = 10_000  # more tokens than there are: one step


def rows() -> list[SimpleNamespace]:
    """One turn, several turns, turns of weight 0 and between 0 and 1, a weight on the first token, a row of two."""
    draw = random.Random(3)
    weights = [
        [0.0] * 5 + [1.0] * 6,
        [0.0] * 3 + [1.0] * 4 + [0.0] * 5 + [1.0] * 2 + [0.0] * 2 + [1.0],
        [0.0] * 4 + [0.5] * 3 + [0.0] * 2 + [1.0] * 4 + [0.0] * 3,
        [1.0] * 9,
        [1.0, 1.0],
        [0.0] * 20 + [1.0],
        [0.0] * 2 + [1.0] * 28,
    ]
    return [SimpleNamespace(ids=[draw.randrange(tiny.VOCABULARY) for _ in one], weights=one) for one in weights]


def nll(model: nn.Module, ids: torch.Tensor, changed: dict[str, torch.Tensor]) -> torch.Tensor:
    """The negative log-likelihood of each token of a row but the first."""
    logits = torch.func.functional_call(model, changed, (ids[None],), {"use_cache": False}).logits[0, :-1]
    return F.cross_entropy(logits.float(), ids[1:], reduction="none")


def reference_loss(model: nn.Module, some: list[SimpleNamespace], changed: dict[str, torch.Tensor]) -> torch.Tensor:
    """sum(weight x nll) / sum(weight) over the rows; `changed` replaces weights of the model."""
    device = next(model.parameters()).device
    total, weight = torch.zeros((), device=device), 0.0
    for row in some:
        counts = torch.tensor(row.weights[1:], device=device)
        total = total + (nll(model, torch.tensor(row.ids, device=device), changed) * counts).sum()
        weight += float(counts.sum())
    return total / weight


def plain(name: str, device: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    kind, changes = SHAPES[name]
    return tiny.model(kind, **changes).to(device, dtype)


def engine(name: str, device: str, **settings) -> tuple[nn.Module, object, torch.dtype]:
    """A model prepared for training, with adapters that already change it, and its forward pass."""
    kind, changes = SHAPES[name]
    asked = TorchSettings(**{"precision": "float32", "adapter": {"rank": 4, "alpha": 8.0}, **settings})
    model, plan = tiny.model(kind, **changes), tiny.resolved(asked, device)
    forward = prepare(model, asked, plan, lambda *_, **__: None)
    torch.manual_seed(1)
    for layer in adapter_layers(model).values():
        nn.init.normal_(layer.lora_B, std=0.05)
    return model.train(), forward, getattr(torch, plan.precision)


def engine_gradients(model, forward, dtype, some, tokens_per_batch: int) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of a step and its gradients, summed over micro-batches, as the loop makes them."""
    data, total, everything = AnswerRows(some, "train"), 0.0, list(range(len(some)))
    device = next(model.parameters()).device.type
    for batch in data.split(forward, everything, tokens_per_batch):
        with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
            share = data.measure(forward, data.pack(forward, batch))[0] / data.weight(everything)
        share.backward()
        total += share.item()
    return total, {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}


def merged(model: nn.Module, reference: nn.Module, leaves: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The adapted weights, W + alpha / rank x B A, transposed where GPT-2 has them so."""
    weights, changed = dict(reference.named_parameters()), {}
    for name, layer in adapter_layers(model).items():
        delta = layer.alpha / layer.rank * leaves[f"{name}.lora_B"] @ leaves[f"{name}.lora_A"]
        changed[f"{name}.weight"] = weights[f"{name}.weight"].detach() + (
            delta.t() if isinstance(layer.base, Conv1D) else delta
        )
    return changed


def wanted_gradients(reference, model, some) -> tuple[float, dict[str, torch.Tensor]]:
    """The same of the plain model."""
    layers = adapter_layers(model)
    leaves = {
        f"{name}.{part}": getattr(layer, part).detach().clone().requires_grad_()
        for name, layer in layers.items()
        for part in ("lora_A", "lora_B")
    }
    changed = merged(model, reference, leaves)
    leaves = leaves or dict(reference.named_parameters())
    loss = reference_loss(reference, some, changed)
    return loss.item(), dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@pytest.mark.parametrize("device", tiny.DEVICES)
@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("name", SHAPES)
def test_loss_and_every_gradient_are_those_of_the_plain_reference(name, mode, packing, device):
    model, forward, dtype = engine(name, device, mode=mode, packing=packing)
    loss, gradients = engine_gradients(model, forward, dtype, rows(), tokens_per_batch=40)
    expected, wanted = wanted_gradients(plain(name, device), model, rows())
    assert loss == pytest.approx(expected, rel=1e-5)
    assert gradients.keys() == wanted.keys()
    for weight, gradient in gradients.items():
        size = float(wanted[weight].abs().max())
        assert size > 0, weight
        assert float((gradient - wanted[weight]).abs().max()) < 2e-5 * max(size, 1e-3), weight


@pytest.mark.parametrize("device", tiny.DEVICES)
@pytest.mark.parametrize(
    ("name", "mode"),
    [("llama, tied", "lora"), ("qwen3, untied", "full"), ("gemma2, soft caps, tied", "full"), ("gpt2, tied", "lora")],
)
def test_compiled_layers_with_activations_computed_twice_have_the_same_gradients(name, mode, device):
    torch._dynamo.reset()
    model, forward, dtype = engine(name, device, mode=mode)
    expected, wanted = wanted_gradients(plain(name, device), model, rows())
    backend = CompileCounterWithBackend("aot_eager" if device == "cpu" else "inductor")  # inductor needs a compiler
    forward.close()
    forward.compiler = partial(compile_layers, backend=backend)
    forward.open()
    for twice in (False, True):
        if twice:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.zero_grad(set_to_none=True)
        loss, gradients = engine_gradients(model, forward, dtype, rows(), tokens_per_batch=40)
        assert loss == pytest.approx(expected, rel=1e-5)
        for weight, gradient in gradients.items():
            size = float(wanted[weight].abs().max())
            assert float((gradient - wanted[weight]).abs().max()) < 2e-5 * max(size, 1e-3), weight
    assert backend.frame_count > 0


@pytest.mark.parametrize("device", tiny.DEVICES)
@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("name", ["llama, tied", "qwen3, untied", "gemma3, sliding, tied", "gpt2, tied"])
def test_bfloat16_gradients_have_the_direction_of_float32s(name, mode, device):
    model, forward, dtype = engine(name, device, mode=mode, precision="bfloat16")
    loss, gradients = engine_gradients(model, forward, dtype, rows(), tokens_per_batch=40)
    expected, wanted = wanted_gradients(plain(name, device), model, rows())
    assert loss == pytest.approx(expected, rel=0.02)
    ours, plains = (torch.cat([one[weight].flatten() for weight in wanted]) for one in (gradients, wanted))
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
    assert float(F.cosine_similarity(ours, plains, dim=0)) > 0.99


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("name", ["llama, tied", "qwen3, untied", "gemma2, soft caps, tied", "gpt2, tied"])
def test_a_training_is_the_plain_training_step_by_step(tmp_path, name, mode):
    """Rows in the order of `epoch_steps`, gradients clipped to norm 1, AdamW, the schedule's rates; nothing else."""
    kind, changes = SHAPES[name]
    some, rate, epochs = rows(), 2e-3, 3
    options = {"mode": mode, "learning_rate": rate, "tokens_per_step": 40, "tokens_per_batch": 30, "warmup": 2}
    done = tiny.trained(tmp_path, tiny.model(kind, **changes), train=some, epochs=epochs, seed=7, **options)
    lengths = [len(row.ids) for row in some]
    plan = resolve(
        TorchSettings(**options), epochs=epochs, rows=len(some), tokens=sum(lengths), hidden_size=32, device="cpu"
    )
    reference = tiny.model(kind, **changes).train()
    trained = adapters_of(done.model, seed=7) if mode == "lora" else dict(reference.named_parameters())
    optimizer = torch.optim.AdamW(trained.values(), weight_decay=0.0)
    losses = []
    for step in range(plan.total_steps):
        epoch, position = divmod(step, plan.steps_per_epoch)
        chosen = [some[row] for row in epoch_steps(lengths, 40, 7, epoch)[position]]
        loss = reference_loss(reference, chosen, merged(done.model, reference, trained))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.param_groups[0]["lr"] = learning_rate(step, plan, "cosine")
        optimizer.step()
        losses.append(float(loss))
    assert done.losses == pytest.approx(losses, rel=1e-4)
    for weight, value in done.weights.items():
        ours, wanted = value, trained[weight].detach()
        if weight.endswith("c_attn.bias"):  # of GPT-2, where the same bias on all keys has a gradient of noise only
            ours, wanted = (torch.cat([bias[:32], bias[64:]]) for bias in (ours, wanted))
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=2e-4)


def adapters_of(model: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Leaves with the adapters' initial values: B is zero, and A comes from the run's seed as in the loop."""
    torch.manual_seed(seed)
    leaves = {}
    for name, layer in adapter_layers(model).items():
        first = torch.empty_like(layer.lora_A)
        nn.init.kaiming_uniform_(first, a=5**0.5)
        leaves[f"{name}.lora_A"], leaves[f"{name}.lora_B"] = first, torch.zeros_like(layer.lora_B)
    return {name: leaf.detach().requires_grad_() for name, leaf in leaves.items()}


@pytest.mark.parametrize("name", SHAPES)
def test_with_activation_checkpointing_over_a_16_bit_base_every_trained_weight_is_float32(tmp_path, name):
    kind, changes = SHAPES[name]
    base = tiny.model(kind, **changes).bfloat16()
    done = tiny.trained(tmp_path, base, precision="bfloat16", activation_checkpointing=True, epochs=1)
    moments = {
        key.removesuffix("/exp_avg_sq"): value
        for key, value in read_tensors(done.store.newest_intact(), "optimizer").items()
        if key.endswith("/exp_avg_sq")
    }
    assert moments.keys() == done.weights.keys()
    for weight, value in done.weights.items():
        assert value.dtype == moments[weight].dtype == torch.float32
        assert bool((moments[weight] > 0).any()), weight


def test_training_never_computes_in_float16():
    """Its range is too small for gradients; a base stored in it is trained in another type."""
    asked = [(setting, has) for setting in ("auto", "bfloat16", "float32") for has in (False, True)]
    chosen = {autos.precision(setting, has_bfloat16=has) for setting, has in asked}
    assert chosen == {"bfloat16", "float32"}
    with pytest.raises(ValueError, match="precision"):
        TorchSettings(precision="float16")


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_base_in_float16_is_trained_in_float32(tmp_path, mode):
    base, seen = tiny.model().half(), set()
    for layer in base.model.layers:
        layer.register_forward_hook(lambda module, args, out: seen.add((out if torch.is_tensor(out) else out[0]).dtype))
    done = tiny.trained(tmp_path, base, mode=mode, epochs=1)
    assert seen == {torch.float32}
    assert {weight.dtype for weight in done.weights.values()} == {torch.float32}


@pytest.mark.parametrize("training", [True, False])
def test_the_logits_of_a_complete_batch_are_never_in_memory(training):
    vocabulary, targets = 60_000, 600
    model = tiny.model(vocab_size=vocabulary)
    settings = TorchSettings(precision="float32")
    forward = prepare(model, settings, tiny.resolved(settings), lambda *_, **__: None)
    some = [SimpleNamespace(ids=[number] * 101, weights=[1.0] * 101) for number in range(6)]
    with tiny.Largest() as largest, torch.set_grad_enabled(training):
        data = AnswerRows(some, "validation")
        share = data.measure(forward, data.pack(forward, range(6)))[0]
        if training:
            share.backward()
    assert vocabulary * 32 <= largest.numbers < vocabulary * targets / 2
