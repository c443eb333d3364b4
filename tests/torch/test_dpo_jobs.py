"""Preference training as users see it: data, plan, killed and paused jobs, and the result."""

from __future__ import annotations

import json
import math
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

import torch_jobs as jobs
import tuneport
from torch_jobs import no_worker_is_left  # noqa: F401 - a fixture
from tuneport import Dataset, Message, Preference, Ref, Status
from tuneport.config import load_config
from tuneport.errors import DataError
from tuneport.local.folder import Folder
from tuneport.plugin import TrainRequest, TrainSettings
from tuneport_torch import TorchBackend, TorchSettings
from tuneport_torch.bases import resolve
from tuneport_torch.text.load import load_codec
from tuneport_torch.text.pairs import render_pairs
from tuneport_torch.text.refusals import Unrenderable
from tuneport_torch.text.render import Renderer
from tuneport_torch.text.rows import read_rows

pytestmark = pytest.mark.timeout(480)


def said(role, text, **more):
    return Message(role=role, content=text, **more)


def preferences(count, first=0):
    return Dataset.from_examples(
        [
            Preference(
                prompt=(said("user", f"{jobs.QUESTIONS[n % 5]} {n}"),),
                chosen=(said("assistant", jobs.ANSWERS[n % 5]),),
                rejected=(said("assistant", "Thank you, that is all for today."),),
            )
            for n in range(first, first + count)
        ]
    )


def request(base, name, *, count=24, **settings):
    return TrainRequest(
        intent=str(uuid.uuid4()),
        name=name,
        base=Ref("torch", str(base)),
        train=preferences(count),
        validation=preferences(4, first=1000),
        options=TrainSettings(method="dpo", epochs=2, seed=7),
        settings=TorchSettings.model_validate(
            {**jobs.SMALL, "tokens_per_step": 200, "checkpoint_every": 2, **settings}
        ),
    )


def until_step(job, step):
    while job.state().step < step and not job.state().status.terminal:
        time.sleep(0.01)


def finished(base, name, **settings):
    job = TorchBackend().start(request(base, name, **settings))
    assert jobs.settled(job).status is Status.SUCCEEDED, jobs.log(job)
    return job


SHAPES = {
    "openai": {
        "input": {"messages": [{"role": "user", "content": "Hello"}]},
        "preferred_output": [{"role": "assistant", "content": "Thank you"}],
        "non_preferred_output": [{"role": "assistant", "content": "card"}],
    },
    "text": {"prompt": "Hello", "chosen": "Thank you", "rejected": "card"},
    "messages": {
        "prompt": [{"role": "user", "content": "Hello"}],
        "chosen": [{"role": "assistant", "content": "Thank you"}],
        "rejected": [{"role": "assistant", "content": "card"}],
    },
    "implicit prompt": {
        "chosen": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Thank you"}],
        "rejected": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "card"}],
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_pairs_is_checked_shown_and_rendered_in_the_same_way(tmp_path, tiny_llama, shape):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(SHAPES[shape]) + "\n")
    rules = TorchBackend().rules(str(tiny_llama))
    data = Dataset.load(file)
    assert data.check(rules, method="dpo").ok
    refused = data.check(rules, method="sft")
    assert [one.code for one in refused.diagnostics if one.code == "shape-not-taken"]
    assert "--method dpo" in next(one.remedy for one in refused.diagnostics if one.code == "shape-not-taken")
    (pieces,) = data.preview(rules)
    shown = [(piece.text, piece.weight) for piece in pieces if piece.weight]
    assert shown == [("Thank you<|im_end|>", 1), ("card<|im_end|>", -1)]


def test_dpo_refuses_plain_conversations(tiny_llama):
    rules = TorchBackend().rules(str(tiny_llama))
    checked = jobs.rows(3).check(rules, method="dpo")
    found = next(one for one in checked.diagnostics if one.code == "shape-not-taken")
    assert "sft" in found.remedy
    with pytest.raises(DataError, match="dpo trains on preference rows"):
        tuneport.train(Ref("torch", str(tiny_llama)), jobs.rows(3), method="dpo")


def test_only_the_answer_has_weight_and_both_follow_the_same_tokens(tiny_llama):
    renderer = Renderer(load_codec(resolve(str(tiny_llama))))
    prompt = (said("user", "Hello"), said("assistant", "How are you?"), said("user", "Goodbye"))
    pair = Preference(prompt=prompt, chosen=(said("assistant", "card"),), rejected=(said("assistant", "transfer"),))
    ((chosen, rejected),) = render_pairs(renderer, [pair])
    first = chosen.weights.index(1.0)
    assert first == rejected.weights.index(1.0)
    assert chosen.ids[:first] == rejected.ids[:first] == renderer.prompts([prompt])[0]
    answer = chosen.ids[first : first + chosen.weights.count(1.0)]
    assert renderer.codec.decode(answer, keep_control=True) == "card<|im_end|>"
    odd = Preference(
        prompt=prompt[:1], chosen=(said("assistant", "card"),), rejected=(said("user", "No"), said("assistant", "card"))
    )
    (why,) = render_pairs(renderer, [odd])
    assert isinstance(why, Unrenderable)
    assert why.code == "prompts-differ"


