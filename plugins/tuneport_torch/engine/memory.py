"""Handles running out of memory: smaller micro-batches, then recomputed activations, then an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from tuneport.errors import TuneportError, UnsupportedError
from tuneport_torch.engine import state

T = TypeVar("T")

_WORDS = re.compile(r"out of memory|can't allocate memory|not enough memory|cannot allocate memory", re.IGNORECASE)


class Memory:
    """Runs work again in smaller pieces if it does not fit. Results stay the same except for rounding. The limits found
    are kept in `progress`, so that a resumed run splits its steps in the same way.
    """

    def __init__(self, model: Any, recompute: bool | str, progress: state.Progress, emit: Callable[..., None]) -> None:
        self.model = model
        self.may_recompute = recompute == "if needed" and bool(getattr(model, "supports_gradient_checkpointing", False))
        self.progress = progress
        self.emit = emit
        if recompute is True or progress.recompute:
            self._recompute()

    def fit(self, work: Callable[[], T], split: Callable[[int], list[list[int]]], lengths: Sequence[int]) -> T:
        """Do `work`, which must split its rows by `split(progress.tokens_per_batch)`. Raises TuneportError if a single
        row does not fit.
        """
        while True:
            random = state.random_tensors(self.model.device)
            try:
                return work()
            except Exception as error:
                if not out_of_memory(error):
                    raise
                reason = str(error).strip().splitlines()[0]
            # Only here are the failed attempt's tensors freed, together with its exception.
            self._make_room(split(self.progress.tokens_per_batch), lengths, reason)
            state.set_random(random, self.model.device)

    def _make_room(self, batches: Sequence[Sequence[int]], lengths: Sequence[int], reason: str) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        divisible = [sum(lengths[row] for row in batch) for batch in batches if len(batch) > 1]
        if divisible:
            self.progress.tokens_per_batch = max(1, max(divisible) // 2)
            message = f"Out of memory: micro-batches now have at most {self.progress.tokens_per_batch} tokens."
        elif self.may_recompute and not self.progress.recompute:
            self._recompute()
            message = "Out of memory: activations are now recomputed instead of kept, which is slower."
        else:
            longest = max(lengths[row] for batch in batches for row in batch)
            raise TuneportError(
                f"A single row of {longest} tokens does not fit into memory ({reason}).",
                remedy="Cut or drop long rows (data.too_long: truncate or drop, with backends.torch.max_tokens), "
                "choose a smaller model or a smaller adapter.rank, or free memory on the device.",
            )
        self.emit("log", message, level="warning", tokens_per_batch=self.progress.tokens_per_batch)

    def _recompute(self) -> None:
        if not getattr(self.model, "supports_gradient_checkpointing", False):
            raise UnsupportedError(
                f"{type(self.model).__name__} does not support activation checkpointing.",
                remedy="Leave out activation_checkpointing.",
            )
        if hasattr(self.model, "activation_checkpointing_enable"):
            self.model.activation_checkpointing_enable()
        else:  # the older name
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.progress.recompute = True


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, according to Python, a GPU or the CPU allocator."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _WORDS.search(str(error)) is not None
