"""Conversations that join a running batch get the same answers as alone, and do not wait for others."""

from __future__ import annotations

import json
import pkgutil
from concurrent.futures import wait
from contextlib import contextmanager

import jsonschema
import pytest
import torch

from scripted import scripted
from tiny_models import make_tokenizer, shape, write, write_llama
from tuneport import AnswerPiece, Reply
from tuneport.errors import TuneportError, UsageError
from tuneport_torch.model import TorchModel

PROMPTS = [
    "Hello",
    "My card never arrived and I have waited two weeks. When will it come?",
    "PIN",
    "What is the exchange rate for euros today? I was charged twice for the same coffee. " * 12,
    "refund",
]
WEATHER = {
    "name": "weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
CLOCK = {"name": "clock"}


def opened(folder):
    made = TorchModel.base(str(folder))
    made._dtype = "float32"
    return made


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = write_llama(tmp_path_factory.mktemp("bases") / "tiny", make_tokenizer())
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{# calls are written as <tool_call> #}")
    made = opened(folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def windowed(tmp_path_factory):
    """A model in which some layers see only the last 16 tokens."""
    from transformers import Gemma3TextConfig

    tokenizer = make_tokenizer()
    layers = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
    config = Gemma3TextConfig(**shape(tokenizer), **layers, head_dim=32, query_pre_attn_scalar=32)
    made = opened(write(tmp_path_factory.mktemp("bases") / "windowed", config, tokenizer))
    yield made
    made.close()


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory):
    """A model whose layers keep a state instead of keys and values: its rows cannot be merged."""
    from transformers import Lfm2Config

    tokenizer = make_tokenizer()
    layers = {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}
    made = opened(
        write(tmp_path_factory.mktemp("bases") / "recurrent", Lfm2Config(**shape(tokenizer), **layers), tokenizer)
    )
    yield made
    made.close()


def join(model, batch, number, text, **options):
    """Let a conversation join, and wait until it is prepared, so that the step at which it joins is certain."""
    model.join(batch, number, text, **options)
    wait(list(batch._preparer.futures.values()))


def run(model, asked, every=3):
    """Answer conversations of which a new one joins every few steps: the pieces and the end of each, and the order in
    which they ended.
    """
    batch, pieces, ends, joined, steps = model.open_batch(), {}, {}, 0, 0
    while len(ends) < len(asked):
        if joined < len(asked) and steps >= every * joined:
            join(model, batch, joined, asked[joined][0], **asked[joined][1])
            joined += 1
        steps += 1
        for number, reported in batch.step():
            if isinstance(reported, AnswerPiece):
                pieces.setdefault(number, []).append(reported)
            else:
                ends[number] = reported
    batch.close()
    return pieces, ends


@pytest.mark.parametrize("kind", ["llama", "windowed", "recurrent"])
def test_answers_that_join_are_the_answers_alone(kind, request):
    model = request.getfixturevalue(kind)
    limits = [40, 5, 1, 12, 30, 33, 2, 9, 25, 18]
    kinds = [{"temperature": 0}, {"temperature": 1.2, "seed": 7}, {"temperature": 0, "frequency_penalty": 1.0}]
    asked = [(PROMPTS[number % 5], {"max_tokens": limit, **kinds[number % 3]}) for number, limit in enumerate(limits)]
    pieces, ends = run(model, asked)
    assert [ends[number] for number in range(len(asked))] == [model.reply(text, **options) for text, options in asked]
    assert list(ends).index(2) < list(ends).index(0), "the answer of one token does not wait for that of forty"
    for number, reply in ends.items():
        assert "".join(piece.text for piece in pieces.get(number, [])) == reply.text


def test_a_bound_answer_joins_free_ones(llama):
    schema = {"type": "object", "properties": {"label": {"enum": ["card", "pin"]}}, "required": ["label"]}
    asked = [
        ("Hello", {"max_tokens": 60}),
        ("PIN", {"schema": schema, "max_tokens": 60}),
        ("refund", {"max_tokens": 9}),
    ]
    _, ends = run(llama, asked)
    assert [ends[number].text for number in range(3)] == [llama.ask(text, **options) for text, options in asked]


def test_a_short_prompt_does_not_wait_for_a_long_one_to_be_read(llama):
    batch, order = llama.open_batch(), []
    join(llama, batch, 0, "card " * 900, max_tokens=4)
    order += batch.step()
    assert not batch.waiting
    join(llama, batch, 1, "PIN", max_tokens=1)
    while sum(isinstance(reported, Reply) for _, reported in order) < 2:
        order += batch.step()
    batch.close()
    assert [number for number, _ in order].index(0) > [number for number, reported in order].index(1)
    assert order[-1][1] == llama.reply("card " * 900, max_tokens=4)


def test_a_prompt_that_cannot_be_answered_is_reported_and_does_not_affect_others(llama):
    asked = [("Hello", {"max_tokens": 9}), ("card " * 2000, {"max_tokens": 9}), ("PIN", {"schema": {"not": {}}})]
    _, ends = run(llama, asked)
    assert ends[0] == llama.reply("Hello", max_tokens=9)
    assert isinstance(ends[1], UsageError)
    assert isinstance(ends[2], TuneportError)


@contextmanager
def sizes(model):
    """The rows and columns of each computation."""
    seen = []

    def look(module, args, kwargs):
        cache = kwargs["past_key_values"]
        seen.append((len(kwargs["input_ids"]), kwargs["input_ids"].shape[1], cache.get_seq_length() if cache else 0))

    model.ensure_ready()
    hook = model._loaded.model.register_forward_pre_hook(look, with_kwargs=True)
    yield seen
    hook.remove()


def test_a_row_that_ends_or_is_dropped_is_computed_no_more(llama):
    batch, reported = llama.open_batch(), []
    for number, limit in enumerate((6, 60, 60)):
        join(llama, batch, number, PROMPTS[number], max_tokens=limit)
    while not any(isinstance(one, Reply) for _, one in reported):
        reported += batch.step()
    with sizes(llama) as seen:
        batch.step()
        batch.drop([1, 99])
        after = batch.step()
        batch.drop([2])
        assert batch.step() == []
    assert [rows for rows, _, _ in seen] == [2, 1]
    assert {number for number, _ in after} <= {2}
    batch.close()


def test_a_batch_is_never_longer_than_its_longest_row(llama):
    asked = [(text, {"max_tokens": 8}) for text in PROMPTS[:3] * 20]
    with sizes(llama) as seen:
        run(llama, asked, every=4)
    longest = max(llama.reply(text, max_tokens=1).prompt_tokens for text in PROMPTS[:3]) + 8
    assert max(held for _, _, held in seen) <= longest


def test_answers_survive_a_batch_that_does_not_fit_into_memory(llama):
    asked = [(text, {"max_tokens": 10, "temperature": 1.0, "seed": 3}) for text in PROMPTS]
    alone = [llama.reply(text, **options) for text, options in asked]
    refused = []

    def refuse(module, args, kwargs):
        if len(kwargs["input_ids"]) > 2:
            refused.append(len(kwargs["input_ids"]))
            torch.empty(1 << 60, dtype=torch.uint8)

    hook = llama._loaded.model.get_decoder().register_forward_pre_hook(refuse, with_kwargs=True)
    _, ends = run(llama, asked, every=1)
    hook.remove()
    assert refused
    assert [ends[number] for number in range(len(asked))] == alone


@pytest.mark.parametrize(
    ("home", "name", "time"),
    [
        ("transformers.cache_utils.DynamicCache", "batch_select_indices", 2),  # a row leaves its batch
        ("torch.nn.functional", "pad", 6),  # a row joins one
        ("torch", "searchsorted", 9),  # a token is drawn
    ],
)
def test_no_answer_is_lost_or_changed_where_memory_runs_out_between_two_steps(llama, monkeypatch, home, name, time):
    asked = [(text, {"max_tokens": 6 + 9 * at, "temperature": 1.0, "seed": 3}) for at, text in enumerate(PROMPTS)]
    alone = [llama.reply(text, **options) for text, options in asked]
    whole, tries = getattr(pkgutil.resolve_name(home), name), []

    def refuse(*args, **kwargs):
        tries.append(name)
        if len(tries) == time:
            torch.empty(1 << 60, dtype=torch.uint8)
        return whole(*args, **kwargs)

    monkeypatch.setattr(f"{home}.{name}", refuse)
    _, ends = run(llama, asked, every=1)
    assert len(tries) >= time
    assert [ends[number] for number in range(len(asked))] == alone


def test_a_client_that_leaves_while_memory_is_short_loses_no_other_answer(llama, monkeypatch):
    from transformers.cache_utils import DynamicCache

    batch, ends = llama.open_batch(), {}
    for number in range(2):
        join(llama, batch, number, PROMPTS[number], max_tokens=9)
        batch.step()
    with monkeypatch.context() as short:
        short.setattr(DynamicCache, "batch_select_indices", lambda *_: torch.empty(1 << 60, dtype=torch.uint8))
        batch.drop([1])
    while not ends:
        ends |= {number: reported for number, reported in batch.step() if isinstance(reported, Reply)}
    batch.close()
    assert ends == {0: llama.reply(PROMPTS[0], max_tokens=9)}


def test_an_answer_that_fits_into_no_memory_fails_alone(llama):
    asked = [(PROMPTS[number], {"max_tokens": 6}) for number in (0, 3, 2)]
    llama.ensure_ready()

    def refuse(module, args, kwargs):
        if kwargs["input_ids"].shape[1] > 128:
            torch.empty(1 << 60, dtype=torch.uint8)

    hook = llama._loaded.model.get_decoder().register_forward_pre_hook(refuse, with_kwargs=True)
    _, ends = run(llama, asked, every=1)
    hook.remove()
    assert "does not fit" in str(ends[1])
    assert [ends[0], ends[2]] == [llama.reply(asked[number][0], max_tokens=6) for number in (0, 2)]


def written(llama, said, **options):
    """The pieces and the reply of a model that writes this text."""
    llama.ensure_ready()
    text = llama._loaded.renderer.codec
    _, hook = scripted(llama, [*text.encode(said).ids, text.eos_id])
    pieces, ends = run(llama, [("Hello", {"max_tokens": 200, **options})])
    hook.remove()
    return pieces[0], ends[0]


def merged(pieces):
    """The calls that pieces consist of."""
    calls = []
    for one in (call for piece in pieces for call in piece.calls):
        if one.name is not None:
            assert one.index == len(calls)
            calls.append([one.name, ""])
        calls[one.index][1] += one.arguments
    return calls


def test_calls_come_as_they_are_written_each_with_its_name_first(llama):
    arguments = ['{"at": "noon {[\\"</tool", "n":  [1]}', "{}"]
    calls = "\n".join(f'<tool_call>\n{{"name": "clock", "arguments": {one}}}\n</tool_call>' for one in arguments)
    pieces, reply = written(llama, f"Let me see.\n{calls}", tools=(CLOCK,), logprobs=0)
    assert "".join(piece.text for piece in pieces) == reply.text == "Let me see."
    assert merged(pieces) == [["clock", one] for one in arguments]
    assert [call["function"]["arguments"] for call in reply.tool_calls] == arguments
    parts = [call for piece in pieces for call in piece.calls]
    assert sum(one.index == 0 for one in parts) > 3
    assert [one.index for one in parts] == sorted(one.index for one in parts)
    assert reply.finish_reason == "tool_calls"
    assert [one for piece in pieces for one in piece.logprobs] == list(reply.logprobs)


@pytest.mark.parametrize(
    ("said", "limit", "calls", "reason"),
    [
        ('<tool_call>\n{"name": "clock", "arguments": {"at": "no', 99, [["clock", '{"at": "no']], "stop"),
        ('<tool_call>\n{"name": "clock", "arguments": {"at": "noon and more', -2, [["clock", None]], "length"),
        ('<tool_call>\n{"name": "sundial", "arguments": {}}\n</tool_call>', 99, [["sundial", "{}"]], "tool_calls"),
        ('<tool_call>\n{"arguments": {}, "name": "clock"}\n</tool_call>', 99, [["clock", "{}"]], "tool_calls"),
        ('{"name": "clock", "arguments": {"at": 1}}', 99, [["clock", '{"at": 1}']], "tool_calls"),
        ('{"label": "card"}', 99, [], "stop"),
        ('<tool_call>\n{"name": 1}\n</tool_call>', 99, [], "stop"),
    ],
)
def test_nothing_is_sent_both_as_a_call_and_as_text(llama, said, limit, calls, reason):
    if limit < 0:
        limit += len(llama._ready().renderer.codec.encode(said).ids)
    pieces, reply = written(llama, said, tools=(CLOCK,), max_tokens=limit)
    reported = merged(pieces)
    assert [name for name, _ in reported] == [name for name, _ in calls]
    for (_, got), (_, wanted) in zip(reported, calls, strict=True):
        assert got == wanted if wanted is not None else said.endswith(got) or got in said
    assert "".join(piece.text for piece in pieces) == ("" if calls else said)
    assert reply.finish_reason == reason


def test_log_probabilities_come_with_the_text_of_their_tokens(llama):
    for options in ({"max_tokens": 12}, {"max_tokens": 30, "stop": "a"}):
        pieces, ends = run(llama, [("Hello", {"logprobs": 2, **options})])
        assert [one for piece in pieces[0] for one in piece.logprobs] == list(ends[0].logprobs)
        assert sum(bool(piece.logprobs) for piece in pieces[0]) > 1 or options.get("stop")
    pieces, _ = written(llama, "the card 😀 and the money", logprobs=0)
    for piece in pieces:
        assert b"".join(one.bytes for one in piece.logprobs).decode() == piece.text


def begins(llama, said):
    """The same model, made to start its answers like this."""
    llama.ensure_ready()
    tokens, state = llama._loaded.renderer.codec.encode(said).ids, {"step": 0}

    def forward(module, args, out):
        if state["step"] < len(tokens):
            out.logits[:, -1] = -1e4
            out.logits[:, -1, tokens[state["step"]]] = 0
        state["step"] += 1

    return llama._loaded.model.register_forward_hook(forward)


@pytest.mark.parametrize("said", ['I will look.\n<tool_call>\n{"name": "weather', '<tool_call>\n{"name": "weather'])
def test_a_strict_function_that_the_model_may_call_gets_the_arguments_of_its_schema(llama, said):
    asked = {"tools": (WEATHER, CLOCK), "temperature": 1.5, "max_tokens": 150, "parallel_tool_calls": False}
    for seed in range(4):
        hook = begins(llama, said)
        reply = llama.reply("Hello", seed=seed, **asked)
        hook.remove()
        assert reply.finish_reason == "tool_calls"
        assert reply.text == said.partition("\n<tool_call>")[0].partition("<tool_call>")[0]
        jsonschema.validate(json.loads(reply.tool_calls[0]["function"]["arguments"]), WEATHER["parameters"])


def test_a_strict_function_does_not_constrain_text_that_is_not_a_call(llama):
    tools = ({**WEATHER, "strict": False}, CLOCK)
    for said in ("It is sunny 😀 in <tool> or\n{so}.", '{"label": "card"}', "a <tool_call"):
        pieces, reply = written(llama, said, tools=(WEATHER, CLOCK))
        assert "".join(piece.text for piece in pieces) == reply.text == said
    hook = begins(llama, '<tool_call>\n{"name": "weather", "arguments": {"town": ')
    assert not llama.reply("Hello", tools=tools, max_tokens=60).tool_calls, "what is not strict is not bound"
    hook.remove()


def test_a_long_text_that_is_tokenized_delays_no_answer_and_ends_with_its_client(llama):
    batch, reported = llama.open_batch(), []
    join(llama, batch, 0, "Hello", max_tokens=40)
    llama.join(batch, 1, "a b c " * 500_000, max_tokens=4)
    while not any(isinstance(one, Reply) for _, one in reported):
        reported += batch.step()
    assert batch.waiting == [1]
    assert {number for number, _ in reported} == {0}
    [working] = batch._preparer.futures.values()
    batch.drop([1])
    wait([working], 1.0)
    assert working.done(), "to tokenize all of it takes longer"
    llama.join(batch, 2, "card " * 15_000, max_tokens=4)
    while not isinstance(reported[-1][1], TuneportError):
        reported += batch.step()
    assert reported[-1][0] == 2
    assert "15,0" in str(reported[-1][1])
    batch.close()
