"""Findings about what is read: the file, the text of its rows, and their shape."""

from __future__ import annotations

from tuneport.dataset.findings.code import Code

FILE = (
    Code(
        "no-rows",
        "error",
        "The file holds no row that can be used.",
        "Check that this is the right file, and the other errors.",
    ),
    Code("utf-16", "error", "The file is UTF-16, not UTF-8.", "Name its encoding: --encoding utf-16"),
    Code(
        "other-encoding",
        "error",
        "The file is not UTF-8 but in another encoding, which is guessed.",
        "Name its encoding, such as --encoding latin-1 (encoding= in Python, data.encoding in a config).",
    ),
    Code(
        "other-file",
        "error",
        "The file is neither text nor a table, such as a PDF document or an archive.",
        "Expand it, or save its table as CSV, JSONL or Parquet.",
    ),
    Code(
        "not-json-lines",
        "error",
        "The file was to be read as JSON lines, and is JSON of another layout.",
        "Name it .json, or say --format json.",
    ),
    Code(
        "read-as-json",
        "note",
        "The file is named as JSON lines and is JSON of another layout; it is read as JSON.",
        "Nothing to do, or name the file .json.",
    ),
    Code(
        "row-numbers",
        "note",
        "Several rows of a JSON file stand on one line, so findings carry the number of the row in place of the line.",
        "Nothing to do.",
    ),
    Code(
        "one-sheet",
        "note",
        "The workbook has several sheets, of which the first is read.",
        "Nothing to do, or name another one: --sheet NAME",
    ),
    Code(
        "broken-gzip", "error", "The compressed file is damaged or cut off.", "Compress or download the file once more."
    ),
    Code(
        "expands-too-much",
        "error",
        "The compressed file expands beyond any honest size.",
        "Expand it yourself (gunzip; Parquet: write it as JSONL) and look at it. Files that are not compressed have no "
        "such bound.",
    ),
    Code("byte-order-mark", "note", "The file starts with a byte order mark; it is skipped.", "Nothing to do."),
    Code("crlf", "note", "Lines end with CR LF, as on Windows; that is accepted.", "Nothing to do."),
    Code("cr-line-ends", "note", "Lines end with CR alone, as on old Macs; that is accepted.", "Nothing to do."),
    Code(
        "blank-line",
        "note",
        "A line is empty, or holds separators alone; it is not counted as a row.",
        "Nothing to do.",
    ),
    Code(
        "no-row",
        "note",
        "A line of a table names the columns once more, or is drawn, as below the names in Markdown; it is no row.",
        "Nothing to do.",
    ),
    Code(
        "total-line",
        "warning",
        "A row of a table may be a total, which spreadsheets and reports have at their end.",
        "Remove the line, if it is one, or: tuneport fix --only total-line",
    ),
    Code(
        "names-as-row",
        "warning",
        "A row holds the names of its columns in place of values, as joined tables do.",
        "Remove the row: tuneport fix",
    ),
    Code(
        "separator-line",
        "note",
        "The first line names the separator, as Excel writes it; it is obeyed.",
        "Nothing to do.",
    ),
    Code(
        "unnamed-column",
        "note",
        "A column has no name, such as the index that pandas writes; it is not used.",
        "Nothing to do, or name the column if it is meant.",
    ),
    Code(
        "column-names",
        "note",
        "Columns are recognized although the case of their names, or the spaces around them, differ.",
        "Nothing to do.",
    ),
    Code(
        "unused-columns",
        "note",
        "The file has columns that are not used.",
        "Name other columns if one of them is meant.",
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
        "A column beside the question and its answer is used.",
        "Nothing to do, if that is meant. Rename the column if it means something else.",
    ),
    Code(
        "read-as-turns",
        "note",
        "Prompt and completion are read as turns of a conversation, because of the columns beside them.",
        "Nothing to do, if that is meant.",
    ),
    Code(
        "needs-other-method",
        "note",
        "The training method does not learn from rows of this shape.",
        "Train with the method named: train.method in the config, --method here.",
    ),
    Code(
        "no-column-names",
        "error",
        "The table's first line does not name its columns.",
        "Write the names in the first line.",
    ),
)
TEXT = (
    Code(
        "row-too-large", "error", "A row is larger than 32 MiB.", "Split the row, or remove what is not text from it."
    ),
    Code("not-utf8", "error", "A row holds bytes that are not UTF-8.", "Save the file as UTF-8."),
    Code("invalid-json", "error", "A row is not valid JSON.", "Mend the row at the column named."),
    Code("not-an-object", "error", "A row is valid JSON, but not an object.", 'Write each row as {"name": value, …}.'),
    Code(
        "duplicate-key",
        "error",
        "An object has the same key twice.",
        "Keep one of the two; readers differ in which counts.",
    ),
    Code("non-finite-number", "error", "NaN or Infinity, which JSON does not have.", "Write a number, null or a text."),
    Code("number-too-large", "error", "A number that no computer number can hold.", "Write it as a text."),
    Code(
        "lone-surrogate",
        "error",
        "An escape such as \\ud83d stands for half a character.",
        "Write the whole character.",
    ),
    Code("too-deep", "error", "Objects are nested more than 100 deep.", "Write the row flatter."),
    Code(
        "ragged-row",
        "error",
        "A row has more or fewer fields than the first line names.",
        "Quote fields that hold the separator.",
    ),
    Code("bad-quoting", "error", "Quotes in a row do not match.", 'Write a quote inside a quoted field twice: "".'),
    Code(
        "swallowed-rows",
        "error",
        "A cell takes in ten or more lines that look like rows: a quote may not be closed.",
        'Close the quote, or write a quote inside a quoted field twice: "". If the cell is meant, write JSONL.',
    ),
    Code(
        "rows-in-a-cell",
        "warning",
        "A cell takes in some lines that look like rows: a quote may not be closed.",
        'Look at the lines named. Write a quote inside a quoted field twice: "".',
    ),
)
SHAPE = (
    Code(
        "unknown-shape",
        "error",
        "The columns are none that tuneport knows.",
        'Say which column is which: columns={"text": "…", "label": "…"}, or --column text=… --column label=….',
    ),
    Code("mixed-shapes", "error", "A row has another shape than the first rows.", "Keep one shape in a file."),
    Code(
        "missing-value", "error", "A column that the shape needs is missing or null.", "Fill it in, or remove the row."
    ),
    Code("not-text", "error", "A value should be text and is not.", "Write it as a text."),
    Code(
        "read-as-text",
        "note",
        "A number, a date, bytes, a list, an object, or true or false stand where a text should; it is read as text.",
        "Nothing to do, or write it as a text, in quotes.",
    ),
    Code(
        "no-value",
        "warning",
        "A text is a word that programs write where there is no value, such as nan, NULL or #N/A.",
        "Fill in the value, or remove the row. Nothing to do, if the word is meant.",
    ),
    Code(
        "python-text",
        "warning",
        "A text is a list, an object or bytes as Python writes them, such as ['a', 'b'] or b'a'.",
        "Write what is meant: save the table as JSONL or Parquet. Nothing to do, if the text is meant.",
    ),
    Code(
        "turns-as-text",
        "warning",
        "A text is a list of turns in JSON, and is read as text: the other columns hold no turns.",
        "Write all of them as turns, or --column messages=NAME. Nothing to do, if the text is meant.",
    ),
    Code(
        "bad-history",
        "error",
        "The earlier turns of a row are in no form that can be read.",
        'Write [["user text", "assistant text"], …] or messages; or read it as context: --column context=history.',
    ),
    Code(
        "kto-row",
        "error",
        "A column says whether the answer of a row is good: rows for KTO, a method that tuneport does not train by.",
        "Keep the rows with good answers and remove the column, for sft. Or write a good and a bad answer to the same "
        "prompt as chosen and rejected, for dpo.",
    ),
    Code(
        "no-messages",
        "error",
        "The list of messages is empty, or not a list.",
        "Write at least a user and an assistant turn.",
    ),
    Code(
        "bad-message",
        "error",
        "A message is not an object with role and content.",
        'Write {"role": "user", "content": "…"}.',
    ),
    Code("bad-content", "error", "Content is neither text nor a list of parts.", "Write a text."),
    Code("bad-part", "error", "A content part is not of a known form.", 'Write {"type": "text", "text": "…"}.'),
    Code(
        "unknown-key",
        "warning",
        "A message has a key that no model sees; it is left out.",
        "Remove it, or move it into the content.",
    ),
    Code(
        "bad-reasoning",
        "error",
        "What the assistant thought stands where it cannot be read.",
        "Write one text, reasoning_content, on the assistant's message.",
    ),
)
