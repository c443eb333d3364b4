"""RMSNorm, gates and rotary positions as one function each, used if proven equal to the model's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_GATED = {"gate_proj", "up_proj", "down_proj"}  # transformers' names for the layers of a gated feed-forward
_ROTARY = "apply_rotary_pos_emb"  # its name in all models of transformers


def fuse(model: nn.Module) -> Callable[[], None]:
    """Let a model's modules compute with the functions below if that is proven. Returns a function that undoes it.

    Written as single operations, as in models, these small layers read and write memory many times, and autograd keeps
    all intermediate results. The proof is per module class: outputs and gradients of random numbers, in float32.
    """
    changed = [*_fuse_norms(model), *_fuse_gates(model), *_fuse_rotary(model)]

    def undo() -> None:
        for module in changed:
            module.__dict__.pop("forward", None)

    return undo


def _fuse_norms(model: nn.Module) -> Iterator[nn.Module]:
    proven: dict[type, float | None] = {}
    for module in model.modules():
        kind = type(module)
        if not kind.__name__.endswith("RMSNorm") or "forward" in module.__dict__:
            continue
        if kind not in proven:
            proven[kind] = next((offset for offset in (0.0, 1.0) if _is_norm(module, offset)), None)
        offset = proven[kind]
        if offset is not None and _epsilon(module) is not None:
            module.forward = MethodType(_norm_forward(offset), module)
            yield module


def _norm_forward(offset: float) -> Callable[[Any, Tensor], Tensor]:
    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        return rms_norm(hidden_states, self.weight, _epsilon(self) or 0.0, offset)

    return forward


def _epsilon(module: nn.Module) -> float | None:
    found = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return found if isinstance(found, float) else None


def _is_norm(module: nn.Module, offset: float) -> bool:
    """Whether a module's forward pass equals `rms_norm` with `offset` added to its weight (1 for Gemma)."""
    weight = getattr(module, "weight", None)
    epsilon = _epsilon(module)
    if not isinstance(weight, Tensor) or weight.ndim != 1 or epsilon is None:
        return False
    probe: Any = copy.deepcopy(module).float().requires_grad_(requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    shape = (1, 7, len(weight))
    x, outer = (torch.randn(shape, generator=generator).to(weight.device) for _ in range(2))
    with torch.no_grad():
        probe.weight.copy_(torch.randn(len(weight), generator=generator))
    return _are_equal(probe, lambda x: rms_norm(x, probe.weight, epsilon, offset), [x], [outer], [probe.weight])


def _fuse_gates(model: nn.Module) -> Iterator[nn.Module]:
    proven: dict[type, bool] = {}
    for module in model.modules():
        kind = type(module)
        if not _GATED.issubset(dict(module.named_children())) or "forward" in module.__dict__:
            continue
        if kind not in proven:
            proven[kind] = _is_gated(module)
        if proven[kind]:
            module.forward = MethodType(_gated_forward, module)
            yield module


def _gated_forward(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))
    return out


def _is_gated(module: nn.Module) -> bool:
    """Whether a module's forward pass equals `swiglu`, tried with small layers in place of its own."""
    with torch.random.fork_rng(devices=[]):  # so that an adapter starts with the same numbers, packed or padded
        gate, up, down = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 6)
    small = SimpleNamespace(gate_proj=gate, up_proj=up, down_proj=down, act_fn=getattr(module, "act_fn", None))
    x, outer = torch.randn(2, 1, 5, 6, generator=torch.Generator().manual_seed(0))
    theirs: Any = type(module).forward
    return _are_equal(lambda x: theirs(small, x), lambda x: _gated_forward(small, x), [x], [outer], [])


def _fuse_rotary(model: nn.Module) -> Iterator[nn.Module]:
    proven: dict[Any, bool] = {}
    for module in model.modules():
        forward = type(module).forward
        if not isinstance(forward, FunctionType) or _ROTARY not in forward.__code__.co_names:
            continue
        theirs = forward.__globals__.get(_ROTARY)
        if theirs not in proven:
            proven[theirs] = callable(theirs) and _is_rotary(theirs)
        if proven[theirs] and "forward" not in module.__dict__:
            module.forward = MethodType(_with_global(forward, _ROTARY, rotary), module)
            yield module


