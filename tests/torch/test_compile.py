"""Layers compiled by torch.compile: one compilation for all layers and lengths, and no harm if it fails. That they
compute the same is in test_gradients.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch._inductor import config as inductor
from torch._inductor.utils import fresh_cache
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AttentionInterface

import tiny_training as tiny
from tuneport_torch.bases import lora
from tuneport_torch.engine import attention
from tuneport_torch.engine.compiled import compile_layers

COMPILER = shutil.which("g++") or shutil.which("clang++")


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    torch._dynamo.reset()
    with fresh_cache():
        yield
    torch._dynamo.reset()


def _as_on_a_gpu(module, query, key, value, attention_mask, *, scaling=None, documents=None, **_):
    query, key = query.to(value.dtype), key.to(value.dtype)
    return attention._varlen(query, key, value, documents, scaling, None), None


@pytest.mark.skipif(attention.varlen_attn is None, reason="this torch has no varlen attention")
@pytest.mark.filterwarnings("ignore")  # fake tensors warn about autocast
@pytest.mark.parametrize(("mode", "graphs"), [("full", 1), ("lora", 2)])  # the first layer's input needs no gradient
def test_with_a_gpus_attention_all_layers_and_lengths_share_one_graph(mode, graphs):
    """Nothing is computed here: fake tensors have only shapes and types, and the kernel declares those of its
    result.
    """
    model = tiny.model("llama", num_hidden_layers=4)
    if mode == "lora":
        lora.attach(model.bfloat16())
    AttentionInterface.register("as_on_a_gpu", _as_on_a_gpu)
    model.set_attn_implementation("as_on_a_gpu")
    seen = CompileCounter()
    compile_layers(model, backend=seen)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autocast("cpu", torch.bfloat16):
        model.to_empty(device="cpu")
        for lengths in ((30, 20), (7, 6, 5), (90,)):
            ids_1T = torch.zeros(1, sum(lengths), dtype=torch.long)
            documents = attention.Documents(lengths, torch.device("cpu"))
            out = model.get_decoder()(
                input_ids=ids_1T, position_ids=ids_1T, attention_mask=None, use_cache=False, documents=documents
            )
            out.last_hidden_state.sum().backward()
    assert seen.frame_count == graphs


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_training_with_and_without_compile_learns_the_same(tmp_path):
    one, other = (
        tiny.trained(tmp_path / str(wanted), tiny.model().eval(), mode="full", compile=wanted)
        for wanted in (False, True)
    )
    assert "Compiled the model's layers in" in other.logs
    assert other.losses == pytest.approx(one.losses, rel=1e-4)


def test_if_compiling_fails_the_log_says_so_and_training_has_the_same_bits(tmp_path):
    one = tiny.trained(tmp_path / "without")
    with inductor.patch({"cpp.cxx": (None, "no-such-compiler")}):
        other = tiny.trained(tmp_path / "with", compile=True)
    assert "Training continues without compiled layers: InductorError: InvalidCxxCompiler" in other.logs
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_a_model_without_layers_that_can_be_compiled_is_trained_without(tmp_path):
    base = tiny.model()
    kind = type(base.model.layers[0])
    for layer in base.model.layers:
        layer.__class__ = type("OddLayer", (nn.Module,), {"forward": kind.forward, "gradient_checkpointing": False})
    done = tiny.trained(tmp_path, base, compile=True)
    assert "Training continues without compiled layers: TypeError: LlamaForCausalLM has no" in done.logs
    assert done.result.step == done.result.total_steps


def test_padded_rows_are_not_compiled_and_the_log_says_so(tmp_path):
    done = tiny.trained(tmp_path, compile=True, packing=False)
    assert "Training continues without compiled layers: the rows are padded" in done.logs
