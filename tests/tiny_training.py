"""Random models of a few thousand weights, and random rows for them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tuneport_torch.config import TorchSettings
from tuneport_torch.engine.checkpoint import Store
from tuneport_torch.engine.loop import Result, Run, train
from tuneport_torch.resolved import Resolved, resolve

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, NO_CUDA])]
VOCABULARY = 97
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,  # so that attention is far from even, and a leak is seen
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {**_SHAPE, "tie_word_embeddings": True},
    "qwen3": {**_SHAPE, "tie_word_embeddings": False},
    "mistral": {**_SHAPE, "sliding_window": 4},
    "gemma2": {**_SHAPE, "sliding_window": 4, "query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0},
    "gemma3_text": {**_SHAPE, "sliding_window": 4, "query_pre_attn_scalar": 8},
    "granite": {**_SHAPE, "logits_scaling": 4.0, "attention_multiplier": 0.3},
    "gpt2": {
        "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256,
        "initializer_range": 0.2, "bos_token_id": None, "eos_token_id": None,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    },
    "bloom": {
        "vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4,
        "bos_token_id": None, "eos_token_id": None,
    },
    "lfm2": {**_SHAPE, "layer_types": ["conv", "full_attention"]},
    "mamba": {**_SHAPE, "state_size": 4},
    "xglm": {
        "vocab_size": VOCABULARY, "d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4,
        "bos_token_id": None, "eos_token_id": None, "init_std": 0.2,
    },
}  # fmt: skip
NOT_PACKABLE = ("bloom", "lfm2", "mamba", "xglm")


def model(kind: str = "llama", **changes: Any) -> Any:
    """A model with the same random weights every time."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, **{**KINDS[kind], **changes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def rows(count: int, seed: int = 0, longest: int = 24) -> list[SimpleNamespace]:
    """Rows of 4 to `longest` tokens whose last half counts in the loss."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        length = draw.randint(4, longest)
        ids = [draw.randrange(VOCABULARY) for _ in range(length)]
        weights = [0.0] * (length // 2) + [1.0] * (length - length // 2)
        made.append(SimpleNamespace(ids=ids, weights=weights))
    return made


def pairs(count: int, seed: int = 0, longest: int = 24) -> list[SimpleNamespace]:
    """Pairs of a prompt and two answers, all random."""
    prompts, answers = rows(count, seed, longest // 2), iter(rows(2 * count, seed + 1, longest // 2))

    def behind(prompt: SimpleNamespace) -> SimpleNamespace:
        answer = next(answers)
        return SimpleNamespace(ids=prompt.ids + answer.ids, weights=[0.0] * len(prompt.ids) + [1.0] * len(answer.ids))

    return [SimpleNamespace(chosen=behind(prompt), rejected=behind(prompt)) for prompt in prompts]


@dataclass
class Outcome:
    """What a training left behind."""

    result: Result
    model: Any
    store: Store
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def losses(self) -> list[float]:
        return [event["train_loss"] for event in self.events if event["kind"] == "metric"]

    @property
    def logs(self) -> str:
        return "\n".join(event["message"] for event in self.events if event["kind"] == "log")

    @property
    def weights(self) -> dict[str, Any]:
        return {name: w.detach().clone() for name, w in self.model.named_parameters() if w.requires_grad}


def resolved(settings: TorchSettings, device: str = "cpu") -> Resolved:
    """What the settings come to for a model of this file, whatever the rows."""
    kind = torch.device(device).type
    return resolve(settings, epochs=1, rows=1, tokens=1, hidden_size=32, device=kind, has_bfloat16=kind == "cuda")


def trained(
    folder: Path, base: Any = None, *, stop: Any = None, tell: Any = None, store: Any = None, **options: Any
) -> Outcome:
    """Train a model on a few rows; `stop(step)` is asked before each step and within it, `tell` gets each event. Its
    checkpoints go to `store`, by default a plain one in `folder`.
    """
    given = {"train": rows(30), "validation": (), "epochs": 2, "seed": 7, "method": "sft", "overlap": None}
    run_options = {name: options.pop(name, default) for name, default in given.items()}
    settings = TorchSettings(
        **{"precision": "float32", "tokens_per_step": 64, "learning_rate": 1e-2, "device": "cpu", **options}
    )
    store = store or Store(folder, settings.keep_checkpoints)
    outcome = Outcome(None, base if base is not None else model(), store)  # type: ignore[arg-type]

    def emit(kind: str, message: str, *, level: str = "info", **data: Any) -> None:
        outcome.events.append({"kind": kind, "message": message, "level": level, **data})
        if tell is not None:
            tell(outcome.events[-1])

    def should_stop() -> Any:
        steps = [event["step"] for event in outcome.events if event["kind"] == "metric"]
        return stop(steps[-1] if steps else 0) if stop else None

    run = Run(
        model=outcome.model, settings=settings, store=outcome.store, emit=emit, should_stop=should_stop, **run_options
    )
    outcome.result = train(run)
    return outcome


def assert_alike(one: Outcome, other: Outcome) -> None:
    """Two trainings that may differ by rounding alone."""
    assert one.losses == pytest.approx(other.losses, rel=1e-4)
    for name, weight in one.weights.items():
        torch.testing.assert_close(weight, other.weights[name], atol=2e-5, rtol=1e-4)


class Largest(TorchDispatchMode):
    """Sees every tensor that is made, and how many numbers the largest had."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            self.numbers = max(self.numbers, getattr(one, "numel", int)())
        return out
