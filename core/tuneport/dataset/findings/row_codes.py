"""Codes for what rows mean: their turns and tools, what a backend accepts, and all rows together."""

from __future__ import annotations

from tuneport.dataset.findings.code import Code

_ROLES = "Write system, developer, user, assistant or tool."

TURNS = (
    Code(
        "read-as-turn",
        "note",
        "A turn is in another vendor's form, such as Anthropic's or Gemini's. It is converted.",
        "Nothing to do: tuneport fix writes the usual form.",
    ),
    Code("missing-role", "error", "A message has no role.", _ROLES),
    Code("empty-role", "error", "A message's role is empty.", _ROLES),
    Code("unknown-role", "error", "A message's role is unknown.", _ROLES),
    Code(
        "no-assistant",
        "error",
        "There is no assistant turn, so there is nothing to learn.",
        "Add the answer that the model should give.",
    ),
    Code(
        "nothing-to-train-on",
        "error",
        "Every assistant turn has weight 0.",
        "Give at least one of them weight 1, or remove the row.",
    ),
    Code("empty-answer", "error", "The text to learn is empty.", "Write the answer, or remove the row."),
    Code(
        "empty-prompt",
        "note",
        "A completion has no prompt: the model learns all of the text, as plain text.",
        "Nothing to do if this is right.",
    ),
    Code("empty-content", "warning", "A turn has no content.", "Write it, or remove the turn."),
    Code("consecutive-roles", "warning", "Two turns in a row have the same role.", "Join them into one."),
    Code(
        "last-not-assistant",
        "warning",
        "The last turn is not the assistant's, so the model does not learn from it.",
        "End with the assistant's answer.",
    ),
    Code(
        "system-not-first",
        "warning",
        "A system turn follows other turns, which many templates refuse.",
        "Put it first.",
    ),
    Code("bad-weight", "error", "A weight is neither 0 nor 1.", "Write 0 or 1, or leave it out."),
    Code(
        "weight-not-on-assistant",
        "warning",
        "A turn that is never trained on has a weight.",
        "Move it to an assistant turn.",
    ),
    Code(
        "edge-whitespace",
        "warning",
        "A text starts or ends with white space, which the model learns.",
        "Strip it: tuneport fix",
    ),
    Code(
        "mojibake",
        "warning",
        "A text was once read in the wrong encoding, such as Ã© for é.",
        "Repair it at its source, or run: tuneport fix",
    ),
    Code(
        "html-entities",
        "warning",
        "A text has HTML entities, such as &amp; or &#39;, which the model learns.",
        "Write the characters: tuneport fix --only html-entities. Nothing to do if the text is HTML.",
    ),
    Code(
        "invisible-character",
        "warning",
        "A text has invisible characters, such as a zero-width space. They make equal labels differ.",
        "Remove them: tuneport fix --only invisible-character",
    ),
    Code("control-character", "warning", "A text has control characters.", "Remove them: tuneport fix"),
    Code(
        "replacement-character",
        "warning",
        "A text has U+FFFD, which a failed conversion left.",
        "Convert it again from its source.",
    ),
    Code("line-separator", "note", "A text has U+2028 or U+2029. It is still read as one row.", "Nothing to do."),
)
TOOLS = (
    Code(
        "read-as-tool",
        "note",
        "A tool is in another form. It is converted to a function.",
        "Nothing to do: tuneport fix writes the usual form.",
    ),
    Code(
        "read-as-tool-call",
        "note",
        "A tool call or its answer is in another form or has no id. It is converted.",
        "Nothing to do: tuneport fix writes the usual form.",
    ),
    Code(
        "null-left-out",
        "note",
        "Tools, calls or content parts have keys with the value null, as tables add them. The keys are left out.",
        "Nothing to do: tuneport fix writes them without these keys.",
    ),
    Code(
        "bad-tool",
        "error",
        "A tool does not have the form that models expect.",
        'Write {"type": "function", "function": {"name": …}}.',
    ),
    Code(
        "tool-without-schema",
        "warning",
        "A tool does not describe its parameters.",
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
        "The arguments of a tool call are neither a JSON object nor a text that contains one.",
        'Write them as a text that contains an object: "{\\"city\\": \\"Oslo\\"}".',
    ),
    Code("tool-not-declared", "warning", "A call names a tool that the row's tools do not list.", "Add it to tools."),
    Code(
        "tool-call-unanswered",
        "warning",
        "A tool call has no answer, but the conversation continues.",
        "Add a tool turn with its tool_call_id.",
    ),
    Code(
        "tool-answer-without-call",
        "error",
        "A tool turn answers no call.",
        "Give it the tool_call_id of an earlier call.",
    ),
)
PREFERENCE = (
    Code(
        "identical-arms",
        "error",
        "The chosen and the rejected answer are the same.",
        "Remove the row: there is nothing to prefer.",
    ),
    Code("differing-prompts", "error", "The two answers have different prompts.", "Write one prompt for both."),
    Code("empty-arm", "error", "The chosen or the rejected answer is empty.", "Write it, or remove the row."),
)
RULES = (
    Code(
        "shape-not-taken",
        "error",
        "This training method does not accept examples of this shape.",
        "Choose a method that does, or convert the data.",
    ),
    Code("role-not-taken", "error", "The model does not know this role.", "Use another role."),
    Code(
        "tools-not-taken",
        "error",
        "Training this model does not support tools.",
        "Remove them, or choose another model.",
    ),
    Code(
        "images-not-taken",
        "error",
        "Training this model does not support images.",
        "Remove them, or choose another model.",
    ),
    Code(
        "too-long",
        "error",
        "A row is longer than the model accepts.",
        "Shorten it, or set data.too_long to drop or truncate.",
    ),
    Code("too-few-rows", "error", "There are fewer rows than the backend requires.", "Add rows."),
    Code(
        "file-too-large",
        "error",
        "The data is larger than the backend accepts.",
        "Use a part of it: Dataset.sample(rows).",
    ),
    Code(
        "plain-text",
        "warning",
        "Prompts and completions are trained as plain text, but the model has a chat template.",
        "Train with the template: --column question=prompt --column answer=completion (data.columns in the config).",
    ),
    Code("base-note", "note", "Something to know about this model and this data.", "Nothing to do if this is right."),
)
ROWS = (
    Code(
        "duplicate",
        "warning",
        "A row occurs more than once, so it counts more than the others.",
        "Drop the copies: tuneport fix",
    ),
    Code(
        "near-duplicate",
        "warning",
        "A row differs from another only in case, white space or punctuation.",
        "Keep one of them, or run: tuneport fix --only near-duplicate",
    ),
    Code(
        "conflicting-answers",
        "warning",
        "The same prompt has different answers, and no model can learn both.",
        "Choose one, or run: tuneport fix --only conflicting-answers",
    ),
    Code(
        "leaked-row",
        "warning",
        "A training row is also in the held-out data, possibly with another system prompt. The score then measures "
        "memory.",
        "Remove it from one of the two.",
    ),
    Code(
        "leaked-prompt",
        "note",
        "A training prompt is also in the held-out data, with another answer.",
        "Check whether the two files overlap.",
    ),
    Code(
        "label-imbalance",
        "warning",
        "Some labels have at least ten times as many rows as others.",
        "Add rows with the rare labels, and compare scores by label.",
    ),
    Code(
        "label-spellings",
        "warning",
        "Labels differ only in case, white space, or joiners such as _ and -.",
        "Spell each label one way.",
    ),
    Code("single-label", "warning", "Every row has the same answer.", "Add rows with other answers."),
    Code("few-rows", "warning", "There are fewer than 50 rows.", "Add rows. A few hundred are a good start."),
)
