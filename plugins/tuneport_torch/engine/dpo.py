"""Direct preference optimization: the chosen answer gains on the rejected one, relative to a frozen reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tuneport_torch.engine.attention import to_device
from tuneport_torch.engine.pairs import PairBatch, Pairs

if TYPE_CHECKING:
    from tuneport_torch.engine.forward import Forward
    from tuneport_torch.text.rows import TrainingPair


@dataclass(frozen=True, slots=True)
class ReferenceBatch(PairBatch):
    """B pairs with the reference's log-probabilities."""

    reference_B2: Tensor


class Dpo(Pairs):
    """Pairs whose chosen answer should gain on the rejected one, relative to a reference.

    The loss of a pair is that of Rafailov et al. 2023, equation 7: `-log sigmoid(margin)` with
    `margin = beta x (log(p / p_ref) of the chosen answer - log(p / p_ref) of the rejected one)`; log p is the sum over
    all weighted tokens of the answer. A fraction `label_smoothing` of the pairs is assumed to have swapped labels
    (Mitchell 2023). The reported rewards are beta x log(p / p_ref), as the paper defines them.

    `reference_P2` is log p_ref of both answers. Fill it before the first `measure`.
    """

    figures: tuple[str, ...] = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")

    def __init__(self, pairs: Sequence[TrainingPair], part: str, *, beta: float, label_smoothing: float) -> None:
        super().__init__(pairs, part)
        self.beta, self.label_smoothing = beta, label_smoothing
        self.reference_P2 = torch.full((len(pairs), 2), torch.nan)

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "method": "dpo", "beta": self.beta, "label_smoothing": self.label_smoothing}

    def pack(self, forward: Forward, examples: Sequence[int]) -> ReferenceBatch:
        plain = super().pack(forward, examples)
        reference_B2 = to_device(self.reference_P2[list(examples)], forward.device)
        return ReferenceBatch(plain.rows, plain.back_R, reference_B2)

    def measure(self, forward: Forward, batch: ReferenceBatch) -> Tensor:
        return self.figures_of(self.logprobs(forward, batch), batch.reference_B2)

    def figures_of(self, logprob_B2: Tensor, reference_B2: Tensor) -> Tensor:
        """The sums of `figures` over pairs with these log-probabilities."""
        reward_B2 = self.beta * (logprob_B2 - reference_B2)
        margin_B = reward_B2[:, 0] - reward_B2[:, 1]
        wrong = self.label_smoothing
        loss_B = -(1 - wrong) * F.logsigmoid(margin_B) - wrong * F.logsigmoid(-margin_B)
        reported = [*reward_B2.detach().sum(0), margin_B.detach().sum(), (margin_B > 0).float().sum()]
        return torch.stack([loss_B.sum(), *reported])
