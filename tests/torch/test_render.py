"""The trained text is the row's text, and proven to be what the model must answer in use."""

import json
import random
import shutil
import subprocess
import sys

import pytest
from tokenizers import Tokenizer

import chat_templates as templates
from tuneport import Completion, Conversation, Message
from tuneport.errors import DataError, UnavailableError, UsageError
from tuneport.plugin import Piece
from tuneport_torch import bases
from tuneport_torch.text.codec import Codec
from tuneport_torch.text.golden import check_golden, golden_ids
from tuneport_torch.text.load import load_codec
from tuneport_torch.text.refusals import Unrenderable
from tuneport_torch.text.render import Renderer


@pytest.fixture
def renderer(tiny_llama, tmp_path):
    """Make a renderer with the tiny tokenizer and any template (None: no template)."""
    made = []

    def make(template: str | None = templates.CHATML, stop_ids=(), control=()) -> Renderer:
        folder = tmp_path / f"text{len(made)}"
        folder.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny_llama / name, folder / name)
        if control:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            tokenizer.add_special_tokens(list(control))
            tokenizer.save(str(folder / "tokenizer.json"))
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)
        made.append(Renderer(Codec(folder, stop_ids)))
        return made[-1]

    yield make
    for one in made:
        one.codec.close()


def talk(*turns, **options):
    return Conversation(tuple(Message(role, content) for role, content in turns), **options)


TWO_TURNS = talk(
    ("user", "Hello, how are you?"), ("assistant", "Thank you."), ("user", "And the card?"), ("assistant", "Lost.")
)
WITH_SYSTEM = talk(("system", "Answer with one word."), ("user", "Where is my card?"), ("assistant", "card"))


WITH_TURN = (("user", "c"), ("assistant", "d"))


def trained(renderer, example):
    """The texts that are trained."""
    return [piece.text for piece in renderer.pieces(example) if piece.weight]


@pytest.mark.parametrize(
    "template",
    [templates.CHATML, templates.TAGGED, templates.TAGGED_WITHOUT_END],
    ids=["chatml", "tagged", "tagged-without-end"],
)
def test_the_loss_is_on_each_assistant_turn_and_its_end_and_on_nothing_else(renderer, template):
    one = renderer(template)
    assert trained(one, TWO_TURNS) == ["Thank you.<|im_end|>", "Lost.<|im_end|>"]
    assert trained(one, WITH_SYSTEM) == ["card<|im_end|>"]
    assert (
        "".join(piece.text for piece in one.pieces(TWO_TURNS))
        == one.codec.template.rows([{"messages": [message.to_dict() for message in TWO_TURNS.messages]}])[0]["text"]
    )


def test_generation_tags_and_prefixes_give_the_same_mask(renderer):
    by_prefix, by_tag = renderer(templates.CHATML).render(TWO_TURNS), renderer(templates.TAGGED).render(TWO_TURNS)
    assert (by_prefix.ids[:-1], by_prefix.weights[:-1]) == (
        by_tag.ids[: len(by_prefix.ids) - 1],
        by_tag.weights[: len(by_prefix.ids) - 1],
    )


def test_every_span_ends_in_a_token_that_stops_the_model(renderer, tiny_llama):
    one = renderer()
    end = one.codec.token_id("<|im_end|>")
    rendered = one.render(TWO_TURNS)
    ends = [
        at
        for at, (now, after) in enumerate(zip(rendered.weights, [*rendered.weights[1:], 0.0], strict=True))
        if now and not after
    ]
    assert [rendered.ids[at] for at in ends] == [end, end]
    assert end in one.codec.stop_ids
    assert end in load_codec(bases.resolve(str(tiny_llama))).stop_ids


def test_an_end_of_turn_that_the_model_does_not_stop_at_is_reported_as_a_new_stop(renderer):
    one = renderer(templates.CHATML.replace("<|im_end|>", "<|endoftext|>"))
    end = one.codec.token_id("<|endoftext|>")
    assert end not in one.codec.stop_ids
    assert trained(one, WITH_SYSTEM) == ["card<|endoftext|>"]
    assert one.new_stop_ids == [end]
    assert end not in one.codec.stop_ids


