"""The page of a run: whole, closed to the network, and safe whatever a row or a model says."""

from __future__ import annotations

import base64
import hashlib
import math
import random
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from answering import ScriptedModel
from tuneport import Conversation, Dataset, Event, Message
from tuneport.evaluate import Comparison, compare_models
from tuneport.report import ReportData, Sample, page, write_report
from tuneport.report.charts import smoothed, thinned
from tuneport.report.series import series_of

START = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
LABELS = [
    "card_arrival",
    "lost_or_stolen_card",
    "exchange_rate",
    "top_up_failed",
    "refund_not_showing_up",
    "pin_blocked",
]
QUESTIONS = {
    "card_arrival": "I ordered my card two weeks ago and it still has not come. When will I get it?",
    "lost_or_stolen_card": "Someone took my wallet on the train this morning, please block everything",
    "exchange_rate": "Which rate do you use when I pay in Polish zloty?",
    "top_up_failed": "Tried to add 50 pounds, the bank took it but my balance did not move",
    "refund_not_showing_up": "The shop says that it paid me back last Tuesday. I see nothing here.",
    "pin_blocked": "Got my PIN wrong three times at the machine and now it says blocked",
}


def noisy_events(steps: int = 360, seed: int = 1) -> list[Event]:
    """What a training says of itself, as a real one looks: noise, a warm-up, a validation loss that turns up again."""
    rng, events = random.Random(seed), []

    def tell(seconds: float, kind: str, message: str, level: str = "info", **data: Any) -> None:
        when = START + timedelta(seconds=seconds)
        events.append(
            Event(seq=len(events) + 1, time=when, kind=kind, message=message, level=level, data=data)  # type: ignore[arg-type]
        )

    tell(0, "status", "queued")
    tell(0.4, "status", "preparing")
    tell(3.1, "log", "2 rows are longer than 512 tokens and were cut, as data.too_long: truncate asks.", "warning")
    tell(3.4, "status", "running")
    for step in range(1, steps + 1):
        at = step / steps
        data: dict[str, Any] = {
            "step": step,
            "epoch": math.ceil(3 * at),
            "train_loss": 0.24 + 2.9 * math.exp(-7 * at) + rng.gauss(0, 0.03 + 0.3 * math.exp(-4 * at)),
            "learning_rate": 2e-4 * min(1, step / 20) * (0.5 + 0.5 * math.cos(math.pi * at)),
            "tokens_per_second": 231 + rng.gauss(0, 9) - (60 if step % 90 == 0 else 0),
            "grad_norm": 0.4 + 2.2 * math.exp(-6 * at) + abs(rng.gauss(0, 0.16)),
            "tokens": step * 65,
        }
        if step % 30 == 0:
            data["valid_loss"] = 0.29 + 2.6 * math.exp(-7.5 * at) + 0.12 * max(0, at - 0.66) + rng.gauss(0, 0.012)
        tell(4 + 0.28 * step, "metric", f"step {step}", **data)
        if step % 120 == 0:
            tell(4.1 + 0.28 * step, "checkpoint", f"Kept the weights of step {step}.")
    tell(6 + 0.28 * steps, "status", "succeeded")
    return events


def a_comparison(rows: int = 180, seed: int = 3) -> Comparison:
    rng = random.Random(seed)
    wanted = [rng.choice(LABELS) for _ in range(rows)]
    holdout = [Conversation((Message("user", QUESTIONS[label]), Message("assistant", label))) for label in wanted]
    chatter = "I'm sorry to hear that! Could you tell me a little more about your account?"
    base = iter([label if rng.random() < 0.12 else chatter for label in wanted])
    tuned = iter([label if rng.random() < 0.94 else rng.choice(LABELS) for label in wanted])
    return compare_models(
        ScriptedModel("tickets-7f3a", lambda asked: next(tuned)),
        ScriptedModel("base", lambda asked: next(base)),
        holdout,
    )


