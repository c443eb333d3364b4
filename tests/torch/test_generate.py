"""Batched answers are the same as single ones, and stop where they should."""

import json
import weakref
from contextlib import contextmanager

import pytest
import torch

from scripted import scripted
from tiny_models import opened
from tuneport import Completion, Conversation, GenerateOptions, Message, Reply
from tuneport.errors import DataError, UsageError
from tuneport_torch import bases
from tuneport_torch.answer.calls import CallReader
from tuneport_torch.answer.row import AnswerRow
from tuneport_torch.answer.sampling import choose
from tuneport_torch.answer.scoring import score
from tuneport_torch.bases import precision
from tuneport_torch.model import TorchModel
from tuneport_torch.text.load import load_codec
from tuneport_torch.text.render import Renderer

PROMPTS = [
    "Hello",
    "My card never arrived and I have waited two weeks. When will it come?",
    "PIN",
    "What is the exchange rate for euros today? I was charged twice for the same coffee.",
    "refund",
]


@pytest.fixture(params=["tiny_llama", "tiny_qwen3"])
def model(request):
    made = opened(request.getfixturevalue(request.param))
    yield made
    made.close()


@pytest.fixture
def llama(tiny_llama):
    made = opened(tiny_llama)
    yield made
    made.close()


def test_a_left_padded_batch_gives_each_prompt_its_own_answer_in_order(model):
    together = model.ask_many(PROMPTS, max_tokens=12)
    assert together == [model.ask(prompt, max_tokens=12) for prompt in PROMPTS]
    assert len(set(together)) > 1


def test_greedy_answers_are_transformers_own(model, request):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = model._base.path
    tokenizer, other = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    for prompt in PROMPTS[:3]:
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = other.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert model.ask(prompt, max_tokens=12) == tokenizer.decode(ids, skip_special_tokens=True)


def test_more_prompts_than_one_batch_holds_keep_their_order(model):
    answers = {prompt: model.ask(prompt, max_tokens=3) for prompt in PROMPTS}
    many = [PROMPTS[number % 5] for number in range(150)]
    with batches(model) as sizes:
        assert model.ask_many(many, max_tokens=3) == [answers[prompt] for prompt in many]
    assert len(sizes) > 1


@contextmanager
def batches(model, most=None):
    """How many rows are read at once, batch by batch; where more than `most` are, the allocator refuses."""
    sizes = []

    def begin(module, args, kwargs):
        ids = kwargs["input_ids"]
        if ids.shape[1] > 1:  # a prompt, not the next token
            sizes.append(len(ids))
            if most is not None and len(ids) > most:
                torch.empty(1 << 60, dtype=torch.uint8)

    model.ensure_ready()
    hook = model._loaded.model.get_decoder().register_forward_pre_hook(begin, with_kwargs=True)
    yield sizes
    hook.remove()


def test_a_batch_that_does_not_fit_in_memory_is_halved(model):
    whole = model.ask_many(PROMPTS, max_tokens=6)
    with batches(model, most=2) as sizes:
        assert model.ask_many(PROMPTS, max_tokens=6) == whole
    assert sizes[0] > 2
    assert min(sizes) <= 2


def test_every_stop_id_ends_an_answer_and_is_no_part_of_it(llama):
    llama.ensure_ready()
    text = llama._loaded.renderer.codec
    card = text.encode("card").ids
    end = text.token_id("<|endoftext|>")
    text.stop_ids.append(end)
    for stop in (text.eos_id, end):
        _, hook = scripted(llama, [*card, stop])
        reply = llama.reply("Hello", max_tokens=20)
        hook.remove()
        assert (reply.text, reply.finish_reason, reply.completion_tokens) == ("card", "stop", len(card) + 1)
        assert reply.prompt_tokens == len(text.encode("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n").ids)


def test_an_answer_cut_at_its_limit_says_so(llama):
    _, hook = scripted(llama, load_codec(llama._base).encode("the card and the money").ids)
    assert llama.reply("Hello", max_tokens=2).finish_reason == "length"
    hook.remove()


