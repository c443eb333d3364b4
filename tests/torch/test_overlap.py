"""Host and device work in parallel, as on a GPU, as far as a CPU can test it."""

import threading

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tiny_training as tiny
from tuneport.errors import TuneportError
from tuneport_torch.config import TorchSettings
from tuneport_torch.engine.batches import Batches
from tuneport_torch.engine.dpo import Dpo
from tuneport_torch.engine.objective import AnswerRows
from tuneport_torch.engine.orpo import Orpo
from tuneport_torch.engine.prepare import prepare
from tuneport_torch.engine.update import adamw, update
from tuneport_torch.text.rows import TrainingPair

OVERFLOWS = 3e38  # as a weight: its product with the loss overflows float32


def reported(done):
    """Metrics and logs in order, without what depends on the clock, such as when a checkpoint is complete."""
    clock = {"tokens_per_second", "seconds_left"}
    events = [event for event in done.events if event["kind"] != "checkpoint"]
    return [{key: event[key] for key in event.keys() - clock} for event in events]


def some_rows():
    rows = tiny.rows(30)
    rows[4].weights[-1] = OVERFLOWS
    return rows


def pairs(count):
    rows = tiny.rows(2 * count, longest=16)
    return [TrainingPair(chosen=rows[2 * one], rejected=rows[2 * one + 1]) for one in range(count)]


def prepared(**options):
    settings = TorchSettings(device="cpu", precision="float32", **options)
    model = tiny.model()
    return model, prepare(model, settings, tiny.resolved(settings), lambda *_, **__: None)


@pytest.mark.parametrize("options", [{}, {"tokens_per_batch": 24, "packing": False}, {"method": "dpo"}])
def test_overlap_changes_no_number_and_no_event(tmp_path, options):
    data = {"train": pairs(12), "validation": pairs(4)} if options.get("method") else {"train": some_rows()}
    one, other = (
        tiny.trained(tmp_path / str(overlap), epochs=3, evaluate_every=4, overlap=overlap, **data, **options)
        for overlap in (False, True)
    )
    assert reported(one) == reported(other)
    assert one.result == other.result
    assert other.result.skipped_steps == (0 if options.get("method") else 3)
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_an_interrupted_run_with_overlap_reports_every_step_once_and_ends_with_the_same_bits(tmp_path):
    options = {"train": some_rows(), "checkpoint_every": 2, "overlap": True}
    whole = tiny.trained(tmp_path / "whole", **options)
    part = tiny.trained(tmp_path / "parts", stop=lambda step: "pause" if step >= 4 else None, **options)
    rest = tiny.trained(tmp_path / "parts", **options)
    steps = [event["step"] for done in (part, rest) for event in done.events if event["kind"] == "metric"]
    assert steps == list(range(1, whole.result.total_steps + 1))
    assert rest.result == whole.result
    assert all(torch.equal(rest.weights[name], whole.weights[name]) for name in whole.weights)


def test_a_checkpoint_counts_its_own_step(tmp_path):
    done = tiny.trained(tmp_path, train=some_rows(), checkpoint_every=1, keep_checkpoints=20, overlap=True)
    losses = {event["step"]: event["train_loss"] for event in done.events if event["kind"] == "metric"}
    kept = {checkpoint.step: checkpoint.state["progress"] for checkpoint in map(done.store.at, losses) if checkpoint}
    assert kept.keys() == losses.keys()
    assert {step: progress["train_loss"] for step, progress in kept.items()} == losses
    assert max(progress["skipped"] for progress in kept.values()) == done.result.skipped_steps == 2


def test_with_overlap_five_steps_in_a_row_that_are_not_finite_stop_the_job_too(tmp_path):
    rows = tiny.rows(30)
    for row in rows:
        row.weights[-1] = OVERFLOWS
    with pytest.raises(TuneportError, match=r"5 steps in a row, up to step 5\."):
        tiny.trained(tmp_path, train=rows, overlap=True)


