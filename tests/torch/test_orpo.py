"""The odds-ratio loss and its gradients compared with plain float32 ones, and training with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml

import tiny_training as tiny
import torch_jobs as jobs
import tuneport
from tiny_training import pairs
from torch_jobs import no_worker_is_left  # noqa: F401 - a fixture
from tuneport import Ref
from tuneport_torch import TorchBackend, TorchSettings
from tuneport_torch.bases import lora
from tuneport_torch.engine.forward import Packed, Padded
from tuneport_torch.engine.orpo import Orpo, log_odds
from tuneport_torch.resolved import resolve

BETA = 0.3


def trained(folder, base=None, **options):
    given = {"train": pairs(14), "validation": pairs(4, seed=50), "method": "orpo", "beta": BETA, "learning_rate": 1e-3}
    return tiny.trained(folder, base, **{**given, **options})


def plain_logprob(model, row):
    """The paper's equation 3: the mean over the answer's tokens, through the model's own forward pass."""
    ids, weights = torch.tensor(row.ids), torch.tensor(row.weights[1:])
    logprobs = model(ids[None], use_cache=False).logits[0, :-1].float().log_softmax(-1)
    return (logprobs.gather(1, ids[1:, None])[:, 0] * weights).sum() / weights.sum()


def plain_loss(model, pair):
    """Equations 4 to 7 as they are printed, for a single pair; the logarithm of its odds ratio; its first term."""
    chosen, rejected = (plain_logprob(model, row) for row in (pair.chosen, pair.rejected))
    odds = [logprob.exp() / (1 - logprob.exp()) for logprob in (chosen, rejected)]
    ratio = (odds[0] / odds[1]).log()
    return -chosen - BETA * ratio.sigmoid().log(), ratio, -chosen


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.requires_grad}


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_loss_and_its_gradients_are_those_of_the_papers_equations(kind, mode):
    model, some = tiny.model(kind).eval(), pairs(5)
    some[0].chosen.weights[-1] = 0.5  # the mean is a weighted one
    if mode == "lora":
        lora.attach(model, rank=4)
        with torch.no_grad():
            for layer in lora.adapter_layers(model).values():
                layer.lora_B.normal_(std=0.05)
    losses, ratios, nlls = zip(*(plain_loss(model, pair) for pair in some), strict=True)
    wanted = gradients(model, sum(losses))
    for forward in (Padded(model), Packed(model, torch.float32)):
        forward.open()
        ours = Orpo(some, "train", beta=BETA)
        figures = ours.measure(forward, ours.pack(forward, range(5)))
        reported = dict(zip(ours.figures, figures.tolist(), strict=True))
        assert reported["loss"] == pytest.approx(sum(losses).item(), rel=1e-5)
        assert reported["nll"] == pytest.approx(sum(nlls).item(), rel=1e-5)
        assert reported["log_odds_ratio"] == pytest.approx(sum(ratios).item(), rel=1e-4, abs=1e-4)
        assert reported["rewards/accuracies"] == sum(ratio > 0 for ratio in ratios)
        for name, grad in gradients(model, figures[0]).items():
            torch.testing.assert_close(
                grad, wanted[name], rtol=1e-3, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
            )
        forward.close()


def test_log_odds_are_right_up_to_the_precision_of_float32():
    logprob = torch.tensor([-1e4, -80.0, -5.0, -0.7, -1e-3, -1e-6], requires_grad=True)
    exact = logprob.detach().double().requires_grad_()
    expected = exact - (-torch.expm1(exact)).log()
    torch.testing.assert_close(log_odds(logprob).double(), expected, rtol=1e-6, atol=1e-6)
    found, wanted = (
        torch.autograd.grad(odds.sum(), x)[0].double() for odds, x in ((log_odds(logprob), logprob), (expected, exact))
    )
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("other", [0.0, -1e-9, 3e-7, -0.5, -1e4])
@pytest.mark.parametrize("certain", [0.0, -1e-9, 3e-7])  # rounding may put a log-probability above 0
def test_an_answer_that_is_certain_has_a_finite_loss_and_gradient(certain, other):
    for arms in ([certain, other], [other, certain]):
        logprobs = torch.tensor([arms], requires_grad=True)
        loss = Orpo(pairs(1), "train", beta=BETA).figures_of(logprobs)[0]
        loss.backward()
        assert loss.isfinite()
        assert logprobs.grad.isfinite().all()
        assert logprobs.grad[0, 0] < 0 <= logprobs.grad[0, 1]


