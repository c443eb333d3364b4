"""Every finding that a check can make: its code, how bad it is, what it means and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from tuneport.dataset.diagnostics import Severity


@dataclass(frozen=True, slots=True)
class Code:
    """A stable name for a kind of finding. Errors reject the row (or the file); warnings and notes do not."""

    name: str
    severity: Severity
    meaning: str
    remedy: str


def _registry(*codes: Code) -> dict[str, Code]:
    named = {code.name: code for code in codes}
    assert len(named) == len(codes), "two codes of one name"
    return named


_FILE = (
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
_TEXT = (
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
_SHAPE = (
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
_TURNS = (
    Code(
        "read-as-turn",
        "note",
        "A turn is written as another vendor writes it, such as Anthropic or Gemini; it is read as what it means.",
        "Nothing to do: tuneport fix writes the usual form.",
    ),
    Code("missing-role", "error", "A message has no role.", "Write system, developer, user, assistant or tool."),
    Code("empty-role", "error", "A message's role is empty.", "Write system, developer, user, assistant or tool."),
    Code(
        "unknown-role", "error", "A message's role is not known.", "Write system, developer, user, assistant or tool."
    ),
    Code(
        "no-assistant",
        "error",
        "There is no assistant turn to learn from.",
        "Add the answer that the model should give.",
    ),
    Code(
        "nothing-to-train-on",
        "error",
        "Every assistant turn has weight 0.",
        "Give at least one of them weight 1, or remove the row.",
    ),
    Code("empty-answer", "error", "What is to be learnt is empty.", "Write the answer, or remove the row."),
    Code(
        "empty-prompt",
        "note",
        "A completion has no prompt: all of the text is learnt, as plain text.",
        "Nothing to do, if that is meant.",
    ),
    Code("empty-content", "warning", "A turn has no content.", "Write it, or remove the turn."),
    Code("consecutive-roles", "warning", "Two turns in a row have the same role.", "Join them into one."),
    Code(
        "last-not-assistant",
        "warning",
        "The last turn is not the assistant's; nothing learns from it.",
        "End with the answer.",
    ),
    Code(
        "system-not-first",
        "warning",
        "A system turn stands after other turns; many templates refuse that.",
        "Put it first.",
    ),
    Code("bad-weight", "error", "A weight is neither 0 nor 1.", "Write 0 or 1, or leave it out."),
    Code(
        "weight-not-on-assistant",
        "warning",
        "A weight on a turn that is never trained on.",
        "Move it to an assistant turn.",
    ),
    Code(
        "edge-whitespace",
        "warning",
        "Text starts or ends with white space, which the model learns.",
        "Strip it: tuneport fix",
    ),
    Code(
        "mojibake",
        "warning",
        "Text was read in a wrong encoding once, such as Ã© for é.",
        "Repair it at its source, or: tuneport fix",
    ),
    Code("control-character", "warning", "Text holds control characters.", "Remove them: tuneport fix"),
    Code(
        "replacement-character", "warning", "Text holds U+FFFD, left by a failed conversion.", "Go back to the source."
    ),
    Code("line-separator", "note", "Text holds U+2028 or U+2029; the row is read as one.", "Nothing to do."),
)
_TOOLS = (
    Code(
        "read-as-tool",
        "note",
        "A tool is written in another form; it is read as the function that it means.",
        "Nothing to do: tuneport fix writes the usual form.",
    ),
    Code(
        "read-as-tool-call",
        "note",
        "A tool call or its answer is written in another form, or without ids; it is read as what it means.",
        "Nothing to do: tuneport fix writes the usual form.",
    ),
    Code(
        "null-left-out",
        "note",
        "Tools, calls or content parts have keys with the value null, as tables fill them in; they are left out.",
        "Nothing to do: tuneport fix writes them without.",
    ),
    Code(
        "bad-tool",
        "error",
        "A tool is not of the form that models are told.",
        'Write {"type": "function", "function": {"name": …}}.',
    ),
    Code(
        "tool-without-schema",
        "warning",
        "A tool does not say what its parameters are.",
        "Add parameters, a JSON Schema.",
    ),
    Code(
        "bad-tool-call",
        "error",
        "A tool call has no function name.",
        'Write {"id": …, "type": "function", "function": {"name": …, "arguments": "{}"}}.',
    ),
    Code(
        "tool-arguments-not-json",
        "error",
        "The arguments of a tool call are neither a JSON object nor a text that holds one.",
        'Write them as a text that holds an object: "{\\"city\\": \\"Oslo\\"}".',
    ),
    Code("tool-not-declared", "warning", "A tool is called that the row's tools do not list.", "Add it to tools."),
    Code(
        "tool-call-unanswered",
        "warning",
        "A tool call has no answer, and the conversation goes on.",
        "Add a tool turn with its tool_call_id.",
    ),
    Code(
        "tool-answer-without-call",
        "error",
        "A tool turn answers no call.",
        "Give it the tool_call_id of a call before it.",
    ),
)
_PREFERENCE = (
    Code(
        "identical-arms",
        "error",
        "The chosen and the rejected answer are the same.",
        "Remove the row; there is nothing to prefer.",
    ),
    Code(
        "differing-prompts", "error", "The two answers do not belong to the same prompt.", "Write one prompt for both."
    ),
    Code("empty-arm", "error", "The chosen or the rejected answer is empty.", "Write it, or remove the row."),
)
_PROFILE = (
    Code(
        "shape-not-taken",
        "error",
        "This training method does not take data of this shape.",
        "Choose the method that does, or convert the data.",
    ),
    Code("role-not-taken", "error", "The model does not know this role.", "Use another role."),
    Code(
        "tools-not-taken", "error", "The model's training does not take tools.", "Remove them, or choose another model."
    ),
    Code(
        "images-not-taken",
        "error",
        "The model's training does not take images.",
        "Remove them, or choose another model.",
    ),
    Code(
        "too-long",
        "error",
        "A row is longer than the model takes.",
        "Shorten it, or set data.too_long to drop or truncate.",
    ),
    Code("too-few-rows", "error", "There are fewer rows than the backend asks for.", "Add rows."),
    Code(
        "file-too-large",
        "error",
        "The data is larger than the backend takes.",
        "Take a part of it: Dataset.sample(rows).",
    ),
    Code(
        "plain-text",
        "warning",
        "Prompts and completions are trained as plain text, and the model has a chat template.",
        "Train with the template: --column question=prompt --column answer=completion (data.columns in the config).",
    ),
    Code("base-note", "note", "Something to know about this model and this data.", "Nothing to do, if it is meant."),
)
_ROWS = (
    Code(
        "duplicate",
        "warning",
        "A row stands there more than once, and counts more than the others.",
        "Drop the copies: tuneport fix",
    ),
    Code(
        "near-duplicate",
        "warning",
        "A row is another but for case, white space or punctuation.",
        "Keep one of them, or: tuneport fix --only near-duplicate",
    ),
    Code(
        "conflicting-answers",
        "warning",
        "The same prompt has different answers, and no model can learn both.",
        "Decide for one, or: tuneport fix --only conflicting-answers",
    ),
    Code(
        "leaked-row",
        "warning",
        "A row for training is in the held-out data too, under any system prompt, which then measures memory.",
        "Remove it from one of the two.",
    ),
    Code(
        "leaked-prompt",
        "note",
        "A prompt for training is in the held-out data too, with another answer.",
        "Look whether the two files overlap.",
    ),
    Code(
        "label-imbalance",
        "warning",
        "Some labels have at least ten times the rows of others.",
        "Add rows of the rare labels, and compare by label.",
    ),
    Code(
        "label-spellings",
        "warning",
        "Labels differ only in case, white space or joints such as _ and -.",
        "Write each label one way.",
    ),
    Code("single-label", "warning", "Every row has the same answer.", "Add rows with the other answers."),
    Code("few-rows", "warning", "There are fewer than 50 rows.", "Add rows; some hundred are a good start."),
)
CODES: dict[str, Code] = _registry(*_FILE, *_TEXT, *_SHAPE, *_TURNS, *_TOOLS, *_PREFERENCE, *_PROFILE, *_ROWS)
"""All codes by name. A backend's `check_row` may add findings under codes of its own."""
