"""A third-party template is rendered in a separate process, and cannot harm, hang or fill the machine."""

import os
import time

import psutil
import pytest

import chat_templates as templates
from tuneport.errors import DataError
from tuneport_torch.text.template import ChatTemplate

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def made():
    """Make templates that are closed after the test."""
    kept = []

    def make(source: str, **limits) -> ChatTemplate:
        kept.append(ChatTemplate(source, {"bos_token": "<|im_start|>"}, **limits))
        return kept[-1]

    yield make
    for one in kept:
        one.close()


def texts(template, *rows):
    return [answer.get("text", answer.get("error")) for answer in template.rows(rows)]


def test_rows_are_rendered_in_order_and_one_that_fails_spoils_no_other(made):
    rows = [{"messages": [{"role": "user", "content": str(n)}]} for n in range(600)]
    rows[300] = {"messages": [{"role": "user"}]}
    got = made(templates.CHATML).rows(rows)
    assert got[299]["text"] == "<|im_start|>user\n299<|im_end|>\n"
    assert "error" in got[300]
    assert [answer.get("text", "").count("<|im_end|>") for answer in got] == [1] * 300 + [0] + [1] * 299


def test_the_date_that_a_template_sees_is_fixed(made):
    assert texts(made("{{ strftime_now('%d %b %Y') }}"), {"messages": HELLO}) == ["26 Jul 2024"]


@pytest.mark.parametrize("source", [templates.ENDLESS, templates.GREEDY], ids=["endless", "greedy"])
def test_a_template_that_loops_or_fills_memory_is_stopped_with_an_error(made, source):
    template = made(source, seconds=0.3)
    for _ in range(2):
        try:
            (answer,) = template.rows([{"messages": HELLO}])
        except DataError as error:
            assert "was stopped" in str(error)
            assert "chat_template.jinja" in str(error)
        else:
            assert answer == {"error": "MemoryError"}


@pytest.mark.parametrize("source", [templates.GIANT_RANGE, templates.ESCAPING], ids=["range", "escape"])
def test_a_violation_of_the_sandbox_is_an_error_of_that_row(made, source):
    assert "error" in made(source).rows([{"messages": HELLO}])[0]


def test_a_template_that_does_not_compile_is_an_error_that_says_where_to_fix_it(made):
    with pytest.raises(DataError, match=r"(?s)cannot be compiled.*chat_template\.jinja"):
        made("{% for %}").rows([{"messages": HELLO}])


def test_the_child_gets_no_secret_of_the_environment(made, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    template = made(templates.CHATML)
    template.rows([{"messages": HELLO}])
    assert "HF_TOKEN" not in psutil.Process(template.process.pid).environ()


def test_a_child_that_died_is_replaced_and_close_ends_it(made):
    template = made(templates.CHATML)
    template.rows([{"messages": HELLO}])
    first = template.process
    first.kill()
    first.wait()
    assert texts(template, {"messages": HELLO}) == ["<|im_start|>user\nHello<|im_end|>\n"]
    second = template.process
    template.close()
    assert second.returncode is not None


def test_a_fork_has_a_child_of_its_own(made):
    template = made(templates.CHATML)
    template.rows([{"messages": HELLO}])
    before = template.process.pid
    reader, writer = os.pipe()
    if (fork := os.fork()) == 0:
        template.rows([{"messages": HELLO}])
        os.write(writer, str(template.process.pid).encode())
        template.close()
        os._exit(0)
    os.waitpid(fork, 0)
    assert int(os.read(reader, 20)) != before
    os.close(reader)
    os.close(writer)
    assert texts(template, {"messages": HELLO}) == ["<|im_start|>user\nHello<|im_end|>\n"]
    assert template.process.pid == before


def test_the_child_ends_with_the_process_that_started_it(made):
    template = made(templates.CHATML)
    template.rows([{"messages": HELLO}])
    template.process.stdin.close()  # what the kernel does when the parent dies
    assert template.process.wait(20) == 0


def test_a_generation_tag_in_a_macro_is_ignored(made):
    source = "{% macro say(m) %}{{ m.role }}:{% generation %}{{ m.content }}{% endgeneration %}{% endmacro %}"
    source += "{% for m in messages %}> {{ say(m) }}\n{% endfor %}"
    (answer,) = made(source).rows([{"messages": [{"role": "assistant", "content": "Hi"}]}])
    assert answer == {"text": "> assistant:Hi\n"} or "tagged" not in answer


def test_time_is_counted_in_the_childs_processor_time_so_a_slow_reader_is_no_fault(made):
    template = made(templates.CHATML, seconds=0.3)
    template.rows([{"messages": HELLO}])
    time.sleep(0.6)
    assert texts(template, {"messages": HELLO}) == ["<|im_start|>user\nHello<|im_end|>\n"]
