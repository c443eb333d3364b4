"""Answers that follow a schema or must call a tool: always valid, even from a random model."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal

import jsonschema
import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import tuneport
from scripted import scripted
from tuneport import Reply
from tuneport.errors import DataError, OptionError, UnsupportedError
from tuneport.workflow.running import plan_run
from tuneport_torch.model import TorchModel
from tuneport_torch.text.grammar import grammar_of

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"enum": ["Paris", "Rome"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["city", "days"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
LABEL = {
    "type": "object",
    "properties": {"label": {"enum": ["card", "pin"]}, "sure": {"type": "boolean"}},
    "required": ["label", "sure"],
}


class Ticket(BaseModel):
    label: Literal["card", "transfer"]
    urgent: bool
    codes: list[Literal[1, 2, 3]]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    from tiny_models import make_tokenizer, opened, write_llama

    made = opened(write_llama(tmp_path_factory.mktemp("bases") / "tiny", make_tokenizer()))
    yield made
    made.close()


_leaf = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span},
        st.integers(-500, 500),
        st.integers(0, 900),
    ),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 5)),
    st.builds(
        lambda one: {"type": "string", "pattern": one}, st.sampled_from(["^[a-z]{1,3}$", "^(ab|c)d?$", "^\\d{2}$"])
    ),
    st.builds(
        lambda one: {"enum": one},
        st.lists(
            st.one_of(st.text(max_size=4), st.integers(-(2**53), 2**53), st.none(), st.booleans()),
            min_size=1,
            max_size=4,
        ),
    ),
    st.builds(
        lambda one: {"const": one}, st.one_of(st.text(max_size=6), st.integers(-999, 999), st.just([1, {"a": None}]))
    ),
    st.just({"type": "string", "format": "date"}),
)


def _objects(inside):
    def build(properties, optional):
        required = [name for number, name in enumerate(properties) if not optional[number % len(optional)]]
        return {"type": "object", "properties": properties, "required": required}

    named = st.dictionaries(st.text(min_size=1, max_size=5), inside, max_size=3)
    return st.builds(build, named, st.lists(st.booleans(), min_size=1, max_size=3))


SCHEMAS = st.recursive(
    _leaf,
    lambda inside: st.one_of(
        _objects(inside),
        st.builds(lambda one, most: {"type": "array", "items": one, "maxItems": most}, inside, st.integers(0, 3)),
        st.builds(lambda several: {"anyOf": several}, st.lists(inside, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)


def follow(llama, schemas, seed):
    """Each answer is valid JSON for its schema, or the start of such JSON if it was cut."""
    asked = [("Hello", {"schema": one, "max_tokens": 80, "temperature": 1.2, "seed": seed}) for one in schemas]
    reported = [one for one in llama.stream_each(asked) if not isinstance(one[1], str)]
    for number, reply in reported:
        assert isinstance(reply, Reply), (schemas[number], reply)
        if reply.finish_reason == "stop":
            jsonschema.validate(reply.parsed, schemas[number])
        else:
            assert reply.finish_reason == "length"
            assert reply.completion_tokens == 80
    return [reply.finish_reason for _, reply in reported]


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(SCHEMAS, min_size=8, max_size=8), st.integers(0, 2**40))
def test_a_random_model_always_answers_as_the_schema_allows(llama, schemas, seed):
    assert "stop" in follow(llama, schemas, seed)


@pytest.mark.soak
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(SCHEMAS, min_size=8, max_size=8), st.integers(0, 2**40))
def test_a_random_model_always_answers_as_very_many_schemas_allow(llama, schemas, seed):
    follow(llama, schemas, seed)


def test_both_sides_of_a_comparison_follow_the_schema(llama, tmp_path, capsys):
    from tuneport import Conversation, Message
    from tuneport.cli.app import invoke
    from tuneport.evaluate import compare_models

    wanted = '{"label": "card", "sure": true}'
    rows = [Conversation((Message("user", f"My card {one}"), Message("assistant", wanted))) for one in range(4)]
    found = compare_models(llama, llama, rows, "json", schema=LABEL, max_tokens=80)
    free = compare_models(llama, llama, rows, "json", max_tokens=80)
    assert found.base.mean == found.tuned.mean > free.tuned.mean == 0
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(LABEL))
    assert invoke(["ask", str(llama.ref), "Hello", "--schema", str(file), "--json"]) == 0
    jsonschema.validate(json.loads(json.loads(capsys.readouterr().out)["text"]), LABEL)
    file.write_text("[")
    assert invoke(["ask", str(llama.ref), "Hello", "--schema", str(file)]) == 2
    assert "is not JSON" in capsys.readouterr().err


def test_without_the_library_the_error_names_the_extra(llama):
    script = (
        "import sys; sys.modules['llguidance'] = None\n"
        "from tuneport_torch.text.constraints import parser_limits\n"
        "parser_limits()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert "UnavailableError" in done.stderr
    assert "pip install 'tuneport[structured]'" in done.stderr


def test_a_pydantic_class_comes_back_as_its_instance(llama):
    reply = llama.reply("Hello", schema=Ticket, temperature=1.0, seed=5, max_tokens=400)
    assert reply.finish_reason == "stop"
    assert isinstance(reply.parsed, Ticket)
    assert set(json.loads(reply.text)) == {"label", "urgent", "codes"}
    cut = llama.reply("Hello", schema=Ticket, max_tokens=2)
    assert cut.finish_reason == "length"
    with pytest.raises(DataError, match="cut at its limit"):
        _ = cut.parsed


def test_any_json_object_is_one(llama):
    asked = {"schema": True, "temperature": 1.0, "max_tokens": 100}
    ended = [one for one in llama.reply_many(["Hello"] * 12, seed=0, **asked) if one.finish_reason == "stop"]
    assert all(isinstance(one.parsed, dict) for one in ended)


def test_a_stream_of_json_adds_up_to_the_answer(llama):
    asked = {"schema": Ticket, "temperature": 1.0, "seed": 5, "max_tokens": 400}
    pieces = list(llama.stream("Hello", **asked))
    assert "".join(pieces) == llama.reply("Hello", **asked).text
    assert len(pieces) > 3


def test_free_and_constrained_answers_in_one_batch_are_the_same_as_alone(llama):
    asked = [
        ("Hello", {"max_tokens": 12}),
        ("PIN", {"schema": LABEL, "max_tokens": 60}),
        ("My card never arrived", {"schema": LABEL, "temperature": 1.3, "seed": 9, "max_tokens": 60}),
        ("refund", {"temperature": 1.0, "seed": 3, "max_tokens": 12}),
        ("weather", {"tools": (WEATHER,), "tool_choice": "required", "temperature": 1.0, "seed": 4, "max_tokens": 90}),
        ("Hello", {"frequency_penalty": 1.5, "max_tokens": 12, "logprobs": 2}),
        ("x", {"schema": {"not": {}}}),
        ("card " * 2000, {}),
    ]
    rows = []
    hook = (
        llama._ready()
        .model.get_decoder()
        .register_forward_pre_hook(lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True)
    )
    reported = {number: one for number, one in llama.stream_each(asked) if not isinstance(one, str)}
    hook.remove()
    assert rows[0] == 6, "all that can be answered are answered together"
    assert isinstance(reported[6], OptionError)
    assert "max" not in str(reported[6])
    assert "limit is 1,024" in str(reported[7])
    for number, (prompt, options) in enumerate(asked[:6]):
        alone = llama.reply(prompt, **options)
        assert (reported[number].text, reported[number].tool_calls) == (alone.text, alone.tool_calls)
        assert reported[number].finish_reason == alone.finish_reason


@pytest.mark.parametrize("choice", ["required", {"name": "weather"}, {"name": "clock"}])
def test_a_tool_that_must_be_called_is_called_with_arguments_that_it_takes(llama, choice):
    asked = {"tools": (WEATHER, CLOCK), "tool_choice": choice, "temperature": 1.2, "seed": 0, "max_tokens": 150}
    for reply in llama.reply_many(["Hello"] * 6, **asked):
        if reply.finish_reason == "length":  # clock takes any object, and a random model may never end
            continue
        assert reply.finish_reason == "tool_calls"
        assert not reply.text
        for call in reply.tool_calls:
            name = call["function"]["name"]
            assert name in ({choice["name"]} if isinstance(choice, dict) else {"weather", "clock"})
            if name == "weather":
                given = json.loads(call["function"]["arguments"])
                jsonschema.validate(given, {**WEATHER["function"]["parameters"], "additionalProperties": False})


def test_a_call_has_the_form_that_the_template_teaches():
    from tuneport import GenerateOptions

    options = GenerateOptions(tools=(WEATHER,), tool_choice="required")
    assert "<tool_call>" in grammar_of(options, "… <tool_call>\n{{ call }}\n</tool_call> …")
    assert '\\"parameters\\"' in grammar_of(options, """'{"name": "' + name + '", "parameters": ' + args""")
    assert '\\"arguments\\"' in grammar_of(options, "no tools at all")


def test_several_calls_and_one_call(tiny_llama, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_llama, tmp_path / "hermes")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{# <tool_call> #}")
    model = TorchModel.base(str(folder))
    asked = {"tools": (WEATHER,), "tool_choice": "required", "temperature": 1.5, "seed": 0, "max_tokens": 400}
    many = model.reply_many(["Hello"] * 8, **asked)
    assert max(len(one.tool_calls) for one in many) > 1
    assert all(one.tool_calls or one.finish_reason == "length" for one in many)
    one = model.reply_many(["Hello"] * 8, parallel_tool_calls=False, **asked)
    assert {len(reply.tool_calls) for reply in one} == {1}
    model.close()


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"not": {"type": "string"}}, "uses not"),
        ({"type": "array", "uniqueItems": True}, "uses uniqueItems"),
        ({"if": {"type": "string"}, "then": {}}, "uses if, then"),
        ({"type": "string", "format": "nonsense"}, "Unknown format"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"$ref": "http://127.0.0.1:1/schema.json"}, "another document"),
        ({"$ref": "#"}, "allows no answer"),
        ({"enum": []}, "Unsatisfiable"),
        ({"type": "integer", "exclusiveMinimum": True}, "is a number"),
        ({"enum": [9007199254740993]}, "beyond 2"),
        ({"x-guidance": {"lenient": True}, "not": {}}, "uses not"),
        ({"allOf": [{"type": "string", "pattern": f"a.{{{one}}}b"} for one in range(1, 24)]}, "too much time"),
        ({"type": "number", "multipleOf": 1e-300}, "multipleOf"),
        ({"type": "integer", "multipleOf": 99_999_999}, "too much time"),
        ({"type": "array", "items": {"type": "number", "multipleOf": 9_999_999}, "minItems": 1}, "too much time"),
        ({"type": "object", "properties": {"a" * 200_000: {}}}, "larger than"),
    ],
)
def test_a_schema_that_cannot_be_followed_says_which_part(llama, schema, says):
    with pytest.raises(OptionError, match=says) as caught:
        llama.reply("Hello", schema=schema, max_tokens=5)
    assert caught.value.option == "schema"
    assert caught.value.remedy


def _nested(depth):
    schema = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def _all_of(depth):
    defs = {"a0": {"type": "object", "properties": {"k0": {"type": "integer"}}}}
    for one in range(1, depth):
        again = {"$ref": f"#/$defs/a{one - 1}"}
        defs[f"a{one}"] = {"allOf": [again, again, {"properties": {f"k{one}": {"type": "integer"}}}]}
    return {"$ref": f"#/$defs/a{depth - 1}", "$defs": defs}


HOSTILE = [
    _nested(14),
    _nested(50_000),
    _all_of(24),
    {"$ref": "#/$defs/x", "$defs": {"x": {"anyOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/x"}, {"const": 1}]}}},
    {"type": "string", "pattern": "^(a{1,1000}){1,1000}$"},
    {"type": "string", "pattern": "(a|b)*a(a|b){400}"},
    {"type": "string", "pattern": "^(.*a.*b.*c.*d.*e.*f.*g){30}$"},
    {"type": "string", "pattern": "(x+x+)+y"},
    {"type": "array", "minItems": 10**9, "items": {"type": "integer"}},
    {"type": "string", "maxLength": 10**9},
    {
        "type": "object",
        "properties": {f"p{one}": {"type": "string", "pattern": f"^(a|b{one})+$"} for one in range(900)},
    },
    {"anyOf": [{"type": "object", "properties": {"a": {"type": "string"}}} for _ in range(1500)]},
    {"enum": [f"value {one}" for one in range(5000)]},
    {"type": "array", "prefixItems": [{"type": "integer"}] * 3000},
]


def test_hostile_schemas_cost_little(llama):
    llama.reply("Hello", schema=LABEL, max_tokens=3)
    before = psutil.Process().memory_info().rss
    for schema in HOSTILE:
        started = time.process_time()
        try:
            llama.reply("Hello", schema=schema, max_tokens=20, temperature=1.0, seed=1)
        except OptionError as error:
            assert error.remedy
        assert time.process_time() - started < 30
    assert psutil.Process().memory_info().rss - before < 400 * 2**20


def test_a_class_that_has_no_schema_says_so(llama):
    class Odd(BaseModel):
        call: Callable[[], int]

    with pytest.raises(OptionError, match="Odd has no JSON Schema"):
        llama.reply("Hello", schema=Odd)
    with pytest.raises(OptionError, match="int is not a pydantic class"):
        llama.reply("Hello", schema=int)


def test_options_that_contradict_each_other_are_refused(llama):
    with pytest.raises(OptionError, match="stop text would cut"):
        llama.reply("Hello", schema=LABEL, stop="}")
    with pytest.raises(OptionError, match="there are no tools"):
        llama.reply("Hello", tool_choice="required")
    with pytest.raises(OptionError, match="not among the tools"):
        llama.reply("Hello", tools=(CLOCK,), tool_choice={"name": "nonsense"})
    with pytest.raises(OptionError, match="frequency_penalty is 3"):
        llama.reply("Hello", frequency_penalty=3)
    with pytest.raises(OptionError, match="logprobs is 21"):
        llama.reply("Hello", logprobs=21)
    assert llama.reply("Hello", tools=(CLOCK,), tool_choice="none", max_tokens=4) == llama.reply("Hello", max_tokens=4)


def test_a_model_that_takes_no_schema_says_so():
    from answering import ScriptedModel

    model = ScriptedModel("plain", lambda text: text)
    for options in ({"schema": True}, {"logprobs": 0}, {"presence_penalty": 0.5}, {"parallel_tool_calls": False}):
        with pytest.raises(UnsupportedError, match=next(iter(options))) as caught:
            model.reply("Hello", **options)
        assert caught.value.remedy
    assert model.ask("Hello", frequency_penalty=0, tool_choice="none") == "Hello"


def by_hand(llama, prompt, steps, frequency=0.0, presence=0.0, allowed=None):
    """Greedy ids and the log-probabilities at each place, each from a forward pass over the complete text."""
    loaded = llama._ready()
    from tuneport import Message

    ids = list(loaded.renderer.prompts([[Message("user", prompt)]])[0])
    said, logprobs = [], []
    for step in range(steps):
        with torch.no_grad():
            logits = loaded.model(torch.tensor([ids])).logits[0, -1].float()
        logprobs.append(logits.log_softmax(-1))
        for token, count in Counter(said).items():
            logits[token] -= count * frequency + (count > 0) * presence
        if allowed is not None:
            logits[[one for one in range(len(logits)) if one not in allowed[step]]] = -math.inf
        said.append(int(logits.argmax()))
        ids.append(said[-1])
    return said, logprobs


@pytest.mark.parametrize(("frequency", "presence"), [(0.0, 0.0), (1.5, 0.0), (0.0, 2.0), (-0.7, 0.4)])
def test_penalties_and_log_probabilities_are_those_of_the_formula(llama, frequency, presence):
    said, logprobs = by_hand(llama, "Hello", 16, frequency, presence)
    asked = {"max_tokens": 16, "logprobs": 4, "frequency_penalty": frequency, "presence_penalty": presence}
    several = llama.reply_many(["My card never arrived, and the money is gone", "Hello", "PIN"], **asked)
    text = llama._ready().renderer.codec
    for reply in (llama.reply("Hello", **asked), several[1]):
        assert [one.bytes for one in reply.logprobs] == [text.token_bytes(one) for one in said]
        for token, place, logprob in zip(said, reply.logprobs, logprobs, strict=True):
            assert place.logprob == pytest.approx(logprob[token].item(), abs=2e-4)
            best, at = logprob.topk(4)
            assert [one.logprob for one in place.top] == pytest.approx(best.tolist(), abs=2e-4)
            assert [one.bytes for one in place.top] == [text.token_bytes(int(one)) for one in at]


def test_log_probabilities_of_a_bound_answer_are_the_free_models(llama):
    reply = llama.reply("Hello", schema=LABEL, max_tokens=60, logprobs=1)
    assert b"".join(one.bytes for one in reply.logprobs).decode() == reply.text
    first = reply.logprobs[0]
    _, logprobs = by_hand(llama, "Hello", 1)
    assert first.top[0].logprob == pytest.approx(logprobs[0].max().item(), abs=2e-4)
    assert first.logprob < first.top[0].logprob, "the model would have said something else"


def test_the_bytes_of_tokens_are_those_of_the_text(llama):
    text = llama._ready().renderer.codec
    for said in ("Grüße, 😀 and\n\ttabs", "card 東京", "\x7f\x00"):
        assert b"".join(text.token_bytes(one) for one in text.encode(said).ids).decode() == said


def test_text_next_to_a_call_streams_and_the_call_does_not(llama):
    text = llama._ready().renderer.codec
    said = 'Let me see.\n<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
    for whole, shown in ((said, "Let me see."), ("a < b", "a < b"), ('{"name": "clock", "arguments": {}}', "")):
        _, hook = scripted(llama, [*text.encode(whole).ids, text.eos_id])
        reported = list(llama.stream_many(["Hello"], tools=(CLOCK,), max_tokens=99))
        hook.remove()
        pieces, reply = [one for _, one in reported[:-1]], reported[-1][1]
        assert "".join(pieces) == reply.text == shown
        assert len(reply.tool_calls) == (whole != shown)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "object", "not": {}}, r"compare\.json_schema: .*uses not"),
        ({"type": "objekt"}, r"compare\.json_schema: .*objekt"),
        ({"type": "string", "pattern": "(?=a)b"}, r"compare\.json_schema"),
    ],
)
def test_a_schema_that_answers_cannot_follow_stops_a_plan_and_a_run_before_training(tmp_path, schema, message):
    from tiny_models import make_tokenizer, write_llama

    base = write_llama(tmp_path / "tiny", make_tokenizer())
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"ticket number {number},card\n" for number in range(20)))
    config = tuneport.RunConfig.model_validate(
        {
            "model": f"torch:{base}",
            "data": {"train": str(rows), "holdout": 0.2},
            "compare": {"grader": "json", "json_schema": schema},
        }
    )
    with pytest.raises(OptionError, match=message):
        plan_run(config)
    with pytest.raises(OptionError, match=message):
        tuneport.run(config)
    assert not tuneport.jobs()
