"""The result for nine kinds of rows with each chat template in the package trl."""

import json
import runpy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

import published_templates as published

pytestmark = pytest.mark.skipif(published.folder() is None, reason="the package trl is not installed")

TAGS = "<think>\n{}\n</think>\n\n{}"
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
XML_CALL = "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>"
GEMMA4_CALL = '<|tool_call>call:weather{city:<|"|>Oslo<|"|>}<tool_call|>'
LFM2_CALL = "<|tool_call_start|>[weather(city='Oslo')]<|tool_call_end|>"
GLM_CALL = "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n</tool_call>"
MUSE_CALL = (
    '<atem:function_calls>\n<atem:invoke name="weather">\n<atem:parameter name="city">Oslo</atem:parameter>\n'
    "</atem:invoke>\n</atem:function_calls>"
)
EMPTY = "<think>\n\n</think>\n\n"

MANY, THINKING, TOOLS = ("many turns", "system, many"), ("thinking, many",), ("tools", "tools, short ids")
SAID = {
    "single turn": ["four"],
    "system": ["four"],
    "many turns": ["four", "five", "4!"],
    "system, many": ["four", "five", "4!"],
    "later system": ["four", "five"],
}
THOUGHT = [("2 + 2 = 4.", "four"), ("4 + 1 = 5.", "five")]
CONTEXT = "context"
REFUSED, LEFT_OUT = "template-refuses", "turn-left-out"


@dataclass(frozen=True)
class Trained:
    """What is trained with a template: `lead`, what the row says, `end`. `lead` is what the model writes before an
    answer and the prompt does not, such as a channel's name. `thought` is how thinking stands before an answer.

    `call` is the call's turn (None: the template has no tools; CONTEXT: it is not trained) and `result` the lead of the
    answer to a tool's result. Of the kinds in `last`, only the last turn is trained, since the template writes the
    others differently once others follow; `again` is the lead of the last of several turns. `later` is about a system
    turn in the middle: the code of its refusal, the number of turns left out, or the texts where they are special.
    """

    end: str
    lead: str = ""
    thought: str = TAGS
    call: str | None = None
    result: str | None = None
    again: str | None = None
    last: tuple[str, ...] = ()
    system: bool = True
    later: str | list[str] | int = 0

    def expected(self, kind: str) -> tuple[list[str], int] | str:
        """The trained texts and the number of turns left out, or the code of the refusal."""
        if kind == "later system" and not isinstance(self.later, int):
            return self.later if isinstance(self.later, str) else (self.later, 0)
        if "system" in kind and not self.system:
            return REFUSED
        if kind in TOOLS:
            if self.call is None:
                return "tools-ignored"
            answer = f"{self.lead if self.result is None else self.result}It is dry.{self.end}"
            return ([answer], 1) if self.call == CONTEXT else ([self.call, answer], 0)
        if kind in SAID:
            texts = [self.lead + said + self.end for said in SAID[kind]]
            if kind == "later system" and self.later:
                return texts[1:], 1
            if len(texts) > 1 and self.again is not None:
                texts[-1] = self.again + texts[-1]
        else:
            pairs = THOUGHT if kind == "thinking, many" else THOUGHT[:1]
            texts = [self.thought.format(*pair) + self.end for pair in pairs]
        return (texts[-1:], len(texts) - 1) if kind in self.last else (texts, 0)


IM_END = "<|im_end|>"
R1 = Trained("<｜end▁of▁sentence｜>", "\n</think>\n\n", "{}\n</think>\n\n{}", last=(*MANY, *THINKING), later=1)
QWEN3_5 = Trained(IM_END, thought="{}\n</think>\n\n{}", call=XML_CALL + IM_END, later=REFUSED)
GEMMA4_THOUGHT = {"thought": "<|channel>thought\n{}\n<channel|>{}", "last": THINKING}
GEMMA4 = Trained("<turn|>", call=GEMMA4_CALL + "<|tool_response>", **GEMMA4_THOUGHT)
NEMOTRON = {"end": IM_END, "call": f"\n{XML_CALL}\n{IM_END}", "last": THINKING}
GLM = {
    "lead": "\n",
    "thought": "\n<think>{}</think>\n{}",
    "call": f"\n{GLM_CALL}<|observation|>",
    "last": THINKING,
}
CHANNEL = "<|channel|>final<|message|>"
ANALYSIS = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant" + CHANNEL + "{}"
GPT_OSS_CALL = ' to=functions.weather<|channel|>commentary json<|message|>{"city": "Oslo"}<|call|>'

