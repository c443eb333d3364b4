"""The same value is the same text, whatever brings it: a table of value by reader."""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tuneport import Conversation, Dataset

UTC = dt.timezone.utc  # noqa: UP017 - the name that Arrow's types know


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path_factory.mktemp("home")))


def _rows(values: list[Any]) -> list[dict[str, Any]]:
    return [{"text": f"text {number}", "label": value} for number, value in enumerate(values)]


def _columns(values: list[Any]) -> dict[str, list[Any]]:
    return {"text": [f"text {number}" for number in range(len(values))], "label": values}


def python(values: list[Any], _: Path) -> Any:
    return _rows(values)


def json_lines(values: list[Any], folder: Path) -> Any:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in _rows(values)), encoding="utf-8")
    return path


def json_array(values: list[Any], folder: Path) -> Any:
    path = folder / "rows.json"
    path.write_text(json.dumps(_rows(values), indent=1), encoding="utf-8")
    return path


def table(values: list[Any], folder: Path) -> Any:
    path = folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(row.values() for row in _rows(values))
    return path


def pandas(values: list[Any], _: Path) -> Any:
    import pandas as pd

    return pd.DataFrame(_columns(values))


def pandas_times(values: list[Any], _: Path) -> Any:
    import pandas as pd

    return pd.DataFrame(_columns(list(pd.to_datetime(values))))


def polars(values: list[Any], _: Path) -> Any:
    import polars as pl

    return pl.DataFrame(_columns(values))


def arrow(values: list[Any], _: Path) -> Any:
    import pyarrow as pa

    return pa.table(_columns(values))


def parquet(values: list[Any], folder: Path) -> Any:
    import pyarrow as pa
    from pyarrow import parquet as pq

    pq.write_table(pa.table(_columns(values)), folder / "rows.parquet")
    return folder / "rows.parquet"


def sheet(values: list[Any], folder: Path) -> Any:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["text", "label"])
    for row in _rows(values):
        book.active.append(list(row.values()))
    book.save(folder / "rows.xlsx")
    return folder / "rows.xlsx"


ARROW = (pandas, polars, arrow)  # Parquet, which shares their code and takes a process, stands where it may differ
JSON = (json_lines, json_array)
DAY, OTHER = dt.date(2026, 1, 1), dt.date(2026, 1, 2)
MIDNIGHT, NOON = dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 2, 12, 30)
VALUES: list[tuple[str, list[Any], list[str | None], tuple[Callable[..., Any], ...]]] = [
    ("text", ["card", "Ä"], ["card", "Ä"], (python, *JSON, table, *ARROW)),
    ("whole", [1, 20], ["1", "20"], (python, *JSON, table, *ARROW)),
    ("whole floats", [1.0, 0.0], ["1", "0"], (python, *JSON, *ARROW, parquet, sheet)),
    ("whole floats beside a missing one", [1.0, None], ["1", None], (python, *JSON, *ARROW)),
    ("floats", [2.5, 0.1], ["2.5", "0.1"], (python, *JSON, table, *ARROW)),
    ("large", [1e300, -3.0], ["1e+300", "-3"], (python, *JSON, *ARROW)),
    ("true", [True, False], ["true", "false"], (python, *JSON, *ARROW, sheet)),
    ("dates", [DAY, OTHER], ["2026-01-01", "2026-01-02"], (python, table, *ARROW, parquet, pandas_times, sheet)),
    ("times", [MIDNIGHT, NOON], ["2026-01-01", "2026-01-02T12:30:00"], (python, *ARROW, pandas_times, sheet)),
    (
        "zones",
        [NOON.replace(tzinfo=UTC)] * 2,
        ["2026-01-02T12:30:00+00:00"] * 2,
        (python, *ARROW, parquet, pandas_times),
    ),
    ("decimals", [Decimal("1.50"), Decimal("2.00")], ["1.50", "2.00"], (python, table, *ARROW, parquet)),
    ("bytes", [b"lost card", "Ä".encode()], ["lost card", "Ä"], (python, *ARROW)),
    ("other bytes", [b"card", b"caf\xe9"], ["card", None], (python, *ARROW, parquet)),
    ("missing", ["card", None], ["card", None], (python, *JSON, *ARROW)),
]
CASES = [
    pytest.param(values, wanted, reader, id=f"{name}-{reader.__name__}")
    for name, values, wanted, readers in VALUES
    for reader in readers
]


@pytest.mark.parametrize(("values", "wanted", "reader"), CASES)
def test_a_value_is_the_same_text_whatever_brings_it(
    values: list[Any], wanted: list[str | None], reader: Callable[..., Any], tmp_path: Path
) -> None:
    data = Dataset.load(reader(values, tmp_path))
    result = data.check()
    found = [one.messages[-1].text for one in data if isinstance(one, Conversation)]
    assert found == [one for one in wanted if one is not None]
    assert result.rejected == wanted.count(None)
    if reader is not table and not all(isinstance(value, str | None) for value in values):
        assert result.counts["read-as-text"] >= 1
    if b"caf\xe9" in values:
        (refused,) = [one for one in result.diagnostics if one.code == "not-utf8"]
        assert "label holds bytes that are not UTF-8: byte 4 of 4 is 0xe9" in refused.message
    if values == [DAY, OTHER] and reader is not table:
        assert any("dates" in one.message for one in result.diagnostics if one.code == "read-as-text")


def test_bytes_that_nothing_uses_are_no_matter(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet as pq

    columns = {"text": ["a"], "label": ["b"], "image": [b"\xff\xd8\xff"]}
    rows = [{"text": "a", "label": "b", "image": b"\xff\xd8\xff", "seen": DAY}]
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    for given in (rows, pa.table(columns), tmp_path / "rows.parquet"):
        result = Dataset.load(given).check()
        assert result.used == 1
        assert "read-as-text" not in result.counts


def test_bytes_inside_of_messages_are_text_or_an_error() -> None:
    def chat(content: object) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "Hi"}]}

    data = Dataset.load([chat(b"Hello"), chat(b"caf\xe9"), chat("Bye")])
    result = data.check()
    assert [one.messages[0].text for one in data if isinstance(one, Conversation)] == ["Hello", "Bye"]
    assert result.counts["not-utf8"] == 1
    assert result.counts["read-as-text"] == 1


def test_numbers_of_numpy_and_pandas_are_read_as_what_they_are() -> None:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    labels = [np.int64(3), np.float64(2.0), np.bool_(True), np.datetime64("2026-01-01T10:30:00.5", "ns")]
    rows = [{"text": f"text {place}", "label": label} for place, label in enumerate([*labels, np.bytes_(b"card")])]
    found = [one.messages[-1].text for one in Dataset.load(rows) if isinstance(one, Conversation)]
    assert found == ["3", "2", "true", "2026-01-01T10:30:00.500000", "card"]
    missing = [{"text": "a", "label": pd.NaT}, {"text": "b", "label": pd.NA}]
    assert Dataset.load(missing).check().counts["missing-value"] == 2
    short = pa.table({"text": ["a", "b"], "label": pa.array([0.1, 3.0], pa.float32())})
    found = [one.messages[-1].text for one in Dataset.load(short) if isinstance(one, Conversation)]
    assert found == ["0.1", "3"]


def test_fix_keeps_rows_whose_labels_are_floats(tmp_path: Path) -> None:
    result = Dataset.load(_rows([1.0, 2.5, 1.0])).fix(tmp_path / "fixed.jsonl")
    assert (result.written, result.dropped) == (3, 0)
    lines = (tmp_path / "fixed.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["messages"][-1]["content"] for line in lines] == ["1", "2.5", "1"]