@pytest.mark.parametrize("packed", [True, False])
def test_a_model_that_is_certain_of_both_answers_has_finite_gradients(packed):
    model, some = tiny.model("qwen3").eval(), pairs(2)
    with torch.no_grad():
        model.lm_head.weight.mul_(1e4)  # the likeliest token takes all
        for row in (row for pair in some for row in (pair.chosen, pair.rejected)):
            for at in (at for at, weight in enumerate(row.weights) if weight):
                row.ids[at] = int(model(torch.tensor([row.ids[:at]])).logits[0, -1].argmax())
            assert plain_logprob(model, row) == 0.0
    forward, ours = Packed(model, torch.float32) if packed else Padded(model), Orpo(some, "train", beta=BETA)
    forward.open()
    figures = ours.measure(forward, ours.pack(forward, range(2)))
    assert figures.isfinite().all()
    assert all(grad.isfinite().all() for grad in gradients(model, figures[0]).values())


def test_a_pair_counts_the_same_however_long_and_however_heavy_its_answers_are():
    model, (light, heavy) = tiny.model().eval(), pairs(1) + pairs(1)
    heavy.chosen.weights = [3.0 * weight for weight in heavy.chosen.weights]
    forward = Padded(model)
    one, other = (Orpo([pair], "train", beta=BETA) for pair in (light, heavy))
    measured = [ours.measure(forward, ours.pack(forward, [0])) for ours in (one, other)]
    torch.testing.assert_close(*measured)
    assert one.weight([0]) == other.weight([0]) == 1


def test_chosen_answers_become_likely_and_likelier_than_rejected_ones(tmp_path):
    done = trained(tmp_path, epochs=10, learning_rate=1e-2, patience=None)
    reported = [event for event in done.events if event["kind"] == "metric"]
    assert reported[-1]["train_loss"] < 0.7 * reported[0]["train_loss"]
    assert reported[-1]["nll"] < 0.7 * reported[0]["nll"]
    assert reported[-1]["log_odds_ratio"] > reported[0]["log_odds_ratio"] + 1.0
    assert reported[-1]["rewards/accuracies"] == 1.0
    assert {"valid_loss", "valid_nll", "valid_log_odds_ratio", "valid_rewards/accuracies"} <= reported[-1].keys()
    assert "reference" not in done.logs
    assert not (tmp_path / "reference.safetensors").exists()


def test_micro_batches_change_nothing(tmp_path):
    options = {"epochs": 1, "tokens_per_step": 200}
    whole = trained(tmp_path / "a", **options, tokens_per_batch=10_000)
    split = trained(tmp_path / "b", **options, tokens_per_batch=1)
    padded = trained(tmp_path / "c", **options, packing=False, tokens_per_batch=60)
    for other in (split, padded):
        tiny.assert_alike(whole, other)


def test_a_models_own_dropout_is_off(tmp_path):
    base = tiny.model("gpt2", resid_pdrop=0.3, embd_pdrop=0.3)
    done = trained(tmp_path, base, epochs=2, learning_rate=0.0, tokens_per_step=10_000)
    assert done.losses == pytest.approx([done.losses[0]] * 2, rel=1e-6)