@pytest.mark.parametrize("stop", [" and", "card an", ("never", "and the")])
def test_a_stop_text_ends_the_answer_before_it_even_across_tokens(llama, stop):
    ids = load_codec(llama._base).encode("the card and the money").ids
    _, hook = scripted(llama, ids)
    reply = llama.reply("Hello", stop=stop, max_tokens=len(ids))
    hook.remove()
    first = stop if isinstance(stop, str) else "and the"
    assert reply.text == "the card and the money".partition(first)[0]
    assert reply.finish_reason == "stop"
    assert reply.completion_tokens < len(ids)


@pytest.mark.parametrize("stop", [(), (" mon",), ("the money",)])
def test_a_stream_adds_up_to_the_answer_and_never_shows_half_a_character_or_a_stop(llama, stop):
    said = "the card 😀 and the money"
    ids = load_codec(llama._base).encode(said).ids
    _, hook = scripted(llama, [*ids, load_codec(llama._base).eos_id])
    pieces = list(llama.stream("Hello", stop=stop, max_tokens=99))
    hook.remove()
    assert "".join(pieces) == (said.partition(stop[0])[0] if stop else said)
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) > 3


def test_a_stream_is_the_same_answer_as_a_reply(model):
    for prompt in PROMPTS[:2]:
        assert "".join(model.stream(prompt, max_tokens=12)) == model.ask(prompt, max_tokens=12)


def test_answers_streamed_together_are_the_answers_and_come_in_turns(model):
    asked = {"max_tokens": 12, "stop": "arriv"}
    pieces, replies, order = [""] * len(PROMPTS), {}, []
    for number, reported in model.stream_many(PROMPTS, **asked):
        if isinstance(reported, Reply):
            replies[number] = reported
        else:
            pieces[number] += reported
            order.append(number)
    assert [replies[number] for number in range(len(PROMPTS))] == model.reply_many(PROMPTS, **asked)
    assert pieces == [replies[number].text for number in range(len(PROMPTS))]
    assert order != sorted(order), "no answer waits for the one before it to be whole"


def test_memory_is_estimated_and_freed(tiny_llama):
    made = opened(tiny_llama)
    estimated = made.memory
    made.ensure_ready()
    assert estimated <= made.memory <= estimated * 1.01, "buffers are no weights, and small"
    weights = weakref.ref(made._loaded.model.get_input_embeddings().weight)
    list(made.stream("Hello", max_tokens=2))
    made.close()
    assert weights() is None
    assert made.memory == estimated


def test_a_seeded_answer_is_repeatable_and_does_not_depend_on_its_batch(model):
    drawn = {"temperature": 1.5, "top_p": 0.95, "max_tokens": 10}
    once = model.ask_many(PROMPTS, seed=4, **drawn)
    assert model.ask_many(PROMPTS, seed=4, **drawn) == once
    assert model.ask_many(PROMPTS[:1], seed=4, **drawn) == once[:1]
    assert model.ask_many(PROMPTS, seed=5, **drawn) != once


def test_sampling_follows_the_probabilities_within_the_nucleus(llama):
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).expand(4000, 4)

    def drawn(**options):
        codec = load_codec(llama._base)
        rows = [
            AnswerRow(codec, [1], 9, GenerateOptions(temperature=1.0, seed=seed, **options)) for seed in range(4000)
        ]
        return torch.tensor(choose(logits, rows))

    share = torch.bincount(drawn(), minlength=4) / 4000
    assert share == pytest.approx(torch.tensor([0.5, 0.3, 0.15, 0.05]), abs=0.03)
    share = torch.bincount(drawn(top_p=0.8), minlength=4) / 4000
    assert share == pytest.approx(torch.tensor([0.625, 0.375, 0, 0]), abs=0.03)
    assert set(drawn(top_p=0.0).tolist()) == {0}


def test_a_prompt_that_is_too_long_or_empty_is_refused_with_the_numbers(llama):
    with pytest.raises(UsageError, match=r"The prompt has [\d,]+ tokens; the model's limit is 1,024"):
        llama.ask("card " * 2000)
    with pytest.raises(UsageError, match="max_tokens is 0"):
        llama.ask("Hello", max_tokens=0)
    assert llama.reply("card " * 900, max_tokens=9999).completion_tokens <= 1024


