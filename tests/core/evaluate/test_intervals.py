"""The statistics, compared with published values."""

from __future__ import annotations

import random

import pytest

from tuneport.evaluate.intervals import difference_interval, mean_interval, sign_test


def scores(right: int, rows: int) -> list[float]:
    return [1.0] * right + [0.0] * (rows - right)


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"),
    [  # Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_scores_of_0_and_1_get_wilsons_interval(right: int, rows: int, low: float, high: float) -> None:
    assert mean_interval(scores(right, rows)) == pytest.approx((low, high), abs=5e-5)


def test_all_right_reaches_exactly_one_and_none_right_exactly_zero() -> None:
    assert mean_interval([1.0] * 7)[1] == 1.0
    assert mean_interval([0.0] * 7)[0] == 0.0


def test_partial_scores_get_students_interval() -> None:
    # mean 0.5, standard deviation 0.15811, t(4) = 2.77645: half-width 0.19632
    assert mean_interval([0.3, 0.4, 0.5, 0.6, 0.7]) == pytest.approx((0.30368, 0.69632), abs=1e-4)


def test_students_interval_stays_between_0_and_1_and_one_row_gives_the_full_range() -> None:
    low, high = mean_interval([0.9, 1.0, 0.2])
    assert (low >= 0.0, high) == (True, 1.0)
    assert mean_interval([0.4]) == (0.0, 1.0)
    assert difference_interval([0.4], [0.1]) == (-1.0, 1.0)


def test_the_paired_interval_is_bonetts_and_prices() -> None:
    # Fagerland, Lydersen, Laake 2014, airway hyper-responsiveness: cells 1, 1, 7, 12
    before = [1.0] * 1 + [1.0] * 1 + [0.0] * 7 + [0.0] * 12
    after = [1.0] * 1 + [0.0] * 1 + [1.0] * 7 + [0.0] * 12
    assert difference_interval(before, after) == pytest.approx((-0.508, -0.013), abs=1e-3)


def test_the_paired_interval_of_equal_models_still_has_a_width() -> None:
    low, high = difference_interval([1.0, 0.0] * 10, [1.0, 0.0] * 10)
    assert low == pytest.approx(-high)
    assert 0 < high < 0.2


def test_pairing_narrows_the_interval_of_partial_scores() -> None:
    rng = random.Random(0)
    base = [rng.uniform(0, 0.6) for _ in range(200)]
    tuned = [score + 0.1 + rng.uniform(-0.05, 0.05) for score in base]
    low, high = difference_interval(tuned, base)
    assert 0.09 < low < 0.1 < high < 0.11


@pytest.mark.parametrize(
    ("better", "worse", "p"), [(0, 0, 1.0), (5, 5, 1.0), (7, 1, 0.0703), (0, 10, 0.00195), (3, 0, 0.25)]
)
def test_the_sign_test_is_the_binomial_one(better: int, worse: int, p: float) -> None:
    assert sign_test(better, worse) == pytest.approx(p, abs=5e-5)


def test_the_sign_test_handles_large_counts() -> None:
    assert 0 <= sign_test(60_000, 40_000) < 1e-300
    assert sign_test(50_000, 50_000) == 1.0
