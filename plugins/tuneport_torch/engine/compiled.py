"""Decoder layers compiled by torch.compile: a start that takes longer, and fewer, larger kernels in every step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from tuneport_torch.engine.forward import Forward, Packed, TensorRow

_SAMPLE = 4096  # numbers of each gradient that are compared
_DIFFERENCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}  # as far as rounding alone takes two gradients apart


def compile_forward(forward: Forward, emit: Callable[..., None]) -> None:
    """Compile the layers of an open forward pass and try them on a few small rows, whose loss and gradients must be
    what they were before. Where that fails, which is told, the pass is left as it was.
    """
    if not isinstance(forward, Packed):
        emit("log", "The layers are not compiled, training goes on without: the rows are padded.", level="warning")
        return
    emit("log", "Compiling the model's layers.")
    began, was_training = time.monotonic(), forward.model.training
    forward.model.train()  # what is compiled otherwise is another graph
    before, again = _trial(forward), _trial(forward)
    forward.close()
    forward.compiler = compile_layers
    try:
        forward.open()
        after, most = _trial(forward), _DIFFERENCE[forward.dtype]
        # With a random model, as dropout makes it, nothing is the same twice, and there is nothing to compare with.
        steady = _difference(again, before) <= most
        if steady and not _difference(after, before) <= most:  # nor where it is no number
            raise ArithmeticError(f"gradients differ by {_difference(after, before):.1%}")
    except Exception as error:  # noqa: BLE001 - a compiler may raise anything; all it means is that it is not used
        forward.close()
        forward.compiler = None
        forward.open()
        said = str(error).strip().partition("\n")[0]
        remedy = "Give it what it asks for, such as a C++ compiler, or set backends.torch.compile to false."
        what = f"The layers are not compiled, training goes on without: {type(error).__name__}: {said}"
        emit("log", what, level="warning", remedy=remedy)
    else:
        emit("log", f"Compiled the model's layers in {time.monotonic() - began:.0f} s.")
    finally:
        forward.model.train(was_training)


def compile_layers(model: Any, backend: str | Callable[..., Any] = "inductor") -> Callable[[], None]:
    """Let each decoder layer run compiled; what undoes it. All layers are one piece of code and share what it was
    compiled to, for any number of tokens; a whole model would take longer with every layer that it has.
    """
    layers = [layer for layer in model.get_decoder().modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise TypeError(f"{type(model).__name__} has no decoder layers of transformers' kind")
    for layer in layers:
        layer.compile(backend=backend, dynamic=True)

    def undo() -> None:
        for layer in layers:
            layer._compiled_call_impl = None  # noqa: SLF001 - torch has no name for taking it back

    return undo


def _trial(forward: Packed) -> Tensor:
    """The loss of three small rows, and some of each gradient, one behind another."""
    weights = [weight for weight in forward.model.parameters() if weight.requires_grad]
    batch = forward.pack(_rows(forward.model.config.get_text_config().vocab_size))
    with torch.random.fork_rng(devices=[forward.device] if forward.device.type == "cuda" else []):
        torch.manual_seed(0)
        with torch.autocast(forward.device.type, torch.bfloat16, enabled=forward.dtype == torch.bfloat16):
            loss = forward.loss(batch)
        grads = torch.autograd.grad(loss, weights, allow_unused=True)
    some = [grad.flatten()[:: max(1, grad.numel() // _SAMPLE)].float() for grad in grads if grad is not None]
    return torch.cat([loss.detach()[None], *some])


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def _rows(vocabulary: int) -> list[TensorRow]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randint(0, vocabulary, (length,), generator=generator), torch.ones(length)) for length in (48, 30, 17)
    ]
