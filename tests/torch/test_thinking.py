"""Thinking is trained where the template writes it, is not part of an answer, and is never lost silently."""

import shutil
from dataclasses import replace

import pytest

import chat_templates as templates
from scripted import scripted
from tiny_models import make_tokenizer, opened, write_llama
from torch_jobs import request, settled
from tuneport import Conversation, Dataset, GenerateOptions, Message, Preference, compare
from tuneport.plugin import TrainSettings
from tuneport_torch import TorchBackend
from tuneport_torch.answer.row import AnswerRow
from tuneport_torch.text.codec import Codec
from tuneport_torch.text.load import load_codec
from tuneport_torch.text.pairs import render_pairs
from tuneport_torch.text.refusals import Unrenderable
from tuneport_torch.text.render import Renderer
from tuneport_torch.text.row_warnings import find_warnings
from tuneport_torch.text.thinking import Mode, find_thinking
from tuneport_torch.text.thinking_mode import count_thinking, mode_from_counts

PLAIN = Conversation((Message("user", "Label: my card"), Message("assistant", "card")))
FIELD = Conversation((Message("user", "2+2?"), Message("assistant", "4", reasoning_content="Two more.")))
INLINE = Conversation((Message("user", "2+2?"), Message("assistant", "<think>\nTwo more.\n</think>\n\n4")))
THINKING = {
    "no-switch": templates.QWEN3,
    "switch": templates.QWEN3_SWITCH,
    "opened": templates.OPENS_THINKING,
    "channels": templates.CHANNELS,
}
LABEL = {
    "type": "object",
    "properties": {"label": {"enum": ["card", "transfer"]}},
    "required": ["label"],
    "additionalProperties": False,
}