def a_run(**changes: Any) -> ReportData:
    quantity = {"unit": "", "source": "counted with the model's own tokenizer", "error": None}
    whole = ReportData(
        ref="torch:tickets-7f3a",
        state={
            "status": "succeeded",
            "step": 360,
            "total_steps": 360,
            "tokens": 23_526,
            "started": START.isoformat(),
            "finished": (START + timedelta(seconds=107)).isoformat(),
            "details": {"peak_memory": 1_930_000_000},
        },
        created=START + timedelta(minutes=4),
        base="torch:smollm2-135m",
        events=noisy_events(),
        comparison=a_comparison(),
        samples=[
            Sample(
                prompt="My card never arrived, can you check where it is?",
                answer="card_arrival",
                base_answer="I'm sorry to hear that your card has not arrived yet. Please contact our support team.",
                reference="card_arrival",
            ),
            Sample(prompt="how much is 100 dollars in euros today", answer="exchange_rate"),
        ],
        lineage={
            "base": "torch:smollm2-135m",
            "job": "torch:tickets-7f3a",
            "data_fingerprint": "9f2c" * 16,
            "created": START.isoformat(),
            "method": "sft",
            "system": "Answer with the ticket's label alone.",
            "template_sha256": "41d8" * 16,
            "versions": {"tuneport": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        },
        config={
            "model": "torch:smollm2-135m",
            "data": {"train": "tickets.csv", "validation": 0.05, "holdout": 0.1},
            "train": {"method": "sft", "epochs": 3, "seed": 0, "suffix": "tickets"},
            "backends": {"torch": {"learning_rate": 2e-4, "adapter": {"rank": 16, "targets": ["q_proj", "v_proj"]}}},
            "compare": {"grader": "exact"},
        },
        plan={
            "base": "torch:smollm2-135m",
            "rows": 1_530,
            "validation_rows": 90,
            "tokens": {**quantity, "value": 23_400, "error": "± 2%"},
            "steps": {**quantity, "value": 360, "source": "tokens ÷ tokens_per_step"},
            "seconds": {**quantity, "value": 120, "unit": "s", "error": "± 30%", "source": "a trial step here"},
            "memory": {**quantity, "value": 2.1e9, "unit": "bytes", "source": "weights, adapter, activations"},
            "usd": {**quantity, "value": 0.0, "unit": "USD", "source": "your own machine"},
        },
        check={
            "file": "tickets.csv",
            "format": "text + label",
            "read": 1_803,
            "used": 1_800,
            "rejected": 3,
            "diagnostics": [
                {
                    "code": "empty-message",
                    "severity": "error",
                    "line": 17,
                    "pointer": "/text",
                    "message": "The text is empty.",
                    "remedy": "Remove the row, or run `tuneport fix`.",
                },
                {
                    "code": "duplicate-row",
                    "severity": "warning",
                    "line": 203,
                    "pointer": "",
                    "message": "The same as line 19.",
                    "remedy": "Remove it, or keep it if it is meant to weigh more.",
                },
                {
                    "code": "duplicate-row",
                    "severity": "warning",
                    "line": 310,
                    "pointer": "",
                    "message": "The same as line 21.",
                    "remedy": "Remove it.",
                },
            ],
            "stats": {
                "findings": {"duplicate-row": 7, "empty-message": 3},
                "tokens": {
                    "min": 24,
                    "median": 41,
                    "p90": 66,
                    "max": 188,
                    "histogram": [
                        [20, 29, 210],
                        [30, 39, 614],
                        [40, 49, 488],
                        [50, 59, 265],
                        [60, 79, 150],
                        [80, 119, 60],
                        [120, 159, 11],
                        [160, 199, 2],
                    ],
                },
                "characters": {
                    "min": 22,
                    "median": 88,
                    "p90": 170,
                    "max": 611,
                    "histogram": [
                        [20, 59, 310],
                        [60, 99, 754],
                        [100, 139, 411],
                        [140, 199, 215],
                        [200, 299, 90],
                        [300, 699, 20],
                    ],
                },
            },
        },
        machine={"device": "2 CPU cores", "platform": "Linux 6.1, x86-64", "python": "3.11.7"},
    )
    return replace(whole, **changes)


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
        assert len(attrs) == len(dict(attrs)), f"an attribute of <{tag}> stands twice"
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
def whole() -> str:
    return page(a_run())


def test_a_page_is_balanced_and_tells_everything(whole: str) -> None:
    read = Reader(whole)
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
        "Tokens a row",
        "learning_rate: 0.0002",
        "data.too_long: truncate",
        "9f2c9f2c",
        "Chat template (SHA-256)",
        "torch 2.13.0",
        "2 CPU cores",
    ]:
        assert words in read.text, words


