"""The loss of preference pairs, its gradients and its reference, compared with plain float32 ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

import tiny_training as tiny
from tiny_training import pairs
from tuneport_torch.bases import lora
from tuneport_torch.engine.dpo import Dpo
from tuneport_torch.engine.forward import Packed, Padded
from tuneport_torch.engine.logprobs import target_logprobs
from tuneport_torch.engine.loss import Head

KINDS = ["llama", "qwen3", "gemma2", "gpt2"]
BETA = 0.3


def trained(folder, base=None, **options):
    given = {"train": pairs(14), "validation": pairs(4, seed=50), "method": "dpo", "beta": BETA, "learning_rate": 1e-3}
    return tiny.trained(folder, base, **{**given, **options})


def plain_logprob(model, row):
    """Of the weighted tokens of one row, through the model's own forward pass."""
    ids = torch.tensor(row.ids)
    logprobs = model(ids[None], use_cache=False).logits[0, :-1].float().log_softmax(-1)
    return (logprobs.gather(1, ids[1:, None])[:, 0] * torch.tensor(row.weights[1:])).sum()


def plain_margin(model, pair, reference):
    return (plain_logprob(model, pair.chosen) - reference[0]) - (plain_logprob(model, pair.rejected) - reference[1])


def plain_reference(model, some):
    with torch.no_grad():
        return [tuple(float(plain_logprob(model, row)) for row in (pair.chosen, pair.rejected)) for pair in some]


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.requires_grad}


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_and_its_gradients_are_those_of_the_papers_formula(kind, mode):
    model, some = tiny.model(kind).eval(), pairs(5)
    reference = [(chosen + 1.5, rejected - 0.5) for chosen, rejected in plain_reference(model, some)]
    if mode == "lora":
        lora.attach(model, rank=4)
        with torch.no_grad():
            for layer in lora.adapter_layers(model).values():
                layer.lora_B.normal_(std=0.05)
    margins = [BETA * plain_margin(model, pair, ref) for pair, ref in zip(some, reference, strict=True)]
    expected = sum(-F.logsigmoid(margin) for margin in margins)
    wanted = gradients(model, expected)
    for forward in (Padded(model), Packed(model, torch.float32)):
        forward.open()
        ours = Dpo(some, "train", beta=BETA, label_smoothing=0.0)
        ours.reference_P2 = torch.tensor(reference)
        figures = ours.measure(forward, ours.pack(forward, range(5)))
        reported = dict(zip(ours.figures, figures.tolist(), strict=True))
        assert reported["loss"] == pytest.approx(expected.item(), rel=1e-5)
        assert reported["rewards/margins"] == pytest.approx(sum(margins).item(), rel=1e-4, abs=1e-4)
        assert reported["rewards/chosen"] - reported["rewards/rejected"] == pytest.approx(
            reported["rewards/margins"], abs=1e-4
        )
        assert reported["rewards/accuracies"] == sum(margin > 0 for margin in margins)
        for name, grad in gradients(model, figures[0]).items():
            torch.testing.assert_close(
                grad, wanted[name], rtol=1e-3, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
            )


def test_label_smoothing_mixes_in_the_loss_of_the_pair_the_other_way_round():
    one = Dpo(pairs(2), "train", beta=1.0, label_smoothing=0.1)
    logprobs = torch.tensor([[-1.0, -4.0], [-2.0, -2.5]])
    reported = one.figures_of(logprobs, torch.zeros(2, 2))
    expected = sum(0.9 * math.log1p(math.exp(-m)) + 0.1 * math.log1p(math.exp(m)) for m in (3.0, 0.5))
    assert float(reported[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.5, None), (2.0, 3.0)])
def test_log_probabilities_in_chunks_have_the_gradients_of_plain_ones(scale, softcap):
    torch.manual_seed(0)
    hidden, weight, bias = (torch.randn(*shape).requires_grad_() for shape in [(40, 6), (11, 6), (11,)])
    target, by = torch.randint(0, 11, (40,)), torch.randn(40)
    logits = (hidden @ weight.t()) * scale + bias
    logits = logits if softcap is None else torch.tanh(logits / softcap) * softcap
    expected = logits.log_softmax(-1).gather(1, target[:, None])[:, 0]
    ours = target_logprobs(hidden, Head(weight, bias, scale, softcap, torch.float32), target)
    torch.testing.assert_close(ours, expected)
    inputs = (hidden, weight, bias)
    torch.testing.assert_close(
        torch.autograd.grad((ours.sigmoid() * by).sum(), inputs),
        torch.autograd.grad((expected.sigmoid() * by).sum(), inputs),
    )


