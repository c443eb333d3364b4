"""Writes docs/checks.md from the registry of codes, the remedies of `fix` and the tests' examples: make docs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tuneport.dataset.check.all_rows import FEW_ROWS, UNEVEN
from tuneport.dataset.findings.codes import CODES
from tuneport.dataset.findings.findings import KEPT_PER_CODE
from tuneport.dataset.fix.remedies import REMEDIES
from tuneport.dataset.shapes.shapes import ALIASES, SHAPES

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from core.dataset import triggers  # noqa: E402 - the tests' folder had to be named first

INTRO = f"""<!-- Written by docs/checks_page.py from the code: change it there, then run `make docs`. -->

# Checks

`tuneport check FILE` reads a data file whole and reports each finding with its line, a JSON pointer into the row, a
code and a remedy. Every row is accounted for: *read = used + rejected*. `Dataset.check()` gives the same in Python,
`--json` prints it as one object.

- An **error** rejects the row, or the file. A run stops at it, unless its config says `data.on_error: skip`.
- A **warning** is about rows that are used, and may cost quality.
- A **note** is worth knowing, and needs nothing.

The first {KEPT_PER_CODE} findings of each code are kept with their place; all are counted.

`tuneport fix FILE -o NEW.jsonl` (`Dataset.fix` in Python) applies remedies, writes a new file and says what it changed
row by row: *read = written + dropped*. A row with an error that no remedy removes is dropped. Remedies that might lose
something are applied only when they are named: `--only near-duplicate` applies that one alone, `--only safe --only
near-duplicate` (`remedies=["safe", "near-duplicate"]`) beside the others. `--changes FILE` keeps every change, one JSON
object a line. Fixing a fixed file changes nothing. Where errors would drop more than half of the rows, `fix` stops and
says why; `--drop-most` (`drop_most=True`) writes the file all the same.

This page is written from the code: a test has, for every code, data that gives rise to it and data that does not.
"""

SHAPES_INTRO = """## Shapes

A file's shape is recognized by its columns, from the first rows; `columns=` (`--column OURS=THEIRS`) says which column
is which where they have other names. Case and outer spaces of a name make no difference. All rows of a file have one
shape.

