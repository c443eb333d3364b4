"""The data that charts show."""

from __future__ import annotations

import re

import pytest

from reported_run import START, noisy_events
from tuneport import Event
from tuneport.reports.charts import interval_chart, smooth, thin
from tuneport.reports.series import series_of


def test_for_steps_that_were_trained_twice_the_last_values_count() -> None:
    data = [{"step": 1, "train_loss": 3.0}, {"step": 2, "train_loss": 9.0}, {"step": 2, "train_loss": 2.0}]
    events = [Event(seq=n, time=START, kind="metric", message="", data=one) for n, one in enumerate(data, 1)]
    assert series_of(events).points("train_loss") == [(1, 3.0), (2, 2.0)]


def test_epochs_start_where_their_number_increases() -> None:
    assert series_of(noisy_events()).epoch_starts == [121, 241]


def test_smoothing_keeps_a_straight_line_and_its_length() -> None:
    line = [(float(x), 2.0 * x) for x in range(400)]
    smoothed = smooth(line)
    assert [x for x, _ in smoothed] == [x for x, _ in line]
    assert smoothed[200] == pytest.approx((200, 400))
    assert smooth([(1, 5.0)]) == [(1, 5.0)]


def test_thinning_keeps_every_spike() -> None:
    points = [(float(x), 1000.0 if x == 77_777 else x % 7) for x in range(100_000)]
    kept = thin(points)
    assert len(kept) <= 500
    assert (77_777, 1000.0) in kept
    assert list(kept) == sorted(kept)


@pytest.mark.parametrize("mean", [place / 20 for place in range(21)])
def test_the_label_of_an_interval_stays_inside_its_chart(mean: float) -> None:
    text = "100.0%  (100.0% to 100.0%)"
    chart = interval_chart([("tuned", "tuned", mean, mean, mean, text)], title="", width=420)
    kind, x = re.search(r'<text class="value ?(end)?" x="([\d.]+)"', chart).groups()
    wide = 7.4 * len(text)  # of semibold digits at 13 px
    left, right = (float(x) - wide, float(x)) if kind else (float(x), float(x) + wide)
    assert left >= 0
    assert right <= 420
