"""Stats are as exact as documented, and small for any data."""

from __future__ import annotations

import json
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneport.dataset import Completion, Conversation, DataRules, Example, Message, Preference
from tuneport.dataset.charts import draw_bar, draw_histogram, draw_labels, draw_stats
from tuneport.dataset.stats import Lengths, Tally, collect_stats


def chat(*turns: str) -> Conversation:
    roles = ("system", "user", "assistant")[3 - len(turns) :]
    return Conversation(
        messages=tuple(Message(role=role, content=turn) for role, turn in zip(roles, turns, strict=True))
    )


def test_rows_roles_turns_and_characters_are_counted() -> None:
    stats = collect_stats([chat("be brief", "hello", "hi"), chat("ab", "c")])
    assert (stats.rows, stats.shapes) == (2, {"conversation": 2})
    assert stats.roles == {"user": 2, "assistant": 2, "system": 1}
    assert stats.turns is not None
    assert (stats.turns.min, stats.turns.max, stats.turns.total) == (2, 3, 5)
    assert stats.characters is not None
    assert (stats.characters.min, stats.characters.max, stats.characters.mean) == (3, 15, 9)
    assert stats.tokens is None


def test_completions_and_preferences_are_counted_too() -> None:
    said = (Message(role="assistant", content="abc"),)
    rows: list[Example] = [Completion("ab", "c"), Preference((Message(role="user", content="q"),), said, said)]
    stats = collect_stats(rows)
    assert stats.shapes == {"completion": 1, "preference": 1}
    assert stats.turns is None
    assert stats.characters is not None
    assert (stats.characters.min, stats.characters.max) == (3, 7)


def test_tokens_are_counted_by_the_rules_in_batches() -> None:
    sizes = []

    def count(batch: object) -> list[int]:
        assert isinstance(batch, list)
        sizes.append(len(batch))
        return [7] * len(batch)

    stats = collect_stats([chat("a", "b")] * 600, DataRules(count_tokens=count))
    assert stats.tokens is not None
    assert (stats.tokens.total, stats.tokens.median) == (4200, 7)
    assert sum(sizes) == 600
    assert len(sizes) < 10


def test_stats_of_no_rows_are_empty() -> None:
    stats = collect_stats([])
    assert stats.rows == 0
    assert json.loads(json.dumps(stats.to_dict()))["characters"] is None


def test_stats_are_json_ready() -> None:
    built = json.loads(json.dumps(collect_stats([chat("a", "b")] * 5).to_dict()))
    assert set(built) == {"rows", "shapes", "roles", "turns", "characters", "tokens", "labels"}
    assert built["labels"] == {"b": 5}
    assert built["turns"]["histogram"] == [[2, 2, 5]]


@given(st.lists(st.integers(0, 10**7), min_size=1))
def test_quantiles_are_right_and_bins_include_every_value(values: list[int]) -> None:
    lengths = Lengths()
    lengths.add_all(values)
    found = lengths.distribution()
    assert found is not None
    assert (found.min, found.max, found.total) == (min(values), max(values), sum(values))
    assert found.median == pytest.approx(statistics.median_low(values), rel=0.0051)
    assert sum(each.count for each in found.bins) == len(values)
    assert found.bins[0].low == found.min
    assert found.bins[-1].high == found.max
    assert all(one.high + 1 == other.low for one, other in zip(found.bins, found.bins[1:], strict=False))


def test_the_table_of_lengths_stays_small() -> None:
    rng = random.Random(0)
    lengths = Lengths()
    lengths.add_all(rng.randrange(10**9) for _ in range(20_000))
    assert len(lengths.counts) < 8_000


def test_merged_tallies_equal_one() -> None:
    rows = [chat("a" * index, "xyz"[index % 3]) for index in range(30)]
    everything, left, right = Tally(), Tally(), Tally()
    for index, row in enumerate(rows):
        everything.add(row)
        (left if index < 11 else right).add(row)
    left.merge(right)
    left.merge(Tally())
    assert left.stats() == everything.stats()


def test_labels_are_answers_that_repeat() -> None:
    assert collect_stats([chat("q", "yes")] * 6 + [chat("q", "no")] * 9).labels == {"no": 9, "yes": 6}
    assert collect_stats([chat("q", str(index)) for index in range(50)]).labels is None
    assert collect_stats([chat("q", "a" * 500)] * 50).labels is None
    assert collect_stats([chat("q", str(index % 1500)) for index in range(15_000)]).labels is None


def test_preferences_have_no_labels() -> None:
    said = (Message(role="assistant", content="abc"),)
    assert collect_stats([Preference((), said, said)] * 20).labels is None


def test_a_plain_histogram_is_ascii() -> None:
    found = collect_stats([chat("a" * index, "b") for index in range(200)]).characters
    assert found is not None
    assert "█" in draw_histogram(found, unit="characters")
    assert draw_histogram(found, unit="characters", plain=True).isascii()
    assert max(map(len, draw_histogram(found, unit="characters", width=10).splitlines()[1:])) < 40


def test_any_value_above_0_has_a_visible_bar() -> None:
    assert draw_bar(1, 10**6, 40) == "▏"
    assert draw_bar(0, 10, 40) == ""
    assert draw_bar(10, 10, 4) == "████"
    assert draw_bar(1, 10**6, 40, plain=True) == "#"


def test_a_label_chart_counts_the_labels_that_it_leaves_out() -> None:
    labels = {f"label {index}": 100 - index for index in range(30)}
    lines = draw_labels(labels, most=2).splitlines()
    assert lines[0] == "labels  30 over 2,565 rows"
    assert lines[-1] == "  and 28 more with 71–98 rows each"
    assert draw_labels({"a\nb" * 50: 1}, plain=True).count("\n") == 1


def test_quantities_that_vary_have_a_chart() -> None:
    lines = draw_stats(collect_stats([chat("a" * index, "yes") for index in range(20)]), plain=True)
    assert lines[0] == "20 conversations; messages: 20 user, 20 assistant"
    assert [line for line in lines if line.startswith(("turns", "characters", "labels"))] == [
        "characters a row  min 3, median 12, p90 20, max 22",
        "labels  1 over 20 rows",
    ]
    assert draw_stats(collect_stats([])) == []


def test_a_label_does_not_control_the_terminal() -> None:
    assert "\x1b" not in draw_labels({"\x1b[2Jgone": 9})
