"""Repeats and leaks are found exactly, on disk and in memory."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneport import Dataset
from tuneport.dataset import Completion, Conversation, Example, Message, Preference
from tuneport.dataset.check.repeats import Records, Repeat, find_leaks, find_repeats
from tuneport.dataset.check.row_keys import leading_system, many_row_keys, row_keys, text_key
from tuneport.dataset.example import digest


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path))


def chat(asked: str, answer: str, **more: object) -> Conversation:
    messages = (Message(role="user", content=asked), Message(role="assistant", content=answer))
    return Conversation(messages=messages, **more)  # type: ignore[arg-type]


def keys(example: Example) -> bytes:
    return row_keys(example, digest(example))


def records(examples: Iterable[Example]) -> Records:
    collected = Records()
    for place, example in enumerate(examples, 1):
        collected.add(keys(example), place)
    return collected


def found(*examples: Example) -> list[tuple[str, int, int]]:
    return [(each.kind, each.place, each.first) for each in find_repeats(records(examples))]


def same_text(one: Example, other: Example) -> bool:
    return keys(one)[8:16] == keys(other)[8:16]


def same_prompt(one: Example, other: Example) -> bool:
    return keys(one)[:8] == keys(other)[:8]


def test_each_kind_of_repeat_names_the_first_row() -> None:
    assert found(chat("a", "1"), chat("b", "2"), chat("a", "1")) == [("duplicate", 3, 1)]
    assert found(chat("Is it on?", "yes"), chat("is it  on", "Yes.")) == [("near-duplicate", 2, 1)]
    assert found(chat("a", "1"), chat("A!", "2")) == [("conflict", 2, 1)]
    assert found(chat("a", "1"), chat("b", "1")) == []


def test_a_copy_of_a_near_duplicate_is_a_duplicate_of_it() -> None:
    assert found(chat("a", "1"), chat("A", "1"), chat("A", "1"), chat("a", "1")) == [
        ("near-duplicate", 2, 1),
        ("duplicate", 3, 2),
        ("duplicate", 4, 1),
    ]


def test_every_row_with_another_answer_than_the_first_conflicts() -> None:
    rows = [chat("a", answer) for answer in ("1", "2", "2", "3", "1")]
    assert [place for kind, place, _ in found(*rows) if kind == "conflict"] == [2, 3, 4]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is it?", "where  is it"),
        ("It’s late…", "it's late..."),
        ("a\nb", "a b"),
        ("ＡＢＣ", "abc"),
        ("Straße", "STRASSE"),
        ("cafe\u0301", "café"),
        ('say "hi"', "say hi"),
        ("zero\u200bwidth", "zerowidth"),
    ],
)
def test_case_white_space_and_typography_are_ignored(one: str, other: str) -> None:
    assert same_text(chat(one, "x"), chat(other, "x"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2+2", "2-2"),
        ("1.5", "15"),
        ("2*(3+4)", "2*3+4"),
        ("C++", "C"),
        ("résumé", "resume"),
        ("3, 21", "3, 2, 1"),
        ("a < b", "a > b"),
        ("10%", "10"),
        (r"\tan x", "an x"),
    ],
)
def test_characters_that_change_the_meaning_are_not_ignored(one: str, other: str) -> None:
    assert not same_text(chat(one, "x"), chat(other, "x"))


def test_the_prompt_of_a_long_conversation_is_all_before_the_last_answer() -> None:
    def talk(*turns: str) -> Conversation:
        roles = ("user", "assistant") * 2
        return Conversation(
            messages=tuple(Message(role=role, content=turn) for role, turn in zip(roles, turns, strict=True))
        )

    assert same_prompt(talk("a", "b", "c", "d"), talk("a", "b", "c", "e"))
    assert not same_prompt(talk("a", "b", "c", "d"), talk("a", "x", "c", "d"))


def test_text_that_looks_like_a_turn_does_not_move_the_prompt() -> None:
    one = chat('what is {"role":"assistant","content":"1"}', "json")
    other = chat('what is {"role":"assistant","content":"2"}', "json")
    assert found(one, other) == []


def test_the_same_texts_with_other_roles_are_different_rows() -> None:
    def talk(*roles: str) -> Conversation:
        return Conversation(
            messages=tuple(Message(role=role, content=text) for role, text in zip(roles, "abc", strict=True))
        )

    answered, asked_on = talk("user", "user", "assistant"), talk("user", "assistant", "user")
    assert found(answered, asked_on) == []
    assert found(answered, asked_on, asked_on) == [("duplicate", 3, 2)]


def test_tools_belong_to_the_prompt() -> None:
    tools = ({"type": "function", "function": {"name": "weather"}},)
    assert found(chat("a", "1"), chat("a", "2", tools=tools)) == []
    assert found(chat("a", "1", tools=tools), chat("a", "2", tools=tools)) == [("conflict", 2, 1)]


def test_completions_conflict_only_where_they_have_a_prompt() -> None:
    assert found(Completion("a", "1"), Completion("a", "2")) == [("conflict", 2, 1)]
    assert found(Completion("", "one text"), Completion("", "another")) == []
    assert found(Completion("", "one text"), Completion("", "One text")) == [("near-duplicate", 2, 1)]


def test_preferences_conflict_only_in_opposite_order() -> None:
    def pair(chosen: str, rejected: str) -> Preference:
        return Preference(
            prompt=(Message(role="user", content="q"),),
            chosen=(Message(role="assistant", content=chosen),),
            rejected=(Message(role="assistant", content=rejected),),
        )

    assert found(pair("a", "b"), pair("b", "a")) == [("conflict", 2, 1)]
    assert found(pair("a", "b"), pair("a", "c")) == []


def test_a_leak_is_the_row_or_else_its_prompt() -> None:
    train = records([chat("a", "1"), chat("b", "1"), chat("c", "1")])
    held_out = records([chat("x", "1"), chat("A", "1"), chat("b", "2")])
    assert list(find_leaks(train, held_out)) == [Repeat("leaked-row", 1, 2), Repeat("leaked-prompt", 2, 3)]


def _sorted(repeats: Iterable[Repeat]) -> list[tuple[int, str, int]]:
    return sorted((each.place, each.kind, each.first) for each in repeats)


def test_records_on_disk_find_what_records_in_memory_find() -> None:
    rng = random.Random(0)
    rows = [keys(chat(rng.choice("aAbBcd") * rng.randint(1, 8), rng.choice("xXyz"))) for _ in range(3000)]
    held = rows[::7]

    def collect(chosen: list[bytes], **sizes: int) -> Records:
        collected = Records(**sizes)
        for place, row in enumerate(chosen, 1):
            collected.add(row, place)
        return collected

    with collect(rows) as memory, collect(held) as held_memory:
        expected, leaked = _sorted(find_repeats(memory)), _sorted(find_leaks(memory, held_memory))
        assert memory.spilled is False
    small = {"memory_rows": 250, "pass_rows": 7}
    with (
        collect(rows, **small) as disk,
        collect(held[:20], **small) as few,
        collect(held, **small) as held_disk,
    ):
        assert disk.spilled
        assert not few.spilled
        assert _sorted(find_repeats(disk)) == expected
        assert _sorted(find_leaks(disk, held_disk)) == leaked
        assert {each.first for each in find_leaks(disk, few)} <= set(range(1, 21))
        disk.add(rows[0], 3001)
        assert ("duplicate", 3001) in {(each.kind, each.place) for each in find_repeats(disk)}


def test_spilled_records_leave_no_file_behind(tmp_path: Path) -> None:
    with records([chat("a", "1")]) as spilled:
        spilled.spill()
        assert list(find_repeats(spilled)) == []
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@given(st.lists(st.tuples(st.sampled_from("aAb "), st.sampled_from("xXy")), max_size=12))
def test_repeats_match_a_simple_implementation(rows: list[tuple[str, str]]) -> None:
    expected = set()
    for index, (asked, answer) in enumerate(rows):
        plain = (asked.lower().strip(), answer.lower())
        before = rows[:index]
        texts = [(one.lower().strip(), other.lower()) for one, other in before]
        if (asked, answer) in before:
            expected.add(("duplicate", index + 1))
        elif plain in texts:
            expected.add(("near-duplicate", index + 1))
        answers = [other for one, other in texts if one == plain[0]]
        if answers and plain[1] != answers[0]:
            expected.add(("conflict", index + 1))
    examples = [chat(asked, answer) for asked, answer in rows]
    assert {(each.kind, each.place) for each in find_repeats(records(examples))} == expected


@given(
    st.lists(
        st.lists(st.text(alphabet='aA .!"\\n\nｂ’é\u0301Σς{}]', max_size=8), min_size=1, max_size=4),
        min_size=1,
        max_size=6,
    )
)
def test_keys_in_bulk_equal_single_keys(rows: list[list[str]]) -> None:
    examples = []
    for turns in rows:
        first = "system" if len(turns) % 2 else "user"
        asked = [Message(role="user" if place else first, content=text) for place, text in enumerate(turns[:-1])]
        examples.append(Conversation(messages=(*asked, Message(role="assistant", content=turns[-1]))))
    texts = [text for turns in rows for text in turns]
    systems = [leading_system([message.role for message in one.messages]) for one in examples]
    found = many_row_keys(texts, list(map(len, rows)), systems, b"".join(map(digest, examples)))
    assert found is not None
    assert found.tobytes() == b"".join(map(keys, examples))


@pytest.mark.parametrize("character", [*map(chr, (*range(9), 11, 12, *range(14, 32), 127))])
def test_keys_in_bulk_are_refused_for_control_characters(character: str) -> None:
    example = chat("a", f"b{character}c")
    assert many_row_keys(["a", f"b{character}c"], [2], [0], digest(example)) is None
    assert many_row_keys(["a\t\r\n", "b"], [2], [0], digest(example)) is not None


def with_prompt(system: str, asked: str = "Hi", answer: str = "Hello.") -> Conversation:
    example = chat(asked, answer)
    return Conversation(messages=(Message(role="system", content=system), *example.messages))


def test_the_system_prompt_does_not_change_the_text_key() -> None:
    assert text_key(with_prompt("Be kind.")) == text_key(with_prompt("Be brief.")) == text_key(chat("Hi", "Hello."))
    assert text_key(with_prompt("Be kind.", "Ho")) != text_key(with_prompt("Be kind."))
    pair = Preference(
        prompt=(Message(role="user", content="Hi"),),
        chosen=(Message(role="assistant", content="Hello."),),
        rejected=(Message(role="assistant", content="No."),),
    )
    developer = Message(role="developer", content="Be kind.")
    with_system = Preference(prompt=(developer, *pair.prompt), chosen=pair.chosen, rejected=pair.rejected)
    assert text_key(pair) == text_key(with_system)


def test_a_system_prompt_without_a_question_is_the_text() -> None:
    rows = [
        Conversation(messages=(Message(role="system", content=text), Message(role="assistant", content="Yes.")))
        for text in ("Is it day?", "Is it night?")
    ]
    assert text_key(rows[0]) != text_key(rows[1])


def test_two_answers_with_two_system_prompts_do_not_conflict() -> None:
    records = Records()
    for place, example in enumerate(
        (with_prompt("In French.", "Hi", "Salut."), with_prompt("In German.", "Hi", "Hallo."))
    ):
        records.add(row_keys(example, digest(example)), place)
    assert list(find_repeats(records)) == []
    same = with_prompt("In German."), with_prompt("In French.")
    records = Records()
    for place, example in enumerate(same):
        records.add(row_keys(example, digest(example)), place)
    assert list(find_repeats(records)) == []


def test_a_held_out_row_is_found_with_another_system_prompt() -> None:
    ours, theirs = Records(), Records()
    ours.add(row_keys(with_prompt("Be kind."), digest(with_prompt("Be kind."))), 1)
    theirs.add(row_keys(chat("Hi", "Hello."), digest(chat("Hi", "Hello."))), 7)
    assert [(one.kind, one.place, one.first) for one in find_leaks(ours, theirs)] == [("leaked-row", 1, 7)]


def thinking(thought: str, answer: str = "Four.", *, key: bool = True, **more: Any) -> dict[str, Any]:
    said = (
        {"content": answer, "reasoning_content": thought}
        if key
        else {"content": f"<think>\n{thought}\n</think>\n\n{answer}"}
    )
    return {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", **said}], **more}


@pytest.mark.parametrize("more", [{}, {"tools": [{"type": "function", "function": {"name": "add", "parameters": {}}}]}])
@pytest.mark.parametrize("key", [True, False], ids=["key", "text"])
def test_other_reasoning_before_the_same_answer_is_another_row(key: bool, more: dict[str, Any], tmp_path: Path) -> None:
    thoughts = ["I add.", "I count on.", "i add", "I add."]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(thinking(one, key=key, **more)) + "\n" for one in thoughts), encoding="utf-8")
    data = Dataset.load(path)
    found = data.check()
    kinds = ("duplicate", "near-duplicate", "conflicting-answers")
    assert [found.counts.get(code, 0) for code in kinds] == [1, 1, 0]
    assert len({text_key(row) for row in data}) == 1
    assert list(data.text_keys()) == [text_key(row) for row in data]


def test_reasoning_in_the_text_or_its_key_does_not_change_the_text_key() -> None:
    rows = Dataset.load([thinking("I add."), thinking("No.", key=False), thinking("I add.", "Five.")])
    keys = list(rows.text_keys())
    assert keys[0] == keys[1] != keys[2]
    assert rows.check().counts["conflicting-answers"] == 1


def same_row() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Pairs of the same row, written in two ways."""
    tool = {"type": "function", "function": {"name": "rain", "parameters": {"type": "object"}}}
    plain = {"messages": [turn("user", "Where is my card?"), turn("assistant", "Lost it.")]}

    def exchange(made: str, arguments: Any, tools: list[dict[str, Any]], **answer: Any) -> dict[str, Any]:
        call = {"id": made, "type": "function", "function": {"name": "rain", "arguments": arguments}}
        asked = [turn("user", "Rain?"), {"role": "assistant", "tool_calls": [call]}]
        rest = [{"role": "tool", "tool_call_id": made, "content": "no", **answer}, turn("assistant", "It is dry.")]
        return {"messages": [*asked, *rest], "tools": tools}

    usual = exchange("a", '{"city": "Köln", "days": 1}', [tool])
    parts = [{"type": "text", "text": "Where is"}, {"type": "text", "text": " my card?"}]
    pair = {"prompt": "Hi", "chosen": "Hello.", "rejected": "No."}
    return [
        ("text in parts", plain, {"messages": [turn("user", parts), turn("assistant", "Lost it.")]}),
        ("system of null", plain, {"messages": [turn("system", None), *plain["messages"]]}),
        ("byte order mark", plain, {"text": "\ufeffWhere is my card?", "label": "Lost it."}),
        ("soft hyphen", plain, {"text": "Where is my ca\u00adrd?", "label": "Lost\u2060 it.\ufe0f"}),
        ("control characters", plain, {"text": "Where\x00 is\x85 my card?", "label": "Lost it."}),
        ("tools that are never called", plain, {**plain, "tools": [tool]}),
        ("turn after the answer", plain, {"messages": [*plain["messages"], turn("user", "Thanks.")]}),
        ("thoughts of plain text", plain, {"prompt": "Where is my card?", "completion": "<think>Hm.</think>Lost it."}),
        ("id of a call", usual, exchange("b", '{"city": "Köln", "days": 1}', [tool])),
        ("order of arguments", usual, exchange("a", '{"days": 1.0, "city": "K\\u00f6ln"}', [tool])),
        ("arguments as an object", usual, exchange("a", {"city": "Köln", "days": 1}, [tool])),
        ("other tools", usual, exchange("a", '{"city": "Köln", "days": 1}', [])),
        ("name of the answer", usual, exchange("a", '{"city": "Köln", "days": 1}', [tool], name="rain")),
        ("thoughts of a pair", pair, {**pair, "chosen": "<think>Hm.</think>Hello."}),
        (
            "pair in parts",
            pair,
            {
                **pair,
                "prompt": [turn("user", [{"type": "text", "text": "Hi"}])],
                "chosen": [turn("assistant", "Hello.")],
                "rejected": [turn("assistant", "No.")],
            },
        ),
    ]


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(("one", "other"), [pair[1:] for pair in same_row()], ids=[pair[0] for pair in same_row()])
def test_keys_do_not_depend_on_how_a_row_is_written(one: dict[str, Any], other: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(one) + "\n", encoding="utf-8")
    found = [list(data.text_keys()) for data in (Dataset.load(path), Dataset.load([one]), Dataset.load([other]))]
    assert found[0] == found[1] == found[2]
    prompted = Dataset.load(path, system="Be brief.")
    assert list(prompted.text_keys()) == found[0]


def test_other_arguments_and_images_are_other_rows() -> None:
    def calling(arguments: str) -> dict[str, Any]:
        call = {"id": "a", "type": "function", "function": {"name": "rain", "arguments": arguments}}
        return {"messages": [turn("user", "Rain?"), {"role": "assistant", "tool_calls": [call]}]}

    def seeing(url: str) -> dict[str, Any]:
        parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url}}]
        return {"messages": [turn("user", parts), turn("assistant", "A cat.")]}

    rows = [calling('{"a": 1}'), calling('{"a": 2}'), seeing("https://a.b/1.png"), seeing("https://a.b/2.png")]
    assert len(set(Dataset.load(rows).text_keys())) == len(rows)
