"""Findings about what rows mean: their turns and tools, what a model takes, and all rows together."""

from __future__ import annotations

from tuneport.dataset.findings.code import Code

TURNS = (
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
    Code(
        "html-entities",
        "warning",
        "Text holds HTML's marks for characters, such as &amp; or &#39;, which the model learns.",
        "Write the characters: tuneport fix --only html-entities. Nothing to do, if the text is HTML.",
    ),
    Code(
        "invisible-character",
        "warning",
        "Text holds characters that nobody sees, such as a space of no width; labels differ by them.",
        "Remove them: tuneport fix --only invisible-character",
    ),
    Code("control-character", "warning", "Text holds control characters.", "Remove them: tuneport fix"),
    Code(
        "replacement-character", "warning", "Text holds U+FFFD, left by a failed conversion.", "Go back to the source."
    ),
    Code("line-separator", "note", "Text holds U+2028 or U+2029; the row is read as one.", "Nothing to do."),
)
TOOLS = (
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
PREFERENCE = (
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
PROFILE = (
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
ROWS = (
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
