"""The checks of one row against a backend's rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tuneport.dataset.example import Completion, Conversation, Example, Message, Preference
from tuneport.dataset.findings.row_report import Finding, RowReport
from tuneport.dataset.rules import DataRules, ExampleShape

TooLong = Literal["stop", "drop", "truncate"]


def shape_of(example: Example) -> ExampleShape:
    """The example's shape, as rules name it."""
    if isinstance(example, Conversation):
        return "conversation"
    return "completion" if isinstance(example, Completion) else "preference"


def check_limits(
    example: Example, tokens: int | None, rules: DataRules, method: str, too_long: TooLong, report: RowReport
) -> bool:
    """Report what the rules do not accept. True if the row is left out for its length alone (`drop`)."""
    accepted = rules.shapes.get(method, frozenset())
    shape = shape_of(example)
    if shape not in accepted:
        methods = [name for name, shapes in sorted(rules.shapes.items()) if shape in shapes]
        use = f"Use the method {' or '.join(methods)}: --method {methods[0]}, or convert the data." if methods else None
        if accepted:
            rows = " and ".join(f"{one} rows" for one in sorted(accepted))
            problem = f"{method} trains on {rows}, but this is a {shape} row."
        else:
            problem = f"The backend does not support {method}."
        report.add("shape-not-taken", problem, remedy=use)
    if not isinstance(example, Completion):
        _check_roles(example, rules, report)
        _check_media(example, rules, report)
    if rules.check_row is not None and not report.failed:
        for one in rules.check_row(example):
            finding = Finding(one.code, one.message, report.line, one.pointer, one.severity, one.remedy)
            report.note(finding)
    if tokens is None or rules.max_tokens is None or tokens <= rules.max_tokens:
        return False
    message = f"The row has {tokens:,} tokens, but the model accepts {rules.max_tokens:,}"
    if too_long == "stop":
        report.add("too-long", f"{message}.")
    else:
        outcome = "It is left out" if too_long == "drop" else "It is cut"
        remedy = "Nothing to do if this is right."
        report.note(Finding("too-long", f"{message}. {outcome}.", report.line, None, "warning", remedy))
    return too_long == "drop"


def _messages(example: Conversation | Preference) -> Iterable[tuple[str, int, Message]]:
    if isinstance(example, Conversation):
        parts = {"messages": example.messages}
    else:
        parts = {"prompt": example.prompt, "chosen": example.chosen, "rejected": example.rejected}
    return ((part, index, message) for part, messages in parts.items() for index, message in enumerate(messages))


def _check_roles(example: Conversation | Preference, rules: DataRules, report: RowReport) -> None:
    for part, index, message in _messages(example):
        if message.role not in rules.roles:
            report.add(
                "role-not-taken", f"{message.role} is not one of {_list(rules.roles)}.", report.place(part, index)
            )


def _check_media(example: Conversation | Preference, rules: DataRules, report: RowReport) -> None:
    if not rules.tools and (example.tools or any(message.tool_calls for _, _, message in _messages(example))):
        report.add("tools-not-taken", "The row has tools or tool calls.")
    if rules.images:
        return
    for part, index, message in _messages(example):
        if isinstance(message.content, list) and any(piece.get("type") != "text" for piece in message.content):
            report.add("images-not-taken", "The turn has an image.", report.place(part, index))


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
