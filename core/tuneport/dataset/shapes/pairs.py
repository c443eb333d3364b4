"""Builders of preferences: rows with a better and a worse answer, as OpenAI, TRL, LLaMA-Factory and Anthropic write
them.
"""

from __future__ import annotations

import msgspec

from tuneport.dataset.example import Message, Preference
from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.shapes.conversations import Built, with_system
from tuneport.dataset.shapes.messages import read_messages, read_one, read_sharegpt
from tuneport.dataset.shapes.row_view import RowView
from tuneport.dataset.shapes.tools import read_tools

_DIALOGUE = (("\n\nHuman:", "user"), ("\n\nAssistant:", "assistant"))


def build_openai_pair(row: RowView) -> Built:
    """OpenAI's preference pair."""
    value = row.parse("input")
    inner = value if isinstance(value, dict) else {}
    prompt = read_messages(inner.get("messages"), f"{row.pointer('input')}/messages", row.report)
    tools = read_tools(inner.get("tools"), f"{row.pointer('input')}/tools", row.report)
    chosen, rejected = row.messages("preferred_output"), row.messages("non_preferred_output")
    columns = {"prompt": "input", "chosen": "preferred_output", "rejected": "non_preferred_output"}

    def place(part: str, index: int) -> str:
        return f"{row.pointer(columns[part])}{'/messages' if part == 'prompt' else ''}/{index}/content"

    return Built(Preference(prompt=prompt, chosen=chosen, rejected=rejected, tools=tools), place)


def build_pair(row: RowView) -> Built | None:
    """A chosen and a rejected answer, with their prompt in a column or in both answers."""
    chosen, rejected = (_read_arm(row, role) for role in ("chosen", "rejected"))
    prompt = _read_prompt(row)
    if row.report.failed:
        return None
    system = Message(role="system", content=row.system_prompt())
    if prompt is not None and system.content and chosen[:1] == rejected[:1] == (system,) != prompt[:1]:
        prompt = (system, *prompt)  # the answers repeat it
    split = _split_arms(prompt, chosen, rejected, row.report)
    if split is None:
        return None
    prompt = _add_context(row, split[0])
    pair = Preference(prompt=prompt, chosen=split[1], rejected=split[2], tools=row.tools())
    return Built(with_system(pair, row.system_prompt()), lambda part, _: row.pointer(part))


def _add_context(row: RowView, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt with the row's context after its last question."""
    if row.get("context") in (None, "", [], {}):
        return prompt
    last = max((place for place, turn in enumerate(prompt) if turn.role == "user"), default=-1)
    if last < 0 or not isinstance(prompt[last].content, str):
        row.report.add("not-text", "There is no plain text question to add the context to.", row.pointer("context"))
        return prompt
    asked = msgspec.structs.replace(prompt[last], content=row.join("context", prompt[last].text))
    return (*prompt[:last], asked, *prompt[last + 1 :])


PROMPT_ROLES = ("prompt", "conversations", "instruction", "question")
"""The roles that may have a pair's prompt; the first one that is present counts."""


def _read_prompt(row: RowView) -> tuple[Message, ...] | None:
    """The prompt of a pair, possibly in the columns of another shape; None where only the answers have it."""
    for role in PROMPT_ROLES:
        if row.get(role) in (None, "", []):
            continue
        if role == "instruction":
            return (Message(role="user", content=row.join("input", row.text(role))),)
        return _read_arm(row, role, "user")
    return None


def _read_arm(row: RowView, role: str, speaker: str = "assistant") -> tuple[Message, ...]:
    """A prompt or an answer of a pair: messages, one message, the text of one turn, or a dialogue in Anthropic's
    Human/Assistant notation.
    """
    value = row.get(role)
    if isinstance(value, str) and role != "conversations":
        return _parse_dialogue(value) or (Message(role=speaker, content=value),)
    if isinstance(value, dict):
        return read_one(value, row.pointer(role), row.report)
    if role == "conversations" or (
        isinstance(value, list) and any(isinstance(one, dict) and "from" in one for one in value)
    ):
        return read_sharegpt(row.parse(role), row.pointer(role), row.report)
    return row.messages(role)


def _parse_dialogue(text: str) -> tuple[Message, ...]:
    text = f"\n\n{text.lstrip()}"
    if not text.startswith(_DIALOGUE[0][0]) or _DIALOGUE[1][0] not in text:
        return ()
    found: list[Message] = []
    for piece in text.split("\n\nHuman:")[1:]:
        asked, *answers = piece.split("\n\nAssistant:")
        found.append(Message(role="user", content=asked.strip()))
        found.extend(Message(role="assistant", content=answer.strip()) for answer in answers)
    return tuple(found)


Arms = tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]


def _split_arms(
    prompt: tuple[Message, ...] | None, chosen: tuple[Message, ...], rejected: tuple[Message, ...], report: RowReport
) -> Arms | None:
    """Prompt, chosen and rejected. The answers may repeat the prompt, or be the only place where it is."""
    if prompt is None:
        shared = 0
        while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
            shared += 1
        while shared and chosen[shared - 1].role == "assistant":  # equal answers are not part of the prompt
            shared -= 1
        prompt = chosen[:shared]
        if not prompt or any(arm[shared:] and arm[shared].role != "assistant" for arm in (chosen, rejected)):
            report.add(
                "differing-prompts",
                "The answers have no prompt in common.",
                "/rejected",
                "Write the prompt in a column named prompt.",
            )
            return None
    for arm, role in ((chosen, "chosen"), (rejected, "rejected")):
        if arm and arm[0].role != "assistant" and arm[: len(prompt)] != prompt:
            report.add("differing-prompts", f"{role} starts with a different prompt.", f"/{role}")
            return None
    repeated = tuple(arm[len(prompt) :] if arm[: len(prompt)] == prompt else arm for arm in (chosen, rejected))
    return prompt, repeated[0], repeated[1]
