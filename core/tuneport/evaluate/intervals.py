"""95% confidence intervals for scores from 0 to 1, and for the paired difference of two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

Z = NormalDist().inv_cdf(0.975)


def mean_interval(scores: Sequence[float]) -> tuple[float, float]:
    """The 95% confidence interval of the mean: Wilson's score interval if every score is 0 or 1, otherwise Student's t.

    Wilson's interval (1927) stays within [0, 1] and is accurate near its ends. The t interval is clipped to [0, 1].

    >>> low, high = mean_interval([1.0] * 81 + [0.0] * 182)
    >>> f"{low:.4f} {high:.4f}"
    '0.2553 0.3662'
    """
    if _all_or_nothing(scores):
        return _wilson(sum(scores), len(scores))
    return _student(scores, floor=0.0)


def difference_interval(tuned: Sequence[float], base: Sequence[float]) -> tuple[float, float]:
    """The 95% confidence interval of the mean of `tuned - base`, with the same rows in the same order in both.

    If every score is 0 or 1, it is Bonett and Price's adjusted Wald interval for paired proportions (2012), which keeps
    its level in small samples. Otherwise it is Student's t over the differences, clipped to [-1, 1].
    """
    if _all_or_nothing(tuned) and _all_or_nothing(base):
        rows = len(tuned) + 2
        gained = (sum(t > b for t, b in zip(tuned, base, strict=True)) + 1) / rows
        lost = (sum(t < b for t, b in zip(tuned, base, strict=True)) + 1) / rows
        middle, half = gained - lost, Z * math.sqrt((gained + lost - (gained - lost) ** 2) / rows)
        return max(-1.0, middle - half), min(1.0, middle + half)
    return _student([t - b for t, b in zip(tuned, base, strict=True)], floor=-1.0)


def sign_test(better: int, worse: int) -> float:
    """The p-value of the exact two-sided sign test: how likely so uneven a count is if each differing row is a coin
    toss. For scores of 0 and 1, this is McNemar's exact test. Rows with equal scores do not count.

    >>> round(sign_test(7, 1), 4)
    0.0703
    """
    rows = better + worse
    log_ways = (
        math.lgamma(rows + 1) - math.lgamma(k + 1) - math.lgamma(rows - k + 1) for k in range(min(better, worse) + 1)
    )
    return min(1.0, 2 * math.fsum(math.exp(ways - rows * math.log(2)) for ways in log_ways))


def _all_or_nothing(scores: Sequence[float]) -> bool:
    return all(score in (0.0, 1.0) for score in scores)


def _wilson(right: float, rows: int) -> tuple[float, float]:
    share = right / rows
    middle = (share + Z * Z / (2 * rows)) / (1 + Z * Z / rows)
    half = Z / (1 + Z * Z / rows) * math.sqrt(share * (1 - share) / rows + (Z / (2 * rows)) ** 2)
    # at the ends the formula gives exactly 0 or 1, but rounding may not
    return (0.0 if right == 0 else middle - half), (1.0 if right == rows else middle + half)


def _student(values: Sequence[float], floor: float) -> tuple[float, float]:
    if len(values) < 2:
        return floor, 1.0
    middle, half = fmean(values), _t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return max(floor, middle - half), min(1.0, middle + half)


def _t_quantile(freedom: int) -> float:
    """The 97.5% quantile of Student's t: Abramowitz and Stegun 26.7.5, within 1% from 2 degrees of freedom."""
    z = Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))
