"""Checkpoints are written during training, which continues; the content is that of their step."""

from __future__ import annotations

import errno
import os
import threading
import time

import torch

import tiny_training as tiny
from tuneport_torch.engine.checkpoint import Store, read_tensors
from tuneport_torch.engine.saving import Saver
from tuneport_torch.engine.state import Progress


class SlowStore(Store):
    """A slow disk, which writes when the test lets it."""

    def __init__(self, folder, keep=2):
        super().__init__(folder, keep)
        self.let, self.asked = threading.Event(), []

    def save_tensors(self, step, tensors, state):
        self.asked.append(step)
        assert self.let.wait(60)
        return super().save_tensors(step, tensors, state)


class FullStore(Store):
    """A disk that is full at some steps."""

    def __init__(self, folder, *, full_at, keep=2):
        super().__init__(folder, keep)
        self.full_at = full_at

    def save_tensors(self, step, tensors, state):
        if step in self.full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().save_tensors(step, tensors, state)


def saver(store, *, weight=None, progress=None, **options):
    """A saver of one weight, and its reports."""
    weight = torch.nn.Parameter(torch.zeros(1000)) if weight is None else weight
    optimizer, reported = torch.optim.AdamW([weight]), []
    made = Saver(
        store,
        progress or Progress(),
        {"w": weight},
        optimizer,
        {},
        every=1,
        emit=lambda kind, message, **data: reported.append((kind, message, data)),
        **options,
    )
    return made, reported


def test_training_continues_while_a_checkpoint_of_the_earlier_state_is_written(tmp_path):
    """Step 2's checkpoint is delayed until step 5; it has step 2's bits anyway."""
    options = {"epochs": 2, "checkpoint_every": 2, "mode": "full", "keep_checkpoints": 9, "learning_rate": 1e-3}
    plain = tiny.trained(tmp_path / "plain", stop=lambda step: "pause" if step == 2 else None, **options)
    store = SlowStore(tmp_path / "slow", 9)

    def stop(step):
        if step == 3 and not store.let.is_set():
            while not store.asked:
                time.sleep(0.001)
            assert store.asked == [2]
            assert store.newest_intact() is None
            store.let.set()

    slow = tiny.trained(tmp_path / "slow", stop=stop, store=store, **options)
    saved, wanted = slow.store.at(2), plain.store.at(2)
    for name in ("weights", "optimizer", "random"):
        tensors = read_tensors(saved, name)
        assert all(torch.equal(tensors[key], value) for key, value in read_tensors(wanted, name).items())
    assert saved.state["progress"] == wanted.state["progress"]
    reported = [event["step"] for event in slow.events if event["kind"] == "checkpoint"]
    assert reported == sorted(reported) == [kept.step for kept in slow.store.list()]


def test_at_most_one_checkpoint_is_on_its_way(tmp_path):
    store = SlowStore(tmp_path)
    made, reported = saver(store, progress=(progress := Progress(step=0)))
    progress.step = 1
    made.save()
    while not store.asked:
        time.sleep(0.001)
    progress.step = 2
    other = threading.Thread(target=made.save)
    other.start()
    other.join(0.2)
    assert other.is_alive()  # the second waits for the first
    assert store.asked == [1]
    store.let.set()
    other.join(60)
    made.close()
    assert [data["step"] for _, _, data in reported] == [1, 2]
    assert store.newest_intact().step == 2


def test_a_copy_has_the_same_bits_for_any_values(tmp_path):
    bits = torch.randint(-(2**31), 2**31 - 1, (1000,), dtype=torch.int32)  # including signaling NaNs and denormals
    weight = torch.nn.Parameter(bits.view(torch.float32).clone())
    made, _ = saver(Store(tmp_path), weight=weight, progress=(progress := Progress()))
    progress.step = 1
    made.save()
    with torch.no_grad():
        weight.zero_()
    made.close()
    assert torch.equal(read_tensors(Store(tmp_path).newest_intact(), "weights")["w"].view(torch.int32), bits)


def test_the_last_step_waits_for_the_disk(tmp_path):
    store = SlowStore(tmp_path)
    threading.Timer(0.2, store.let.set).start()
    made, reported = saver(store, progress=(progress := Progress()))
    progress.step = 4
    made.save_last()
    assert [data["step"] for _, _, data in reported] == [4]
    assert store.newest_intact().step == 4
    made.close()


def test_without_memory_for_a_copy_training_waits_for_the_disk_and_says_so_once(tmp_path):
    store = Store(tmp_path)
    made, reported = saver(store, progress=(progress := Progress()), spare=100)
    for step in (1, 2):
        progress.step = step
        made.save()
        assert store.newest_intact().step == step
    made.close()
    words = [message for kind, message, _ in reported if kind == "log"]
    assert len(words) == 1
    assert words[0].startswith("Training waits for the disk at each checkpoint: a copy takes ")


def test_when_the_best_step_cannot_be_kept_the_best_is_the_one_that_was(tmp_path):
    """The validation loss falls until early stopping; its best checkpoint meets a full disk."""
    options = {
        "epochs": 60,
        "validation": tiny.rows(8, seed=9),
        "evaluate_every": 2,
        "patience": 3,
        "schedule": "constant",
        "checkpoint_every": 1000,
        "keep_checkpoints": 1,
    }
    whole = tiny.trained(tmp_path / "whole", **options)
    assert whole.result.stopped == "patience"
    best = whole.result.best_step
    measured = {event["step"]: event["valid_loss"] for event in whole.events if "valid_loss" in event}
    store = FullStore(tmp_path / "full", full_at={best}, keep=1)
    full = tiny.trained(tmp_path / "full", store=store, **options)
    assert f"No checkpoint at step {best}; the previous one stays in use" in full.logs
    kept = full.result.best_step
    assert kept != best
    assert full.result.valid_loss == measured.get(kept, full.result.valid_loss)
    weights = read_tensors(full.store.at(kept), "weights")
    assert all(torch.equal(weight, weights[name]) for name, weight in full.weights.items())


def test_a_full_disk_at_the_last_step_is_an_error_and_saved_checkpoints_stay(tmp_path):
    store = FullStore(tmp_path, full_at=set())
    made, _ = saver(store, progress=(progress := Progress()))
    progress.step = 1
    made.save()
    store.full_at = {2}
    progress.step = 2
    try:
        made.save_last()
    except OSError as error:
        assert error.errno == errno.ENOSPC
    else:
        raise AssertionError("a full disk went unnoticed")
    made.close()
    assert store.newest_intact().step == 1


def test_a_later_best_is_kept_in_addition_to_the_newest(tmp_path):
    done = tiny.trained(
        tmp_path,
        epochs=60,
        validation=tiny.rows(8, seed=9),
        evaluate_every=2,
        patience=4,
        schedule="constant",
        checkpoint_every=1,
        keep_checkpoints=1,
    )
    assert [kept.step for kept in done.store.list()] == [done.result.best_step, done.result.step]
    assert [kept.best for kept in done.store.list()] == [True, False]
