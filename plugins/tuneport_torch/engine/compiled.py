"""Compiles decoder layers by torch.compile: a slower start, then fewer and larger kernels in every step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from tuneport_torch.engine.forward import Forward, Packed, TensorRow

_SAMPLE = 4096  # compared numbers per gradient
_DIFFERENCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}  # what rounding alone may cause


def compile_forward(forward: Forward, emit: Callable[..., None]) -> None:
    """Compile the layers of an open forward pass, and check loss and gradients of a few small rows against those
    before. If the check fails, report it and leave the pass uncompiled.
    """
    if not isinstance(forward, Packed):
        emit("log", "Training continues without compiled layers: the rows are padded.", level="warning")
        return
    emit("log", "Compiling the model's layers.")
    start, was_training = time.monotonic(), forward.model.training
    forward.model.train()  # in evaluation mode another graph would be compiled
    before, again = _trial(forward), _trial(forward)
    forward.close()
    forward.compiler = compile_layers
    try:
        forward.open()
        after, most = _trial(forward), _DIFFERENCE[forward.dtype]
        # With dropout, results differ from call to call and cannot be compared.
        repeatable = _difference(again, before) <= most
        if repeatable and not _difference(after, before) <= most:  # also for NaN
            raise ArithmeticError(f"gradients differ by {_difference(after, before):.1%}")
    except Exception as error:  # noqa: BLE001 - whatever a compiler raises, it is not used then
        forward.close()
        forward.compiler = None
        forward.open()
        reason = str(error).strip().partition("\n")[0]
        remedy = "Install what is missing, such as a C++ compiler, or set backends.torch.compile to false."
        message = f"Training continues without compiled layers: {type(error).__name__}: {reason}"
        emit("log", message, level="warning", remedy=remedy)
    else:
        emit("log", f"Compiled the model's layers in {time.monotonic() - start:.0f} s.")
    finally:
        forward.model.train(was_training)


def compile_layers(model: Any, backend: str | Callable[..., Any] = "inductor") -> Callable[[], None]:
    """Compile each decoder layer. Returns a function that undoes it. All layers run the same code, so they share one
    compilation, for any number of tokens; compiling the full model would take longer with every layer.
    """
    layers = [layer for layer in model.get_decoder().modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise TypeError(f"{type(model).__name__} has no decoder layers of transformers' class")
    for layer in layers:
        layer.compile(backend=backend, dynamic=True)

    def undo() -> None:
        for layer in layers:
            layer._compiled_call_impl = None  # noqa: SLF001 - torch has no public way to undo it

    return undo


def _trial(forward: Packed) -> Tensor:
    """The loss of three small rows and some numbers of each gradient, concatenated."""
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
