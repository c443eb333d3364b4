"""What the front door's types promise to users who check their own; read by mypy, never run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

from pydantic import BaseModel

import tuneport


class Ticket(BaseModel):
    label: str


def prepare(rows: list[dict[str, str]]) -> None:
    data = tuneport.Dataset.load(rows)
    assert_type(data, tuneport.Dataset)
    assert_type(data.split(holdout=0.1), tuple[tuneport.Dataset, ...])
    assert_type(data.check(), tuneport.CheckResult)
    assert_type(data.check().diagnostics, tuple[tuneport.Diagnostic, ...])
    assert_type(data.fingerprint, str)
    assert_type(len(data), int)
    assert_type(data.write("rows.jsonl"), Path)
    for example in data:
        assert_type(example, tuneport.Conversation | tuneport.Preference | tuneport.Completion)


def train(data: tuneport.Dataset) -> None:
    job = tuneport.train("torch:smollm2-135m", data, epochs=3, settings={"learning_rate": 1e-4})
    assert_type(job, tuneport.Job)
    assert_type(job.ref, tuneport.Ref)
    assert_type(job.status, tuneport.Status)
    assert_type(job.state().step, int)
    assert_type(job.follow(), Iterator[tuneport.Event])
    assert_type(job.wait(timeout=10.0), tuneport.Model)
    assert_type(tuneport.open_job(job.ref), tuneport.Job)
    assert_type(tuneport.plan("torch:smollm2-135m", data).usd.value, float | None)
    assert_type(tuneport.run("tune.yaml").report, Path | None)


def use(model: tuneport.Model, holdout: tuneport.Dataset) -> None:
    assert_type(model.ask("Hello", max_tokens=8), str)
    assert_type(model.ask_many(["a", "b"]), list[str])
    assert_type(model.reply([{"role": "user", "content": "Hello"}]), tuneport.Reply)
    assert_type(model.reply("Hello", schema=Ticket), tuneport.Reply[Ticket])
    assert_type(model.reply("Hello", schema=Ticket, max_tokens=8).parsed, Ticket)
    assert_type(model.reply_many(["Hello"], schema=Ticket)[0].parsed, Ticket)
    assert_type(model.reply("Hello", schema={"type": "object"}).parsed, Any)
    assert_type(model.stream("Hello", stop=["."], seed=3), Iterator[str])
    model.ask("Hello", max_token=8)  # type: ignore[call-arg]  # a wrong option is an error
    model.reply("Hello", temprtr=0.5)  # type: ignore[call-overload]
    model.stream("Hello", max_tokens="many")  # type: ignore[arg-type]
    tuneport.nosuch  # type: ignore[attr-defined]  # noqa: B018
    assert_type(model.score(holdout).loss, float)
    assert_type(model.lineage, tuneport.Lineage | None)
    assert_type(model.export("folder", "merged"), Path)
    assert_type(tuneport.open_model("torch:smollm2-135m"), tuneport.Model)
    assert_type(tuneport.compare(model, holdout), tuneport.Comparison)


def fail() -> None:
    try:
        tuneport.open_model("nonsense")
    except tuneport.errors.DataError as error:
        assert_type(error.remedy, str | None)
    except tuneport.errors.ConfigError as error:
        assert_type(error.line, int | None)
    except tuneport.errors.JobNotFinished as error:
        assert_type(error.status, str)


def refuse(model: tuneport.Model, data: tuneport.Dataset) -> None:
    tuneport.train("torch:smollm2-135m", data, epochs="many")  # type: ignore[arg-type]
    tuneport.train("torch:smollm2-135m", data, method="osmosis")  # type: ignore[arg-type]
    model.ask(1)  # type: ignore[arg-type]
    tuneport.nosuch()  # type: ignore[attr-defined]
    settings: dict[str, Any] = {"again": True}
    tuneport.run("tune.yaml", **settings)
