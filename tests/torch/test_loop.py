import math
from itertools import pairwise

import pytest
import torch

import tiny_training as tiny
from tuneport.errors import DataError, TuneportError
from tuneport_torch import autos
from tuneport_torch.config import TorchSettings
from tuneport_torch.engine.checkpoint import read_tensors
from tuneport_torch.engine.schedule import learning_rate
from tuneport_torch.resolved import resolve


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(one, other):
    return all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


def test_training_lowers_the_loss_and_trains_every_row(tmp_path):
    done = tiny.trained(tmp_path, epochs=12)
    assert done.result.tokens == 12 * sum(len(row.ids) for row in tiny.rows(30))
    assert done.result.step == done.result.total_steps == len(done.losses)
    assert done.losses[-1] < 0.7 * done.losses[0]


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_micro_batches_change_nothing(tmp_path, mode):
    """The loss is sum(weight x nll) / sum(weight) over the step, not a mean of the micro-batches' means."""
    whole = tiny.trained(tmp_path / "a", mode=mode, learning_rate=1e-3)
    split = tiny.trained(tmp_path / "b", mode=mode, learning_rate=1e-3, tokens_per_batch=1)
    assert whole.losses == pytest.approx(split.losses, rel=1e-5)
    assert close(whole.weights, split.weights)


def test_padded_training_is_packed_training(tmp_path):
    packed = tiny.trained(tmp_path / "a", learning_rate=1e-3, packing=True)
    padded = tiny.trained(tmp_path / "b", learning_rate=1e-3, packing=False)
    assert packed.losses == pytest.approx(padded.losses, rel=1e-5)


def test_a_step_is_weighed_by_token(tmp_path):
    rows = tiny.rows(4)
    rows[0].weights = [3.0 * weight for weight in rows[0].weights]
    done = tiny.trained(tmp_path, train=rows, epochs=1, tokens_per_step=10_000, learning_rate=0.0)
    model, total, weight = tiny.model().eval(), 0.0, 0.0
    with torch.no_grad():
        for row in rows:
            ids, weights = torch.tensor(row.ids), torch.tensor(row.weights[1:])
            nll = torch.nn.functional.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction="none")
            total, weight = total + float((nll * weights).sum()), weight + float(weights.sum())
    assert done.losses == pytest.approx([total / weight], rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"mode": "full"}, {"adapter": {"dropout": 0.3}, "precision": "bfloat16"}])
def test_a_run_interrupted_anywhere_ends_with_the_same_bits(tmp_path, options):
    options = {
        "validation": tiny.rows(6, seed=1),
        "checkpoint_every": 2,
        "evaluate_every": 3,
        "patience": None,
        **options,
    }
    whole = tiny.trained(tmp_path / "whole", **options)
    losses, base_logs = {}, []
    for at in (1, 4, 7, 10**9):
        part = tiny.trained(tmp_path / "parts", stop=lambda step, at=at: "pause" if step >= at else None, **options)
        losses.update({event["step"]: event["train_loss"] for event in part.events if event["kind"] == "metric"})
        base_logs.append(part.logs)
    assert [losses[step] for step in sorted(losses)] == whole.losses
    assert part.result == whole.result
    assert same(part.weights, whole.weights)
    assert "Resuming after step 7" in base_logs[-1]
    ends = [outcome.store.newest_intact() for outcome in (part, whole)]
    for name in ("weights", "optimizer", "random"):
        assert same(read_tensors(ends[0], name), read_tensors(ends[1], name)), name


def test_a_harmed_checkpoint_costs_steps_but_changes_no_bit(tmp_path):
    options = {"checkpoint_every": 2, "keep_checkpoints": 3}
    whole = tiny.trained(tmp_path / "whole", **options)
    tiny.trained(tmp_path / "harmed", stop=lambda step: "pause" if step == 5 else None, **options)
    newest = max((tmp_path / "harmed").glob("step-*")) / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    again = tiny.trained(tmp_path / "harmed", **options)
    assert "step-00000005 is not used" in again.logs
    assert "Resuming after step 4" in again.logs
    assert same(again.weights, whole.weights)