@pytest.mark.parametrize(
    ("said", "text", "names"),
    [
        ('Let me see.\n<tool_call>\n{"name": "w", "arguments": {"city": "Paris"}}\n</tool_call>', "Let me see.", ["w"]),
        ('{"name": "w", "parameters": {"city": "Paris"}}', "", ["w"]),
        (
            "".join(f'<tool_call>{{"name": "{name}", "arguments": {{}}}}</tool_call>' for name in "wv"),
            "",
            ["w", "v"],
        ),
        ('<tool_call>{"name": "w", "arguments": {}}</tool_call>\n<tool_call>{"name": "v", "argu', "", ["w"]),
        ('<tool_call>{"name": "w", "arguments": </tool_call>', None, []),
        ('{"label": "card"}', None, []),
        ("It is sunny.", None, []),
    ],
)
def test_tool_calls_are_parsed_if_possible_and_otherwise_left_as_text(llama, said, text, names):
    rest, calls = CallReader(load_codec(llama._base), GenerateOptions()).read(said) or (said, ())
    assert rest == (said if text is None else text)
    assert [call["function"]["name"] for call in calls] == names
    assert all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in calls)


def test_a_score_is_the_weighted_loss_over_all_rows_for_any_batches(model):
    rows = [
        Conversation((Message("user", "Hello"), Message("assistant", "card"))),
        Conversation((Message("user", PROMPTS[1]), Message("assistant", PROMPTS[3]))),
        Completion("What is ", "the exchange rate"),
    ]
    model.ensure_ready()
    live, renderer = model._loaded.model, model._loaded.renderer
    nll = weight = right = 0.0
    for row in rows:
        rendered = renderer.render(row)
        with torch.no_grad():
            logprob = live(torch.tensor([rendered.ids])).logits[0].log_softmax(-1)
        for at, w in enumerate(rendered.weights[1:]):
            nll -= w * logprob[at, rendered.ids[at + 1]].item()
            right += w * (logprob[at].argmax().item() == rendered.ids[at + 1])
            weight += w
    for times in (1, 120):  # some 7,000 tokens are several batches
        with batches(model) as sizes:
            got = score(live, renderer, rows * times)
        assert got.loss == pytest.approx(nll / weight, rel=1e-5)
        assert got.token_accuracy == pytest.approx(right / weight)
        assert (got.tokens, got.examples) == (weight * times, 3 * times)
    assert len(sizes) > 1


def test_the_error_for_rows_that_cannot_be_scored_says_which(llama):
    llama.ensure_ready()
    live, renderer = llama._loaded.model, llama._loaded.renderer
    with pytest.raises(DataError, match="Row 1 cannot be scored"):
        score(live, renderer, [Conversation((Message("user", "Hello"),))])
    with pytest.raises(DataError, match=r"Row 1 has [\d,]+ tokens; the model's limit is 1,024"):
        score(live, renderer, [Conversation((Message("user", "card " * 2000), Message("assistant", "x")))])
    with pytest.raises(DataError, match="nothing to score"):
        score(live, renderer, [])


def test_a_closed_model_gives_its_memory_back_and_comes_back_by_itself(llama):
    before = llama.ask("Hello", max_tokens=5)
    llama.close()
    assert llama._loaded is None
    assert llama.ask("Hello", max_tokens=5) == before


def test_naming_a_model_loads_nothing(tiny_llama):
    assert TorchModel.base(str(tiny_llama))._loaded is None
    assert repr(TorchModel.base(str(tiny_llama))).startswith("<TorchModel torch:/")


def test_bfloat16_is_chosen_by_the_hardware_and_gives_the_same_answers(tiny_llama):
    assert precision.fastest("cpu") in ("float32", "bfloat16")
    assert precision.fastest("mps") == "float32"
    model = opened(tiny_llama, "bfloat16")
    assert isinstance(model.reply("Hello", max_tokens=4), Reply)
    assert model._loaded.model.dtype == torch.bfloat16
    model.close()


def test_a_model_without_a_template_is_prompted_with_plain_text(tiny_llama, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_llama, tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    model = TorchModel.base(str(folder))
    reply = model.reply("My card", max_tokens=3)
    assert reply.prompt_tokens == len(Renderer(load_codec(bases.resolve(str(folder)))).codec.encode("My card").ids)
    model.close()


def test_a_raw_prompt_is_continued_without_the_template(llama):
    chat, raw = llama.reply("Once there was", max_tokens=4), llama.reply("Once there was", max_tokens=4, raw=True)
    assert raw.prompt_tokens < chat.prompt_tokens
    assert raw.prompt_tokens == len(load_codec(llama._base).encode("Once there was").ids)
