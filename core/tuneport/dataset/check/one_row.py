"""The checks of one row: small functions, one for each kind of problem."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tuneport.dataset.example import Completion, Conversation, Example, Message, Preference
from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.shapes.text_values import NO_VALUE

TERMINAL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # colors and cursor moves, as in logs (ECMA-48)
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# UTF-8 read as Latin-1 or Windows-1252: the letter of a lead byte, then the character of a continuation byte. Where the
# letter is common in some language, two such pairs must follow each other.
_REST = "[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
LEADS = re.compile(f"[Ä-ÛÝ-ß×]{_REST}|[à-ï]{_REST}{_REST}")
"""The start of mojibake of the second kind."""
MOJIBAKE = re.compile(
    "[ÃÂ][\x80-¿ƒ€‚„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€[\x80-¿™œ“”˜¦¢\x9d]|ðŸ[\x80-¿€-™]|ï»¿|ï¿½"
    f"|(?:[Ä-ÛÝ-ß×]{_REST}){{2}}|(?:[à-ï]{_REST}{_REST}){{2}}"
)
INVISIBLE = re.compile("[\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]")
ENTITY = re.compile(
    r"&(?:#[0-9]{2,6}|#[xX][0-9a-fA-F]{2,5}|amp|lt|gt|quot|apos|nbsp|[lr][ds]quo|hellip|[nm]dash|eacute|[aou]uml);"
)
_TEXT_CHECKS = (
    ("control-character", CONTROL),
    ("mojibake", MOJIBAKE),
    ("replacement-character", re.compile("�")),
    ("invisible-character", INVISIBLE),
    ("line-separator", re.compile("[\u2028\u2029]")),
)

_NO_CALLS = (
    "Write the call as tool_calls of the assistant's turn, or in its text as <tool_call>{…}</tool_call>. "
    "Other notations of a call in a text are not supported."
)

TurnPlace = Callable[[int], str]


def check_example(example: Example, report: RowReport) -> None:
    """All checks that need no backend."""
    if isinstance(example, Conversation):
        _check_conversation(example, report)
    elif isinstance(example, Completion):
        _check_completion(example, report)
    else:
        _check_preference(example, report)


def _check_conversation(example: Conversation, report: RowReport) -> None:
    def place(index: int) -> str:
        return report.place("messages", index)

    check_turns([message.role for message in example.messages], place, report)
    for check in (_check_weights, _check_contents, _check_tool_turns):
        check(example.messages, place, report)
    _check_declared(example, place, report)


def check_turns(roles: Sequence[str], place: TurnPlace, report: RowReport) -> None:
    """Checks that need only the order of roles."""
    if "assistant" not in roles:
        report.add("no-assistant", "There is no assistant turn.", _parent(place(0)) if roles else None)
    elif roles[-1] != "assistant":
        report.add("last-not-assistant", f"The last turn is {roles[-1]}.", place(len(roles) - 1))
    _check_order(roles, place, report)


def _check_order(roles: Sequence[str], place: TurnPlace, report: RowReport) -> None:
    for index, role in enumerate(roles[1:], 1):
        if role in ("system", "developer"):
            if roles[index - 1] not in ("system", "developer"):
                report.add("system-not-first", f"A {role} turn follows a turn of the {roles[index - 1]}.", place(index))
        elif role == roles[index - 1] and role != "tool":
            report.add("consecutive-roles", f"Two {role} turns follow each other.", place(index))


def _check_weights(messages: Sequence[Message], place: TurnPlace, report: RowReport) -> None:
    trained = [message for message in messages if message.role == "assistant"]
    if trained and all(message.weight == 0 for message in trained):
        report.add("nothing-to-train-on", "Every assistant turn has weight 0.", _parent(place(0)))


def _check_contents(messages: Sequence[Message], place: TurnPlace, report: RowReport) -> None:
    for index, message in enumerate(messages):
        text = message.text
        check_text(text, lambda at=index: place(at), report)  # type: ignore[misc]  # mypy cannot type a lambda's default
        if text in NO_VALUE and message.role != "tool":
            report.add("no-value", f"The {message.role} turn is {text!r}.", place(index))
        if not is_blank(text) or message.tool_calls or _has_images(message):
            continue
        if message.role == "assistant" and message.weight != 0:
            report.add("empty-answer", "The assistant's turn is empty.", place(index))
        elif message.role != "tool":  # a tool may return nothing
            report.add("empty-content", f"The {message.role} turn is empty.", place(index))


def is_blank(text: str) -> bool:
    """Whether a text has no visible character."""
    bare = text.strip()
    if not bare or bare.isprintable():
        return not bare
    return not INVISIBLE.sub("", CONTROL.sub("", TERMINAL.sub("", bare))).strip()


def check_text(text: str, place: Callable[[], str], report: RowReport) -> None:
    """White space at the ends of a text, and suspicious characters in it."""
    if text and (text[0].isspace() or text[-1].isspace()) and not text.isspace():
        report.add("edge-whitespace", f"The text starts or ends with white space: {_show_ends(text)}.", place())
    if "&" in text and (found := ENTITY.search(text)):
        report.add("html-entities", f"Character {found.start() + 1} starts {found[0]!r}.", place())
    if text.isascii() and text.isprintable():
        return
    for code, pattern in _TEXT_CHECKS:
        if found := pattern.search(text):
            shown = f"U+{ord(found[0]):04X}" if len(found[0]) == 1 else f"{found[0]!r}"
            report.add(code, f"Character {found.start() + 1} is {shown}.", place())


def _show_ends(text: str) -> str:
    return repr(text) if len(text) <= 24 else f"{text[:10]!r} … {text[-10:]!r}"


def _check_tool_turns(messages: Sequence[Message], place: TurnPlace, report: RowReport) -> None:
    """Every call is answered before the conversation continues, and every answer belongs to a call."""
    open_calls: dict[str, int] = {}
    for index, message in enumerate(messages):
        if message.role == "tool":
            if open_calls.pop(message.tool_call_id or "", None) is None:
                name = message.tool_call_id
                problem = f"There is no open call {name!r} to answer." if name else "The tool turn names no call."
                remedy = None if any(one.tool_calls for one in messages[:index]) else _NO_CALLS
                report.add("tool-answer-without-call", problem, _parent(place(index)), remedy)
            continue
        _report_unanswered(open_calls, place, report)
        open_calls = {str(call.get("id", "")): index for call in message.tool_calls or ()}


def _report_unanswered(open_calls: dict[str, int], place: TurnPlace, report: RowReport) -> None:
    for name, index in open_calls.items():
        report.add("tool-call-unanswered", f"The call {name!r} has no answer.", f"{_parent(place(index))}/tool_calls")


def _check_declared(example: Conversation, place: TurnPlace, report: RowReport) -> None:
    declared = {tool["function"]["name"] for tool in example.tools}
    for index, message in enumerate(example.messages):
        for call in message.tool_calls or ():
            name = call["function"]["name"]
            if name not in declared:
                report.add(
                    "tool-not-declared", f"{name} is called but not declared.", f"{_parent(place(index))}/tool_calls"
                )


def _check_completion(example: Completion, report: RowReport) -> None:
    texts = (example.prompt, example.completion)
    for part, text, trimmed in zip(("prompt", "completion"), texts, trim(example), strict=True):
        place = report.place(part, 0)
        if text != trimmed:
            report.add("edge-whitespace", f"The {part} has white space at its outer end: {_show_ends(text)}.", place)
        check_text(text.strip(), lambda place=place: place, report)  # type: ignore[misc]  # as above
        if text.strip() in NO_VALUE:
            report.add("no-value", f"The {part} is {text.strip()!r}.", place)
    if is_blank(example.prompt):
        report.add("empty-prompt", "The prompt is empty.", report.place("prompt", 0))
    if is_blank(example.completion):
        report.add("empty-answer", "The completion is empty.", report.place("completion", 0))


def trim(example: Completion) -> tuple[str, str]:
    """Prompt and completion without white space at their outer ends. Where they meet, it separates them and stays. A
    text of only white space stays too.
    """
    prompt, completion = example.prompt, example.completion
    trimmed = completion.rstrip() if prompt else completion.strip()
    return prompt.lstrip() or prompt, trimmed or completion


def _check_preference(example: Preference, report: RowReport) -> None:
    arms = {"chosen": example.chosen, "rejected": example.rejected}
    for part, messages in ({"prompt": example.prompt} | arms).items():
        for index, message in enumerate(messages):
            check_text(message.text, lambda part=part, at=index: report.place(part, at), report)  # type: ignore[misc]  # as above
    for part, messages in arms.items():
        if len(messages) == 1 and messages[0].text in NO_VALUE:
            report.add("no-value", f"{part} is {messages[0].text!r}.", report.place(part, 0))
        if all(is_blank(message.text) and not message.tool_calls for message in messages):
            report.add("empty-arm", f"{part} is empty.", report.place(part, 0))
        elif not any(message.role == "assistant" for message in messages):
            report.add("no-assistant", f"{part} has no assistant turn.", report.place(part, 0))
    if example.chosen == example.rejected:
        report.add("identical-arms", "chosen and rejected are the same.", report.place("rejected", 0))


def _has_images(message: Message) -> bool:
    return isinstance(message.content, list) and any(part.get("type") != "text" for part in message.content)


def _parent(pointer: str) -> str:
    return pointer.removesuffix("/content").removesuffix("/value")
