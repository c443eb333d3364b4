"""How notebooks and prompts show objects and progress; scripts are silent."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import tuneport
import tuneport.plugin

pytestmark = pytest.mark.usefixtures("parrot")
HOSTILE = "\x1b[31m<script>alert(1)</script>&\u202e"


class Balanced(HTMLParser):
    """Fails on an element that is not closed, and on one that is not ours."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in ("div", "b", "table", "thead", "tbody", "tr", "th", "td")
        assert {name for name, _ in attrs} <= {"style", "class", "colspan"}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def rows(count: int = 12) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": f"{HOSTILE} {n}"}, {"role": "assistant", "content": f"a{n % 3}"}]}
        for n in range(count)
    ]


def test_every_object_has_a_short_repr_and_html_that_escapes(tmp_path: Path) -> None:
    data = tuneport.Dataset.load([*rows(), {HOSTILE: 1}])
    job = tuneport.train("parrot:gray", rows(), suffix="seen")
    model = job.wait()
    shown = {
        "Dataset": data,
        "CheckResult": data.check(),
        "Plan": tuneport.plan("parrot:gray", rows()),
        "Job": job,
        "JobState": tuneport.JobState(status=tuneport.Status.FAILED, message=HOSTILE, remedy=HOSTILE),
        "Comparison": tuneport.compare(model, rows(4)),
        "Model": model,
    }
    for name, one in shown.items():
        assert name in repr(one)
        assert len(repr(one)) < 300, repr(one)
        assert "\x1b" not in repr(one)
        assert "\n" not in repr(one)
        html = one._repr_html_()  # type: ignore[attr-defined]  # each of them has it
        found = Balanced(html)
        assert "\x1b" not in html
        assert "\u202e" not in html
        assert "<script" not in html
        assert found.text
    assert str(job.ref) in Balanced(job._repr_html_()).text
    assert "alert(1)" in Balanced(data._repr_html_()).text
    assert "succeeded" in job._repr_html_()
    assert "100.0%" in shown["Comparison"]._repr_html_()  # type: ignore[attr-defined]  # a Comparison has it


def test_a_job_that_cannot_be_asked_is_still_shown() -> None:
    job = tuneport.train("parrot:gray", rows(), suffix="gone")
    for file in (tuneport.plugin.home("parrot") / job.ref.name).iterdir():
        if file.name == "status":
            file.unlink()
    assert str(job.ref) in Balanced(job._repr_html_()).text


def test_the_rows_that_a_table_leaves_out_are_counted() -> None:
    from tuneport.html import card, grid

    text = Balanced(card("title", [("a", None), ("b", "")], grid(["n"], [[n] for n in range(80)]))).text
    assert "and 30 more" in text


SCRIPT = """
import sys, tuneport
data = [{"messages": [{"role": "user", "content": f"w{n}"}, {"role": "assistant", "content": "x"}]} for n in range(12)]
model = tuneport.train("parrot:gray", data).wait(%s)
tuneport.compare(model, data%s)
calls = []
tuneport.compare(model, data, progress=lambda *args: calls.append(args))
assert calls[-1] == (12, 12, "tuned"), calls
print("done")
"""


def run(folder: Path, code: str, *, terminal: bool) -> str:
    """The output of a script, on a terminal or on pipes."""
    path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH", "")]))
    place = {**os.environ, "PYTHONPATH": path}
    if not terminal:
        done = subprocess.run([sys.executable, "-c", code], env=place, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr
    parent, child = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], env=place, stdin=child, stdout=child, stderr=child)
    os.close(child)
    output = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:
            break
        if not piece:
            break
        output += piece
    os.close(parent)
    assert process.wait(60) == 0, output
    return output.decode()


def test_a_script_is_silent_and_a_terminal_shows_progress(tmp_path: Path) -> None:
    assert run(tmp_path, SCRIPT % ("", ""), terminal=False) == "done\n"
    output = run(tmp_path, SCRIPT % ("", ""), terminal=True)
    assert "Waiting for parrot:" in output
    assert "1/1 succeeded" in output
    assert "Comparing parrot:" in output
    assert "12/12 tuned" in output
    assert run(tmp_path, SCRIPT % ("progress=False", ", progress=False"), terminal=True).split() == ["done"]


def test_a_wrong_option_names_the_function_that_was_called() -> None:
    model = tuneport.open_model("parrot:gray")
    for name, call in {
        "ask": lambda: model.ask("x", max_token=3),
        "ask_many": lambda: model.ask_many(["x"], max_token=3),
        "reply": lambda: model.reply("x", max_token=3),
        "reply_many": lambda: model.reply_many(["x"], max_token=3),
        "stream": lambda: model.stream("x", max_token=3),
        "stream_many": lambda: list(model.stream_many(["x"], max_token=3)),
    }.items():
        with pytest.raises(tuneport.errors.UsageError, match=rf"^{name}\(\) takes no option 'max_token'") as caught:
            call()
        assert "Did you mean max_tokens?" in str(caught.value)
    for name, value in {"temperature": "hot", "max_tokens": 0, "top_p": None, "max_tokens ": 1}.items():
        with pytest.raises(tuneport.errors.UsageError, match=name.strip()):
            model.ask("x", **{name: value})


def test_a_count_of_1_is_singular() -> None:
    """A notebook's first try is small."""
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
    plan = tuneport.plan("parrot:gray", rows)
    assert re.search(r": 1 row, .*, 1 step[,>]", repr(plan)), repr(plan)
    data = tuneport.Dataset.load(rows)
    assert "1 of 1 row used; 0 errors, 1 warning," in repr(data.check()), repr(data.check())
    assert "1 row>" in repr(data)