def test_cancel_ends_within_a_step_and_keeps_no_checkpoint_of_it(tmp_path):
    done = tiny.trained(tmp_path, stop=lambda step: "cancel" if step == 3 else None)
    assert (done.result.stopped, done.result.step) == ("cancel", 3)


def test_a_finished_run_started_again_only_gives_its_result(tmp_path):
    first = tiny.trained(tmp_path)
    again = tiny.trained(tmp_path)
    assert again.result == first.result
    assert again.losses == []
    assert same(again.weights, first.weights)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    tiny.trained(tmp_path)
    with pytest.raises(TuneportError, match="of another run: seed differ"):
        tiny.trained(tmp_path, seed=8)


def test_a_checkpoint_whose_weights_have_other_names_is_refused_and_not_a_riddle(tmp_path):
    store = tiny.trained(tmp_path, stop=lambda step: "pause" if step == 3 else None).store
    saved = store.newest_intact()
    tensors = {name: read_tensors(saved, name) for name in ("weights", "optimizer", "random")}
    tensors["weights"] = {name.replace("lora_A", "lora.A"): weight for name, weight in tensors["weights"].items()}
    store.save_tensors(saved.step, tensors, saved.state)
    with pytest.raises(TuneportError, match="at step 3 was written by another version of tuneport"):
        tiny.trained(tmp_path)


def test_the_model_holds_the_best_weights_and_training_stops_when_patience_ends(tmp_path):
    done = tiny.trained(
        tmp_path, epochs=60, validation=tiny.rows(8, seed=9), evaluate_every=2, patience=3, schedule="constant"
    )
    assert done.result.stopped == "patience"
    assert done.result.best_step < done.result.step < done.result.total_steps
    best = read_tensors(done.store.at(done.result.best_step), "weights")
    assert same(done.weights, best)
    measured = {event["step"]: event["valid_loss"] for event in done.events if "valid_loss" in event}
    assert done.result.valid_loss == min(measured.values()) == measured[done.result.best_step]


