"""The checks of one row against what a backend takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tuneport.dataset.example import Completion, Conversation, Example, Message, Preference
from tuneport.dataset.findings.findings import Finding, RowReport
from tuneport.dataset.rules import DataRules, Shape

TooLong = Literal["stop", "drop", "truncate"]


def shape_of(example: Example) -> Shape:
    """The example's shape, as profiles name it."""
    if isinstance(example, Conversation):
        return "conversation"
    return "completion" if isinstance(example, Completion) else "preference"


def check_limits(
    example: Example, tokens: int | None, rules: DataRules, method: str, too_long: TooLong, report: RowReport
) -> bool:
    """Report what the rules does not take; whether the row is left out for its length alone (`drop`)."""
    taken = rules.shapes.get(method, frozenset())
    shape = shape_of(example)
    if shape not in taken:
        fitting = [name for name, shapes in sorted(rules.shapes.items()) if shape in shapes]
        report.add(
            "shape-not-taken",
            f"{method} takes {_listed(taken)}, and this is a {shape}." if taken else f"{method} is not trained here.",
            remedy=f"Choose the method {' or '.join(fitting)}: --method {fitting[0]}, or convert the data."
            if fitting
            else None,
        )
    if not isinstance(example, Completion):
        _check_roles(example, rules, report)
        _check_media(example, rules, report)
    if rules.check_row is not None and not report.failed:
        for one in rules.check_row(example):
            finding = Finding(one.code, one.message, report.line, one.pointer, one.severity, one.remedy)
            report.note(finding)
    if tokens is None or rules.max_tokens is None or tokens <= rules.max_tokens:
        return False
    message = f"The row has {tokens:,} tokens, the model takes {rules.max_tokens:,}"
    if too_long == "stop":
        report.add("too-long", f"{message}.")
    else:
        done = "it is left out" if too_long == "drop" else "it is cut"
        report.note(
            Finding("too-long", f"{message}; {done}.", report.line, None, "warning", "Nothing to do, if that is meant.")
        )
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
                "role-not-taken", f"{message.role} is not among {_listed(rules.roles)}.", report.place(part, index)
            )


def _check_media(example: Conversation | Preference, rules: DataRules, report: RowReport) -> None:
    if not rules.tools and (example.tools or any(message.tool_calls for _, _, message in _messages(example))):
        report.add("tools-not-taken", "The row has tools or tool calls.")
    if rules.images:
        return
    for part, index, message in _messages(example):
        if isinstance(message.content, list) and any(piece.get("type") != "text" for piece in message.content):
            report.add("images-not-taken", "The turn has an image.", report.place(part, index))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