@pytest.mark.parametrize("options", [{}, {"mode": "full"}, {"packing": False}, {"precision": "bfloat16"}])
def test_before_the_first_step_the_loss_is_log_2_and_every_margin_0(tmp_path, options):
    done = trained(tmp_path, epochs=1, learning_rate=0.0, **options)
    assert done.result.total_steps > 3
    for event in (event for event in done.events if event["kind"] == "metric"):
        assert event["train_loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert event["rewards/chosen"] == event["rewards/rejected"] == event["rewards/margins"] == 0.0
    assert done.result.valid_loss == pytest.approx(math.log(2), abs=1e-6)


def test_a_models_own_dropout_is_off(tmp_path):
    base = tiny.model("gpt2", resid_pdrop=0.3, embd_pdrop=0.3)
    done = trained(tmp_path, base, epochs=1, learning_rate=0.0)
    assert done.losses == pytest.approx([math.log(2)] * len(done.losses), abs=1e-6)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_chosen_answers_gain_on_rejected_ones(tmp_path, mode):
    done = trained(tmp_path, epochs=12, mode=mode, learning_rate=1e-2 if mode == "lora" else 1e-3, patience=None)
    reported = [event for event in done.events if event["kind"] == "metric"]
    assert reported[-1]["train_loss"] < 0.2 < math.log(2)
    assert reported[-1]["rewards/accuracies"] == 1.0
    assert reported[-1]["rewards/margins"] > 1.0
    assert {"valid_loss", "valid_rewards/margins", "valid_rewards/accuracies"} <= reported[-1].keys()
    assert done.result.tokens == 12 * sum(len(p.chosen.ids) + len(p.rejected.ids) for p in pairs(14))


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_micro_batches_change_nothing_and_a_pair_stays_together(tmp_path, mode):
    options = {"mode": mode, "epochs": 2, "tokens_per_step": 200}
    whole = trained(tmp_path / "a", **options, tokens_per_batch=10_000)
    split = trained(tmp_path / "b", **options, tokens_per_batch=1)
    padded = trained(tmp_path / "c", **options, packing=False, tokens_per_batch=60)
    for other in (split, padded):
        tiny.assert_alike(whole, other)


def test_out_of_memory_halves_the_micro_batch_and_not_the_mathematics(tmp_path):
    base, options = tiny.model(), {"epochs": 2, "tokens_per_step": 200}

    def refuse_more(module, args, kwargs):  # the reference is measured within the same memory
        if kwargs["input_ids"].numel() > 60:
            torch.empty(1 << 60, dtype=torch.uint8)  # the allocator itself refuses

    base.get_decoder().register_forward_pre_hook(refuse_more, with_kwargs=True)
    small, plain = trained(tmp_path / "a", base, **options), trained(tmp_path / "b", **options)
    assert "Out of memory: micro-batches now have at most" in small.logs
    tiny.assert_alike(plain, small)


@pytest.mark.parametrize("packed", [True, False])
def test_a_step_counts_both_answers_and_a_micro_batch_has_complete_pairs(packed):
    some, model = Dpo(pairs(14), "train", beta=BETA, label_smoothing=0.0), tiny.model()
    assert some.lengths == [len(pair.chosen.ids) + len(pair.rejected.ids) for pair in pairs(14)]
    batches = some.split(Packed(model, torch.float32) if packed else Padded(model), range(14), 90)
    assert sorted(pair for batch in batches for pair in batch) == list(range(14))
    longest = [max(len(pair.chosen.ids), len(pair.rejected.ids)) for pair in pairs(14)]
    for batch in batches:
        padded = 2 * len(batch) * max(longest[pair] for pair in batch)
        assert len(batch) == 1 or (sum(some.lengths[pair] for pair in batch) if packed else padded) <= 90
    assert max(map(len, batches)) > 1


@pytest.mark.parametrize("options", [{}, {"mode": "full"}, {"adapter": {"dropout": 0.3}, "precision": "bfloat16"}])
def test_a_run_interrupted_anywhere_ends_with_the_same_bits(tmp_path, options):
    options = {"checkpoint_every": 2, "evaluate_every": 3, "patience": None, "epochs": 2, **options}
    whole = trained(tmp_path / "whole", **options)
    losses = {}
    for at in (0, 1, 4, 10**9):
        part = trained(tmp_path / "parts", stop=lambda step, at=at: "pause" if step >= at else None, **options)
        losses.update({event["step"]: event["train_loss"] for event in part.events if event["kind"] == "metric"})
    assert [losses[step] for step in sorted(losses)] == whole.losses
    assert part.result == whole.result
    assert all(torch.equal(part.weights[name], weight) for name, weight in whole.weights.items())
    assert "Measuring" not in part.logs


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-3])])
def test_a_reference_that_is_lost_or_harmed_is_measured_again_on_the_base(tmp_path, harm):
    options = {"epochs": 2, "checkpoint_every": 1}
    whole = trained(tmp_path / "whole", **options)
    trained(tmp_path / "harmed", stop=lambda step: "pause" if step == 3 else None, **options)
    harm(tmp_path / "harmed" / "reference.safetensors")
    again = trained(tmp_path / "harmed", **options)
    assert "Measuring" in again.logs
    assert all(torch.equal(again.weights[name], weight) for name, weight in whole.weights.items())


def test_a_changed_beta_is_another_run(tmp_path):
    trained(tmp_path)
    with pytest.raises(Exception, match="of another run: beta differ"):
        trained(tmp_path, beta=0.2)