def test_a_page_fetches_nothing_and_its_policy_says_so(whole: str) -> None:
    read = Reader(whole)
    assert "http:" not in whole
    assert "https:" not in whole
    assert "@import" not in whole
    assert "url(" not in whole
    targets = [value for _, attributes in read.tags for key, value in attributes.items() if key in ("src", "href")]
    assert all(value == "data:," or (value or "").startswith("#") for value in targets)
    anchors = {value.removeprefix("#") for value in targets if value and value.startswith("#")}
    assert anchors <= {attributes.get("id") for _, attributes in read.tags}
    policy = next(one["content"] for one in read.names("meta") if "http-equiv" in one) or ""
    assert policy.startswith("default-src 'none'; ")


def test_the_policy_allows_exactly_the_style_and_script_that_are_there(whole: str) -> None:
    policy = next(one["content"] for one in Reader(whole).names("meta") if "http-equiv" in one) or ""
    for element in ("style", "script"):
        (text,) = re.findall(rf"<{element}>(.*?)</{element}>", whole, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert not [one for _, one in Reader(whole).tags if "style" in one or any(key.startswith("on") for key in one)]


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


def test_what_a_real_check_found_is_told(tmp_path: Path) -> None:
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


def test_graded_scores_are_counted_by_better_and_worse() -> None:
    rows = [Conversation((Message("user", "q"), Message("assistant", "one two three")))] * 40
    models = ScriptedModel("tuned", lambda asked: "one two"), ScriptedModel("base", lambda asked: "four")
    read = Reader(page(a_run(comparison=compare_models(*models, rows, "token_f1"))))
    assert "bettersameworse40100.0%00.0%00.0%" in read.text
    assert "tuned right" not in read.text


def test_a_model_without_a_base_beside_it_has_a_result_too() -> None:
    rows = [Conversation((Message("user", f"q{n}"), Message("assistant", "a"))) for n in range(40)]
    found = compare_models(ScriptedModel("alone", lambda asked: "a" if asked < "q3" else "b"), None, rows)
    text = Reader(page(a_run(comparison=found))).text
    assert "The model scores 57.5%." in text
    assert "23 right, 17 wrong." in text


def test_a_job_without_metrics_or_comparison_has_a_page_too(tmp_path: Path) -> None:
    data = ReportData(ref="openai:ftjob-1", state={"status": "queued"}, created=START)
    read = Reader(write_report(tmp_path / "new folder" / "x.html", data).read_text())
    assert "as of 4 March 2026, 05:06 UTC" in read.text
    assert "This job has told no metrics." in read.text
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
        assert "6 values were not finite" in html


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
    assert "2,000 later events are left out here." in html


def test_an_unfinished_write_leaves_the_old_page(tmp_path: Path) -> None:
    target = write_report(tmp_path / "x.html", a_run(events=[], comparison=None))
    old = target.read_text()
    with pytest.raises(AttributeError):
        write_report(target, replace(a_run(), created="yesterday"))  # type: ignore[arg-type]
    assert target.read_text() == old
    assert [one.name for one in tmp_path.iterdir() if one.suffix == ".html" or one.name.startswith(".")] == ["x.html"]


# What the charts are made of


def test_steps_that_were_trained_twice_count_as_their_last_time() -> None:
    data = [{"step": 1, "train_loss": 3.0}, {"step": 2, "train_loss": 9.0}, {"step": 2, "train_loss": 2.0}]
    events = [Event(seq=n, time=START, kind="metric", message="", data=one) for n, one in enumerate(data, 1)]
    assert series_of(events).points("train_loss") == [(1, 3.0), (2, 2.0)]


def test_epochs_begin_where_their_number_rises() -> None:
    assert series_of(noisy_events()).epoch_starts == [121, 241]


def test_smoothing_keeps_a_straight_line_and_its_length() -> None:
    line = [(float(x), 2.0 * x) for x in range(400)]
    smooth = smoothed(line)
    assert [x for x, _ in smooth] == [x for x, _ in line]
    assert smooth[200] == pytest.approx((200, 400))
    assert smoothed([(1, 5.0)]) == [(1, 5.0)]


def test_thinning_keeps_every_spike() -> None:
    points = [(float(x), 1000.0 if x == 77_777 else x % 7) for x in range(100_000)]
    kept = thinned(points)
    assert len(kept) <= 500
    assert (77_777, 1000.0) in kept
    assert list(kept) == sorted(kept)
