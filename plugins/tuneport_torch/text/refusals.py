"""The reasons why a template cannot be used to train on a row, each with a remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneport.errors import DataError

OTHER_TEMPLATE = "Choose another base model, or fix chat_template.jinja in a copy of this one's folder."

_SYSTEM = ("system", "developer")
_SYSTEM_FIRST = "Put the system text at the start of the first user turn, or choose a base model that accepts one."
_SYSTEM_LATER = "Put its text into the user turn that follows it, or into a system turn at the start."
_TOOL_TEMPLATE = (
    "The model has another template, named tool_use: make it the chat_template.jinja in a copy of the model's folder. "
    "Or write the calls and results as text."
)
_WITHOUT_TOOLS = "Choose a base model whose template supports tools, or write the calls and results as text."


RESIZE = (
    "Resize the model's embeddings (resize_token_embeddings in transformers), or remove the token from tokenizer.json."
)
"""The remedy for a token without an embedding."""


class Unrenderable(DataError):  # noqa: N818 - names what the row is
    """A row that the template cannot render for training. `code` is the diagnostic's."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


def unreadable_token(why: str) -> Unrenderable:
    """The model has no embedding for a token of the row; `why` names it."""
    return Unrenderable("token-beyond-model", f"The model cannot read this row: {why}.", RESIZE)


def no_template() -> Unrenderable:
    """The model has no chat template at all."""
    return Unrenderable(
        "no-template",
        "The base model has no chat template, so conversations cannot be rendered for it.",
        "Choose an instruct model, or use rows with prompt and completion.",
    )


def template_refuses(why: str, row: Mapping[str, Any]) -> Unrenderable:
    """The template raised the error `why` for `row`, the template's input."""
    turns = row["messages"]
    system = any(turn["role"] in _SYSTEM for turn in turns)
    system_remedy = _SYSTEM_FIRST if system and turns[0]["role"] in _SYSTEM else _SYSTEM_LATER
    remedy = OTHER_TEMPLATE
    if "single tool" in why.lower():
        remedy = "Split the turn: one tool call, its result, then the next call."
    elif "system" in why.lower() and system:
        remedy = system_remedy
    elif "alternat" in why.lower() or "role" in why.lower():
        remedy = "Let user and assistant alternate in the row, user first."
        if has_tools(row):
            remedy = f"This template accepts no tool calls and results here. {_WITHOUT_TOOLS}"
        elif system:
            remedy = system_remedy
    return Unrenderable("template-refuses", f"The model's chat template refuses this: {why.rstrip('.')}.", remedy)


def mask_unproven(turn: int, why: str, *, last: bool) -> Unrenderable:
    """The place of the assistant's text cannot be proven."""
    remedy = "End the row with the turn to be trained on, or choose a base model with another template."
    return Unrenderable(
        "mask-unproven",
        f"The assistant's text in message {turn} cannot be separated from the rest: {why}.",
        OTHER_TEMPLATE if last else remedy,
    )


def answer_not_opened(lead: str) -> Unrenderable:
    """The template's prompt does not open the answer, so `lead` would be part of what the model writes."""
    return Unrenderable(
        "answer-not-opened",
        f"The model's chat template ends the prompt before {lead[:60]!r}, so the model writes that into its answer.",
        "In a copy of the model's folder, end chat_template.jinja with that text within "
        "{% if add_generation_prompt %}…{% endif %}.",
    )


def calls_left_out(turn: int) -> Unrenderable:
    """The template writes only one of several calls."""
    return Unrenderable(
        "tools-ignored",
        f"The model's chat template writes only some of the calls in message {turn}.",
        "Split the turn: one tool call, its result, then the next call.",
    )


def tools_ignored(why: str, *, another: bool = False) -> Unrenderable:
    """The template leaves out tools, calls or results. `another`: the model has another template, for tools."""
    remedy = _TOOL_TEMPLATE if another else _WITHOUT_TOOLS
    return Unrenderable("tools-ignored", f"The model's chat template does not write tools: {why}.", remedy)


def left_out(turn: int, role: str, what: str, *, trained: bool, called: bool = False) -> Unrenderable:
    """The template leaves out a turn (`what` is "all"), a "part" of its content, or a "call". `called`: it has
    calls.
    """
    if what == "call":
        return tools_ignored(f"the call in message {turn} is missing from what the model would see")
    written = f"leaves out message {turn} ({role})" if what == "all" else f"writes only part of message {turn} ({role})"
    if trained and called:
        return Unrenderable(
            "content-lost",
            f"The model's chat template leaves out the text next to the calls in message {turn}.",
            "Remove that text from the row, or write it as a separate assistant turn before the call.",
        )
    if trained:
        return Unrenderable(
            "content-lost",
            f"The model's chat template {written}, so the model would not be trained on what the row says.",
            OTHER_TEMPLATE,
        )
    remedy = OTHER_TEMPLATE
    if what == "all" and role in _SYSTEM:
        remedy = _SYSTEM_FIRST if turn == 0 else _SYSTEM_LATER
    elif what == "all" and role == "tool":
        remedy = _WITHOUT_TOOLS
    return Unrenderable("turn-left-out", f"The model's chat template {written}: the model would never see it.", remedy)


def control_token_cut() -> Unrenderable:
    """The template cuts a text of the row at a control token."""
    return Unrenderable(
        "control-token-cut",
        "The row's text contains the name of a control token (such as </think>), and the chat template cuts it there.",
        "Write that name differently in the row, or choose a base model whose template does not cut texts.",
    )


def has_tools(row: Mapping[str, Any]) -> bool:
    """Whether a template's input has tools, calls or results."""
    return bool(row.get("tools")) or any(turn["role"] == "tool" or turn.get("tool_calls") for turn in row["messages"])


def no_end_of_turn(why: str) -> Unrenderable:
    """No token of the row would teach the model to stop."""
    return Unrenderable(
        "no-end-of-turn",
        f"Nothing would teach the model to stop: {why}, so no end-of-turn token can be trained.",
        "If the next turn starts with a control token, add its id to eos_token_id in generation_config.json. "
        f"Otherwise: {OTHER_TEMPLATE}",
    )


def thinking_not_supported() -> Unrenderable:
    """The row has thinking, but the template has no place for it."""
    return Unrenderable(
        "reasoning-not-taken",
        "The row has the assistant's thinking, but the model's chat template has no place for it.",
        "Write it into the content as <think>…</think>, remove it, or choose a base model that supports thinking.",
    )


def thinking_left_out(turn: int) -> Unrenderable:
    """The template leaves out the thinking of this turn."""
    return Unrenderable(
        "reasoning-lost",
        f"The model's chat template does not write the assistant's thinking in message {turn}.",
        "Write it into the content, remove it, or choose a base model that supports thinking there.",
    )
