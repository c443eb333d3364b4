"""Files in other formats or encodings than their name says are read, or are one finding with a remedy."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tuneport import Conversation, Dataset
from tuneport.errors import UsageError

GERMAN = "text,label\nZu spät geliefert,Verzögerung\nFalsche Größe,Umtausch\nGrüße,Gruß\n"
RUSSIAN = "text,label\n" + "Посылка ещё не пришла и я хочу вернуть деньги,задержка\nПришёл не тот размер,обмен\n" * 3
JAPANESE = (
    "text,label\n"
    + "荷物がまだ届いていません。確認してください。,遅延\nサイズが違います。交換してください。,交換\n" * 3
)
ROWS = [{"text": "late", "label": "delay"}, {"text": "wrong", "label": "exchange"}]
WANTED = [("late", "delay"), ("wrong", "exchange")]


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path_factory.mktemp("home")))


def load(folder: Path, name: str, data: bytes | str, **options: Any) -> Dataset:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return Dataset.load(path, **options)


def pairs(data: Dataset) -> list[tuple[str, str]]:
    return [(one.messages[-2].text, one.messages[-1].text) for one in data if isinstance(one, Conversation)]


@pytest.mark.parametrize(
    ("text", "encoding", "proposed"),
    [
        (GERMAN, "latin-1", "latin-1"),
        (GERMAN.replace("Grüße", "Grüße – 5 €"), "cp1252", "cp1252"),
        (GERMAN, "utf-16", "utf-16"),
        (GERMAN, "utf-16-le", "utf-16-le"),
        (GERMAN, "utf-16-be", "utf-16-be"),
        (GERMAN, "utf-32", "utf-32"),
        (RUSSIAN, "cp1251", "cp1251"),
        (JAPANESE, "shift_jis", "shift_jis"),
        (JAPANESE, "euc_jp", "euc_jp"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_another_encoding_is_one_finding_and_its_remedy_works(
    text: str, encoding: str, proposed: str, suffix: str, tmp_path: Path
) -> None:
    if suffix == "jsonl":
        rows = [line.split(",") for line in text.splitlines()[1:]]
        text = "".join(
            json.dumps({"text": asked, "label": answer}, ensure_ascii=False) + "\n" for asked, answer in rows
        )
    data = load(tmp_path, f"rows.{suffix}", text.encode(encoding))
    result = data.check()
    assert (result.read, result.errors) == (0, 2)
    assert "no-rows" in result.counts
    found = next(one for one in result.diagnostics if one.code != "no-rows")
    assert found.code == ("utf-16" if encoding.startswith("utf-16") else "other-encoding")
    name = (found.remedy or "").partition("--encoding ")[2].split(" ")[0]
    assert proposed in name
    again = Dataset.load(tmp_path / f"rows.{suffix}", encoding=name)
    assert pairs(again) == pairs(load(tmp_path, f"utf8.{suffix}", text))
    assert pairs(again)
    assert again.check().ok


def test_a_few_broken_rows_in_a_utf8_file_are_separate_findings(tmp_path: Path) -> None:
    lines = [*GERMAN.encode().splitlines(), *(b"x,y" for _ in range(60)), b"Gr\xfc\xdfe,Gru\xdf"]
    result = load(tmp_path, "rows.csv", b"\n".join(lines)).check()
    assert (result.read, result.rejected, result.counts["not-utf8"]) == (64, 1, 1)


def test_an_unknown_encoding_is_an_error(tmp_path: Path) -> None:
    for name in ("latin-11", "base64", "hex"):
        with pytest.raises(UsageError, match="is not a text encoding"):
            load(tmp_path, "rows.csv", GERMAN, encoding=name)
    assert len(load(tmp_path, "rows.csv", GERMAN, encoding="UTF8")) == 3


def test_a_large_file_in_another_encoding_is_read_completely(tmp_path: Path) -> None:
    rows = [f"Größe {number} – {'ä' * 50},Maß {number % 3}" for number in range(5000)]
    data = load(tmp_path, "rows.csv", "\n".join(["text,label", *rows]).encode("utf-16"), encoding="utf-16")
    assert pairs(data)[4999] == tuple(rows[4999].split(","))
    assert data.check().read == 5000


def _workbook(sheets: dict[str, list[list[Any]]]) -> bytes:
    from openpyxl import Workbook

    book, file = Workbook(), io.BytesIO()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(file)
    return file.getvalue()


SHEET = [[], [None, "Text", "label"], [0, "late", "delay"], [None] * 3, [1, "wrong", "exchange"], [2, "x"]]


def test_the_first_or_the_named_sheet_of_a_workbook_is_read(tmp_path: Path) -> None:
    book = _workbook({"Tickets": SHEET, "Others": [["question", "answer"], [1, 2.5]]})
    data = load(tmp_path, "rows.xlsx", book)
    result = data.check()
    assert pairs(data) == WANTED
    assert (data.format, result.read, result.rejected) == ("xlsx", 3, 1)
    assert result.counts["one-sheet"] == result.counts["unnamed-column"] == 1
    assert [one.line for one in result.diagnostics if one.severity == "error"] == [6]
    assert pairs(load(tmp_path, "rows.xlsx", book, sheet="Others")) == [("1", "2.5")]
    assert pairs(load(tmp_path, "renamed.csv", book)) == WANTED
    with pytest.raises(UsageError, match="There is no sheet 'Nowhere'") as error:
        load(tmp_path, "rows.xlsx", book, sheet="Nowhere").check()
    assert "Tickets, Others" in str(error.value.remedy)
    with pytest.raises(UsageError, match="has no sheets"):
        load(tmp_path, "rows.csv", GERMAN, sheet="Tickets")
    asked_as_text = load(tmp_path, "rows.xlsx", book, format="csv").check()
    assert (asked_as_text.read, asked_as_text.counts["other-file"]) == (0, 1)


def test_a_workbook_that_expands_too_much_is_refused(tmp_path: Path) -> None:
    book = io.BytesIO(_workbook({"Tickets": SHEET}))
    with zipfile.ZipFile(book, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/zeros.bin", bytes(90 << 20))
    assert "expands-too-much" in load(tmp_path, "rows.xlsx", book.getvalue()).check().counts


def test_a_workbook_of_two_distant_cells_is_an_error_within_the_memory_limit(tmp_path: Path) -> None:
    from openpyxl import Workbook

    from tuneport.errors import DataError

    book = Workbook()
    book.active["A1"], book.active["XFD1048576"] = "text", "x"
    book.save(tmp_path / "rows.xlsx")
    with pytest.raises(DataError, match="may need more than 1,073,741,824 bytes of memory"):
        Dataset.load(tmp_path / "rows.xlsx").check()


def test_a_broken_workbook_is_an_error_that_names_it(tmp_path: Path) -> None:
    from tuneport.errors import DataError

    with pytest.raises(DataError, match="cannot be read as an Excel workbook"):
        load(tmp_path, "rows.xlsx", _workbook({"Tickets": SHEET})[:-200]).check()


@pytest.mark.parametrize(
    ("start", "what"), [(b"BZh91AY", "bzip2"), (b"%PDF-1.7", "PDF"), (b"ARROW1\0\0", "Arrow IPC"), (b"PK\3\4", "zip")]
)
def test_a_file_of_another_kind_is_named(start: bytes, what: str, tmp_path: Path) -> None:
    result = load(tmp_path, "rows.jsonl", start + bytes(50)).check()
    assert result.read == 0
    (found,) = [one for one in result.diagnostics if one.code != "no-rows"]
    assert found.code == "other-file"
    assert what in found.message


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        "\ufeff" + json.dumps(ROWS[0], indent=4) + ",\n" + json.dumps(ROWS[1], indent=4),
        ",\n".join(map(json.dumps, ROWS)) + ",\n",
        ",\r\n".join(map(json.dumps, ROWS)),
        "\r".join(map(json.dumps, ROWS)) + "\r",
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "rows"])
def test_json_that_is_not_one_object_a_line_is_read_or_one_finding(text: str, name: str, tmp_path: Path) -> None:
    data = load(tmp_path, name, text)
    result = data.check()
    assert pairs(data) == WANTED
    assert (result.read, result.ok, data.format) == (2, True, "json")
    assert name == "rows" or result.counts["read-as-json"] == 1
    strict = load(tmp_path, name, text, format="jsonl").check()
    (found,) = [one for one in strict.diagnostics if one.code != "no-rows"]
    assert (strict.read, found.code) == (0, "not-json-lines")
    assert "--format json" in found.remedy


@pytest.mark.parametrize(
    "first",
    ['{"text": "late", "label": "delay"', '{"text": "la', '{"text": "late", "label": "delay"} x', "[1, 2]", "{}"],
)
def test_json_lines_whose_first_line_is_broken_stay_json_lines(first: str, tmp_path: Path) -> None:
    data = load(tmp_path, "rows.jsonl", "\n".join([first, *map(json.dumps, ROWS)]))
    result = data.check()
    assert (data.format, result.read, result.rejected) == ("jsonl", 3, 1)


def test_a_comma_after_a_later_row_is_reported(tmp_path: Path) -> None:
    lines = [json.dumps(ROWS[0]), json.dumps(ROWS[1]) + ","]
    (found,) = [one for one in load(tmp_path, "rows.jsonl", "\n".join(lines)).check().diagnostics if one.line == 2]
    assert "a comma follows the value. Remove it" in found.message


def test_findings_in_one_line_json_have_the_number_of_the_row(tmp_path: Path) -> None:
    rows = [{"text": f"a{number}", "label": "b"} for number in range(30)]
    rows[16] = {"text": "x", "label": None}
    rows[20] = rows[3]
    for text in (json.dumps(rows), json.dumps({"data": rows}), " ".join(map(json.dumps, rows))):
        result = load(tmp_path, "rows.json", text).check()
        places = {one.code: one.line for one in result.diagnostics}
        assert (places["missing-value"], places["duplicate"], places["row-numbers"]) == (17, 21, None)
        assert "row 4" in next(one.message for one in result.diagnostics if one.code == "duplicate").replace(
            "line", "row"
        )
    pretty = load(tmp_path, "rows.json", json.dumps(rows, indent=1)).check()
    assert "row-numbers" not in pretty.counts
    assert next(one.line for one in pretty.diagnostics if one.code == "missing-value") == 2 + 16 * 4


class ClassLabel:
    """Like Hugging Face's, for machines without its package."""

    def __init__(self, names: list[str]) -> None:
        self.names = names


