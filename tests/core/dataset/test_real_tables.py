"""CSV files of spreadsheets, programs and people: no row is lost silently."""

from __future__ import annotations

import csv
import io
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuneport import Conversation, Dataset


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path_factory.mktemp("home")))


def load(folder: Path, text: str | bytes, name: str = "rows.csv", **options: Any) -> Dataset:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return Dataset.load(path, **options)


def pairs(data: Dataset) -> list[tuple[str, str]]:
    return [(one.messages[-2].text, one.messages[-1].text) for one in data if isinstance(one, Conversation)]


def plain_rows(count: int) -> list[str]:
    return [f"ticket {number},queue {number % 3}" for number in range(count)]


def table(rows: list[str], end: str = "\n") -> str:
    return end.join(["text,label", *rows]) + end


def test_a_quote_that_is_never_closed_costs_one_row(tmp_path: Path) -> None:
    rows = plain_rows(1000)
    rows[9] = '"ticket nine,queue 0'
    data = load(tmp_path, table(rows))
    result = data.check()
    assert (result.read, result.used, result.rejected) == (1000, 999, 1)
    (found,) = [one for one in result.diagnostics if one.code == "bad-quoting"]
    assert found.line == 11
    assert "lines 11 to 1001" in found.message
    assert "reading continues at line 12" in found.message
    assert pairs(data)[9] == ("ticket 10", "queue 1")
    fixed = data.fix(tmp_path / "fixed.jsonl")
    assert (fixed.read, fixed.written, fixed.dropped) == (1000, 999, 1)


@pytest.mark.parametrize(
    ("second", "refused"),
    [
        ('"another stray quote,queue 1', {11, 501}),  # opens again
        ('the 24 inch "wide" one,queue 1', {11}),  # breaks the quotes, and is sound by itself
        ('screen 24",queue 1', {11, 501}),  # closes what was opened: both have half of a pair
    ],
)
def test_two_stray_quotes_cost_the_rows_that_hold_them(second: str, refused: set[int], tmp_path: Path) -> None:
    rows = plain_rows(1000)
    rows[9] = '"ticket nine,queue 0'
    rows[499] = second
    data = load(tmp_path, table(rows))
    result = data.check()
    assert result.read == 1000
    assert {one.line for one in result.diagnostics if one.severity == "error"} == refused
    assert result.rejected == len(refused)
    assert ("ticket 300", "queue 0") in pairs(data)


def test_a_cell_of_ten_lines_that_look_like_rows_is_an_error_and_of_a_few_a_warning(tmp_path: Path) -> None:
    for count, code, used in ((12, "swallowed-rows", 12), (4, "rows-in-a-cell", 1), (2, None, 1)):
        inner = "\n".join(plain_rows(count))
        data = load(tmp_path, f'text,label\n"monitor 24,screen\n{inner}\nmonitor 27",screen\n')
        result = data.check()
        assert (code in result.counts) == (code is not None)
        assert not result.counts.keys() & ({"swallowed-rows", "rows-in-a-cell"} - {code})
        assert result.used == used
        if code:
            assert f"lines 2 to {count + 3}" in next(one.message for one in result.diagnostics if one.code == code)


def test_a_long_text_of_many_lines_is_one_row(tmp_path: Path) -> None:
    poem = "\n".join(f"Line {number} of a text, with a comma, or two" for number in range(50))
    letter = "\n".join(f"Line {number} without any" for number in range(50))
    data = load(tmp_path, f'text,label\n"{poem}",poem\n"{letter}",letter\n')
    assert data.check().rejected == 0
    assert pairs(data) == [(poem, "poem"), (letter, "letter")]


def test_a_swallowed_row_that_is_ragged_does_not_take_others_with_it(tmp_path: Path) -> None:
    rows = plain_rows(30)
    rows[4] = 'queue 1,"stray'
    rows[20] = 'screen 24",queue 1,more'
    result = load(tmp_path, table(rows)).check()
    assert result.read == 30
    assert result.used == 28


def test_a_header_with_an_open_quote_is_not_a_row(tmp_path: Path) -> None:
    for text in ('"text,label\na,b\nc,d\n', "text,text\na,b\n", "text,label,label\na,b,c\n"):
        result = load(tmp_path, text).check()
        assert (result.read, result.used) == (0, 0)
        assert result.counts["no-column-names"] == 1


def test_bytes_that_are_not_utf8_in_a_text_of_several_lines_cost_that_row(tmp_path: Path) -> None:
    text = "text,label\nZürich,city\nÖl,liquid\n".encode() + b'"one\nZ\xfcrich\nthree",city\nlast,city\n'
    result = load(tmp_path, text).check()
    assert (result.read, result.used) == (4, 3)
    (found,) = [one for one in result.diagnostics if one.code == "not-utf8"]
    assert found.line == 4
    assert "line 5" in found.message


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(lines=st.lists(st.text('a",\n', max_size=12), max_size=12))
def test_no_quotes_make_a_reader_lose_a_line(lines: list[str], tmp_path: Path) -> None:
    sound = [f"sound {number},x" for number in range(3)]
    data = load(tmp_path, table([*lines, '"a",b', *sound]))
    result = data.check()
    assert result.read == result.used + result.rejected
    text = "\n".join(f"{asked}\n{answer}" for asked, answer in pairs(data))
    refused = {one.line for one in result.diagnostics}
    assert all(row.split(",")[0] in text for row in sound) or refused


