"""The memory that a plan estimates from the model's shape."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tuneport_torch.bases.facts import Facts
from tuneport_torch.config import TorchSettings
from tuneport_torch.engine.footprint import estimate, needs_recompute

LLAMA_1B = Facts(
    model_type="llama", vocabulary=128256, layers=16, hidden=2048, parameters=1_235_814_400,
    config={
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192,
        "tie_word_embeddings": True,
    },
)  # fmt: skip
ROOM = {"tokens_per_batch": 1024, "longest": 512}


def parts(facts=LLAMA_1B, kind="cuda", **settings):
    return estimate(facts, TorchSettings(**settings), kind, **ROOM).parts


def test_full_training_takes_16_bytes_per_weight_and_an_adapter_hardly_more_than_the_weights():
    full, lora = parts(mode="full"), parts()
    assert full["weights"] + full["trained"] > 16 * LLAMA_1B.parameters
    assert lora["weights"] == pytest.approx(2 * LLAMA_1B.parameters, rel=0.01)
    assert lora["trained"] < 0.3e9


def test_weights_in_4_bits_take_about_half_a_byte():
    layers = 16 * (2048 * (2 * 2048 + 2 * 512) + 3 * 2048 * 8192)
    saved = parts()["weights"] - parts(quantize="nf4")["weights"]
    assert saved == pytest.approx(1.48 * layers)


def test_activations_grow_with_the_tokens_at_once_and_shrink_when_computed_twice():
    settings = TorchSettings()
    one, two = (
        estimate(LLAMA_1B, settings, "cuda", tokens_per_batch=tokens, longest=512).parts["activations"]
        for tokens in (1024, 2048)
    )
    assert two == 2 * one
    assert parts(activation_checkpointing=True)["activations"] < one / 3


def test_activations_are_computed_twice_only_if_they_would_not_fit():
    settings = TorchSettings(mode="full")
    needed = estimate(LLAMA_1B, settings, "cuda", tokens_per_batch=1024, longest=512).total
    assert not needs_recompute(LLAMA_1B, settings, "cuda", round(1.2 * needed), 512)
    assert needs_recompute(LLAMA_1B, settings, "cuda", round(needed), 512)
    decided = TorchSettings(mode="full", activation_checkpointing=False)
    assert not needs_recompute(LLAMA_1B, decided, "cuda", round(needed), 512)


def test_a_model_of_unknown_shape_is_not_guessed_at():
    assert estimate(dataclasses.replace(LLAMA_1B, parameters=None), TorchSettings(), "cpu", **ROOM) is None


@pytest.mark.soak
def test_the_estimated_memory_is_within_15_percent_of_the_measured():
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "benchmarks" / "memory.py")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    ratios = [json.loads(line)["ratio"] for line in done.stdout.splitlines()]
    assert len(ratios) == 4
    assert all(abs(ratio - 1) < 0.15 for ratio in ratios)
