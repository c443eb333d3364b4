from hypothesis import given
from hypothesis import strategies as st

from tuneport_torch.engine.pack import epoch_steps, micro_batches, padded_batches

lengths = st.lists(st.integers(1, 500), min_size=1, max_size=60)


@given(lengths, st.integers(1, 2000), st.integers(0, 9), st.integers(0, 3))
def test_every_row_is_trained_once_an_epoch_and_no_step_is_empty(sizes, tokens, seed, epoch):
    steps = epoch_steps(sizes, tokens, seed, epoch)
    assert all(steps)
    assert sorted(row for step in steps for row in step) == list(range(len(sizes)))
    assert len(steps) == min(-(-sum(sizes) // tokens), len(sizes))


@given(lengths, st.integers(1, 2000))
def test_the_order_is_a_function_of_seed_and_epoch(sizes, tokens):
    assert epoch_steps(sizes, tokens, 1, 2) == epoch_steps(sizes, tokens, 1, 2)


def test_another_epoch_or_seed_is_another_order():
    sizes = [5] * 50
    orders = [epoch_steps(sizes, 20, seed, epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0)]]
    assert orders[0] != orders[1] != orders[2] != orders[0]


@given(lengths, st.integers(1, 1000))
def test_micro_batches_keep_to_their_budget_and_lose_no_row(sizes, budget):
    rows = sorted(range(len(sizes)), key=lambda row: -sizes[row])
    for batches, room in [
        (micro_batches(rows, sizes, budget), lambda batch: sum(sizes[row] for row in batch)),
        (padded_batches(rows, sizes, budget), lambda batch: len(batch) * max(sizes[row] for row in batch)),
    ]:
        assert [row for batch in batches for row in batch] == rows
        assert all(len(batch) == 1 or room(batch) <= budget for batch in batches)


def test_steps_hold_about_equally_many_tokens():
    sizes = [10] * 100
    assert {len(step) for step in epoch_steps(sizes, 130, 0, 0)} <= {12, 13}