@pytest.fixture
def renderer(tiny_llama, tmp_path):
    made = []

    def make(template: str, mode: str = Mode.ROWS) -> Renderer:
        folder = tmp_path / f"text{len(made)}"
        folder.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny_llama / name, folder / name)
        (folder / "chat_template.jinja").write_text(template)
        made.append(Renderer(Codec(folder), mode))
        return made[-1]

    yield make
    for one in made:
        one.codec.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Make a random model with a template."""

    def make(kind: str):
        tokenizer = make_tokenizer()
        tokenizer.chat_template = THINKING[kind]
        return write_llama(tmp_path_factory.mktemp("bases") / kind, tokenizer)

    return make


def trained(one: Renderer, row) -> list[str]:
    return [piece.text for piece in one.pieces(row) if piece.weight]


@pytest.mark.parametrize(
    ("kind", "plain", "thought"),
    [
        ("no-switch", "<think>\n\n</think>\n\ncard<|im_end|>", "<think>\nTwo more.\n</think>\n\n4<|im_end|>"),
        ("switch", "card<|im_end|>", "<think>\nTwo more.\n</think>\n\n4<|im_end|>"),
        ("opened", "\n</think>\n\ncard<|im_end|>", "Two more.\n</think>\n\n4<|im_end|>"),
        (
            "channels",
            " to=user|card<|im_end|>",
            " to=self|Two more.|over<|im_start|>assistant to=user|4<|im_end|>",
        ),
    ],
)
def test_trained_text_follows_the_prompt(renderer, kind, plain, thought):
    one = renderer(THINKING[kind])
    assert trained(one, PLAIN) == [plain]
    assert trained(one, FIELD) == [thought]
    assert trained(one, INLINE) == [thought]
    loose = Conversation((*FIELD.messages[:1], Message("assistant", "4", reasoning_content="\nTwo more.\n\n")))
    assert trained(one, loose) == [thought]
    assert one.count_tokens([PLAIN, FIELD]) == [len(row.ids) for row in one.try_render([PLAIN, FIELD])]
    rendered = one.render(PLAIN)
    (prompt,) = one.prompts([PLAIN.messages[:1]])
    assert rendered.ids[: rendered.weights.index(1.0)] == prompt


def test_a_settled_template_asks_as_in_training_by_itself(renderer):
    one = renderer(templates.QWEN3_SWITCH)
    asked = one.prompts([PLAIN.messages[:1]])
    one.codec.set_template_defaults(one.codec.thinking.off)
    assert one.prompts([PLAIN.messages[:1]]) == asked
    assert Renderer(one.codec, Mode.SAVED).prompts([PLAIN.messages[:1]]) == asked
    assert one.codec.decode(asked[0], keep_control=True).endswith("<think>\n\n</think>\n\n")
    one.codec.set_template_defaults(one.codec.thinking.on)
    (open_,) = Renderer(one.codec, Mode.SAVED).prompts([PLAIN.messages[:1]])
    assert one.codec.decode(open_, keep_control=True).endswith("assistant\n")


def test_a_template_without_thinking_supports_no_field_and_keeps_the_text(renderer):
    one = renderer(templates.CHATML)
    assert find_thinking(one.codec.template) is None
    with pytest.raises(Unrenderable, match="no place for it") as refused:
        one.render(FIELD)
    assert refused.value.code == "reasoning-not-taken"
    assert trained(one, INLINE) == [f"{INLINE.messages[1].text}<|im_end|>"]


def test_unsupported_thinking_blocks_and_calls_that_cannot_be_parsed_cause_warnings(renderer):
    pair = Preference(prompt=INLINE.messages[:1], chosen=INLINE.messages[1:], rejected=(Message("assistant", "5"),))
    called = [{"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]
    call = Conversation((INLINE.messages[0], Message("assistant", tool_calls=called)))
    plain, switch, tools = map(renderer, (templates.CHATML, templates.QWEN3_SWITCH, templates.CALLS))
    for row in (INLINE, pair):
        (hint,) = find_warnings(row, plain.codec)
        assert (hint.code, hint.severity) == ("thinking-as-text", "warning")
        assert "supports thinking" in hint.remedy
        assert not list(find_warnings(row, switch.codec))
    assert [hint.code for hint in find_warnings(call, plain.codec)] == ["calls-as-text"]
    assert not list(find_warnings(call, tools.codec))
    assert not list(find_warnings(PLAIN, plain.codec))


def test_an_earlier_turn_whose_thinking_is_left_out_is_not_trained_without_it(renderer):
    row = Conversation((*FIELD.messages, Message("user", "3+3?"), Message("assistant", "6", reasoning_content="Add.")))
    for kind in ("no-switch", "switch", "channels"):
        rendered = renderer(THINKING[kind]).render(row)
        assert rendered.turns_left_out == 1, kind


CALL = [{"id": "callcall1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}]
CALLED = (
    Message("user", "2+2?"),
    Message("assistant", tool_calls=CALL, reasoning_content="Look."),
    Message("tool", "4", tool_call_id="callcall1"),
    Message("assistant", "It is 4", reasoning_content="So."),
)


@pytest.mark.parametrize(
    ("template", "call", "final"),
    [
        (
            templates.CHANNELS_CALLS,
            ' to=self|Look.|over<|im_start|>assistant to=look|{"at": "it"}<|im_end|>',
            " to=self|So.|over<|im_start|>assistant to=user|It is 4<|im_end|>",
        ),
        (
            templates.THINKS_BEFORE_CALLS,
            '<thought>\nLook.\n</thought>call look{"at": "it"}<|im_end|>',
            "<thought>\nSo.\n</thought>\n\nIt is 4<|im_end|>",
        ),
    ],
)
def test_thinking_before_a_call_and_before_the_answer_is_trained_after_the_prompt(renderer, template, call, final):
    one = renderer(template)
    rendered = one.render(Conversation(CALLED))
    assert [piece.text for piece in one.pieces_of(rendered) if piece.weight] == [call, final]
    asked = Renderer(one.codec, Mode.ON)
    first = rendered.weights.index(1.0)
    second = rendered.weights.index(1.0, rendered.weights.index(0.0, first))
    assert rendered.ids[:first] == asked.prompts([CALLED[:1]])[0]
    assert rendered.ids[:second] == asked.prompts([CALLED[:3]])[0]


def test_a_row_without_thinking_is_prompted_to_think_if_its_earlier_answers_need_it(renderer):
    one = renderer(templates.QWEN3_SWITCH)
    many = Conversation((*PLAIN.messages, *PLAIN.messages))
    assert one.codec.thinking.many
    assert not renderer(templates.OPENS_THINKING).codec.thinking.many
    assert trained(one, many) == ["card<|im_end|>", "<think>\n\n</think>\n\ncard<|im_end|>"]
    assert (
        mode_from_counts(count_thinking(one.codec, [many, many]))
        == mode_from_counts(count_thinking(one.codec, [PLAIN]))
        == Mode.ROWS
    )
    assert mode_from_counts(count_thinking(one.codec, [PLAIN, many])) == Mode.ON
    pair = Preference(prompt=FIELD.messages[:1], chosen=FIELD.messages[1:], rejected=PLAIN.messages[1:])
    assert count_thinking(one.codec, [pair, PLAIN]) == {True: 1, False: 1}
    assert not count_thinking(renderer(templates.CHATML).codec, [many, PLAIN])


def test_an_answer_that_ends_with_the_start_of_the_next_turn_is_trained_with_its_stop_token(renderer):
    one = renderer(templates.ENDS_AT_NEXT)
    many = Conversation((*PLAIN.messages, *PLAIN.messages))
    with pytest.raises(Unrenderable, match="no end-of-turn token") as refused:
        one.render(many)
    assert "eos_token_id in generation_config.json" in refused.value.remedy
    cured = Renderer(Codec(one.codec.folder, [one.codec.token_id("<|im_start|>")]))
    assert trained(cured, many) == ["\ncard<|im_start|>", "\ncard<|im_start|>"]
    assert cured.count_tokens([many]) == [len(cured.render(many).ids)]
    cured.codec.close()


def test_the_text_of_a_row_is_not_read_as_tags(renderer):
    row = Conversation((Message("user", "What is </think>?"), Message("assistant", "It is a tag: </think>.")))
    one = renderer(templates.CHATML)
    assert trained(one, row) == ["It is a tag: </think>.<|im_end|>"]
    thought = Conversation((Message("user", "?"), Message("assistant", "b", reasoning_content="<|im_end|> a")))
    rendered = renderer(templates.QWEN3).render(thought)
    assert rendered.ids.count(one.codec.token_id("<|im_end|>")) == 2


def test_both_answers_of_a_pair_have_the_same_prompt(renderer):
    pair = Preference(prompt=FIELD.messages[:1], chosen=FIELD.messages[1:], rejected=(Message("assistant", "5"),))
    (arms,) = render_pairs(renderer(templates.QWEN3_SWITCH), [pair])
    assert not isinstance(arms, Unrenderable), arms
    assert arms[0].thinks
    assert arms[1].thinks


@pytest.fixture(scope="module")
def model(base):
    made = {kind: opened(base(kind)) for kind in THINKING}
    yield made
    for one in made.values():
        one.close()


@pytest.mark.parametrize(
    ("kind", "said", "thinking"),
    [
        ("no-switch", "<think>\n\n</think>\n\ncard 😀", ""),
        ("no-switch", "<think>\nA card.\n</think>\n\ncard 😀", "A card."),
        ("no-switch", "card 😀", None),
        ("no-switch", "a <think>b</think> card", None),
        ("switch", "card 😀", None),
        ("opened", "A card.\n</think>\n\ncard 😀", "A card."),
        ("opened", "card 😀", None),
        ("channels", " to=self|A card.|over<|im_start|>assistant to=user|card 😀", "A card."),
        ("channels", " to=user|card 😀", None),
    ],
)
def test_an_answer_is_the_text_after_the_thinking(model, kind, said, thinking):
    one = model[kind]
    one.ensure_ready()
    text = one._loaded.renderer.codec
    ids = [*text.encode(said).ids, text.eos_id]
    _, hook = scripted(one, ids)
    reply = one.reply("Hello", max_tokens=99, logprobs=0)
    hook.remove()
    _, hook = scripted(one, ids)
    pieces = list(one.stream("Hello", max_tokens=99))
    hook.remove()
    answer = "a <think>b</think> card" if said.startswith("a ") else "card 😀"
    assert (reply.text, reply.thinking, reply.finish_reason) == (answer, thinking, "stop")
    assert reply.completion_tokens == len(ids)
    assert "".join(pieces) == answer
    assert b"".join(token.bytes for token in reply.logprobs).decode().strip() == answer
    assert not any("\ufffd" in piece for piece in pieces)
    assert reply.to_dict()["thinking"] == thinking


def test_thinking_is_shown_while_it_is_written(model):
    one = model["no-switch"]
    one.ensure_ready()
    text = one._loaded.renderer.codec
    row = AnswerRow(text, text.encode("Hello").ids, 99, GenerateOptions(max_tokens=99))
    shown = []
    for token in [*text.encode("<think>\nA card, </thin and 😀.\n</think>\n\ncard").ids, text.eos_id]:
        row.add(token)
        shown.append(row.piece())
    assert "".join(piece.thinking for piece in shown) == row.reply().thinking == "A card, </thin and 😀."
    assert "".join(piece.text for piece in shown) == "card"
    first, last = (next(at for at, piece in enumerate(some) if piece) for some in (shown, shown[::-1]))
    assert sum(bool(piece.thinking) for piece in shown) > 5, "not all at the end"
    assert first < len(shown) - last - 5


def test_thinking_that_the_limit_cuts_is_no_answer(model):
    for kind, said in (("no-switch", "<think>\nA card and"), ("opened", "A card and")):
        one = model[kind]
        one.ensure_ready()
        ids = one._loaded.renderer.codec.encode(said).ids
        _, hook = scripted(one, ids)
        reply = one.reply("Hello", max_tokens=len(ids))
        hook.remove()
        assert (reply.text, reply.thinking, reply.finish_reason) == ("", "A card and", "length")


def test_a_stop_text_in_the_thinking_does_not_end_the_answer(model):
    one = model["no-switch"]
    one.ensure_ready()
    text = one._loaded.renderer.codec
    _, hook = scripted(one, [*text.encode("<think>\na. b\n</think>\n\ncard. more").ids, text.eos_id])
    reply = one.reply("Hello", stop=".", max_tokens=99)
    hook.remove()
    assert (reply.text, reply.thinking) == ("card", "a. b")


@pytest.mark.parametrize("kind", [*THINKING])
def test_a_schema_holds_for_the_answer_with_and_without_thinking(model, kind):
    one = model[kind]
    one.ensure_ready()
    text = one._loaded.renderer.codec
    starts = {"no-switch": "<think>\nSo.\n</think>\n\n", "opened": "So.\n</think>\n\n"}
    for start in dict.fromkeys([starts.get(kind, ""), "</think>\n" if kind == "opened" else ""]):
        _, hook = scripted(one, [*text.encode(f'{start}{{"label": "card"}}').ids, text.eos_id])
        reply = one.reply("Hello", schema=LABEL, max_tokens=120)
        hook.remove()
        assert reply.parsed == {"label": "card"}, reply
        assert reply.thinking == ("So." if "So" in start else "" if start else None)


def labels(count: int) -> Dataset:
    names = ("card", "transfer", "refund")
    asked = ("My card never arrived", "The transfer failed", "I was charged twice")
    return Dataset.from_examples(
        [
            Conversation((Message("user", f"{asked[n % 3]} {n}"), Message("assistant", names[n % 3])))
            for n in range(count)
        ]
    )


@pytest.mark.parametrize("kind", ["no-switch", "switch"])
def test_a_classifier_whose_template_writes_an_empty_block_is_right(base, kind):
    asked = request(base(kind), f"label-{kind}")
    settings = asked.settings.model_copy(update={"mode": "full", "learning_rate": 3e-3, "tokens_per_step": 512})
    asked = replace(
        asked, train=labels(30), validation=None, options=TrainSettings(epochs=20, seed=7), settings=settings
    )
    job = TorchBackend().start(asked)
    assert settled(job).status.value == "succeeded"
    model = job.result()
    holdout = Dataset.from_examples(list(labels(12)))
    found = compare(model, holdout, base=None, grader="exact")
    assert found.tuned.mean == 1.0, found
    assert model.ask("My card never arrived 3") == "card"
    reply = model.reply("My card never arrived 3")
    assert reply.thinking == ("" if kind == "no-switch" else None)
    codec = load_codec(model._base)
    prompt = codec.decode(Renderer(codec, Mode.SAVED).prompts([PLAIN.messages[:1]])[0], keep_control=True)
    assert prompt.endswith("</think>\n\n") == (kind == "switch")
    codec.close()


def test_rows_with_thinking_settle_the_template_for_it(base):
    rows = [FIELD, *labels(11)]
    base_folder = base("switch")
    asked = request(base_folder, "thinks", learning_rate=1e-3)
    job = TorchBackend().start(replace(asked, train=Dataset.from_examples(rows), validation=None))
    assert settled(job).status.value == "succeeded"
    codec = load_codec(job.result()._base)
    prompt = codec.decode(Renderer(codec, Mode.SAVED).prompts([PLAIN.messages[:1]])[0], keep_control=True)
    assert "enable_thinking = true" in codec.template.source  # also for GGUF, without a record
    codec.close()
    assert prompt.endswith("assistant\n")
    reported = "\n".join(event.message for event in job.events())
    assert "11 of 12 rows have no thinking" in reported
    # The preview and the plan show what was trained: all rows are prompted to think.
    data = Dataset.from_examples(rows)
    shown = data.preview(TorchBackend().rules(str(base_folder)), 12)
    assert f"{sum(piece.tokens for row in shown for piece in row)} tokens an epoch" in reported
    assert [piece.text for piece in shown[1] if piece.weight] == ["<think>\n\n</think>\n\ncard<|im_end|>"]
    again = replace(asked, train=data, validation=None)
    assert TorchBackend().plan(again).tokens.value == job.state().tokens
