"""A run as a report is made of: noise, a warm-up, a comparison, findings."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from answering import ScriptedModel
from tuneport import Conversation, Event, Message
from tuneport.evaluate import Comparison, compare_models
from tuneport.reports import ReportData, Sample

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