TABLE = {
    "cohere": Trained("<|END_OF_TURN_TOKEN|>", later=REFUSED),
    "cohere2": Trained("<|END_RESPONSE|><|END_OF_TURN_TOKEN|>", later=1),
    "deepseek_r1_distill": R1,
    "deepseek_r1_distill_training": Trained(R1.end, R1.lead, R1.thought, last=MANY, later=1),
    "deepseekv3": Trained(R1.end, R1.lead, R1.thought, call=CONTEXT, result="", last=R1.last, later=1),
    "diffusion_gemma": Trained("<turn|>", call=GEMMA4.call, result="<|turn>model\n", **GEMMA4_THOUGHT),
    "gemma": Trained("<end_of_turn>", system=False, later=REFUSED),
    "gemma3": Trained("<end_of_turn>", later=REFUSED),
    "gemma4": GEMMA4,
    "gemma4_v2": Trained("<turn|>", call=GEMMA4_CALL + "<turn|>", **GEMMA4_THOUGHT),
    "gemma4_v3": GEMMA4,
    "gemma4_v4": GEMMA4,
    "gemma4_v5": GEMMA4,
    "glm4moe": Trained("<|user|>", **GLM, later=1),
    "glm4moe_training": Trained("<|user|>", **GLM, later=["\nfour<|system|>", "\nfive<|user|>"]),
    "gptoss": Trained("<|return|>", CHANNEL, ANALYSIS, call=GPT_OSS_CALL, last=(*MANY, *THINKING), later=LEFT_OUT),
    "idefics3": Trained("<end_of_utterance>", " ", " " + TAGS),
    "lfm2": Trained(IM_END),
    "lfm2_2_5": Trained(IM_END, thought="<think>{}</think>{}", call=LFM2_CALL + IM_END, last=THINKING),
    "lfm2_2_5_v2": Trained(IM_END, thought="<think>{}</think>{}", call=LFM2_CALL + IM_END, last=THINKING),
    "lfm2_2_5_vl": Trained(IM_END, thought="<think>{}</think>{}", call=LFM2_CALL + IM_END, last=THINKING),
    "lfm2_v2": Trained(IM_END, call=LFM2_CALL + IM_END),
    "llama3": Trained("<|eot_id|>"),
    "llama3_1": Trained("<|eot_id|>", call='{"name": "weather", "parameters": {"city": "Oslo"}}<|eot_id|>'),
    "llama3_2": Trained("<|eot_id|>", call='{"name": "weather", "parameters": {"city": "Oslo"}}<|eot_id|>'),
    "llava_next": Trained("</s>", " ", " " + TAGS),
    "muse_glimmer": Trained(
        "<|eot|>",
        " to=user<|message|>",
        " to=self<|message|>{}<|eom|><|start|>assistant to=user<|message|>{}",
        call=f" to=weather<|message|>{MUSE_CALL}<|eot|>",
        later=1,
    ),
    "nemotron_3_5_lightning": Trained(**NEMOTRON, thought="{}</think>{}"),
    "nemotron_3_nano": Trained(**NEMOTRON, thought="{}\n</think>\n{}"),
    "nemotron_3_super": Trained(**NEMOTRON, thought="{}\n</think>\n{}"),
    "nemotron_3_ultra": Trained(**NEMOTRON, thought="{}</think>{}"),
    "phi3": Trained("<|end|>"),
    "phi3_5": Trained("<|end|>"),
    "qwen2_5": Trained(IM_END, call=CALL + IM_END),
    "qwen2_5_vl": Trained(IM_END),
    "qwen3": Trained(IM_END, call=CALL + IM_END, result=EMPTY, again=EMPTY, last=THINKING),
    "qwen3_training": Trained(IM_END, call=CALL + IM_END),
    "qwen3_instruct_2507": Trained(IM_END, call=CALL + IM_END),
    "qwen3_vl": Trained(IM_END, call=CALL + IM_END, later=LEFT_OUT),
    "qwen3_8": QWEN3_5,
    "smolvlm": Trained("<end_of_utterance>", " ", " " + TAGS),
}
"""By template. `X_training` has the row of X where it has none of its own."""
for name in ("qwen3_5_nothink", "qwen3_5_think", "qwen3_6"):
    TABLE[name] = Trained(IM_END, thought=QWEN3_5.thought, call=QWEN3_5.call, last=(*MANY, *THINKING), later=REFUSED)
    TABLE[f"{name}_training"] = QWEN3_5


