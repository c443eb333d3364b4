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

from core.dataset import triggers  # noqa: E402 - needs the path above

INTRO = f"""<!-- docs/checks_page.py writes this page from the code: change it there, then run `make docs`. -->

# Checks

`tuneport check FILE` reads a complete data file and reports each finding with its line, a JSON pointer into the row, a
code and a remedy. Every row is counted: *read = used + rejected*. `Dataset.check()` returns the same in Python, and
`--json` prints it as one object.

- An **error** rejects the row or the file. A run stops at an error, unless its config has `data.on_error: skip`.
- A **warning** is about rows that are used but may reduce quality.
- A **note** is information. You need not do anything.

The first {KEPT_PER_CODE} findings of each code are kept with their place. All of them are counted.

`tuneport fix FILE -o NEW.jsonl` (`Dataset.fix` in Python) applies remedies, writes a new file and reports each change:
*read = written + dropped*. A row with an error that no remedy fixes is dropped. Remedies that may lose something are
applied only when you name them: `--only near-duplicate` applies only that one, `--only safe --only near-duplicate`
(`remedies=["safe", "near-duplicate"]`) adds it to the safe ones. `--changes FILE` writes every change, one JSON object
a line. Fixing a fixed file changes nothing. If errors would drop more than half of the rows, `fix` stops and says why;
`--drop-most` (`drop_most=True`) writes the file anyway.

This page is generated from the code. For every code, a test has data with the finding and data without it.
"""

SHAPES_INTRO = """## Shapes

A file's *shape* is what its columns mean. It is recognized from the columns of the first rows. If your columns have
other names, `columns=` (`--column OURS=THEIRS`) maps them. Case and outer spaces of a name do not matter. All rows of a
file have one shape.

| shape | columns | optional columns |
|---|---|---|"""

SHAPES_DETAILS = """
Numbers, dates, bytes, true and false are read as texts; see [Files](#files). `system=` (`--system`) puts a system
prompt in front of conversations that have none. Earlier turns in `history` are pairs of a user's and an assistant's
text, or messages; their answers are trained on too. A `context` follows the question, or precedes a prompt that is
continued by its completion. `Dataset.write` and `fix` write JSONL with `messages`, with `prompt` and `completion`, or
with OpenAI's preference pairs. If a file needs several of these, each row has a key `shape`, which is read again.

Tools and tool calls are read in the forms of Hugging Face, TRL, LLaMA-Factory and the hosted services: bare and flat
functions, arguments as objects, one call or a list of them, `function_call` and `observation` turns, calls and answers
without ids. Calls without ids get ids of nine letters and digits (`call00001`), and answers are matched to calls in
order. One answer that is a JSON list answers as many calls as the list has items.

Turns with parts are read in the forms of Anthropic, Bedrock, Gemini, Mistral, OpenAI's Responses and Vercel's AI SDK:
`tool_use` parts become tool calls, `tool_result` parts become tool turns, `thinking` parts become `reasoning_content`,
and a `system` with parts becomes the system prompt. A part that no turn can have is an error that names the part. Text
such as `<tool_call>{"name": …}</tool_call>` is read as calls if the row has tools or a tool's answer follows, as a tool
turn or as a user's `<tool_response>`. Otherwise it stays text.

A `context` or an `input` that is a list or an object is read as text: passages, each after its title if it has one,
with an empty line between, as in HotpotQA, SQuAD and retrieval data; anything else as its JSON text. Of several
`answers` the first is read. The prompt of a pair may be in `prompt`, `conversations`, `question`, or `instruction` with
`input`. A single text column is read as plain text only if you ask for it: `--column completion=text`.
"""

DETAILS = f"""## How rows are compared

Two rows are **duplicates** when they are the same example, however their JSON is written. They are **near-duplicates**
when their texts are equal without case, white space, quotes, `!`, `?` and a full stop at the end. Texts are compared in
Unicode's compatibility form (NFKC), so curly and straight quotes, or full-width and plain letters, are equal.
Characters that change the meaning count: `1.5` is not `15`, `2+2` is not `2-2`. Rows that differ only in the
assistant's reasoning are neither duplicates nor in conflict, because several ways to one answer are common in training
data. A split keeps them together, because a model trained on one of them knows the answer of the others.

The **prompt** of a conversation is everything before the assistant's last turn, with the tools; the **answer** is the
rest. A completion has both by name; one with an empty prompt conflicts with nothing. Two preferences conflict when they
prefer the same two answers in opposite order.

A **label** is a final answer that repeats: at least five rows per different answer on average. **label-imbalance**
starts at {UNEVEN} times as many rows, **few-rows** below {FEW_ROWS} rows.

Rows are compared by 64-bit keys, with 32 bytes a row: in memory for up to 262,144 rows, otherwise in an unlinked file
in home's cache. So ten million rows need no more memory than a quarter million. Two different rows have the same key
about once in 370,000 files of ten million rows.
"""