@pytest.mark.parametrize("options", [{"mode": "full"}, {"adapter": {"dropout": 0.3}, "precision": "bfloat16"}])
def test_a_run_interrupted_anywhere_ends_with_the_same_bits(tmp_path, options):
    options = {"checkpoint_every": 2, "evaluate_every": 3, "patience": None, "epochs": 1, **options}
    whole = trained(tmp_path / "whole", **options)
    for at in (1, 4, 10**9):
        part = trained(tmp_path / "parts", stop=lambda step, at=at: "pause" if step >= at else None, **options)
    assert part.result == whole.result
    assert all(torch.equal(part.weights[name], weight) for name, weight in whole.weights.items())


def test_another_beta_or_method_is_another_run(tmp_path):
    trained(tmp_path, epochs=1)
    with pytest.raises(tuneport.TuneportError, match="of another run: beta differ"):
        trained(tmp_path, epochs=1, beta=0.2)
    with pytest.raises(tuneport.TuneportError, match=r"of another run: .*method"):
        trained(tmp_path, epochs=1, method="dpo")


def test_its_learning_rate_is_that_of_sft_and_its_beta_a_tenth(tmp_path):
    known = {"epochs": 1, "rows": 10, "tokens": 1000, "hidden_size": 576, "device": "cpu"}
    rates = {
        method: resolve(TorchSettings(), **known, method=method).learning_rate for method in ("sft", "dpo", "orpo")
    }
    assert rates["orpo"] == rates["sft"] == pytest.approx(10 * rates["dpo"])
    auto, given = (trained(tmp_path / str(beta), epochs=1, beta=beta) for beta in ("auto", 0.1))
    assert auto.losses == given.losses


@pytest.fixture
def typed(tmp_path, tiny_llama):
    """The command line with a config file of 12 pairs, with the result of each command."""
    pair = {"prompt": "Hello {}", "chosen": "Thank you {}", "rejected": "card {}"}
    lines = [json.dumps({key: text.format(n) for key, text in pair.items()}) for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    config = {
        "model": f"torch:{tiny_llama}",
        "data": {"train": "pairs.jsonl", "validation": 0.2, "holdout": 0},
        "train": {"method": "orpo", "epochs": 1, "suffix": "brief"},
        "backends": {"torch": jobs.SMALL},
    }
    (tmp_path / "tune.yaml").write_text(yaml.safe_dump(config))

    def run(*arguments):
        command = [sys.executable, "-m", "tuneport.cli", *arguments]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


def test_a_config_with_method_orpo_is_planned_and_run_and_the_model_knows(typed):
    plan = typed("plan", "tune.yaml", "--json")
    assert plan.returncode == 0, plan.stderr
    assert "reference" not in plan.stdout
    done = typed("run", "tune.yaml", "--json")
    assert done.returncode == 0, done.stderr
    ref = json.loads(done.stdout)["ref"]
    lineage = tuneport.open_model(ref).lineage
    assert lineage.method == "orpo"
    assert "reference" not in lineage.settings
    reported = [event for event in tuneport.open_job(ref).events() if event.kind == "metric"]
    assert {"train_loss", "nll", "log_odds_ratio", "rewards/accuracies", "valid_loss"} <= reported[-1].data.keys()
    assert any("pairs, " in event.message for event in tuneport.open_job(ref).events())


@pytest.mark.parametrize("command", ["plan", "run"])
def test_label_smoothing_is_refused_with_the_cure(typed, command):
    said = typed(command, "tune.yaml", "--set", "backends.torch.label_smoothing=0.1")
    assert said.returncode == 2
    assert "backends.torch.label_smoothing belongs to method dpo; orpo has none." in said.stderr
    assert "Leave it out" in said.stderr


def test_pairs_are_taken_and_conversations_refused(tiny_llama):
    rules = TorchBackend().rules(str(tiny_llama))
    found = next(one for one in jobs.rows(3).check(rules, method="orpo").diagnostics if one.code == "shape-not-taken")
    assert "orpo trains on preference rows" in found.message
    assert "sft" in found.remedy
    with pytest.raises(tuneport.errors.ConfigError, match="label_smoothing belongs to method dpo; sft has none"):
        tuneport.train(Ref("torch", str(tiny_llama)), jobs.rows(3), settings={"label_smoothing": 0.1})