def test_a_plan_counts_both_answers_and_a_comparison_wants_the_chosen_one(tiny_llama):
    asked = request(tiny_llama, "plan")
    plan, rules = TorchBackend().plan(asked), TorchBackend().rules(str(tiny_llama))
    counts = rules.count_tokens(list(asked.train))
    assert sum(counts) * 2 < plan.tokens.value <= 2 * sum(counts) * 2
    assert any("reference" in note for note in plan.notes)
    job = finished(tiny_llama, "planned")
    assert job.state().tokens == plan.tokens.value
    assert job.state().total_steps == plan.steps.value
    compared = tuneport.compare(job.result(), preferences(2, first=2000), max_tokens=4)
    assert {row.reference for row in compared.examples} == {"card", "transfer"}


def test_a_job_killed_and_paused_ends_with_the_same_bits_and_measures_its_reference_once(tiny_llama):
    whole = finished(tiny_llama, "whole")
    job = TorchBackend().start(request(tiny_llama, "harmed"))
    until_step(job, 3)
    jobs.kill(job)
    assert jobs.settled(job).status is Status.INTERRUPTED
    job.resume()
    until_step(job, 7)
    job.pause()
    if jobs.settled(job).status is Status.PAUSED:
        job.resume()
    assert jobs.settled(job).status is Status.SUCCEEDED, jobs.log(job)
    assert jobs.weights(job) == jobs.weights(whole)
    assert dict.fromkeys(jobs.losses(job)) == dict.fromkeys(jobs.losses(whole))  # a repeated step has the same loss
    assert sum("Measuring the reference" in event.message for event in job.events()) == 1


def test_a_tuned_model_is_the_reference_of_the_next_training(tiny_llama):
    backend = TorchBackend()
    first = backend.start(jobs.request(tiny_llama, "first", count=20, learning_rate=1e-2))
    assert jobs.settled(first).status is Status.SUCCEEDED, jobs.log(first)
    asked = request("first", "second", learning_rate=0.0)
    second = backend.start(asked)
    assert jobs.settled(second).status is Status.SUCCEEDED, jobs.log(second)
    for event in (event for event in second.events() if event.kind == "metric"):
        assert event.data["train_loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert event.data["rewards/margins"] == event.data["rewards/chosen"] == 0.0
    lineage = second.result().lineage
    assert (lineage.method, lineage.base, lineage.settings["reference"]) == ("dpo", "torch:first", "torch:first")
    question = [Message(role="user", content="My card never arrived 0")]
    answers = [backend.model(name).reply(question, max_tokens=5).text for name in ("first", "second")]
    assert answers[0] == answers[1]  # a rate of 0 trains nothing: it answers like the first, not like the base


@pytest.mark.parametrize(("policy", "used"), [("drop", 1), ("truncate", 2)])
def test_a_pair_is_too_long_if_one_of_its_answers_is(tmp_path, tiny_llama, policy, used):
    """A folder with three pairs: one that fits, one with a long answer, one whose prompt alone is too long."""
    codec, reported = load_codec(resolve(str(tiny_llama))), []
    renderer, folder = Renderer(codec), Folder(tmp_path)

    def pair(prompt, chosen, rejected):
        turns = (said("user", prompt), said("assistant", chosen), said("assistant", rejected))
        return Preference(prompt=turns[:1], chosen=turns[1:2], rejected=turns[2:])

    some = [
        pair("Hello", "card", "card card"),
        pair("Hello", "card", "card " * 40),
        pair("Hello " * 40, "card", "refund"),
    ]
    count, fingerprint = folder.write_rows("train", Dataset.from_examples(some))
    fits = render_pairs(renderer, some[:1])[0]
    limit = max(len(arm.ids) for arm in fits) + 5
    source = SimpleNamespace(
        examples=lambda part: folder.rows(part, fingerprint),
        note=lambda _: None,
        emit=lambda *_, **data: reported.append(data),
    )
    asked = {"options": {"method": "dpo", "too_long": policy}, "data": {"train": {"fingerprint": fingerprint}}}
    rows = read_rows(source, asked, codec, limit)
    assert len(rows.train) == used
    assert max(len(row.ids) for one in rows.train for row in (one.chosen, one.rejected)) <= limit
    assert [(one["read"], one["used"], one["dropped"]) for one in reported] == [(count, used, count - used)]
    asked["options"]["too_long"] = "stop"
    with pytest.raises(DataError, match=r"row 2: too-long: \d+ tokens, the model's limit is"):
        read_rows(source, asked, codec, limit)


def test_the_example_is_sound(tiny_llama):
    folder, rules = Path(__file__).parents[2] / "examples" / "preferences", TorchBackend().rules(str(tiny_llama))
    for name in ("tune.yaml", "sft.yaml"):
        config = load_config(folder / name)
        data = Dataset.load(folder / config.data.train, columns=config.data.columns, system=config.data.system)
        checked = data.check(rules, method=config.train.method)
        assert (checked.used, checked.rejected) == (60, 0)
