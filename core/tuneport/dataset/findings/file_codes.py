"""Codes for what is read: the file, the text of its rows, and their shape."""

from __future__ import annotations

from tuneport.dataset.findings.code import Code

FILE = (
    Code(
        "no-rows",
        "error",
        "The file has no usable row.",
        "Check that this is the right file, and fix the other errors.",
    ),
    Code("utf-16", "error", "The file is UTF-16, not UTF-8.", "Name its encoding: --encoding utf-16"),
    Code(
        "other-encoding",
        "error",
        "The file is not UTF-8. Its encoding is a guess.",
        "Name its encoding, such as --encoding latin-1 (encoding= in Python, data.encoding in a config).",
    ),
    Code(
        "other-file",
        "error",
        "The file is neither text nor a table. It is, for example, a PDF document or an archive.",
        "Unpack it, or save its table as CSV, JSONL or Parquet.",
    ),
    Code(
        "not-json-lines",
        "error",
        "You asked for JSON Lines, but the file is JSON in another layout.",
        "Rename it to .json, or use --format json.",
    ),
    Code(
        "read-as-json",
        "note",
        "The file is named like JSON Lines but is JSON in another layout. It is read as JSON.",
        "Nothing to do, or rename the file to .json.",
    ),
    Code(
        "row-numbers",
        "note",
        "Several rows of a JSON file are on one line, so findings give the number of the row instead of the line.",
        "Nothing to do.",
    ),
    Code(
        "one-sheet",
        "note",
        "The workbook has several sheets. The first one is read.",
        "Nothing to do, or name another sheet: --sheet NAME",
    ),
    Code("broken-gzip", "error", "The compressed file is damaged or cut off.", "Compress or download the file again."),
    Code(
        "expands-too-much",
        "error",
        "The compressed file expands to far more than data normally does.",
        "Expand it yourself (gunzip; Parquet: write it as JSONL) and look at it. Uncompressed files have no such "
        "limit.",
    ),
    Code("byte-order-mark", "note", "The file starts with a byte order mark. It is skipped.", "Nothing to do."),
    Code("crlf", "note", "Lines end with CR LF, as on Windows.", "Nothing to do."),
    Code("cr-line-ends", "note", "Lines end with CR alone, as on old Macs.", "Nothing to do."),
    Code(
        "blank-line",
        "note",
        "A line is empty or has only separators. It does not count as a row.",
        "Nothing to do.",
    ),
    Code(
        "no-row",
        "note",
        "A line of a table repeats the column names or is a rule, as below the header in Markdown. It is not a row.",
        "Nothing to do.",
    ),
    Code(
        "total-line",
        "warning",
        "A row of a table may be a total, as at the end of spreadsheets and reports.",
        "If it is a total, remove the line, or run: tuneport fix --only total-line",
    ),
    Code(
        "names-as-row",
        "warning",
        "A row has the column names instead of values, as in concatenated tables.",
        "Remove the row: tuneport fix",
    ),
    Code(
        "separator-line",
        "note",
        "The first line names the separator, as Excel writes it. That separator is used.",
        "Nothing to do.",
    ),
    Code(
        "unnamed-column",
        "note",
        "A column has no name, such as the index that pandas writes. It is not used.",
        "Nothing to do, or name the column if you need it.",
    ),
    Code(
        "column-names",
        "note",
        "Columns are recognized although their names differ in case or in the spaces around them.",
        "Nothing to do.",
    ),
    Code(
        "unused-columns",
        "note",
        "The file has columns that are not used.",
        "Name other columns if you need one of these.",
    ),
    Code(
        "context-column-unused",
        "warning",
        "A column that changes what the rows mean is not used.",
        "Name it as context, system or history: --column context=NAME. Or remove it from the file.",
    ),
    Code(
        "read-as-context",
        "note",
        "A column in addition to the question and its answer is used.",
        "Nothing to do if this is right. Rename the column if it means something else.",
    ),
    Code(
        "read-as-turns",
        "note",
        "Prompt and completion are read as turns of a conversation because of other columns.",
        "Nothing to do if this is right.",
    ),
    Code(
        "needs-other-method",
        "note",
        "The training method does not learn from rows of this shape.",
        "Use the method in the message: train.method in the config, --method here.",
    ),
    Code(
        "no-column-names",
        "error",
        "The table's first line does not name its columns.",
        "Write the names in the first line.",
    ),
)
TEXT = (
    Code("row-too-large", "error", "A row is larger than 32 MiB.", "Split the row, or remove what is not text."),
    Code("not-utf8", "error", "A row has bytes that are not UTF-8.", "Save the file as UTF-8."),
    Code("invalid-json", "error", "A row is not valid JSON.", "Fix the row at the column in the message."),
    Code("not-an-object", "error", "A row is valid JSON but not an object.", 'Write each row as {"name": value, …}.'),
    Code(
        "duplicate-key",
        "error",
        "An object has the same key twice.",
        "Keep one of the two. JSON parsers disagree about which one counts.",
    ),
    Code(
        "non-finite-number",
        "error",
        "A value is NaN or Infinity, which JSON does not have.",
        "Write a number, null or a text.",
    ),
    Code("number-too-large", "error", "A number is too large for a computer's number types.", "Write it as a text."),
    Code(
        "lone-surrogate",
        "error",
        "An escape such as \\ud83d is only half of a character.",
        "Write the complete character.",
    ),
    Code("too-deep", "error", "Values are nested more than 100 levels deep.", "Flatten the row."),
    Code(
        "ragged-row",
        "error",
        "A row has more or fewer fields than the first line has names.",
        "Quote fields that contain the separator.",
    ),
    Code("bad-quoting", "error", "Quotes in a row do not match.", 'Double a quote inside a quoted field: "".'),
    Code(
        "swallowed-rows",
        "error",
        "A cell contains ten or more lines that look like rows. A closing quote may be missing.",
        'Close the quote, or double a quote inside a quoted field: "". If the cell is right, write JSONL.',
    ),
    Code(
        "rows-in-a-cell",
        "warning",
        "A cell contains several lines that look like rows. A closing quote may be missing.",
        'Look at the lines in the message. Double a quote inside a quoted field: "".',
    ),
)
SHAPE = (
    Code(
        "unknown-shape",
        "error",
        "The columns match no shape that tuneport knows.",
        'Name the columns: columns={"text": "…", "label": "…"}, or --column text=… --column label=….',
    ),
    Code("mixed-shapes", "error", "A row has a different shape from the first rows.", "Keep one shape per file."),
    Code(
        "missing-value", "error", "A column that the shape needs is missing or null.", "Fill it in, or remove the row."
    ),
    Code("not-text", "error", "A value should be a text but is not.", "Write it as a text."),
    Code(
        "read-as-text",
        "note",
        "A value should be a text but is a number, a date, bytes, a list, an object, true or false. It is read as a "
        "text.",
        "Nothing to do, or write it as a text, in quotes.",
    ),
    Code(
        "no-value",
        "warning",
        "A text is a word that programs write for a missing value, such as nan, NULL or #N/A.",
        "Fill in the value, or remove the row. Nothing to do if the word is right.",
    ),
    Code(
        "python-text",
        "warning",
        "A text is a list, an object or bytes in Python's notation, such as ['a', 'b'] or b'a'.",
        "Save the table as JSONL or Parquet to keep the value. Nothing to do if the text is right.",
    ),
    Code(
        "turns-as-text",
        "warning",
        "A text is a list of turns in JSON. It is read as a text because the other columns have no turns.",
        "Write all of them as turns, or use --column messages=NAME. Nothing to do if the text is right.",
    ),
    Code(
        "bad-history",
        "error",
        "The earlier turns of a row have no known form.",
        'Write [["user text", "assistant text"], …] or messages. Or read them as context: --column context=history.',
    ),
    Code(
        "kto-row",
        "error",
        "A column says whether the row's answer is good. Such rows are for KTO, which tuneport does not support.",
        "For sft, keep the rows with good answers and remove the column. For dpo, write a good and a bad answer to the "
        "same prompt as chosen and rejected.",
    ),
    Code(
        "no-messages",
        "error",
        "The list of messages is empty or not a list.",
        "Write at least a user and an assistant turn.",
    ),
    Code(
        "bad-message",
        "error",
        "A message is not an object with role and content.",
        'Write {"role": "user", "content": "…"}.',
    ),
    Code("bad-content", "error", "Content is neither a text nor a list of parts.", "Write a text."),
    Code("bad-part", "error", "A content part has no known form.", 'Write {"type": "text", "text": "…"}.'),
    Code(
        "unknown-key",
        "warning",
        "A message has a key that no model reads. It is left out.",
        "Remove it, or move it into the content.",
    ),
    Code(
        "bad-reasoning",
        "error",
        "The assistant's reasoning is where it cannot be read.",
        "Write it as one text, reasoning_content, on the assistant's message.",
    ),
)
