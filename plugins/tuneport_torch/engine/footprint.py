"""Estimates the peak memory of a training run from the model's shape, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneport_torch.bases.facts import Facts
    from tuneport_torch.config import TorchSettings

# Python, torch and transformers in use. On a GPU only the device's memory counts.
_RUNTIME_BYTES = {"cpu": 0.45e9, "cuda": 0.6e9, "mps": 0.6e9}
_FEW_TOKENS = 1024
_USABLE = 0.92  # of a device's memory: the rest is fragmented or used by others
_LOGITS = {"cpu": 2**24, "cuda": 2**27, "mps": 2**27}  # logits that the loss computes at once


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes at the peak, by part."""

    parts: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True)
class _Shape:
    """A decoder's widths: of the hidden state, all queries, all keys, and the middle of the feed-forward layer."""

    parameters: int
    vocabulary: int
    layers: int
    hidden: int
    heads: int
    queries: int
    keys: int
    inner: int
    tied: bool

    @property
    def layer(self) -> int:
        """Weights of a layer's matrices."""
        return self.hidden * (2 * self.queries + 2 * self.keys) + 3 * self.hidden * self.inner

    @property
    def adapted(self) -> int:
        """The sum of inputs and outputs of a layer's matrices: an adapter has rank times as many weights."""
        return 4 * self.hidden + 3 * (self.hidden + self.inner) + 2 * self.queries + 2 * self.keys


def estimate(
    facts: Facts,
    settings: TorchSettings,
    kind: str,
    *,
    tokens_per_batch: int,
    longest: int,
    recompute: bool | None = None,
) -> Footprint | None:
    """The memory of a training run with micro-batches of `tokens_per_batch`, in rows of up to `longest` tokens; None if
    the base's shape is unknown. `recompute`: activations are computed twice, by default as in the settings.
    """
    shape = _shape(facts)
    if shape is None:
        return None
    twice = settings.activation_checkpointing is True if recompute is None else recompute
    half = settings.precision != "float32"
    parts = _weights(shape, settings, kind, half=half)
    kept, passing = _activations(shape, settings, kind, longest, half=half)
    layers = shape.layers * 4 * shape.hidden + kept + passing if twice else shape.layers * kept + passing
    parts["activations"] = float(tokens_per_batch * layers)
    element = (2 if half else 4) + (4 if kind != "cpu" else 0)
    parts["logits"] = float(element * min(_LOGITS[kind], tokens_per_batch * shape.vocabulary))
    parts["runtime"] = _RUNTIME_BYTES[kind]
    return Footprint(parts)


def error(kind: str) -> str:
    """The error of `estimate`, as `benchmarks/memory.py` measures it."""
    return "±15%" if kind == "cpu" else "±40%, not yet measured"


def needs_recompute(facts: Facts, settings: TorchSettings, kind: str, memory: int, longest: int) -> bool:
    """Whether activations must be computed twice because not even a small micro-batch fits into `memory`. Down to about
    a thousand tokens, smaller micro-batches cost less time than that. False if the settings decide.
    """
    if settings.activation_checkpointing != "auto" or not memory:
        return False
    tokens = max(longest, _FEW_TOKENS)
    estimated = estimate(facts, settings, kind, tokens_per_batch=tokens, longest=longest, recompute=False)
    return estimated is not None and estimated.total > _USABLE * memory


def _shape(facts: Facts) -> _Shape | None:
    config: Mapping[str, Any] = facts.config.get("text_config") or facts.config
    if not (facts.parameters and facts.hidden and facts.layers and facts.vocabulary):
        return None
    heads = _size(config, "num_attention_heads", "n_head") or max(1, facts.hidden // 64)
    width = _size(config, "head_dim") or facts.hidden // heads
    return _Shape(
        parameters=facts.parameters,
        vocabulary=facts.vocabulary,
        layers=facts.layers,
        hidden=facts.hidden,
        heads=heads,
        queries=heads * width,
        keys=(_size(config, "num_key_value_heads") or heads) * width,
        inner=_size(config, "intermediate_size", "n_inner") or 4 * facts.hidden,
        tied=bool(config.get("tie_word_embeddings", True)),
    )


def _size(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of these numbers that a config has; the largest, if it differs by layer."""
    for name in names:
        value = config.get(name)
        found = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int) and one > 0]
        if found:
            return max(found)
    return None


def _weights(shape: _Shape, settings: TorchSettings, kind: str, *, half: bool) -> dict[str, float]:
    """Weights, and for trained ones the value, the gradient and AdamW's two moments, 4 bytes each."""
    head = shape.vocabulary * shape.hidden
    if settings.mode == "full":
        # Autocast keeps a rounded copy of every matrix, and the loss a copy of the head with a separate gradient.
        rounded = 2.0 * (shape.layers * shape.layer + head) if half else 0.0
        return {"weights": 4.0 * shape.parameters + rounded, "trained": 12.0 * shape.parameters + 4.0 * head}
    layers = float(shape.layers * shape.layer)
    others = shape.parameters - layers
    adapters = settings.adapter.rank * shape.layers * shape.adapted
    each = 0.52 if settings.quantize == "nf4" else 2 if half else 4
    frozen = each * layers + (2 if half and kind == "cuda" else 4) * others
    copied = 2.0 * head if half and kind != "cuda" else 0.0
    return {"weights": frozen + copied, "trained": 16.0 * adapters}


def _activations(shape: _Shape, settings: TorchSettings, kind: str, longest: int, *, half: bool) -> tuple[float, float]:
    """Bytes per token that a layer keeps for the backward pass, and what the largest layer needs in addition."""
    each = 2 if half else 4
    residual = 2 if kind == "cuda" and half and settings.mode == "lora" else 4
    norms = 2 * residual * shape.hidden
    inputs = 2 if settings.mode == "lora" else 5  # of q, k, v and of gate, up: read once by joined adapters
    linear = each * (inputs * shape.hidden + shape.queries)
    shares = each * shape.heads * longest / 2 if kind == "cpu" else 4 * shape.heads
    attention = each * (shape.queries + 2 * shape.keys) + shares
    gated = each * 3 * shape.inner  # gate, up and their product; one more for gates other than silu
    passing = each * 4 * shape.inner + 4 * 4 * shape.hidden
    return norms + linear + attention + gated, passing
