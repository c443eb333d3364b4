"""Odds ratio preference optimization: learns answers and preferences together, without a reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tuneport_torch.engine.pairs import PairBatch, Pairs

if TYPE_CHECKING:
    from tuneport_torch.engine.forward import Forward, TensorRow
    from tuneport_torch.text.rows import TrainingPair


class Orpo(Pairs):
    """Pairs whose chosen answer should become likely, and likelier than the rejected one.

    The loss of a pair is that of Hong, Lee and Thorne 2024, equations 6 and 7: `nll - beta x log sigmoid(r)`, where
    `r = log odds of the chosen answer - log odds of the rejected one`, `odds = p / (1 - p)`, and log p is the mean over
    the weighted tokens of the answer (equation 3); nll is -log p of the chosen answer. The paper calls beta lambda.
    `log_odds_ratio` is r.
    """

    figures: tuple[str, ...] = ("loss", "nll", "log_odds_ratio", "rewards/accuracies")

    def __init__(self, pairs: Sequence[TrainingPair], part: str, *, beta: float) -> None:
        super().__init__(pairs, part)
        self.chosen, self.rejected = _normalize(self.chosen), _normalize(self.rejected)
        self.beta = beta

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "method": "orpo", "beta": self.beta}

    def measure(self, forward: Forward, batch: PairBatch) -> Tensor:
        return self.figures_of(self.logprobs(forward, batch))

    def figures_of(self, logprob_B2: Tensor) -> Tensor:
        """The sums of `figures` over pairs with these mean log-probabilities."""
        odds_B2 = log_odds(logprob_B2)
        ratio_B = odds_B2[:, 0] - odds_B2[:, 1]
        nll_B = -logprob_B2[:, 0]
        loss_B = nll_B - self.beta * F.logsigmoid(ratio_B)
        reported = [nll_B.detach().sum(), ratio_B.detach().sum(), (ratio_B > 0).float().sum()]
        return torch.stack([loss_B.sum(), *reported])


def log_odds(logprob: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p. Value and gradient are finite for every finite log p, even for 0 and for values that
    rounding puts above it: 1 - p is at least the machine epsilon of float32.
    """
    other = (-torch.expm1(logprob)).clamp_min(torch.finfo(torch.float32).eps)
    return logprob - other.log()


def _normalize(rows: Iterable[TensorRow]) -> list[TensorRow]:
    """Rows whose weights are divided by their sum, so that a weighted sum is a mean."""
    return [(ids, weights / weights[1:].sum()) for ids, weights in rows]
