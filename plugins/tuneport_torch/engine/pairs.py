"""Pairs of a chosen and a rejected answer, for all methods that compare answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tuneport_torch.engine.attention import to_device
from tuneport_torch.engine.objective import hash_rows, to_tensors

if TYPE_CHECKING:
    from tuneport_torch.engine.forward import Forward
    from tuneport_torch.text.rows import TrainingPair


@dataclass(frozen=True, slots=True)
class PairBatch:
    """B pairs: their R = 2 B answers as input of the forward pass, longest first, and the permutation that restores the
    order.
    """

    rows: Any
    back_R: Tensor


class Pairs:
    """Pairs of a chosen and a rejected answer, each a complete row with the same prompt. Subclasses add the loss:
    `dpo.Dpo`, `orpo.Orpo`.
    """

    def __init__(self, pairs: Sequence[TrainingPair], part: str) -> None:
        self.chosen = to_tensors([pair.chosen for pair in pairs], part)
        self.rejected = to_tensors([pair.rejected for pair in pairs], part)
        self.lengths: Sequence[int] = [
            len(chosen) + len(rejected) for (chosen, _), (rejected, _) in zip(self.chosen, self.rejected, strict=True)
        ]
        self._rooms: list[int] = []

    def facts(self) -> dict[str, Any]:
        return {"rows": hash_rows([*self.chosen, *self.rejected])}

    def weight(self, examples: Sequence[int]) -> float:
        """Every pair counts the same, whatever its length."""
        return len(examples)

    def split(self, forward: Forward, examples: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
        """Micro-batches of complete pairs."""
        if not self._rooms:
            self._rooms = [
                forward.room([len(chosen), len(rejected)])
                for (chosen, _), (rejected, _) in zip(self.chosen, self.rejected, strict=True)
            ]
        rooms = self._rooms
        return forward.split(sorted(examples, key=lambda pair: (-rooms[pair], pair)), rooms, tokens_per_batch)

    def pack(self, forward: Forward, examples: Sequence[int]) -> PairBatch:
        rows = [row for pair in examples for row in (self.chosen[pair], self.rejected[pair])]
        by_length = sorted(range(len(rows)), key=lambda row: -len(rows[row][0]))  # attention is faster that way
        return PairBatch(
            forward.pack([rows[row] for row in by_length]),
            to_device(torch.tensor(by_length).argsort(), forward.device),
        )

    def logprobs(self, forward: Forward, batch: PairBatch) -> Tensor:
        """The sum of weight x log-probability over the chosen and the rejected answer of each pair, (B, 2), in nats."""
        return forward.logprobs(batch.rows)[batch.back_R].view(-1, 2)


def switch_dropout_off(model: nn.Module) -> None:
    """Switch off the model's own dropout, which would be noise in comparisons of answers, and dpo's reference has none.
    An adapter's dropout stays as set.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