class Watched(AnswerRows):
    """Records the thread in which each batch was packed."""

    def __init__(self, rows):
        super().__init__(rows, "train")
        self.packed_by = []

    def pack(self, forward, examples):
        self.packed_by.append(threading.current_thread())
        return super().pack(forward, examples)


def test_all_but_the_first_batch_are_made_by_a_thread_over_the_ends_of_steps_too():
    _, forward = prepared()
    data = Watched(tiny.rows(12))
    plain, ahead = Batches(forward, ahead=False), Batches(forward, ahead=True)
    steps = [list(range(6)), list(range(6, 12))]
    wanted = [batch for step in steps for batch in plain.of(data, step, 30)]
    data.packed_by.clear()
    found = [
        batch for step, then in zip(steps, [steps[1], []], strict=True) for batch in ahead.of(data, step, 30, then)
    ]
    by_thread = [thread is not threading.current_thread() for thread in data.packed_by]
    ahead.close()
    forward.close()
    assert by_thread == [False] + [True] * (len(wanted) - 1)
    for one, other in zip(wanted, found, strict=True):
        for name in ("ids_T", "positions_T", "where_N", "target_N", "weight_N"):
            assert torch.equal(getattr(one, name), getattr(other, name))


def test_an_unused_batch_is_dropped():
    """As when memory ran out and the step is split again, or an evaluation comes between two steps."""
    _, forward = prepared()
    data, other = AnswerRows(tiny.rows(12), "train"), AnswerRows(tiny.rows(12, seed=1), "validation")
    batches = Batches(forward, ahead=True)
    next(batches.of(data, range(6), 30))  # the thread makes its second
    for examples in (other, data):
        (first,) = list(batches.of(examples, [1], 30, then=[1]))
        assert torch.equal(first.ids_T, examples.rows[1][0].long())
    batches.close()
    forward.close()


class NoNumbers(TorchDispatchMode):
    """No tensor may be turned into a Python number."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("method", ["sft", "dpo", "orpo"])
def test_a_packed_forward_and_backward_ask_the_device_for_no_number(mode, method):
    """Padded ones do, because transformers checks whether they need their mask."""
    model, forward = prepared(mode=mode)
    data = {
        "sft": lambda: AnswerRows(tiny.rows(4), "train"),
        "dpo": lambda: Dpo(pairs(4), "train", beta=0.1, label_smoothing=0.0),
        "orpo": lambda: Orpo(pairs(4), "train", beta=0.1),
    }[method]()
    batch = data.pack(forward, range(4))
    assert (batch if method == "sft" else batch.rows).documents.groups  # used only on a CPU
    with NoNumbers():
        figures = data.measure(forward, batch)
        figures[0].backward()
    forward.close()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


def test_an_update_reads_no_number_from_the_device_and_a_skipped_one_changes_no_bit():
    weights = {name: torch.nn.Parameter(torch.randn(shape)) for name, shape in (("a", (3, 4)), ("b", (4,)))}
    optimizer, found = adamw(weights, 0.1, torch.device("cpu")), []
    for loss, grad in ((1.0, 1.0), (1.0, float("inf")), (float("nan"), 1.0), (1.0, 2.0)):
        for weight in weights.values():
            weight.grad = torch.full_like(weight, grad)
        with NoNumbers():
            norm = update(optimizer, list(weights.values()), 0.1, 1.0, torch.tensor(loss))
        moments = [tensor.clone() for state in optimizer.state.values() for tensor in state.values()]
        found.append([weight.detach().clone() for weight in weights.values()] + moments)
        assert norm.item() == pytest.approx(4.0 * grad)
        assert all(weight.grad is None for weight in weights.values())
    after_first, after_inf, after_nan, after_last = found
    assert all(torch.equal(one, other) for one, other in zip(after_first, after_inf, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(after_first, after_nan, strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(after_first, after_last, strict=True))
