"""What a training lowers over its examples; here for answers to learn, in pairs.py for two of which one is better."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from tuneport.errors import DataError

if TYPE_CHECKING:
    from tuneport_torch.engine.forward import Forward, TensorRow
    from tuneport_torch.engine.pack import WeightedTokens


class Objective(Protocol):
    """The examples of one part of the data, addressed by index, and the loss over them.

    `lengths` are the tokens of each example. `figures` are the names of what `measure` returns; the first is the loss.
    """

    lengths: Sequence[int]
    figures: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """What must be the same to resume from a checkpoint; JSON-ready."""

    def weight(self, examples: Sequence[int]) -> float:
        """The divisor for the sums of `measure` over these examples."""

    def split(self, forward: Forward, examples: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
        """The micro-batches of a step's examples."""

    def pack(self, forward: Forward, examples: Sequence[int]) -> Any:
        """Make a micro-batch for `measure` and start to copy it to the device. May be called in another thread."""

    def measure(self, forward: Forward, batch: Any) -> Tensor:
        """Sums over a micro-batch, of shape (len(figures),). Training follows the gradient of the first."""


class AnswerRows:
    """Rows whose weighted tokens should become likely: the loss is weight x negative log-likelihood, in nats."""

    figures: tuple[str, ...] = ("loss",)

    def __init__(self, rows: Sequence[WeightedTokens], part: str) -> None:
        self.rows = to_tensors(rows, part)
        self.lengths: Sequence[int] = [len(ids) for ids, _ in self.rows]

    def facts(self) -> dict[str, Any]:
        return {"rows": hash_rows(self.rows)}

    def weight(self, examples: Sequence[int]) -> float:
        return sum(float(self.rows[row][1][1:].sum()) for row in examples)

    def split(self, forward: Forward, examples: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
        return forward.split(examples, self.lengths, tokens_per_batch)

    def pack(self, forward: Forward, examples: Sequence[int]) -> Any:
        return forward.pack([self.rows[row] for row in examples])

    def measure(self, forward: Forward, batch: Any) -> Tensor:
        return forward.loss(batch)[None]


def to_tensors(rows: Sequence[WeightedTokens], part: str) -> list[TensorRow]:
    """Rows as tensors. Raises DataError for a row with no token to train on."""
    made = [(torch.tensor(row.ids, dtype=torch.int32), torch.tensor(row.weights, dtype=torch.float32)) for row in rows]
    empty = [number for number, (_, weights) in enumerate(made, start=1) if not bool((weights[1:] != 0).any())]
    if empty or (part == "train" and not made):
        what = (
            f"{len(empty)} rows ({part}) have no token to train on, the first is row {empty[0]}" if empty else "No rows"
        )
        raise DataError(f"{what}.", remedy="See which tokens are trained on: tuneport preview FILE")
    return made


def hash_rows(rows: Iterable[TensorRow]) -> str:
    """SHA-256 over the ids and weights of rows, in order."""
    digest = hashlib.sha256()
    for ids, weights in rows:
        digest.update(len(ids).to_bytes(8, "little") + ids.numpy().tobytes() + weights.numpy().tobytes())
    return digest.hexdigest()
