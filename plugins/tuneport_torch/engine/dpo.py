"""Direct preference optimisation: the better of two answers is to gain on the worse, beside a frozen reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuneport_torch.engine.attention import to_device
from tuneport_torch.engine.objective import digest, tensors

if TYPE_CHECKING:
    from tuneport_torch.engine.forward import Forward
    from tuneport_torch.text.rows import Pair


@dataclass(frozen=True, slots=True)
class PairBatch:
    """B pairs: their R = 2 B answers as the forward pass takes them, longest first, how these are put back into order,
    and the reference of both.
    """

    rows: Any
    back_R: Tensor
    reference_B2: Tensor


class Pairs:
    """Pairs of a chosen and a rejected answer, each a whole row behind the same prompt.

    The loss of a pair is that of Rafailov et al. 2023, equation 7: `-log sigmoid(margin)` with
    `margin = beta x (log(p / p_ref) of the chosen answer - log(p / p_ref) of the rejected one)`; log p is the sum over
    all weighted tokens of the answer. A part of `label_smoothing` of the pairs is taken to be labelled the wrong way
    round (Mitchell 2023). The rewards that are told are beta x log(p / p_ref), as the paper defines them.

    `reference_P2` holds log p_ref of both answers; it must be filled before anything is measured.
    """

    figures: tuple[str, ...] = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")

    def __init__(self, pairs: Sequence[Pair], part: str, *, beta: float, label_smoothing: float) -> None:
        self.beta, self.label_smoothing = beta, label_smoothing
        self.chosen = tensors([pair.chosen for pair in pairs], part)
        self.rejected = tensors([pair.rejected for pair in pairs], part)
        self.lengths: Sequence[int] = [
            len(chosen) + len(rejected) for (chosen, _), (rejected, _) in zip(self.chosen, self.rejected, strict=True)
        ]
        self.reference_P2 = torch.full((len(pairs), 2), torch.nan)
        self._rooms: list[int] = []

    def facts(self) -> dict[str, Any]:
        return {
            "rows": digest([*self.chosen, *self.rejected]),
            "method": "dpo",
            "beta": self.beta,
            "label_smoothing": self.label_smoothing,
        }

    def weight(self, examples: Sequence[int]) -> float:
        """Pairs count alike, however long they are."""
        return len(examples)

    def split(self, forward: Forward, examples: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
        """Micro-batches of whole pairs."""
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
            to_device(self.reference_P2[list(examples)], forward.device),
        )

    def measure(self, forward: Forward, batch: PairBatch) -> Tensor:
        return self.figures_of(self.logprobs(forward, batch), batch.reference_B2)

    def logprobs(self, forward: Forward, batch: PairBatch) -> Tensor:
        """Log-probabilities of the chosen and the rejected answer of each pair, (B, 2), in nats."""
        return forward.logprobs(batch.rows)[batch.back_R].view(-1, 2)

    def figures_of(self, logprob_B2: Tensor, reference_B2: Tensor) -> Tensor:
        """The sums of `figures` over pairs with these log-probabilities."""
        reward_B2 = self.beta * (logprob_B2 - reference_B2)
        margin_B = reward_B2[:, 0] - reward_B2[:, 1]
        wrong = self.label_smoothing
        loss_B = -(1 - wrong) * F.logsigmoid(margin_B) - wrong * F.logsigmoid(-margin_B)
        told = [*reward_B2.detach().sum(0), margin_B.detach().sum(), (margin_B > 0).float().sum()]
        return torch.stack([loss_B.sum(), *told])


def switch_dropout_off(model: nn.Module) -> None:
    """The model's own dropout would be noise in every comparison with the reference, which has none. An adapter's stays
    as it was asked for.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
