"""The same value becomes the same text in every reader: a table of values by reader."""

from __future__ import annotations

import csv
import datetime as dt
import json
import math
import re
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tuneport import Conversation, Dataset
from tuneport.errors import UsageError

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


def open_sheet(values: list[Any], folder: Path) -> Any:
    """An OpenDocument sheet, which stores each value with its type."""
    kinds = {bool: "boolean", int: "float", float: "float", dt.date: "date", dt.datetime: "date", str: "string"}
    stored = {"boolean": "boolean-value", "float": "value", "date": "date-value"}

    def cell(value: Any) -> str:
        if value is None:
            return "<table:table-cell/>"
        kind = kinds[type(value)]
        text = value.isoformat() if kind == "date" else str(value).lower() if kind == "boolean" else str(value)
        more = f' office:{stored[kind]}="{text}"' if kind in stored else ""
        return f'<table:table-cell office:value-type="{kind}"{more}><text:p>{text}</text:p></table:table-cell>'

    rows = [["text", "label"], *(list(row.values()) for row in _rows(values))]
    lines = "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in rows)
    of = "urn:oasis:names:tc:opendocument:xmlns"
    path = folder / "rows.ods"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        book.writestr(
            "content.xml",
            f'<office:document-content xmlns:office="{of}:office:1.0" xmlns:table="{of}:table:1.0" '
            f'xmlns:text="{of}:text:1.0"><office:body><office:spreadsheet><table:table table:name="One">{lines}'
            "</table:table></office:spreadsheet></office:body></office:document-content>",
        )
        book.writestr("META-INF/manifest.xml", f'<manifest:manifest xmlns:manifest="{of}:manifest:1.0"/>')
    return path


def pandas_objects(values: list[Any], _: Path) -> Any:
    """A column of Python values, which Arrow either keeps or refuses."""
    import pandas as pd

    return pd.DataFrame({**_columns(values), "other": pd.Series([1, "x", *values][: len(values)], dtype=object)})


def numpy_rows(values: list[Any], _: Path) -> Any:
    import numpy as np

    return [{**row, "label": np.float32(row["label"])} for row in _rows(values)]


ARROW = (
    pandas,
    polars,
    arrow,
)  # Parquet has the same code but needs a process, so it is listed only where it may differ
JSON = (json_lines, json_array)
DAY, OTHER = dt.date(2026, 1, 1), dt.date(2026, 1, 2)
MIDNIGHT, NOON = dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 2, 12, 30)
VALUES: list[tuple[str, list[Any], list[str | None], tuple[Callable[..., Any], ...]]] = [
    ("text", ["card", "Ä"], ["card", "Ä"], (python, *JSON, table, *ARROW)),
    ("integers", [1, 20], ["1", "20"], (python, *JSON, table, *ARROW)),
    ("integer floats", [1.0, 0.0], ["1", "0"], (python, *JSON, *ARROW, parquet, sheet, open_sheet, pandas_objects)),
    (
        "integer floats in other forms",
        [1e3, -0.0],
        ["1000", "0"],
        (python, *JSON, *ARROW, sheet, open_sheet, numpy_rows),
    ),
    ("no number", [2.5, math.nan], ["2.5", None], (python, *JSON, *ARROW, parquet, pandas_objects)),
    ("no end", [2.5, math.inf], ["2.5", None], (python, *JSON, *ARROW, pandas_objects)),
    ("short floats", [0.1, 2.5], ["0.1", "2.5"], (numpy_rows, sheet, open_sheet)),
    ("floats as a table of text has them", ["1.0", "1e3"], ["1.0", "1e3"], (python, *JSON, table, *ARROW, sheet)),
    ("errors of a sheet", ["card", "#DIV/0!"], ["card", None], (sheet, open_sheet)),
    ("texts like errors", ["card", "#DIV/0!"], ["card", "#DIV/0!"], (python, *JSON, table, *ARROW)),
    ("integer floats with a missing one", [1.0, None], ["1", None], (python, *JSON, *ARROW)),
    ("floats", [2.5, 0.1], ["2.5", "0.1"], (python, *JSON, table, *ARROW)),
    ("large", [1e300, -3.0], ["1e+300", "-3"], (python, *JSON, *ARROW)),
    ("true", [True, False], ["true", "false"], (python, *JSON, *ARROW, sheet, open_sheet)),
    (
        "dates",
        [DAY, OTHER],
        ["2026-01-01", "2026-01-02"],
        (python, table, *ARROW, parquet, pandas_times, sheet, open_sheet),
    ),
    (
        "times",
        [MIDNIGHT, NOON],
        ["2026-01-01", "2026-01-02T12:30:00"],
        (python, *ARROW, pandas_times, sheet, open_sheet),
    ),
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
        assert "label has bytes that are not UTF-8: byte 4 of 4 is 0xe9" in refused.message
    if values == [DAY, OTHER] and reader is not table:
        assert any("dates" in one.message for one in result.diagnostics if one.code == "read-as-text")


def test_bytes_in_unused_columns_are_ignored(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet as pq

    columns = {"text": ["a"], "label": ["b"], "image": [b"\xff\xd8\xff"]}
    rows = [{"text": "a", "label": "b", "image": b"\xff\xd8\xff", "seen": DAY}]
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    for given in (rows, pa.table(columns), tmp_path / "rows.parquet"):
        result = Dataset.load(given).check()
        assert result.used == 1
        assert "read-as-text" not in result.counts


def test_bytes_in_messages_are_text_or_an_error() -> None:
    def chat(content: object) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "Hi"}]}

    data = Dataset.load([chat(b"Hello"), chat(b"caf\xe9"), chat("Bye")])
    result = data.check()
    assert [one.messages[0].text for one in data if isinstance(one, Conversation)] == ["Hello", "Bye"]
    assert result.counts["not-utf8"] == 1
    assert result.counts["read-as-text"] == 1


def test_numbers_of_numpy_and_pandas_are_read() -> None:
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


def test_a_frame_that_arrow_refuses_is_read_value_by_value() -> None:
    import pandas as pd

    mixed = pd.DataFrame({"text": ["a", "b", "c"], "label": [1, "x", 2.0]})
    periods = pd.DataFrame({"text": ["a"], "label": [pd.Period("2026-01")]})
    cut = pd.DataFrame({"text": ["a"], "label": pd.cut([1], [0, 2])})
    found = [[one.messages[-1].text for one in Dataset.load(frame)] for frame in (mixed, periods, cut)]
    assert found == [["1", "x", "2"], ["2026-01"], ["(0, 2]"]]


def test_frames_without_rows_are_refused_with_a_remedy() -> None:
    import pandas as pd
    import polars as pl

    frames: list[tuple[Any, str]] = [
        (pl.DataFrame({"text": ["a"], "label": ["b"]}).lazy(), "frame.collect()"),
        (pd.Series(["a"], name="text"), "Pass a data frame"),
        (pd.DataFrame([["a", "b", "c"]], columns=["text", "label", "label"]), "several columns named label"),
        (pl.DataFrame({"text": ["a"], "label": pl.Series([object()], dtype=pl.Object)}), "in label, object"),
    ]
    for frame, says in frames:
        with pytest.raises(UsageError, match=re.escape(says)):
            Dataset.load(frame)


def test_a_missing_number_in_an_unused_column_rejects_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": "b", "score": NaN}\n', encoding="utf-8")
    assert Dataset.load(path).check().rejected == 0
    assert Dataset.load([{"text": "a", "label": "b", "score": math.nan}]).check().rejected == 0