| shape | columns | may have |
|---|---|---|"""

SHAPES_DETAILS = """
A number, a date, bytes, and true or false are read as texts, see [Files](#files). `system=` (`--system`) puts a
system prompt before the conversations that bring none. Earlier
turns in `history` are pairs of a user's and an assistant's text, or messages; their answers are trained on too. A
`context` stands behind the question, or before a prompt that its completion goes on with. `Dataset.write` and `fix`
write JSONL with `messages`, with `prompt` and `completion`, or with OpenAI's preference pairs; several shapes in one
file are told apart by a key `shape`, which is read again.

Tools and tool calls are read in the forms of Hugging Face, TRL, LLaMA-Factory and the services: bare and flat
functions, arguments as objects, one call or a list of them, `function_call` and `observation` turns, calls and answers
without ids. Calls without ids get made-up ones of nine letters and digits (`call00001`), and answers are matched with
calls in order. One answer that holds a JSON list answers as many calls as the list has items.

Turns of parts are read in the forms of Anthropic, Bedrock, Gemini, Mistral, OpenAI's Responses and Vercel's AI SDK:
`tool_use` parts become tool calls, `tool_result` parts become turns of tools, `thinking` parts become
`reasoning_content`, and a `system` of parts becomes the system prompt. What no turn can hold is an error that names the
part. Text such as `<tool_call>{"name": …}</tool_call>` is read as calls where the row has tools or a tool's answer
follows, be it a turn of a tool or a user's `<tool_response>`; elsewhere it stays text.

A `context` or an `input` that is a list or an object is read as text: passages, each behind its title if it has one,
with an empty line between, as HotpotQA, SQuAD and lists of retrieved texts hold them; anything else as its JSON text.
Of several `answers` the first is read. The prompt of a pair may stand in `prompt`, `conversations`, `question`, or
`instruction` with `input`. A text alone is read as plain text only where that is asked: `--column completion=text`.
"""

DETAILS = f"""## How rows are compared

Two rows are **duplicates** when they mean the same example, whatever their spelling in JSON. They are
**near-duplicates** when their texts agree once case, white space, quotes, `!`, `?` and a full stop at the end are left
out, in Unicode's compatibility form (NFKC), so that curly and straight quotes, or full-width and plain letters, are
alike. What changes the meaning counts: `1.5` is not `15`, `2+2` is not `2-2`. Rows that differ in what the assistant
thought are neither duplicates nor in conflict, because several ways to one answer are common training data; a split
keeps them together, since a model that was trained on one of them knows the answer of the others.

The **prompt** of a conversation is everything before the assistant's last turn, with the tools; the **answer** is the
rest. Of a completion they are what they are called; one with an empty prompt conflicts with nothing. Two preferences
conflict when they prefer the same two answers the other way round.

A label is a last answer that repeats: at least five rows per different answer on average. **label-imbalance** is found
from {UNEVEN} times as many rows on, **few-rows** under {FEW_ROWS} rows.

Rows are compared by 64-bit keys: 32 bytes a row, in memory up to 262,144 rows and in a nameless file in home's cache
beyond, so that ten million rows take no more memory than a quarter million. Two different rows have the same key about
once in 370,000 files of ten million rows.
"""

FILES_DETAILS = """## Files

JSONL, JSON, CSV, TSV and gzip of these; Parquet and data frames (`tuneport[parquet]`); `.xlsx`, `.xls` and `.ods`
(`tuneport[xlsx]`), whose first sheet is read unless `sheet=` (`--sheet NAME`) names another. The name says what a file
is, else its first bytes do; `format=` (`--format`) says it for certain.

- **Encoding.** Text is UTF-8. A file in another encoding is one error that proposes the encoding with an example of how
  the text reads in it; `encoding=` (`--encoding latin-1`, `data.encoding`) names it.
- **CSV.** The separator is the one that stands most often outside the quotes of the first line; Excel's line `sep=;` is
  obeyed. Columns without a name are not used, lines of separators alone are blank lines, and CR alone may end lines.
  Where a quote is not closed, the row's first line is refused, the finding names the lines that the quote would take
  in, and reading goes on at the next line. After 64 MiB that were read twice, each line is a row of its own.
- **JSON.** An array, an object with one list of rows, or rows one after the other. JSON of that kind that is named
  `.jsonl` is read as JSON. Where rows share a line, findings carry the number of the row.
- **Python rows, data frames, Arrow and Parquet.** `ClassLabel` columns of Hugging Face's datasets give their names. Of
  a `DatasetDict`, choose a split: `Dataset.load(data["train"])`.

The same value is the same text, whatever brings it, and the text is noted:

| value | read as |
|---|---|
| whole number, also `1.0` | `1` |
| other number | its shortest form: `2.5` |
| decimal | as written: `1.50` |
| true, false | `true`, `false` |
| date; date and time at midnight without a zone | `2026-01-01` |
| other date and time | `2026-01-01T10:30:00`, with its zone |
| bytes | the text, where they are UTF-8; else an error |
| missing, null, NaN | no value |
| an error of a spreadsheet, such as `#DIV/0!` | no value |

CSV is the exception: it holds texts alone, so that `1.0`, `007` and `1e3` stay as they are written. Nothing in the file
tells whether `1.0` is a number or a version. A label that is `1` in Parquet and `1.0` in CSV was a whole number when
pandas wrote the one, and had become a float, beside a missing value, when it wrote the other; write such columns as
`Int64`.
"""

GROUPS: Mapping[str, Mapping[str, triggers.Trigger]] = {
    "The file": triggers.FILES,
    "Text and JSON": triggers.TEXT,
    "Shapes and columns": triggers.SHAPE,
    "Turns and texts": triggers.TURNS,
    "Tools": triggers.TOOLS,
    "Preferences": triggers.PREFERENCE,
    "All rows together": triggers.ROWS,
    "What the model takes (`--for`)": triggers.PROFILE | triggers.NOTES,
}


def page() -> str:
    """The whole page."""
    groups = (line for name in GROUPS for line in _group(name))
    return "\n".join([INTRO, *_contents(), SHAPES_INTRO, *_shapes(), SHAPES_DETAILS, FILES_DETAILS, *groups, DETAILS])


def _contents() -> Iterator[str]:
    yield "| code | severity | `fix` |"
    yield "|---|---|---|"
    for group in GROUPS.values():
        for code in group:
            yield f"| [{code}](#{code}) | {CODES[code].severity} | {_short(code)} |"
    yield ""


def _shapes() -> Iterator[str]:
    for shape in SHAPES:
        needs, takes = (", ".join(map(_column, roles)) for roles in (shape.needs, shape.takes))
        yield f"| {shape.name} | {needs} | {takes} |"


def _column(role: str) -> str:
    return " or ".join(f"`{name}`" for name in ALIASES.get(role, (role,)))


def _short(code: str) -> str:
    remedy = REMEDIES.get(code)
    if remedy is None:
        return "drops the row" if code in _ROW_ERRORS else "mends" if code in _NOT_WRITTEN else ""
    return f"{'mends' if remedy.action == 'changed' else 'drops'}{', when named' if remedy.asked else ''}"


def _group(name: str) -> Iterator[str]:
    yield f"## {name}\n"
    for code, trigger in GROUPS[name].items():
        yield f"### {code}\n"
        yield f"*{CODES[code].severity}* · {CODES[code].meaning}\n"
        yield f"```text\n{trigger.example}\n```\n"
        yield f"What to do: {CODES[code].remedy}{_fix(code)}\n"


def _fix(code: str) -> str:
    if (remedy := REMEDIES.get(code)) is not None:
        return f"\n\n`fix` {remedy.what}{' (only when named)' if remedy.asked else ''}."
    if code in _NOT_WRITTEN:
        return "\n\n`fix` writes a file without it."
    return "\n\n`fix` drops the row." if code in _ROW_ERRORS else ""


_NOT_WRITTEN = (
    "byte-order-mark",
    "crlf",
    "cr-line-ends",
    "blank-line",
    "separator-line",
    "unnamed-column",
    "column-names",
    "unused-columns",
    "context-column-unused",
    "read-as-json",
    "row-numbers",
)
_ROW_GROUPS = (triggers.TEXT, triggers.SHAPE, triggers.TURNS, triggers.TOOLS, triggers.PREFERENCE)
_ROW_ERRORS = {code for group in _ROW_GROUPS for code in group if CODES[code].severity == "error"}


if __name__ == "__main__":
    (HERE / "checks.md").write_text(page(), encoding="utf-8")
