"""Rows that are longer than `max_tokens`: the plan says what happens to them, and so does the job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from torch_jobs import request, settled
from tuneport import Completion, Conversation, Dataset, Message, Preference, Status
from tuneport.errors import DataError
from tuneport.plugin import TrainRequest
from tuneport_torch import TorchBackend

SHORT, LONG = "very " * 3, "very " * 60


def chat(asked: str, answer: str = "card") -> Conversation:
    return Conversation(messages=(Message(role="user", content=asked), Message(role="assistant", content=answer)))


def asked(base: Path, name: str, examples: list[object], policy: str, **settings) -> TrainRequest:
    built = request(base, name, **settings)
    train = Dataset.from_examples(examples)  # type: ignore[arg-type]  # a list of any shapes
    return replace(built, train=train, validation=None, options=replace(built.options, too_long=policy))


ROWS = [chat(f"{SHORT}{n}") for n in range(6)] + [chat(f"{LONG}{n}") for n in range(3)]
CUT = [chat(f"{SHORT}{n}", LONG) for n in range(2)]


def test_a_plan_says_how_many_rows_are_cut_and_how_many_lose_their_answer(tiny_llama: Path, own_home: Path) -> None:
    backend = TorchBackend()
    count = backend.rules(str(tiny_llama)).count_tokens
    short = 2 * sum(count(ROWS[:6]))
    truncated = backend.plan(asked(tiny_llama, "cut", ROWS + CUT, "truncate", max_tokens=64))
    [note] = [one for one in truncated.notes if "max_tokens" in one]
    assert "5 of 11 rows" in note
    assert "64 tokens (backends.torch.max_tokens)" in note
    assert "2 are cut and 3 are left out" in note
    assert truncated.tokens.value == short + 2 * 2 * 64
    dropped = backend.plan(asked(tiny_llama, "drop", ROWS + CUT, "drop", max_tokens=64))
    assert any("5 of 11 rows" in one and "data.too_long: drop" in one for one in dropped.notes)
    assert dropped.tokens.value == short
    assert not [one for one in backend.plan(asked(tiny_llama, "fits", ROWS, "drop")).notes if "longer" in one]


@pytest.mark.parametrize("policy", ["truncate", "drop", "stop"])
def test_a_plan_without_a_row_left_names_the_settings_and_a_remedy_that_works(
    tiny_llama: Path, own_home: Path, policy: str
) -> None:
    backend = TorchBackend()
    longest = max(backend.rules(str(tiny_llama)).count_tokens(ROWS[6:]))
    with pytest.raises(DataError) as error:
        backend.plan(asked(tiny_llama, "none", ROWS[6:], policy, max_tokens=64))
    said = f"{error.value.message} {error.value.remedy}"
    assert "3 of 3 rows" in said
    assert "backends.torch.max_tokens" in said
    assert "data.too_long" in said
    assert f"to {longest}" in said
    assert backend.plan(asked(tiny_llama, "cured", ROWS[6:], policy, max_tokens=longest)).rows == 3


def test_a_pair_whose_worse_answer_is_cut_away_is_lost(tiny_llama: Path, own_home: Path) -> None:
    def pair(better: str, worse: str) -> Preference:
        said = [(Message(role=role, content=text),) for role, text in (("user", "Hi"), ("assistant", better))]
        return Preference(prompt=said[0], chosen=said[1], rejected=(Message(role="assistant", content=worse),))

    rows = [pair("card", "no"), pair("card", LONG)]
    built = asked(tiny_llama, "pairs", [*rows, pair(LONG, "no")], "truncate", max_tokens=64)
    plan = TorchBackend().plan(replace(built, options=replace(built.options, method="dpo")))
    assert any("2 are cut and 0 are left out" in note for note in plan.notes)


def test_a_job_without_a_row_left_says_the_same(tiny_llama: Path, own_home: Path) -> None:
    job = TorchBackend().start(asked(tiny_llama, "left", ROWS[6:], "truncate", max_tokens=64))
    state = settled(job)
    assert state.status is Status.FAILED
    assert "3 of 3 rows are longer than 64 tokens (backends.torch.max_tokens)" in state.message
    assert "data.too_long: truncate" in state.message
    assert "Raise backends.torch.max_tokens to" in state.remedy
    assert "tuneport check" not in state.remedy


def test_a_base_with_a_template_notes_that_plain_rows_do_not_use_it(tiny_llama: Path, own_home: Path) -> None:
    rules = TorchBackend().rules(str(tiny_llama))
    assert rules.has_template is not None
    assert rules.has_template()
    rows = Dataset.from_examples([Completion(f"{n} + 1 =", f" {n + 1}") for n in range(3)])
    assert "plain-text" in rows.check(rules).counts