@pytest.mark.parametrize("name", published.names())
def test_a_published_template_is_trained_exactly_or_refused_for_its_own_reason(name):
    row = TABLE.get(name, TABLE.get(name.removesuffix("_training")))
    assert row is not None, "a new template: look at what it writes, then give it a row"
    for kind, found in published.outcomes()[name].items():
        assert (found if isinstance(found, tuple) else found.code) == row.expected(kind), kind


FREE = ("gemma4", "diffusion_gemma", "lfm2")  # calls that are like Python or have bare keys: constrained calls are JSON
REFUSED_CALLS = {
    "two": ("gptoss", "llama3_1", "llama3_2"),  # one call per answer
    "said": ("llama3_1", "llama3_2", "muse_glimmer"),  # no text next to a call
    "thought": ("lfm2_v2", "llama3_1", "llama3_2", "qwen2_5", "qwen3_instruct_2507", "qwen3_vl"),  # no thinking
}


@pytest.mark.parametrize(
    "name", [one for one in published.names() if TABLE.get(one, TABLE["llama3"]).call and not one.endswith("_training")]
)
def test_a_trained_call_is_parsed_as_the_same_call(name, tmp_path):
    source = (published.folder() / f"{name}.jinja").read_text(encoding="utf-8")
    one = published.renderer(source, tmp_path, published.STOPS.get(name, ()))
    for kind, row in published.call_rows().items():
        wanted = row.messages[-1]
        found = published.answered(one, row)
        assert isinstance(found, tuple) != (name in REFUSED_CALLS.get(kind, ())), kind
        if not isinstance(found, tuple):
            continue
        reply, pieces = found
        said, thought = (reply.text.lstrip("\n"), reply.thinking or "")
        if name == "gptoss" and kind == "said":
            said, thought = thought, ""  # it writes text before a call into the thinking channel
        assert (said, thought) == (wanted.text, wanted.reasoning_content or ""), kind
        assert list(map(called, reply.tool_calls)) == list(map(called, wanted.tool_calls)), kind
        assert reply.finish_reason == "tool_calls"
        assert "".join(piece.text for piece in pieces) == reply.text
        assert "".join(piece.thinking for piece in pieces) == (reply.thinking or "")
        streamed = [part for piece in pieces for part in piece.calls]
        for index, call in enumerate(reply.tool_calls):
            parts = [part for part in streamed if part.index == index]
            assert parts[0].name == call["function"]["name"]
            assert "".join(part.arguments for part in parts) == call["function"]["arguments"]
        if kind in ("two", "thought") and find_spec("llguidance") and not name.startswith(FREE):
            must = published.must_call(one, row)
            if isinstance(must, str):  # the grammar ends an answer before the line break at its end
                assert must.rpartition("<|im_end|>")[0].endswith("</tool_call>\n"), kind
            else:
                assert list(map(called, must.tool_calls)) == list(map(called, wanted.tool_calls)), kind
    one.codec.close()


def called(call):
    return call["function"]["name"], json.loads(call["function"]["arguments"])


def test_what_a_template_cannot_do_is_refused_with_a_fitting_remedy():
    for name, kinds in published.outcomes().items():
        for kind, found in kinds.items():
            if not isinstance(found, tuple):
                cure = "whose template supports tools" if found.code == "tools-ignored" else "another base model"
                if found.code in (REFUSED, LEFT_OUT):
                    cure = "user turn that follows it" if kind == "later system" else "first user turn"
                assert cure in found.remedy, (name, kind)


def test_the_page_of_templates_is_what_the_code_does():
    docs = Path(__file__).parents[2] / "docs"
    page = runpy.run_path(str(docs / "templates_page.py"))["page"]
    assert (docs / "templates.md").read_text() == page(), "make docs"