FILES_DETAILS = """## Files

A file's *format* is the kind of file: JSONL, JSON, CSV, TSV, and gzip of these; Parquet and data frames
(`tuneport[parquet]`); `.xlsx`, `.xls` and `.ods` (`tuneport[xlsx]`), of which the first sheet is read unless `sheet=`
(`--sheet NAME`) names another. The file's name decides the format, or else its first bytes; `format=` (`--format`)
overrides both.

- **Encoding.** Text is UTF-8. A file in another encoding is one error, which suggests an encoding and shows an example
  of the text in it. `encoding=` (`--encoding latin-1`, `data.encoding`) sets it.
- **CSV.** The separator is the one that occurs most often outside the quotes of the first line, or the one that Excel's
  line `sep=;` names. Columns without a name are not used, lines with only separators are blank lines, and CR alone may
  end lines. If a quote is not closed, the row's first line is refused, the finding names the lines that the quote would
  include, and reading continues at the next line. After 64 MiB were read twice, each line is one row.
- **JSON.** An array, an object with one list of rows, or rows one after another. JSON of this kind named `.jsonl` is
  read as JSON. If rows share a line, findings give the number of the row.
- **Python rows, data frames, Arrow and Parquet.** `ClassLabel` columns of Hugging Face datasets get their names. For a
  `DatasetDict`, choose a split: `Dataset.load(data["train"])`.

The same value becomes the same text in every format, and a note reports it:

| value | read as |
|---|---|
| integer, also `1.0` | `1` |
| other number | its shortest form: `2.5` |
| decimal | as written: `1.50` |
| true, false | `true`, `false` |
| date; date and time at midnight without a time zone | `2026-01-01` |
| other date and time | `2026-01-01T10:30:00`, with its time zone |
| bytes | the text if they are UTF-8, else an error |
| missing, null, NaN | no value |
| an error of a spreadsheet, such as `#DIV/0!` | no value |

CSV is the exception: it has only texts, so `1.0`, `007` and `1e3` stay as they are written. Nothing in the file says
whether `1.0` is a number or a version. A label that is `1` in Parquet but `1.0` in CSV was an integer that pandas
converted to a float because of a missing value in the column. Write such columns as `Int64`.
"""

GROUPS: Mapping[str, Mapping[str, triggers.Trigger]] = {
    "The file": triggers.FILES,
    "Text and JSON": triggers.TEXT,
    "Shapes and columns": triggers.SHAPE,
    "Turns and texts": triggers.TURNS,
    "Tools": triggers.TOOLS,
    "Preferences": triggers.PREFERENCE,
    "All rows together": triggers.ROWS,
    "What the model accepts (`--for`)": triggers.RULES | triggers.NOTES,
}


def page() -> str:
    """The complete page."""
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
        required, optional = (", ".join(map(_column, roles)) for roles in (shape.required, shape.optional))
        yield f"| {shape.name} | {required} | {optional} |"


def _column(role: str) -> str:
    return " or ".join(f"`{name}`" for name in ALIASES.get(role, (role,)))


def _short(code: str) -> str:
    remedy = REMEDIES.get(code)
    if remedy is None:
        return "drops the row" if code in _ROW_ERRORS else "fixes" if code in _NOT_WRITTEN else ""
    return f"{'fixes' if remedy.action == 'changed' else 'drops'}{', if named' if remedy.opt_in else ''}"


def _group(name: str) -> Iterator[str]:
    yield f"## {name}\n"
    for code, trigger in GROUPS[name].items():
        yield f"### {code}\n"
        yield f"*{CODES[code].severity}* · {CODES[code].meaning}\n"
        yield f"```text\n{trigger.example}\n```\n"
        yield f"What to do: {CODES[code].remedy}{_fix(code)}\n"


def _fix(code: str) -> str:
    if (remedy := REMEDIES.get(code)) is not None:
        return f"\n\n`fix` {remedy.effect}{' (only if named)' if remedy.opt_in else ''}."
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