def test_the_validation_loss_is_weighted_by_token_for_any_batches(tmp_path):
    rows = tiny.rows(9, seed=2)
    losses = [
        tiny.trained(tmp_path / str(size), validation=rows, tokens_per_batch=size, learning_rate=0.0).result.valid_loss
        for size in (1, 10_000)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_gradients_that_stay_infinite_stop_the_job_and_name_the_cure(tmp_path):
    base = tiny.model()
    with torch.no_grad():
        base.model.layers[1].mlp.down_proj.weight[0, 0] = math.inf
    with pytest.raises(TuneportError, match=r"5 steps in a row[\s\S]*learning_rate"):
        tiny.trained(tmp_path, base, packing=False)


def test_a_step_whose_loss_overflows_is_skipped_and_counted_and_changes_nothing(tmp_path):
    rows = tiny.rows(30)
    rows[4].weights[-1] = 3e38  # its product with the loss overflows float32
    done = tiny.trained(tmp_path, train=rows, epochs=3)
    assert done.result.skipped_steps == 3
    skipped = [event for event in done.events if "is skipped" in event["message"]]
    assert [event["level"] for event in skipped] == ["warning"] * 3
    assert all(bool(weight.isfinite().all()) for weight in done.weights.values())
    assert not {event["train_loss"] for event in done.events if event["kind"] == "metric"} & {math.inf, math.nan}


def test_data_without_finite_losses_stops_the_job_after_five_steps(tmp_path):
    rows = tiny.rows(30)
    for row in rows:
        row.weights[-1] = 3e38
    with pytest.raises(TuneportError, match=r"5 steps in a row, up to step 5\."):
        tiny.trained(tmp_path, train=rows)


class Small:
    """Memory for a limited number of tokens: the allocator itself refuses more."""

    def __init__(self, model, tokens):
        model.get_decoder().register_forward_pre_hook(self.check, with_kwargs=True)
        self.tokens = tokens

    def check(self, module, args, kwargs):
        if module.training and kwargs["input_ids"].numel() > self.tokens:
            torch.empty(1 << 60, dtype=torch.uint8)


def test_out_of_memory_halves_the_micro_batch_and_not_the_mathematics(tmp_path):
    base = tiny.model()
    Small(base, 40)
    small = tiny.trained(tmp_path / "a", base, learning_rate=1e-3, adapter={"dropout": 0.0})
    assert "Out of memory: micro-batches now have at most" in small.logs
    plain = tiny.trained(tmp_path / "b", learning_rate=1e-3)
    assert small.losses == pytest.approx(plain.losses, rel=1e-5)
    assert close(small.weights, plain.weights)


def test_a_row_that_does_not_fit_is_an_error_that_says_what_to_do(tmp_path):
    base = tiny.model()
    Small(base, 10)
    with pytest.raises(TuneportError, match=r"single row of \d+ tokens does not fit[\s\S]*too_long"):
        tiny.trained(tmp_path, base)


def test_activations_computed_twice_change_no_bit(tmp_path):
    twice = tiny.trained(tmp_path / "a", activation_checkpointing=True)
    once = tiny.trained(tmp_path / "b", activation_checkpointing=False)
    assert twice.losses == once.losses
    assert same(twice.weights, once.weights)


def test_full_training_keeps_float32_masters_under_bfloat16(tmp_path):
    """At 1e-5 a step would change almost no bfloat16 weight."""
    base = tiny.model().bfloat16()
    before = {name: weight.detach().float().clone() for name, weight in base.named_parameters()}
    done = tiny.trained(tmp_path, base, mode="full", precision="bfloat16", learning_rate=1e-5, schedule="constant")
    after = done.weights
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    name = "model.layers.0.mlp.up_proj.weight"
    assert float((after[name] != before[name]).float().mean()) > 0.9


def test_a_disk_that_is_full_for_a_while_does_not_stop_the_training(tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def stop(step):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048 if 2 <= step < 6 else limits[1], limits[1]))

    try:
        done = tiny.trained(tmp_path, stop=stop, checkpoint_every=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "No checkpoint at step 4; the previous one stays in use" in done.logs
    assert done.store.newest_intact().step == done.result.total_steps


@pytest.mark.parametrize("part", ["train", "validation"])
def test_rows_without_anything_to_train_on_are_an_error(tmp_path, part):
    rows = tiny.rows(3)
    rows[1].weights = [1.0] + [0.0] * (len(rows[1].ids) - 1)  # nothing predicts the first token
    with pytest.raises(DataError, match=rf"1 rows \({part}\) .* row 2"):
        tiny.trained(tmp_path, **{"train": tiny.rows(3), part: rows})


def test_metric_events_carry_the_usual_names(tmp_path):
    done = tiny.trained(tmp_path, validation=tiny.rows(3, seed=4))
    last = [event for event in done.events if event["kind"] == "metric"][-1]
    assert {"step", "epoch", "train_loss", "valid_loss", "learning_rate", "grad_norm", "tokens_per_second", "tokens",
            "seconds_left"} <= set(last)  # fmt: skip
    assert (last["epoch"], last["seconds_left"]) == (2, 0)


def plan(**options):
    settings = TorchSettings(**options)
    return resolve(settings, epochs=1, rows=1000, tokens=100_000, hidden_size=576, device="cpu")


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_warms_up_and_falls_as_scheduled(schedule):
    made = plan(learning_rate=1.0, warmup=10)
    rates = [learning_rate(step, made, schedule) for step in range(made.total_steps)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0
    assert all(one >= other for one, other in pairwise(rates[10:]))
    assert rates[-1] == 1.0 if schedule == "constant" else 0 < rates[-1] < 0.02


def test_auto_follows_its_documented_rules():
    made = plan()
    assert (made.tokens_per_step, made.total_steps, made.tokens_per_batch) == (1000, 100, 1024)
    assert made.learning_rate == 1e-3
    assert plan(mode="full").learning_rate == pytest.approx(1e-4)
    assert (made.warmup_steps, made.evaluate_every, made.patience) == (5, 10, 3)
    assert [autos.epochs("auto", tokens) for tokens in (1000, 7842, 100_000, 6_000_000, 30_000_000)] == [
        10,
        4,
        3,
        2,
        1,
    ]
