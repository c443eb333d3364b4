"""How the forms of tool calls are found in chat templates, and how calls are read in each of them."""

import json
import re

import pytest

from tuneport_torch.text.callform import BARE, HERMES
from tuneport_torch.text.callprobe import find_calls
from tuneport_torch.text.template import ChatTemplate

HEAD = (
    "{% for m in messages %}{% if m.tool_calls %}<|assistant|>{{ m.content or '' }}CALLS<|end|>\n"
    "{% else %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
EACH = "{% for c in m.tool_calls %}{% set f = c.function %}ONE{% if not loop.last %}, {% endif %}{% endfor %}"
ALONE = EACH.replace(", ", "")
ARGUMENTS, VALUE = "{% for k, v in f.arguments.items() %}", "{{ v if v is string else v|tojson }}"
NAMED = '{"name": "{{ f.name }}", "arguments": {{ f.arguments|tojson }}'
KEYWORDS = "{{ k }}={{ v|tojson }}{% if not loop.last %}, {% endif %}{% endfor %}"
PARAMETER = f'<parameter name="{{{{ k }}}}">{VALUE}</parameter>{{% endfor %}}'
FORMS = {
    "Mistral": (f"[TOOL_CALLS] [{EACH}]", f'{NAMED}, "id": "{{{{ c.id }}}}"}}'),
    "Mistral, later": (ALONE, "[TOOL_CALLS]{{ f.name }}[CALL_ID]{{ c.id }}[ARGS]{{ f.arguments|tojson }}"),
    "Command": (
        f"<|START_ACTION|>[\n    {EACH}\n]<|END_ACTION|>",
        '{"tool_call_id": "{{ loop.index0 }}", "tool_name": "{{ f.name }}", "parameters": {{ f.arguments|tojson }}}',
    ),
    "Phi": (f"<|tool_call|>[{EACH}]<|/tool_call|>", f"{NAMED}}}"),
    "DeepSeek": (
        f"<｜tool▁calls▁begin｜>{ALONE}<｜tool▁calls▁end｜>",
        "<｜tool▁call▁begin｜>{{ f.name }}<｜tool▁sep｜>{{ f.arguments|tojson }}<｜tool▁call▁end｜>",
    ),
    "arguments as text": (ALONE, f"<tool_call>{NAMED.replace('tojson', 'tojson|tojson')}}}</tool_call>"),
    "nested": (EACH, f'<call>{{"type": "function", "function": {NAMED}}}}}</call>'),
    "Llama, as Python": (f"[{EACH}]", f"{{{{ f.name }}}}({ARGUMENTS}{KEYWORDS})"),
    "tags": (ALONE, f'<invoke name="{{{{ f.name }}}}">{ARGUMENTS}{PARAMETER}</invoke>'),
}
TOOLS = [{"name": "weather"}, {"name": "clock"}]
HARD = {"city": 'it\'s "old"', "more": [1, None, {"a": True}], "share": 0.5}


def found(source):
    template = ChatTemplate(f"{{# tool #}}{source}", {})
    try:
        return find_calls(template, lambda text: re.sub(r"<\|end\|>\s*\Z", "", text)), template
    finally:
        template.close()


def source(kind):
    calls, one = FORMS[kind]
    return HEAD.replace("CALLS", calls.replace("ONE", one))


@pytest.mark.parametrize("kind", FORMS)
def test_a_form_is_found_in_the_template_and_parses_what_it_writes(kind):
    form, template = found(source(kind))
    assert form is not None
    for said, calls in (
        ("", [("weather", HARD)]),
        ("", [("weather", {})]),
        ("", [("weather", HARD), ("clock", {"zone": "CET"})]),
        ("Let me look.", [("clock", {"zone": "CET"})]),
    ):
        if said and form.bare:
            continue
        made = [
            {"id": f"abc12345{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for at, (name, arguments) in enumerate(calls)
        ]
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": said, "tool_calls": made}]
        (row,) = template.rows([{"messages": turns}])
        text = row["text"].rpartition("<|assistant|>")[2].removesuffix("<|end|>\n")
        rest, read = form.read(text, TOOLS)
        assert (rest, [(one.name, json.loads(one.arguments)) for one in read]) == (said, calls), text
        for size in range(len(text)):  # a stream shows only what the complete answer contains
            assert said.startswith(text[: form.safe_length(text[:size])].rstrip()), text[:size]
            for place, one in enumerate(form.read_growing(text[:size], TOOLS)):
                assert one.name == read[place].name
                assert read[place].arguments.startswith(one.arguments)
    template.close()


def test_a_template_that_writes_no_call_or_one_that_cannot_be_read_has_no_form():
    for calls in ("", "{{ m.tool_calls[0].function.name }}", "{{ m.tool_calls[0].id }}"):
        assert found(HEAD.replace("CALLS", calls))[0] is None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Mistral", "[TOOL_CALLS] are what I would write."),
        ("Command", '<|START_ACTION|>[\n    {"tool_name": "weather", "parameters": {"city"'),
        ("DeepSeek", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{}"),
        ("Llama, as Python", "[sum(values=1)] is how Python adds."),
        ("Llama, as Python", "[sum(values=1)]"),
        ("Llama, as Python", "[weather(city='Oslo'"),
        ("tags", '<invoke name="weather"><parameter name="city">Oslo'),
    ],
)
def test_an_incomplete_call_stays_text(kind, said):
    form, template = found(source(kind))
    template.close()
    assert form.read(said, TOOLS) == (said, [])


def test_a_value_between_tags_is_read_by_the_schema_of_the_tool():
    form, template = found(source("tags"))
    template.close()
    said = '<invoke name="weather"><parameter name="city">7</parameter><parameter name="day">7</parameter></invoke>'
    properties = {"city": {"type": "string"}, "day": {"type": "integer"}}
    tools = [{"name": "weather", "parameters": {"properties": properties}}]
    assert json.loads(form.read(said, tools)[1][0].arguments) == {"city": "7", "day": 7}
    words = said.replace(">7<", ">None<")
    assert json.loads(form.read(words, tools)[1][0].arguments) == {"city": "None", "day": None}


def test_a_long_text_is_read_in_time_that_grows_with_it():
    form, template = found(source("tags"))
    template.close()
    for one, hostile in ((form, '<invoke name="w"><parameter name="c">'), (HERMES, "<tool_call>"), (BARE, '{"name":')):
        said = hostile * 5_000
        assert one.read(said, TOOLS) == (said, [])