class Split:
    """Rows with features, like Hugging Face's `datasets.Dataset`."""

    def __init__(self) -> None:
        self.features = {"text": object(), "label": ClassLabel(["delay", "exchange"])}

    def __iter__(self) -> Any:
        yield from ({"text": "late", "label": 0}, {"text": "wrong", "label": 1}, {"text": "odd", "label": None})


class WholeNumber:
    """Like a value of a formatted dataset: not an int, but usable as an index."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class FormattedSplit(Split):
    def __iter__(self) -> Any:
        yield from ({"text": "late", "label": WholeNumber(0)}, {"text": "wrong", "label": WholeNumber(1)})


def test_class_labels_of_a_formatted_dataset_have_their_names() -> None:
    assert pairs(Dataset.load(FormattedSplit())) == WANTED


def test_a_folder_of_save_to_disk_is_refused_with_the_way_to_load_it(tmp_path: Path) -> None:
    for info in ("dataset_info.json", "dataset_dict.json"):
        folder = tmp_path / info.partition(".")[0]
        folder.mkdir()
        (folder / info).write_text("{}")
        with pytest.raises(UsageError, match="is a folder") as error:
            Dataset.load(folder)
        assert "load_from_disk" in str(error.value.remedy)


def test_a_missing_file_suggests_a_similar_name(tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").write_text("text,label\n")
    for near, said in (("tickts.csv", True), ("other.jsonl", False)):
        with pytest.raises(UsageError, match="There is no file") as error:
            Dataset.load(tmp_path / near)
        assert (f"Did you mean {tmp_path / 'tickets.csv'}?" in str(error.value.remedy)) == said


def test_class_labels_get_their_names_and_a_dictionary_of_splits_is_refused() -> None:
    data = Dataset.load(Split())
    assert pairs(data) == WANTED
    assert data.check().counts["missing-value"] == 1
    for given in ({"train": Split(), "test": Split()}, {"train": ROWS, "test": ROWS}):
        with pytest.raises(UsageError, match="splits: train, test") as error:
            Dataset.load(given)
        assert "Dataset.load(data['train'])" in str(error.value.remedy)
    with pytest.raises(UsageError, match="has columns"):
        Dataset.load({"text": ["a"], "label": ["b"]})
    with pytest.raises(UsageError, match="single dict"):
        Dataset.load({"text": "a", "label": "b"})


def test_hugging_face_datasets_are_read_with_label_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["delay", "exchange"])}
    )
    table = datasets.Dataset.from_dict({"text": ["late", "wrong"], "label": [0, 1]}, features=features)
    assert pairs(Dataset.load(table)) == WANTED
    assert pairs(Dataset.load(table.select([1]))) == WANTED[1:]
    table.to_parquet(str(tmp_path / "rows.parquet"))
    assert pairs(Dataset.load(tmp_path / "rows.parquet")) == WANTED
    with pytest.raises(UsageError, match="The DatasetDict has several datasets"):
        Dataset.load(datasets.DatasetDict(train=table, test=table))


_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@pytest.mark.parametrize(
    ("name", "data", "message", "remedy"),
    [
        ("rows.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
        ("rows.csv", b"<!DOCTYPE html><html></html>", "web page", "Download the data again"),
        ("rows.xls", b"<html><table></table></html>", "web page", "save the table as CSV"),
        ("rows.xlsx", _OLE + "EncryptedPackage".encode("utf-16-le"), "password", "Save it"),
        ("rows.json", b'{"text": ["a", "b"], "label": ["c", "d"]}', "column by column", "orient='records'"),
        ("rows.json", b'{"columns": ["text"], "index": [0], "data": [["a"]]}', "not a shape", "orient='records'"),
        ("rows.json", b'[["text", "label"], ["a", "b"]]', "not an object", "Write each row as an object"),
        ("rows.json", b'// rows\n[{"text": "a", "label": "b"}]', "no comments", ""),
        ("rows.json", b'{"train": [{"text": "a", "label": "b"}], "test": [{"text": "c"}]}', "'test'", "separate file"),
        ("rows.jsonl", b'{"text": "a", "label": "b"}{"text": "c", "label": "d"}\n', "another value follows", ""),
        ("rows.csv", b"text,label,label\na,b,c\n", "more than once", "a different name"),
        ("rows.csv", b"text^label\na^b\n", "not a shape", "a semicolon, a tab or |"),
        ("rows.csv", b"where is my card,card\nmy card is lost,card\n", "not a shape", "above it"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_described(name: str, data: bytes, message: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    found = Dataset.load(tmp_path / name).check().diagnostics
    assert any(message in one.message and remedy in one.remedy for one in found if one.severity == "error"), found


def test_text_under_the_name_of_a_spreadsheet_is_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "rows.xls").write_bytes(b"text\tlabel\na\tb\n")
    assert Dataset.load(tmp_path / "rows.xls").check().used == 1


@pytest.mark.parametrize(
    ("text", "encoding", "guessed"),
    [
        ("我的卡丢了怎么办,卡片\n请问如何重新申请一张,卡片\n", "gb2312", "gb18030"),
        ("카드를 잃어버렸어요,카드\n새 카드를 어떻게 받나요,카드\n", "euc_kr", "cp949"),
    ],
)
def test_chinese_and_korean_are_distinguished(text: str, encoding: str, guessed: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(("text,label\n" + text).encode(encoding))
    assert Dataset.load(path).check().counts["other-encoding"] == 1
    assert f"--encoding {guessed}" in str(Dataset.load(path).check().diagnostics[0])
    assert Dataset.load(path, encoding=guessed).check().used == 2
