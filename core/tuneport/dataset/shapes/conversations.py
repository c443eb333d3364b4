"""Builders of the shapes without preferences: a row becomes a conversation or a completion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tuneport.dataset.example import Completion, Conversation, Example, Message, Preference
from tuneport.dataset.findings.row_report import Place, place_in_messages
from tuneport.dataset.shapes.messages import Content, drop_repeated_thought, read_sharegpt
from tuneport.dataset.shapes.row_view import RowView
from tuneport.dataset.shapes.tools import decode_text, read_calls

TURN_ROLES = frozenset({"system", "history", "tools", "reasoning"})
"""The columns that make a prompt and its completion turns of a conversation."""


class Built(NamedTuple):
    """An example, and where its texts are in the row."""

    example: Example
    place: Place = place_in_messages


def build_canonical(row: RowView) -> Built | None:
    """A row that `Dataset.write` or a job wrote: its key `shape` names the example's type."""
    shape = row.values.get("shape")
    if shape == "completion":
        return build_completion(row)
    if shape == "preference":
        prompt, chosen, rejected = (row.messages(role) for role in ("prompt", "chosen", "rejected"))
        return Built(Preference(prompt=prompt, chosen=chosen, rejected=rejected, tools=row.tools()))
    if shape == "conversation":
        return build_messages(row)
    row.report.add("mixed-shapes", f"shape is {shape!r}, which tuneport does not know.", "/shape")
    return None


def build_messages(row: RowView) -> Built:
    """A list of messages in the usual form."""
    parallel = row.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        row.report.add("not-text", "parallel_tool_calls is neither true nor false.", row.pointer("parallel_tool_calls"))
        parallel = None
    turns, place = _surround(row, row.messages("messages"), lambda at: f"{row.turn_pointer('messages', at)}/content")
    return Built(Conversation(messages=turns, tools=row.tools(), parallel_tool_calls=parallel), place)


def build_sharegpt(row: RowView) -> Built:
    """ShareGPT's conversations."""
    turns = read_sharegpt(row.parse("conversations"), row.pointer("conversations"), row.report)
    turns, place = _surround(row, turns, lambda at: f"{row.turn_pointer('conversations', at)}/value")
    return Built(Conversation(messages=turns, tools=row.tools()), place)


def build_prompt_completion(row: RowView) -> Built:
    """A prompt and its completion: plain text, or turns where they are lists or other columns make them turns."""
    if isinstance(row.get("prompt"), list | dict) or isinstance(row.get("completion"), list | dict):
        return _build_prompt_turns(row)
    if row.recipe.turns or any(row.get(role) for role in TURN_ROLES):
        return _build_pair(row, row.join("context", row.text("prompt")), "prompt", "completion")
    return build_completion(row)


def _build_prompt_turns(row: RowView) -> Built:
    prompt = row.turns("prompt", "user")
    if row.get("reasoning"):
        message = f"{row.pointer('reasoning')[1:]} is a column. With turns it must be on the assistant's turn."
        row.report.add("bad-reasoning", message, row.pointer("reasoning"))

    def pointer(at: int) -> str:
        role, index = ("prompt", at) if at < len(prompt) else ("completion", at - len(prompt))
        return f"{row.turn_pointer(role, index)}/content"

    turns, place = _surround(row, prompt + row.turns("completion", "assistant"), pointer)
    return Built(Conversation(messages=turns, tools=row.tools()), place)


def build_completion(row: RowView) -> Built:
    """Plain text, continued by plain text."""
    prompt = row.text("prompt") if "prompt" in row.recipe.columns else ""
    example = Completion(prompt=row.join("context", prompt, before=True), completion=row.text("completion"))
    return Built(example, lambda part, _: row.pointer(part))


def build_alpaca(row: RowView) -> Built:
    """Alpaca's instruction, input and output."""
    question = row.join("context", row.join("input", row.text("instruction")))
    return _build_pair(row, question, "instruction", "output")


def build_question_answer(row: RowView) -> Built:
    """A question and its answer."""
    return _build_pair(row, row.join("context", row.text("question")), "question", "answer")


def build_text_label(row: RowView) -> Built:
    """A text and its label."""
    return _build_pair(row, row.join("context", row.text("text")), "text", "label")


def _build_pair(row: RowView, question: str, asked: str, answered: str) -> Built:
    """A user's turn with the question, and an assistant's turn with the text of the role `answered`."""
    thought = row.text("reasoning") if row.get("reasoning") is not None else ""
    text = row.answer(answered) if answered == "answer" else row.text(answered)
    content = drop_repeated_thought(text, thought, row.pointer(answered), row.report)
    calls = _read_calls(row, answered, content)
    answer = Message(
        role="assistant", content=None if calls else content, tool_calls=calls, reasoning_content=thought or None
    )
    pair = (Message(role="user", content=question), answer)
    turns, place = _surround(row, pair, lambda at: row.pointer(answered if at else asked))
    return Built(Conversation(messages=turns, tools=row.tools()), place)


def _read_calls(row: RowView, answered: str, content: Content) -> list[dict[str, Any]] | None:
    """The tool calls in an answer that is a JSON list of calls, in a row that has tools."""
    if not row.get("tools"):
        return None
    calls = decode_text(content)
    if not (isinstance(calls, list) and calls and all(isinstance(one, dict) and "name" in one for one in calls)):
        return None
    return read_calls(calls, row.pointer(answered), row.report)


def _surround(
    row: RowView, messages: tuple[Message, ...], pointer: Callable[[int], str]
) -> tuple[tuple[Message, ...], Place]:
    """A row's turns with its system prompt and earlier turns in front, and where each is; `pointer` is for its own."""
    system, earlier = row.system_prompt(), row.history()
    own = next((place for place, turn in enumerate(messages) if turn.role not in ("system", "developer")), 0)
    # A system prompt that differs from that of the turns is kept in addition: nothing is lost silently.
    first = (Message(role="system", content=system),) if system else ()
    first = () if first == messages[:1] else first

    def place(_: str, index: int) -> str:
        index -= len(first)
        if index < 0:
            return row.pointer("system")
        if own <= index < own + len(earlier):
            return row.pointer("history")
        return pointer(index if index < own else index - len(earlier))

    return (*first, *messages[:own], *earlier, *messages[own:]), place


def with_system(example: Example, system: str | None) -> Example:
    """The example with that system prompt in front, unless it already has one or is plain text."""
    if not system or isinstance(example, Completion):
        return example
    first = example.prompt if isinstance(example, Preference) else example.messages
    if first and first[0].role in ("system", "developer"):
        return example
    first = (Message(role="system", content=system), *first)
    if isinstance(example, Preference):
        return Preference(prompt=first, chosen=example.chosen, rejected=example.rejected, tools=example.tools)
    return Conversation(messages=first, tools=example.tools, parallel_tool_calls=example.parallel_tool_calls)