def test_a_base_whose_configuration_forgets_the_templates_end_of_turn_stops_at_it_too(tiny_llama, tmp_path):
    folder = shutil.copytree(tiny_llama, tmp_path / "forgetful")
    (folder / "chat_template.jinja").write_text(templates.CHATML.replace("<|im_end|>", "<|endoftext|>"))
    codec = load_codec(bases.resolve(str(folder)))
    codec.close()
    assert codec.token_id("<|endoftext|>") in codec.stop_ids


def test_a_template_whose_turns_end_in_plain_text_is_refused(renderer):
    with pytest.raises(Unrenderable, match="stop") as refused:
        renderer(templates.NO_END).render(WITH_SYSTEM)
    assert refused.value.code == "no-end-of-turn"


def test_a_template_that_always_opens_the_next_answer_is_trained_to_the_end_of_this_one(renderer):
    one = renderer(templates.ALWAYS_OPENS)
    assert trained(one, TWO_TURNS) == ["Thank you.<|im_end|>", "Lost.<|im_end|>"]
    assert not one.new_stop_ids


def test_a_template_that_never_opens_an_answer_is_refused_with_a_cure_that_works(renderer):
    with pytest.raises(Unrenderable, match=r"before '<\|im_start\|>assistant\\n'") as refused:
        renderer(templates.NEVER_OPENS).render(WITH_SYSTEM)
    assert refused.value.code == "answer-not-opened"
    added = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    assert trained(renderer(templates.NEVER_OPENS + added), WITH_SYSTEM)


def test_results_of_calls_get_the_templates_role_for_them(renderer):
    function = {"name": "look", "arguments": '{"at": "it"}'}
    calls = [{"id": f"callcall{n}", "type": "function", "function": function} for n in range(2)]
    result = Message("tool", "dry", tool_call_id="callcall0")
    asked, said = Message("user", "Rain?"), Message("assistant", "No.")
    one = renderer(templates.IPYTHON)
    row = Conversation((asked, Message("assistant", tool_calls=calls[:1]), result, said))
    assert len(trained(one, row)) == 2
    assert "ipython\ndry" in one.codec.decode(one.render(row).ids, keep_control=True)
    assert "ipython\ndry" in one.codec.decode(one.prompts([row.messages[:3]])[0], keep_control=True)
    both = Conversation((asked, Message("assistant", tool_calls=calls), result, said))
    with pytest.raises(Unrenderable, match="only some of the calls") as refused:
        one.render(both)
    assert "one tool call, its result" in refused.value.remedy
    both = Conversation((asked, Message("assistant", "Wait.", tool_calls=calls[:1]), result, said))
    with pytest.raises(Unrenderable, match="text next to the calls") as refused:
        one.render(both)
    assert "Remove that text" in refused.value.remedy


