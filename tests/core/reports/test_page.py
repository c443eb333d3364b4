"""The report of a run: complete, without network access, and safe whatever rows and models contain."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from answering import ScriptedModel
from reported_run import START, a_run
from tuneport import Conversation, Dataset, Event, Message
from tuneport.evaluate import compare_models
from tuneport.reports import ReportData, Sample, page, write_report


class Reader(HTMLParser):
    """Holds that every element is closed in its turn, and collects what matters."""

    VOID = frozenset({"meta", "link", "input", "wbr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs)), f"an attribute of <{tag}> appears twice"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data

    def names(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def html() -> str:
    return page(a_run())


def test_a_page_is_balanced_and_shows_everything(html: str) -> None:
    read = Reader(html)
    for words in [
        "torch:tickets-7f3a",
        "succeeded",
        "from torch:smollm2-135m",
        "finished 4 March 2026, 05:07 UTC",
        "1,530",
        "23,526",
        "1 min 47 s",
        "95.6%",
        "Better than its base",
        "By label, weakest first (6)",
        "Only base right",
        "Training",
        "best 0.296 at step 240",
        "Throughput",
        "Learning rate",
        "Gradient norm",
        "My card never arrived",
        "1,803 rows read",
        "duplicate-row",
        "Tokens per row",
        "learning_rate: 0.0002",
        "data.too_long: truncate",
        "9f2c9f2c",
        "Chat template (SHA-256)",
        "torch 2.13.0",
        "2 CPU cores",
    ]:
        assert words in read.text, words


def test_a_page_fetches_nothing_and_its_policy_says_so(html: str) -> None:
    read = Reader(html)
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert "url(" not in html
    targets = [value for _, attributes in read.tags for key, value in attributes.items() if key in ("src", "href")]
    assert all(value == "data:," or (value or "").startswith("#") for value in targets)
    anchors = {value.removeprefix("#") for value in targets if value and value.startswith("#")}
    assert anchors <= {attributes.get("id") for _, attributes in read.tags}
    policy = next(one["content"] for one in read.names("meta") if "http-equiv" in one) or ""
    assert policy.startswith("default-src 'none'; ")


def test_the_policy_allows_exactly_the_style_and_script_of_the_page(html: str) -> None:
    policy = next(one["content"] for one in Reader(html).names("meta") if "http-equiv" in one) or ""
    for element in ("style", "script"):
        (text,) = re.findall(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert not [one for _, one in Reader(html).tags if "style" in one or any(key.startswith("on") for key in one)]


HOSTILE = "</script></style><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&lt;\x00\x1b\u202e\ud800 `<b>`"


def hostile_run() -> ReportData:
    rows = [Conversation((Message("user", HOSTILE), Message("assistant", f"{HOSTILE[:60]}{n % 2}"))) for n in range(8)]
    parrot = ScriptedModel("x", lambda asked: asked)
    run = a_run(
        ref=HOSTILE,
        base=HOSTILE,
        state={"status": HOSTILE, "message": HOSTILE, "remedy": HOSTILE},
        comparison=replace(compare_models(parrot, parrot, rows), grader=HOSTILE, notes=(HOSTILE,)),
        samples=[Sample(prompt=HOSTILE, answer=HOSTILE, base_answer=HOSTILE, reference=HOSTILE)],
        lineage={HOSTILE: HOSTILE, "versions": {HOSTILE: HOSTILE}},
        config={HOSTILE.replace("\x00\x1b", ""): [HOSTILE.encode("utf-8", "replace").decode()]},
        machine={HOSTILE: HOSTILE},
        check={
            "file": HOSTILE,
            "format": HOSTILE,
            "diagnostics": [dict.fromkeys(("code", "severity", "pointer", "message", "remedy"), HOSTILE)],
        },
        plan={"tokens": {"value": 1, "error": HOSTILE, "source": HOSTILE}},
    )
    return replace(run, events=[*run.events, replace(run.events[0], message=HOSTILE, kind=HOSTILE, level=HOSTILE)])  # type: ignore[arg-type]


def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
    text = write_report(tmp_path / "x.html", hostile_run()).read_text(encoding="utf-8")
    read = Reader(text)
    assert len(read.names("script")) == 1
    assert len(read.names("style")) == 1
    assert not read.names("img")
    assert read.text.count("<script>alert(1)</script>") > 15
    assert "\x00" not in text
    assert "\x1b" not in text


def test_the_findings_of_a_real_check_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "tickets.csv"
    file.write_text(
        "text,label\n" + "".join(f"My card {n % 7} never came,card_{n % 2}\n" for n in range(40)) + ",pin\n"
    )
    checked = Dataset.load(file).check()
    text = Reader(page(a_run(check=checked.to_dict()))).text
    assert f"{checked.read} rows read" in text
    assert checked.counts
    for code, number in checked.counts.items():
        assert f"{code} {number}×" in text


def test_partial_scores_are_counted_as_better_and_worse() -> None:
    rows = [Conversation((Message("user", "q"), Message("assistant", "one two three")))] * 40
    models = ScriptedModel("tuned", lambda asked: "one two"), ScriptedModel("base", lambda asked: "four")
    read = Reader(page(a_run(comparison=compare_models(*models, rows, "token_f1"))))
    assert "bettersameworse40100.0%00.0%00.0%" in read.text
    assert "tuned right" not in read.text


def test_a_model_without_a_base_has_a_result_too() -> None:
    rows = [Conversation((Message("user", f"q{n}"), Message("assistant", "a"))) for n in range(40)]
    found = compare_models(ScriptedModel("alone", lambda asked: "a" if asked < "q3" else "b"), None, rows)
    text = Reader(page(a_run(comparison=found))).text
    assert "The model scores 57.5%." in text
    assert "23 right, 17 wrong." in text


def test_a_job_without_metrics_or_comparison_has_a_page_too(tmp_path: Path) -> None:
    data = ReportData(ref="openai:ftjob-1", state={"status": "queued"}, created=START)
    read = Reader(write_report(tmp_path / "new folder" / "x.html", data).read_text())
    assert "as of 4 March 2026, 05:06 UTC" in read.text
    assert "This job reported no metrics." in read.text
    assert not read.names("nav")
    assert not read.names("svg")


def test_a_failed_job_says_why_and_what_to_type() -> None:
    state = {"status": "failed", "message": "The loss is not a number.", "remedy": "Run `tuneport resume x:y`."}
    html = page(a_run(state=state, comparison=None))
    assert "The loss is not a number." in html
    assert "<code>tuneport resume x:y</code>" in html


@pytest.mark.parametrize(
    "numbers",
    [
        [{"step": 1, "train_loss": 2.0}],
        [{"step": 5, "valid_loss": 0.5}],
        [{"step": n, "train_loss": 0.0, "learning_rate": 0.0, "grad_norm": 0} for n in range(3)],
        [{"step": n, "train_loss": math.nan, "grad_norm": math.inf} for n in range(3)],
        [{"step": n, "train_loss": 10.0 ** (3 - n)} for n in range(12)],
        [{"step": n, "train_loss": -1.5 + n} for n in range(4)],
        [{"train_loss": 2.0 / n} for n in range(1, 5)],
        [{"step": 10**9 + n, "train_loss": 1e-9, "tokens_per_second": 1e12} for n in range(2)],
        [{"step": "7", "train_loss": "low", "epoch": None}],
    ],
)
def test_any_numbers_can_be_drawn(numbers: list[dict[str, Any]]) -> None:
    events = [Event(seq=n, time=START, kind="metric", message="", data=one) for n, one in enumerate(numbers, 1)]
    html = page(a_run(events=events))
    Reader(html)
    drawn = re.findall(r' (?:x|y|x1|x2|y1|y2|cx|cy|r|width|height|points)="([^"]*)"', html)
    assert all(math.isfinite(float(number)) for one in drawn for number in re.split("[ ,]", one))
    if any(isinstance(one.get("train_loss"), float) and math.isnan(one["train_loss"]) for one in numbers):
        assert "6 values are not finite" in html


def test_a_long_job_makes_a_page_of_bounded_size() -> None:
    many = [
        Event(
            seq=n,
            time=START,
            kind="log" if n % 10 == 0 else "metric",
            message=f"line {n}",
            data={"step": n, "train_loss": 1 + 1 / n},
        )
        for n in range(1, 30_001)
    ]
    html = page(a_run(events=many))
    assert len(html) < 600_000
    assert "2,000 later events are left out." in html


def test_an_incomplete_write_keeps_the_old_page(tmp_path: Path) -> None:
    target = write_report(tmp_path / "x.html", a_run(events=[], comparison=None))
    old = target.read_text()
    with pytest.raises(AttributeError):
        write_report(target, replace(a_run(), created="yesterday"))  # type: ignore[arg-type]
    assert target.read_text() == old
    assert [one.name for one in tmp_path.iterdir() if one.suffix == ".html" or one.name.startswith(".")] == ["x.html"]


def test_settings_come_from_the_job_or_else_from_the_plan() -> None:
    details = {"resolved": {"learning_rate": 0.0005, "rank": 16}, "reasons": {"learning_rate": "auto: <rule>"}}
    planned = {"resolved": {"learning_rate": 0.1}, "reasons": {"learning_rate": "a guess"}}
    state = {"status": "succeeded", "details": details}
    text = page(ReportData(ref="torch:x", state=state, created=START, plan=planned))
    assert "Settings as used" in text
    assert "auto: &lt;rule&gt;" in text
    assert "a guess" not in text
    assert "a guess" in page(ReportData(ref="torch:x", state={"status": "queued"}, created=START, plan=planned))
    for odd in ({"resolved": [], "reasons": 3}, {"reasons": {"rank": "x"}}, {}):
        page(ReportData(ref="torch:x", state={"status": "queued", "details": odd}, created=START))


def test_long_answers_are_collapsed_and_complete() -> None:
    long, lines, brief = "word " * 200 + "THE END", "\n".join("abcdefghijklmno"), "a short answer"
    shown = [Sample(prompt=long, answer=lines, base_answer=brief, reference=brief)]
    html = page(a_run(samples=shown, comparison=None))
    folded = re.findall(r'<details class="long">(.*?)</details>', html, re.DOTALL)
    assert len(folded) == 2
    assert "1,007 characters" in folded[0]
    assert "THE END" in folded[0]
    assert lines in folded[1]
    assert not any(brief in one for one in folded)
    assert "max-height" not in html, "nothing scrolls inside a scrolling page"


def test_memory_and_cost_are_shown_as_measured() -> None:
    read = Reader(page(a_run(usd=1.25, plan=None)))
    assert "Memory1.9 GBmeasured peak" in read.text
    assert "Cost$1.25as the job reports" in read.text
    odd = {"status": "succeeded", "details": {"peak_memory": "much"}}
    assert "measured peak" not in page(a_run(state=odd))


def test_the_marks_of_answers_have_labels(html: str) -> None:
    marks = [one for _, one in Reader(html).tags if one.get("role") == "img" and one.get("class") in ("good", "bad")]
    assert {(one["class"], one["aria-label"]) for one in marks} == {("good", "right"), ("bad", "wrong")}