def _with_global(function: FunctionType, name: str, value: Any) -> FunctionType:
    """A copy of the function for which one global name has another value."""
    other = FunctionType(
        function.__code__,
        {**function.__globals__, name: value},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    other.__kwdefaults__ = function.__kwdefaults__
    return other


def _is_rotary(theirs: Callable[..., Any]) -> bool:
    generator = torch.Generator().manual_seed(0)
    query, outer_query = torch.randn(2, 1, 3, 5, 8, generator=generator)
    key, outer_key = torch.randn(2, 1, 2, 5, 8, generator=generator)
    cos, sin = torch.randn(2, 1, 5, 8, generator=generator)
    return _are_equal(
        lambda q, k: theirs(q, k, cos, sin),
        lambda q, k: rotary(q, k, cos, sin),
        [query, key],
        [outer_query, outer_key],
        [],
    )


def _are_equal(
    theirs: Callable[..., Any],
    ours: Callable[..., Any],
    inputs: list[Tensor],
    outers: list[Tensor],
    weights: list[Tensor],
) -> bool:
    """Whether two functions have the same outputs and the same gradients of inputs and weights."""
    found: list[tuple[Tensor, ...]] = []
    try:
        with torch.enable_grad(), torch.autocast(inputs[0].device.type, enabled=False):
            for function in (theirs, ours):
                leaves = [x.detach().clone().requires_grad_() for x in inputs]
                out = function(*leaves)
                outputs = out if isinstance(out, tuple) else (out,)
                found.append((*outputs, *torch.autograd.grad(outputs, [*leaves, *weights], outers)))
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
    except Exception:  # noqa: BLE001 - whatever a model's code raises, it stays as it is then
        return False
    return True


def rms_norm(x: Tensor, weight_D: Tensor, epsilon: float, offset: float = 0.0) -> Tensor:
    """`x / sqrt(mean(x^2) + epsilon) * (offset + weight)` over the last dimension, computed in float32."""
    out: Tensor = _RMSNorm.apply(x, weight_D, epsilon, offset)  # type: ignore[no-untyped-call]  # torch's own
    return out


class _RMSNorm(torch.autograd.Function):
    """With r = 1 / sqrt(mean(x^2) + epsilon) and h = gradient x weight, the gradient by x is r h - x r^3 mean(h x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, epsilon: float, offset: float) -> Tensor:
        full: Tensor = x.float()
        size = torch.linalg.vector_norm(full, dim=-1, keepdim=True)
        inverse = size.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight_D, inverse)
        ctx.offset = offset
        out: Tensor = (full * inverse).mul_(_shift(weight_D, offset))
        return out.to(torch.promote_types(x.dtype, weight_D.dtype))

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        x, weight_D, inverse = ctx.saved_tensors
        full, grad = x.float(), outer[0].float()
        grad_x = grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grad * full).mul_(inverse).flatten(0, -2).sum(0).to(weight_D.dtype)
        if ctx.needs_input_grad[0]:
            grad_x = grad * _shift(weight_D, ctx.offset)
            along = torch.linalg.vecdot(grad_x, full)[..., None].mul_(inverse**3).div_(x.shape[-1])
            grad_x = grad_x.mul_(inverse).addcmul_(full, along, value=-1.0).to(x.dtype)
        return grad_x, grad_weight, None, None


def _shift(weight_D: Tensor, offset: float) -> Tensor:
    return weight_D.float() + offset if offset else weight_D.float()


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """`silu(gate) * up`, without keeping silu(gate)."""
    out: Tensor = _Gated.apply(gate, up)  # type: ignore[no-untyped-call]  # torch's own
    return out


class _Gated(torch.autograd.Function):
    """Autograd's operations, but silu(gate) is computed twice: kept, it would be a fifth of a layer's memory."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        gate, up = ctx.saved_tensors
        (by,) = outer
        grad_up = F.silu(gate).mul_(by)
        return torch.ops.aten.silu_backward(by * up, gate), grad_up


def rotary(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Rotate query and key (1, heads, T, d) by their positions' angles, cos and sin (1, T, d): x's two halves a, b
    become a cos - b sin, b cos + a sin. Computed in the wider of the types, and rounded once to x's type.
    """
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    rotated = (_Rotate.apply(x, cos, sin) for x in (query, key))  # type: ignore[no-untyped-call]  # torch's own
    return next(rotated), next(rotated)


class _Rotate(torch.autograd.Function):
    """The gradient of a rotation is the rotation back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        cos, sin = ctx.saved_tensors
        # The transpose: the sines of the two halves swap places and change sign.
        half = sin.shape[-1] // 2
        return _rotate(outer[0], cos, -sin.roll(half, -1)), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, cos.dtype))
    out = wide * cos
    (first, second), (a, b), (sin_a, sin_b) = out.chunk(2, -1), wide.chunk(2, -1), sin.chunk(2, -1)
    first.addcmul_(b, sin_a, value=-1.0)
    second.addcmul_(a, sin_b)
    return out.to(x.dtype)
