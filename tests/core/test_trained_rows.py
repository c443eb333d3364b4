"""Reports rows that are compared on although the model was trained on them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

import tuneport
from tuneport.config.models import DataConfig
from tuneport.ledger import Ledger
from tuneport.workflow import report, trained_rows

pytestmark = pytest.mark.usefixtures("parrot")


@pytest.fixture
def parts(tickets: Path) -> tuple[tuneport.Dataset, ...]:
    return tuneport.Dataset.load(tickets).split(holdout=0.4)


def test_rows_that_were_held_out_are_none_that_were_trained_on(parts: tuple[tuneport.Dataset, ...]) -> None:
    model = tuneport.train("parrot:gray", parts[0]).wait()
    comparison = tuneport.compare(model, parts[1])
    assert comparison.trained_on == 0
    assert comparison.warning is None
    assert f"{len(parts[1])} holdout rows" in str(comparison)


def test_rows_that_were_trained_on_are_counted_and_reported_first(
    tickets: Path, parts: tuple[tuneport.Dataset, ...]
) -> None:
    job = tuneport.train("parrot:gray", parts[0])
    comparison = tuneport.compare(job.wait(), tickets)
    assert comparison.trained_on == len(parts[0])
    assert comparison.to_dict()["trained_on"] == len(parts[0])
    lines = str(comparison).splitlines()
    assert lines[0].startswith("12 rows, graded by exact")
    assert lines[1].startswith(f"warning: {len(parts[0])} of these 12 rows were trained on")


def test_case_space_and_the_system_prompt_make_no_other_row(tickets: Path, tmp_path: Path) -> None:
    prompted = tuneport.Dataset.load(tickets, system="Sort the ticket.")
    model = tuneport.train("parrot:gray", prompted).wait()
    assert model.lineage is not None
    rewritten = tmp_path / "rewritten.csv"
    rewritten.write_text('text,label\n"  my CARD never arrived ",card_arrival\nnew words,pin\n')
    assert tuneport.compare(model, rewritten).trained_on == 1
    assert tuneport.compare(model, tuneport.Dataset.load(rewritten, system="Sort the ticket.")).trained_on == 1


@pytest.mark.parametrize("shape", ["conversation", "preference"])
def test_a_row_is_the_same_row_under_any_system_prompt(shape: str, tickets: Path) -> None:
    question, better, worse = (
        {"role": role, "content": text}
        for role, text in (("user", "Hi"), ("assistant", "Hello."), ("assistant", "No."))
    )
    pair = {"prompt": [question], "chosen": [better], "rejected": [worse]}
    row = {"messages": [question, better]} if shape == "conversation" else pair
    job = tuneport.train("parrot:gray", tickets).ref
    trained_rows.remember(job, tuneport.Dataset.load([row], system="Be kind."))
    lineage = tuneport.Lineage(base="parrot:gray", job=str(job), data_fingerprint="", created="", system="Be kind.")
    model = SimpleNamespace(lineage=lineage)
    assert trained_rows.count_trained_on(model, tuneport.Dataset.load([row])) == 1
    assert trained_rows.count_trained_on(model, tuneport.Dataset.load([row], system="Be brief.")) == 1


def test_the_rows_of_the_model_that_it_was_trained_from_count_too(parts: tuple[tuneport.Dataset, ...]) -> None:
    first = tuneport.train("parrot:gray", parts[0])
    second = tuneport.train(first.ref, parts[1])
    assert tuneport.compare(second.wait(), parts[0]).trained_on == len(parts[0])
    assert tuneport.compare(first.wait(), parts[1]).trained_on == 0


def test_nothing_is_reported_for_a_base_model_or_an_unknown_job(tickets: Path, own_home: Path) -> None:
    assert tuneport.compare("parrot:gray", tickets, base=False).trained_on is None
    job = tuneport.train("parrot:gray", tickets)
    with Ledger.open() as ledger:
        ledger.forget(job.ref)
    assert tuneport.compare(job.result(), tickets).trained_on is None


def test_deleting_a_job_forgets_its_rows(tickets: Path, own_home: Path) -> None:
    job = tuneport.train("parrot:gray", tickets)
    assert [file.stat().st_size for file in (own_home / "rows").iterdir()] == [12 * 8]
    tuneport.delete(job.ref)
    assert list((own_home / "rows").iterdir()) == []


def test_the_report_tells_it_too(tickets: Path) -> None:
    rows = DataConfig(train=str(tickets), holdout=str(tickets))
    found = tuneport.run(tuneport.RunConfig(model="parrot:gray", data=rows))
    page = report(found.job.ref).read_text()
    assert "12 of these 12 rows were trained on" in page
    assert "on 12 rows" in page


def test_several_that_begin_the_same_training_at_once_remember_its_rows(tickets: Path, own_home: Path) -> None:
    job = tuneport.Ref("parrot", "tickets-abcd")

    def begin(_: int) -> None:
        trained_rows.remember(job, tuneport.Dataset.load(tickets))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(begin, range(40)))
    assert [(file.name, file.stat().st_size) for file in (own_home / "rows").iterdir()] == [("tickets-abcd.turns", 96)]


def test_a_system_prompt_moves_no_row_to_another_part(tickets: Path) -> None:
    def texts(rows: tuneport.Dataset) -> list[str]:
        return [example.messages[-2].text for example in rows]

    plain = tuneport.Dataset.load(tickets)
    prompted = tuneport.Dataset.load(tickets, system="Sort the ticket.")
    for seed in range(5):
        parts = plain.split(holdout=0.3, validation=0.2, seed=seed)
        same = prompted.split(holdout=0.3, validation=0.2, seed=seed)
        assert list(map(texts, parts)) == list(map(texts, same))
    assert texts(plain.sample(4)) == texts(prompted.sample(4))