def test_of_several_templates_the_default_is_used_and_the_one_for_tools_is_named_as_the_cure(renderer):
    tools = templates.CALLS
    folder = renderer().codec.folder
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    given = json.loads(path.read_text())

    def loaded(*named):
        given["chat_template"] = [{"name": name, "template": source} for name, source in named]
        path.write_text(json.dumps(given))
        return Renderer(Codec(folder))

    calls = [{"id": "callcall1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    row = Conversation((Message("user", "Rain?"), Message("assistant", tool_calls=calls)))
    one = loaded(("default", templates.CHATML), ("tool_use", tools))
    assert trained(one, TWO_TURNS) == ["Thank you.<|im_end|>", "Lost.<|im_end|>"]
    with pytest.raises(Unrenderable, match="no place for them") as refused:
        one.render(row)
    assert "named tool_use" in refused.value.remedy
    (folder / "chat_template.jinja").write_text(tools)
    assert trained(Renderer(Codec(folder)), row)
    (folder / "chat_template.jinja").unlink()
    assert trained(loaded(("tool_use", tools)), row)
    assert loaded(("rag", "a"), ("tool_use", tools)).codec.template is None


def test_a_template_that_cannot_be_compiled_says_so_each_time(renderer):
    one = renderer("{% for message in messages %}")
    for _ in range(2):
        with pytest.raises(DataError, match="cannot be compiled"):
            one.render(WITH_SYSTEM)


def test_a_turn_of_weight_0_is_context(renderer):
    first = Message("assistant", "Thank you.", weight=0)
    one = Conversation((TWO_TURNS.messages[0], first, *TWO_TURNS.messages[2:]))
    assert trained(renderer(), one) == ["Lost.<|im_end|>"]
    assert renderer().render(one).ids == renderer().render(TWO_TURNS).ids


@pytest.mark.parametrize(
    "example",
    [talk(("user", "Hello")), Conversation((Message("user", "Hello"), Message("assistant", "Hi", weight=0)))],
    ids=["no assistant", "weight 0"],
)
def test_a_row_with_nothing_to_train_on_is_an_error(renderer, example):
    with pytest.raises(Unrenderable, match="No token of this row would be trained") as refused:
        renderer().render(example)
    assert refused.value.code == "nothing-to-train"


def test_if_a_template_strips_earlier_thinking_only_the_last_turn_is_trained_and_the_others_are_counted(renderer):
    one = renderer(templates.QWEN3)
    row = talk(
        ("user", "Two and two?"),
        ("assistant", "<think>\n2+2\n</think>\n\nfour"),
        ("user", "And one?"),
        ("assistant", "five"),
    )
    assert trained(one, row) == ["<think>\n\n</think>\n\nfive<|im_end|>"]
    assert one.render(row).turns_left_out == 1
    (note,) = one.diagnose(row)
    assert (note.code, note.severity) == ("turns-left-out", "warning")


NASTY = (
    "Yes.",
    "four",
    " ",
    "\n",
    "<|im_end|>",
    "<|im_end|>\n",
    "<|im_end|>\n<|im_start|>user\n",
    "<|im_start|>assistant\n",
    "<|endoftext|>",
    "user",
    "Où? 😀",
    "?",
)


@pytest.mark.parametrize("template", ["CHATML", "EOS_AT_END", "TAGGED", "QWEN3_TOOLS", "OTHER_LAST_END"])
def test_for_any_text_in_the_turns_each_trained_text_is_one_answer_and_its_end(renderer, template):
    one, pick = renderer(getattr(templates, template)), random.Random(7)
    for _ in range(40):
        said = ["".join(pick.choices(NASTY, k=pick.randint(1, 4))) + pick.choice(("", "x")) for _ in range(6)]
        row = talk(*zip(("user", "assistant") * 3, said, strict=True))
        pieces = [piece.text for piece in one.pieces(row) if piece.weight]
        want = [f"{answer}<|im_end|>" for answer in said[1::2]]
        if template == "QWEN3_TOOLS":
            want[-1] = f"<think>\n\n</think>\n\n{want[-1]}"
        if template == "OTHER_LAST_END":  # in the middle, nothing makes the model stop
            want = [f"{said[-1]}<|endoftext|>"]
            assert one.render(row).turns_left_out == 2
        assert pieces == want
        assert one.render(row).ids.count(one.codec.token_id("<|im_start|>")) == len(said)


def test_an_end_of_text_after_the_conversation_does_not_prevent_training_of_every_answer(renderer):
    one = renderer(templates.EOS_AT_END)
    assert trained(one, TWO_TURNS) == ["Thank you.<|im_end|>", "Lost.<|im_end|>"]
    assert one.diagnose(TWO_TURNS) == []


WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def asked_weather(arguments='{"city": "Paris"}', name="1", content=None, tool=WEATHER):
    call = {"id": name, "type": "function", "function": {"name": "weather", "arguments": arguments}}
    return Conversation(
        (
            Message("user", "Weather?"),
            Message("assistant", content, tool_calls=[call]),
            Message("tool", "sunny", tool_call_id=name),
            Message("assistant", "It is sunny."),
        ),
        tools=(tool,),
    )


CALLED = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call><|im_end|>'


@pytest.mark.parametrize("content", [None, "Let me see."])
def test_a_call_that_is_written_differently_as_the_last_turn_is_trained_as_written(renderer, content):
    one, row = renderer(templates.QWEN3_TOOLS), asked_weather(content=content)
    said = f"{content}\n" if content else ""
    assert trained(one, row) == [said + CALLED, "<think>\n\n</think>\n\nIt is sunny.<|im_end|>"]
    assert one.diagnose(row) == []


@pytest.mark.parametrize("template", ["TEXT_ARGUMENTS", "PYTHON_ARGUMENTS", "NINE_LETTER_IDS"])
def test_arguments_and_ids_are_given_in_the_form_that_a_template_takes(renderer, template):
    one, row = renderer(getattr(templates, template)), asked_weather()
    assert trained(one, row) == [CALLED, "It is sunny.<|im_end|>"]
    prompt = one.prompts([row.messages[:3]], row.tools)[0]
    assert one.render(row).ids[: len(prompt)] == prompt


def test_ids_of_nine_letters_identify_calls_and_are_unchanged(renderer):
    one = renderer(templates.NINE_LETTER_IDS.replace('"name": "', '"id": "\' + call.id + \'", "name": "'))
    assert '"id": "call00001"' in trained(one, asked_weather(name="1"))[0]
    assert '"id": "abc123XYZ"' in trained(one, asked_weather(name="abc123XYZ"))[0]


def test_a_template_that_wants_parts_gets_parts(renderer):
    one = renderer(templates.PARTS)
    assert trained(one, TWO_TURNS) == ["Thank you.<|im_end|>", "Lost.<|im_end|>"]
    assert one.render(TWO_TURNS).ids == renderer().render(TWO_TURNS).ids
    assert one.prompts([TWO_TURNS.messages[:3]]) == renderer().prompts([TWO_TURNS.messages[:3]])


@pytest.mark.parametrize(
    ("template", "row", "named", "cure"),
    [
        ("NO_SYSTEM", WITH_SYSTEM, r"message 0 \(system\)", "first user turn"),
        (
            "FIRST_SYSTEM",
            talk(("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("system", "Be brief."), *WITH_TURN),
            r"message 3 \(system\)",
            "user turn that follows it",
        ),
        ("NO_TOOL_RESULTS", asked_weather(), r"message 2 \(tool\)", "supports tools"),
    ],
    ids=["system", "later system", "tool result"],
)
def test_a_turn_that_the_template_leaves_out_is_an_error_that_names_it(renderer, template, row, named, cure):
    with pytest.raises(Unrenderable, match=named) as refused:
        renderer(getattr(templates, template)).render(row)
    assert refused.value.code == "turn-left-out"
    assert cure in refused.value.remedy


def test_a_call_that_the_template_leaves_out_is_an_error_even_where_the_tool_is_listed(renderer):
    with pytest.raises(Unrenderable, match="call in message 1 is missing") as refused:
        renderer(templates.NO_CALLS).render(asked_weather())
    assert refused.value.code == "tools-ignored"


def test_a_template_without_tools_is_refused_for_that_and_not_for_the_order_of_turns(renderer):
    with pytest.raises(Unrenderable, match="no place for them") as refused:
        renderer(templates.GEMMA).render(asked_weather())
    assert refused.value.code == "tools-ignored"
    assert "alternate" not in refused.value.remedy


def test_a_name_that_the_template_leaves_out_is_a_warning(renderer):
    row = Conversation((Message("user", "Hi", name="ann"), Message("assistant", "Hello")))
    (note,) = renderer().diagnose(row)
    assert (note.code, note.severity) == ("names-left-out", "warning")
    assert renderer(templates.NAMED).diagnose(row) == []


THOUGHT = "<think>\n18*3 = 54.\n</think>\n\n54"


@pytest.mark.parametrize("control", [(), ("<think>", "</think>")], ids=["words", "control tokens"])
def test_thinking_tags_in_an_answer_are_the_templates_own_whether_or_not_they_are_control_tokens(renderer, control):
    one = renderer(templates.QWEN3, control=control)
    assert trained(one, talk(("user", "18*3?"), ("assistant", THOUGHT))) == [f"{THOUGHT}<|im_end|>"]


def test_a_template_that_cuts_a_text_at_a_control_token_is_an_error_in_training_and_in_use(renderer):
    one = renderer(templates.SPLITTING, control=("<think>", "</think>"))
    row = talk(("user", "What does </think> mean?"), ("assistant", "An end."))
    with pytest.raises(Unrenderable) as refused:
        one.render(row)
    assert refused.value.code == "control-token-cut"
    with pytest.raises(UsageError, match="control token"):
        one.prompts([row.messages[:1]])


def test_an_answer_that_names_a_thinking_tag_is_not_silently_cut_there(renderer):
    with pytest.raises(Unrenderable):
        renderer(templates.QWEN3).render(talk(("user", "What ends it?"), ("assistant", "The tag </think> ends it.")))


@pytest.mark.parametrize("template", ["CALLS", "ASCII", "TEXT_ARGUMENTS"])
def test_control_tokens_in_keys_of_arguments_and_schemas_are_text(renderer, template):
    schema = {"type": "object", "properties": {"<|im_end|>": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}
    one = renderer(getattr(templates, template))
    row = asked_weather('{"<|im_end|>": "<|im_start|>"}', tool=tool)
    ids = one.render(row).ids
    assert ids.count(one.codec.token_id("<|im_end|>")) == 5
    assert ids.count(one.codec.token_id("<|im_start|>")) == 5
    text = "".join(piece.text for piece in one.pieces(row))
    assert '{"<|im_end|>": "<|im_start|>"}' in text
    assert not [letter for letter in text if "\ue000" <= letter <= "\uf8ff"]
    assert "\\ue0f" not in text


def test_if_only_a_rewritten_turn_should_be_trained_the_error_says_why(renderer):
    thought = Message("assistant", "<think>\nHm.\n</think>\n\nThank you.")
    row = Conversation((TWO_TURNS.messages[0], thought, TWO_TURNS.messages[2], Message("assistant", "Lost.", weight=0)))
    with pytest.raises(Unrenderable, match="leaves out its thinking once others follow") as refused:
        renderer(templates.QWEN3).render(row)
    assert refused.value.code == "mask-unproven"
    assert renderer(templates.QWEN3).diagnose(row)[0].severity == "error"


def test_llama_3s_template_with_tools_and_calls_is_proven_and_its_arguments_are_not_quoted_twice(renderer):
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    row = Conversation(
        (
            Message("user", "Weather?"),
            Message("assistant", tool_calls=[call]),
            Message("tool", "sunny", tool_call_id="1"),
            Message("assistant", " Sunny. "),
        ),
        tools=(tool,),
    )
    one = renderer(templates.LLAMA3)
    assert trained(one, row) == ['{"name": "weather", "parameters": {"city": "Paris"}}<|im_end|>', "Sunny.<|im_end|>"]
    assert '"type": "object"' in one.pieces(row)[0].text
    assert one.pieces(row)[0].text.startswith("<|im_start|>system\n\nToday Date: 26 Jul 2024")


def test_a_template_that_leaves_tools_out_is_an_error_not_a_silence(renderer):
    tool = {"type": "function", "function": {"name": "weather"}}
    row = Conversation(TWO_TURNS.messages, tools=(tool,))
    with pytest.raises(Unrenderable, match="no place for them") as refused:
        renderer().render(row)
    assert refused.value.code == "tools-ignored"
    with pytest.raises(Unrenderable, match="'weather' is missing"):
        renderer(templates.CHATML + "{# no tools #}").render(row)


def test_a_template_that_refuses_a_row_says_why_and_what_to_do(renderer):
    one = renderer(templates.GEMMA)
    good, system, twice = one.try_render(
        [TWO_TURNS, WITH_SYSTEM, talk(("user", "a"), ("user", "b"), ("assistant", "c"))]
    )
    assert sum(good.weights) > 0
    assert "System role not supported" in system.message
    assert "first user turn" in system.remedy
    assert "alternate" in twice.remedy


def test_a_template_that_loses_part_of_the_answer_is_an_error(renderer):
    with pytest.raises(Unrenderable) as refused:
        renderer(templates.FORGETFUL).render(TWO_TURNS)
    assert refused.value.code == "content-lost"


def test_there_is_only_one_bos_even_if_the_tokenizer_adds_one(renderer):
    one = renderer(templates.GEMMA)
    bos = one.codec.token_id("<|im_start|>")
    ids = one.render(talk(("user", "Hello"), ("assistant", "Hi"))).ids
    assert ids[0] == bos
    assert ids.count(bos) == 3  # and one for each of the two turns


def test_a_token_across_the_start_of_an_answer_is_detected(renderer):
    ends_in_space = templates.CHATML.replace("'\n' + message", "': ' + message").replace("assistant\n", "assistant: ")
    one = renderer(ends_in_space)
    assert trained(one, talk(("user", "Hello"), ("assistant", "<tag>"))) == ["<tag><|im_end|>"]
    with pytest.raises(Unrenderable) as refused:
        one.render(talk(("user", "Hello"), ("assistant", "card")))  # " card" is one token
    assert refused.value.code == "token-straddles"


def test_control_tokens_in_a_rows_text_are_text(renderer):
    one = renderer()
    row = talk(("user", "What is <|im_end|>\n<|im_start|>system\n?"), ("assistant", "<|im_end|> ends a turn."))
    rendered = one.render(row)
    end = one.codec.token_id("<|im_end|>")
    assert rendered.ids.count(end) == 2
    assert trained(one, row) == ["<|im_end|> ends a turn.<|im_end|>"]
    (prompt,) = one.prompts([row.messages[:1]])
    assert rendered.ids[: len(prompt)] == prompt


def test_the_prompt_in_use_is_the_prompt_of_training(renderer):
    for template in (templates.CHATML, templates.TAGGED, templates.LLAMA3, templates.QWEN3, templates.GEMMA):
        one = renderer(template)
        row = talk(("user", "Où est ma carte ? 😀"), ("assistant", "Here: 😀"))
        rendered = one.render(row)
        (prompt,) = one.prompts([row.messages[:1]])
        assert rendered.weights.index(1.0) == len(prompt)
        assert rendered.ids[: len(prompt)] == prompt


def test_a_completion_has_no_template_and_its_end_is_trained(renderer):
    one = renderer(None)
    pieces = one.pieces(Completion("Question: two?\nLabel:", " card"))
    assert pieces == [Piece("Question: two?\nLabel:", 0.0, pieces[0].tokens), Piece(" card<|im_end|>", 1.0, 2)]
    assert one.count_tokens([Completion("Question: two?\nLabel:", " card")]) == [sum(piece.tokens for piece in pieces)]


def test_a_completion_is_cut_where_the_prompt_ends_even_inside_a_token(renderer):
    one = renderer(None)
    rendered = one.render(Completion("Label: ", "card"))
    assert rendered.ids[: rendered.weights.index(1.0)] == one.prompts([[Message("user", "Label: ")]])[0]


def test_a_conversation_without_a_template_is_an_error_with_its_cure(renderer):
    with pytest.raises(Unrenderable, match=r"(?s)no chat template.*instruct"):
        renderer(None).render(TWO_TURNS)
    with pytest.raises(UsageError, match="no chat template"):
        renderer(None).prompts([TWO_TURNS.messages[:3]])


def test_counting_gives_the_length_that_is_trained(renderer):
    one = renderer()
    rows = [
        TWO_TURNS,
        WITH_SYSTEM,
        Completion("a b", " c"),
        Completion("Label: ", "card<|im_end|>"),
        talk(("user", "<|im_end|>"), ("assistant", "x")),
    ]
    assert one.count_tokens(rows) == [len(row.ids) for row in one.try_render(rows)]
    assert one.count_tokens([Conversation((Message("user", [{"type": "image_url", "image_url": {}}]),))]) == [0]


def test_images_are_refused(renderer):
    row = Conversation((Message("user", [{"type": "image_url", "image_url": {}}]), Message("assistant", "A cat.")))
    assert renderer().diagnose(row)[0].code == "images"


def test_rendering_agrees_with_transformers_own(tiny_llama):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    messages = [message.to_dict() for message in TWO_TURNS.messages]
    codec = load_codec(bases.resolve(str(tiny_llama)))
    assert Renderer(codec).render(TWO_TURNS).ids == tokenizer.apply_chat_template(messages)["input_ids"]
    codec.close()


def test_a_template_or_tokenizer_that_differs_from_training_is_an_error(renderer):
    codec = renderer().codec
    golden = golden_ids(codec)
    check_golden(codec, golden, codec.template.sha256)
    other = renderer(templates.CHATML + " ").codec
    with pytest.raises(UnavailableError, match="chat template"):
        check_golden(other, golden, codec.template.sha256)
    with pytest.raises(UnavailableError, match="tokenizer"):
        check_golden(codec, [*golden[:-1], 7], codec.template.sha256)


def test_rendering_and_counting_import_neither_torch_nor_transformers(tiny_llama):
    code = (
        "import sys\nfrom tuneport import Conversation, Message\nfrom tuneport_torch import bases\n"
        "from tuneport_torch.text import load, render\n"
        f"codec = load.load_codec(bases.resolve({str(tiny_llama)!r}))\n"
        "row = Conversation((Message('user', 'Hi'), Message('assistant', 'Hello')))\n"
        "assert render.Renderer(codec).render(row).ids\n"
        "print({'torch', 'transformers', 'numpy', 'jinja2', 'huggingface_hub'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