@pytest.mark.parametrize("line", ['a","', '"a', '","', 'a,"'])
def test_stray_quotes_in_every_line_take_linear_time(line: str, tmp_path: Path) -> None:
    count = 20_000
    started = time.monotonic()
    result = load(tmp_path, table([line] * count)).check()
    assert time.monotonic() - started < 120  # without the limit it would hang
    assert result.read >= count // 2


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (",text,label\n0,late,delay\n1,wrong,exchange\n", "unnamed-column"),
        ("text,,label\nlate,x,delay\nwrong,,exchange\n", "unnamed-column"),
        ("text,label,,\nlate,delay,,\nwrong,exchange,,\n", "unnamed-column"),
        ("text,label,,\nlate,delay\nwrong,exchange,\n", "unnamed-column"),
        ("text,label\nlate,delay,,,\nwrong,exchange\n", None),
        ("SEP=\t\ntext\tlabel\nlate\tdelay\nwrong\texchange\n", "separator-line"),
        ("sep=;\ntext;label\nlate;delay\nwrong;exchange\n", "separator-line"),
        ("\ufeffsep=,\r\ntext,label\r\nlate,delay\r\nwrong,exchange\r\n", "separator-line"),
        ('"sep=|"\ntext|label\nlate|delay\nwrong|exchange\n', "separator-line"),
        ("Text,LABEL\nlate,delay\nwrong,exchange\n", "column-names"),
        (" Message ,Category\nlate,delay\nwrong,exchange\n", "column-names"),
        ("text, label\nlate, delay\nwrong, exchange\n", "column-names"),
        ('text, label\n"late", "delay"\n"wrong", "exchange"\n', "column-names"),
        ("text,label\rlate,delay\rwrong,exchange\r", "cr-line-ends"),
        ("text,label\nlate,delay\n,\nwrong,exchange\n,\n,,,\n", "blank-line"),
        ("\n,,\ntext,label\nlate,delay\nwrong,exchange\n", "blank-line"),
        ('"text";"label, verbatim, as sent, in full";label\nlate;x;delay\nwrong;y;exchange\n', "unused-columns"),
    ],
)
def test_tables_of_other_programs_are_read(text: str, code: str | None, tmp_path: Path) -> None:
    data = load(tmp_path, text)
    result = data.check()
    assert pairs(data) == [("late", "delay"), ("wrong", "exchange")]
    assert result.read == 2
    assert result.ok
    assert code is None or code in result.counts
    assert not result.counts.get("edge-whitespace")


def test_named_columns_are_found_in_any_case(tmp_path: Path) -> None:
    data = load(tmp_path, "Body , QUEUE,Note\nlate,delay,x\n", columns={"text": "body", "label": "Queue"})
    assert pairs(data) == [("late", "delay")]
    rows = [{"Instruction": "Add", "Input": "1 and 2", "Output": "3"}]
    assert pairs(Dataset.load(rows)) == [("Add\n\n1 and 2", "3")]


def test_a_carriage_return_in_a_field_is_described(tmp_path: Path) -> None:
    result = load(tmp_path, "text,label\nlate,delay\nwr\rong,exchange\n").check()
    (found,) = [one for one in result.diagnostics if one.code == "bad-quoting"]
    assert "carriage return" in found.message
    assert "newline" not in found.message


def test_a_fix_that_would_drop_most_rows_stops(tmp_path: Path) -> None:
    from tuneport.errors import DataError

    rows = [f"a,b,c{number}" for number in range(8)] + ["late,delay", "wrong,exchange"]
    data = load(tmp_path, table(rows))
    with pytest.raises(DataError, match="8 of 10 rows would be dropped, 8 of them for ragged-row") as error:
        data.fix(tmp_path / "fixed.jsonl")
    assert "--drop-most" in str(error.value.remedy)
    assert not (tmp_path / "fixed.jsonl").exists()
    assert data.fix(tmp_path / "fixed.jsonl", drop_most=True).written == 2


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows_over_one_and_over_several_lines_are_read_alike(end: str, tmp_path: Path) -> None:
    chosen = random.Random(7)
    odd = ['5" pipe', "a, b", "two\nlines", "é", 'x\n"y",\nz', "  ", "Ünd\tso"]
    texts = [f"{chosen.choice(odd)} {n}" if chosen.random() < 0.01 else f"row {n}" for n in range(4000)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=end)
    writer.writerows([("text", "label"), *((text, "yes") for text in texts)])
    written = out.getvalue()
    data = load(tmp_path, written.encode())
    assert [asked for asked, _ in pairs(data)] == texts
    result = data.check()
    assert (result.read, result.rejected) == (4000, 0)
    broken = load(tmp_path, (written + f"one{end}").encode())
    [ragged] = [one for one in broken.check().diagnostics if one.code == "ragged-row"]
    assert ragged.line == written.count("\n") + 1
