"""For any file, `fix` keeps every usable row, reports every change, and needs only one run."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuneport import Dataset
from tuneport.dataset import canonical
from tuneport.dataset.fix.remedies import REMEDIES, SAFE

_ODD = (
    *("nan", "&amp;lt;", "Ð¿Ñ€Ð¸", "['a']", "a\u200b b", "\x1b[31mred\x1b[0m", "<think>x</think>y", "Âœ", "\x08", "é“"),
    *('<tool_call>{"name":"w","arguments":{}}</tool_call>', "<tool_response>5</tool_response>"),
    *("Human: a\n\nAssistant: b", '[{"role": "user", "content": "a"}]', "[{'role': 'user', 'content': 'a'}]"),
)
TEXT = st.one_of(st.text(alphabet=" \n\x00\x85abÃÂâ©€\u200b\ufeff&;#39lt\x1b[m", max_size=6), st.sampled_from(_ODD))
VALUE = st.one_of(TEXT, st.none(), st.integers(-3, 3), st.booleans(), st.floats(allow_nan=False), st.lists(TEXT))
ARGUMENTS = st.sampled_from(["{}", '{"a": null}', '{"b":1,"a":2}', {"a": None, "b": 1}, {"x": [1, {"y": None}]}, ""])
CALL = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": st.just("w"), "arguments": ARGUMENTS})},
    optional={"id": st.sampled_from(["a", "b", ""])},
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "USER", "model", "function"])},
    optional={
        "content": st.one_of(TEXT, TEXT, st.none(), st.lists(st.fixed_dictionaries({"text": TEXT}), max_size=2)),
        "weight": st.sampled_from([0, 1, 0.5, "1", None]),
        "train": st.booleans(),
        "tool_calls": st.lists(CALL, max_size=2),
        "tool_call_id": st.sampled_from(["a", "b"]),
        "reasoning_content": TEXT,
        "extra": st.just(1),
    },
)
SPOKEN = st.fixed_dictionaries(
    {"from": st.sampled_from(["human", "gpt", "system", "function_call", "tool"]), "value": TEXT},
    optional={"loss": st.booleans()},
)
HISTORY = st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=2)
TURNS = st.lists(MESSAGE, max_size=4)
GOOD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "messages": (
        {"messages": [{"role": "user", "content": "zzz"}, {"role": "assistant", "content": "yyy"}]},
        {"messages": TURNS, "system": TEXT, "history": HISTORY},
    ),
    "conversations": (
        {"conversations": [{"from": "human", "value": "zzz"}, {"from": "gpt", "value": "yyy"}]},
        {"conversations": st.lists(SPOKEN, max_size=4), "system": TEXT},
    ),
    "prompt": ({"prompt": "zzz", "completion": "yyy"}, {"prompt": VALUE, "completion": VALUE, "context": TEXT}),
    "question": ({"question": "zzz", "answer": "yyy"}, {"question": VALUE, "answer": VALUE, "history": HISTORY}),
    "text": ({"text": "zzz", "label": "yyy"}, {"text": VALUE, "label": VALUE}),
    "chosen": (
        {"prompt": "zzz", "chosen": "yyy", "rejected": "xxx"},
        {"prompt": TEXT | TURNS, "chosen": TEXT | TURNS, "rejected": TEXT | TURNS, "system": TEXT},
    ),
}
_FORMS = {*SAFE} & {code for code in REMEDIES if code.startswith(("read-as", "unknown", "null", "weight-not"))}
_REPEATS = {"duplicate", "near-duplicate", "conflicting-answers"}


@st.composite
def files(draw: st.DrawFn) -> list[dict[str, Any]]:
    good, columns = GOOD[draw(st.sampled_from(sorted(GOOD)))]
    needed = {name: columns[name] for name in good}
    others = {name: values for name, values in columns.items() if name not in good}
    return [good, *draw(st.lists(st.fixed_dictionaries(needed, optional=others), min_size=1, max_size=3))]


def try_one(rows: list[dict[str, Any]], remedies: set[str] | None) -> None:
    with TemporaryDirectory() as folder:
        first, second, third = (Path(folder) / name for name in ("1.jsonl", "2.jsonl", "3.jsonl"))
        first.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        before = Dataset.load(first)
        result = before.fix(second, remedies=remedies, drop_most=True)
        after = Dataset.load(second)
        found = after.check()
        assert (result.read, found.read, found.used) == (len(rows), result.written, result.written)
        repeats = sum(one.action == "dropped" and one.code in _REPEATS for one in result.changes)
        assert result.written + repeats >= before.check().used
        touched = {one.line for one in result.changes if one.code not in _FORMS}
        written = set(map(canonical, after))
        for line, row in enumerate(rows, 1):
            kept = [canonical(example) for example in Dataset.load([rows[0], row])][1:]
            assert line in touched or written.issuperset(kept)
        again = after.fix(third, remedies=remedies, drop_most=True)
        assert (again.changed, again.dropped) == (0, 0)
        assert third.read_bytes() == second.read_bytes()


REMEDY = st.none() | st.sets(st.sampled_from(sorted(REMEDIES.keys() - {"leaked-row"})), max_size=5)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=files(), remedies=REMEDY)
def test_fix_keeps_rows_and_announces_what_it_changes(rows: list[dict[str, Any]], remedies: set[str] | None) -> None:
    try_one(rows, remedies)


@pytest.mark.soak
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=files(), remedies=REMEDY)
def test_fix_keeps_rows_and_announces_what_it_changes_at_length(
    rows: list[dict[str, Any]], remedies: set[str] | None
) -> None:
    try_one(rows, remedies)
