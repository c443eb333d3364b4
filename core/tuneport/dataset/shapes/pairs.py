"""Rows with a better and a worse answer, to preferences: as OpenAI, TRL, LLaMA-Factory and Anthropic write them."""

from __future__ import annotations

import msgspec

from tuneport.dataset.example import Completion, Conversation, Example, Message, Preference
from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.shapes import messages as turns
from tuneport.dataset.shapes.recipe import Row
from tuneport.dataset.shapes.tools import read_tools

_HH_TURNS = (("\n\nHuman:", "user"), ("\n\nAssistant:", "assistant"))


def openai_pair(row: Row) -> Example:
    columns = {"prompt": "input", "chosen": "preferred_output", "rejected": "non_preferred_output"}
    row.report.place = lambda part, index: (
        f"{row.pointer(columns[part])}{'/messages' if part == 'prompt' else ''}/{index}/content"
    )
    value = row.parsed("input")
    inner = value if isinstance(value, dict) else {}
    prompt = turns.read_messages(inner.get("messages"), f"{row.pointer('input')}/messages", row.report)
    tools = read_tools(inner.get("tools"), f"{row.pointer('input')}/tools", row.report)
    return Preference(
        prompt=prompt,
        chosen=row.messages("preferred_output"),
        rejected=row.messages("non_preferred_output"),
        tools=tools,
    )


def pair(row: Row) -> Example | None:
    row.report.place = lambda part, _: row.pointer(part)
    chosen, rejected = (read_arm(row, role) for role in ("chosen", "rejected"))
    prompt = _asked(row)
    if row.report.failed:
        return None
    system = Message(role="system", content=row.system_prompt())
    if prompt is not None and system.content and chosen[:1] == rejected[:1] == (system,) != prompt[:1]:
        prompt = (system, *prompt)  # the answers repeat it
    split = split_arms(prompt, chosen, rejected, row.report)
    if split is None:
        return None
    prompt = _with_context(row, split[0])
    pair = Preference(prompt=prompt, chosen=split[1], rejected=split[2], tools=row.tools())
    return with_system(pair, row.system_prompt())


def _with_context(row: Row, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt of a pair whose last question has the row's context behind it."""
    if row.get("context") in (None, "", [], {}):
        return prompt
    last = max((place for place, turn in enumerate(prompt) if turn.role == "user"), default=-1)
    if last < 0 or not isinstance(prompt[last].content, str):
        row.report.add(
            "not-text", "There is no question of plain text that the context belongs to.", row.pointer("context")
        )
        return prompt
    asked = msgspec.structs.replace(prompt[last], content=row.more("context", prompt[last].text))
    return (*prompt[:last], asked, *prompt[last + 1 :])


ASKED = ("prompt", "conversations", "instruction", "question")
"""Where the prompt of a pair may stand; the first there is counts."""


def _asked(row: Row) -> tuple[Message, ...] | None:
    """The prompt of a pair, which may stand in the columns of another shape; None where the answers hold it."""
    for role in ASKED:
        if row.get(role) in (None, "", []):
            continue
        if role == "instruction":
            return (Message(role="user", content=row.more("input", row.text(role))),)
        return read_arm(row, role, "user")
    return None


def with_system(example: Example, system: str | None) -> Example:
    """The example with that system prompt in front, unless it brings one of its own or is plain text."""
    if not system or isinstance(example, Completion):
        return example
    first = example.prompt if isinstance(example, Preference) else example.messages
    if first and first[0].role in ("system", "developer"):
        return example
    first = (Message(role="system", content=system), *first)
    if isinstance(example, Preference):
        return Preference(prompt=first, chosen=example.chosen, rejected=example.rejected, tools=example.tools)
    return Conversation(messages=first, tools=example.tools, parallel_tool_calls=example.parallel_tool_calls)


def read_arm(row: Row, role: str, speaker: str = "assistant") -> tuple[Message, ...]:
    """A prompt or an answer of a pair: messages, one message, one turn's text, or a dialogue in Anthropic's
    Human/Assistant text.
    """
    value = row.get(role)
    if isinstance(value, str) and role != "conversations":
        return _dialogue(value) or (Message(role=speaker, content=value),)
    if isinstance(value, dict):
        return turns.read_one(value, row.pointer(role), row.report)
    if role == "conversations" or (
        isinstance(value, list) and any(isinstance(one, dict) and "from" in one for one in value)
    ):
        return turns.read_sharegpt(row.parsed(role), row.pointer(role), row.report)
    return row.messages(role)


def _dialogue(text: str) -> tuple[Message, ...]:
    text = f"\n\n{text.lstrip()}"
    if not text.startswith(_HH_TURNS[0][0]) or _HH_TURNS[1][0] not in text:
        return ()
    found: list[Message] = []
    for piece in text.split("\n\nHuman:")[1:]:
        asked, *answers = piece.split("\n\nAssistant:")
        found.append(Message(role="user", content=asked.strip()))
        found.extend(Message(role="assistant", content=answer.strip()) for answer in answers)
    return tuple(found)


Arms = tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]


def split_arms(
    prompt: tuple[Message, ...] | None, chosen: tuple[Message, ...], rejected: tuple[Message, ...], report: RowReport
) -> Arms | None:
    """Prompt, chosen and rejected, where the two answers may repeat the prompt, or hold it alone."""
    if prompt is None:
        shared = 0
        while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
            shared += 1
        while shared and chosen[shared - 1].role == "assistant":  # equal answers are not part of the prompt
            shared -= 1
        prompt = chosen[:shared]
        if not prompt or any(arm[shared:] and arm[shared].role != "assistant" for arm in (chosen, rejected)):
            report.add(
                "differing-prompts", "The answers share no prompt.", "/rejected", "Name the prompt in a column prompt."
            )
            return None
    for arm, role in ((chosen, "chosen"), (rejected, "rejected")):
        if arm and arm[0].role != "assistant" and arm[: len(prompt)] != prompt:
            report.add("differing-prompts", f"{role} starts with another prompt.", f"/{role}")
            return None
    repeated = tuple(arm[len(prompt) :] if arm[: len(prompt)] == prompt else arm for arm in (chosen, rejected))
    return prompt, repeated[0], repeated[1]
