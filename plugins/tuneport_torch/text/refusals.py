"""Why a row cannot be trained on with a template, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneport.errors import DataError

OTHER_TEMPLATE = "Choose another base model, or mend chat_template.jinja in a copy of this one's folder."

_SYSTEM = ("system", "developer")
_SYSTEM_FIRST = "Put the system text at the beginning of the first user turn, or choose a base model that takes one."
_SYSTEM_LATER = "Put its text into the user turn that follows it, or into a system turn at the beginning."
_TOOL_TEMPLATE = (
    "The model has another template, named tool_use: make it the chat_template.jinja in a copy of the model's folder. "
    "Or write the calls and results as text."
)
_WITHOUT_TOOLS = "Choose a base model whose template knows tools, or write the calls and results as text."


RESIZE = (
    "Resize the model's embeddings (resize_token_embeddings in transformers), or take the token out of tokenizer.json."
)
"""What to do about a token that the model has no row for."""


class Unrenderable(DataError):  # noqa: N818 - reads as what the row is
    """A row that cannot be trained on with this template; `code` is the diagnostic's."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


def beyond(why: str) -> Unrenderable:
    """A token of the row is one that the model has no row for; `why` names it."""
    return Unrenderable("token-beyond-model", f"The model cannot read this row: {why}.", RESIZE)


def no_template() -> Unrenderable:
    """The model has no chat template at all."""
    return Unrenderable(
        "no-template",
        "The base model has no chat template, so conversations cannot be written for it.",
        "Choose an instruct model, or give rows with prompt and completion.",
    )


def refused(why: str, row: Mapping[str, Any]) -> Unrenderable:
    """The template raised an error, `why` in its own words, for `row` as it was given to it."""
    turns = row["messages"]
    system = any(turn["role"] in _SYSTEM for turn in turns)
    system_cure = _SYSTEM_FIRST if system and turns[0]["role"] in _SYSTEM else _SYSTEM_LATER
    cure = OTHER_TEMPLATE
    if "single tool" in why.lower():
        cure = "Split the turn: one tool call, its result, then the next call."
    elif "system" in why.lower() and system:
        cure = system_cure
    elif "alternat" in why.lower() or "role" in why.lower():
        cure = "Let user and assistant take turns in the row, user first."
        if has_tools(row):
            cure = f"This template takes no tool calls and results in this place. {_WITHOUT_TOOLS}"
        elif system:
            cure = system_cure
    return Unrenderable("template-refuses", f"The model's chat template refuses this: {why.rstrip('.')}.", cure)


def unproven(turn: int, why: str, *, last: bool) -> Unrenderable:
    """Where the assistant writes cannot be known."""
    cure = "End the row with the turn to be trained on, or choose a base model with another template."
    return Unrenderable(
        "mask-unproven",
        f"What the assistant writes in message {turn} cannot be told from the rest: {why}.",
        OTHER_TEMPLATE if last else cure,
    )


def unopened(lead: str) -> Unrenderable:
    """The template does not open the answer when the model is asked for it: `lead` would be part of what it writes."""
    return Unrenderable(
        "answer-not-opened",
        f"The model's chat template ends the prompt before {lead[:60]!r}, so the model writes that into its answer.",
        "In a copy of the model's folder, end chat_template.jinja with that text within "
        "{% if add_generation_prompt %}…{% endif %}.",
    )


def lost_calls(turn: int) -> Unrenderable:
    """The template writes one of several calls."""
    return Unrenderable(
        "tools-ignored",
        f"The model's chat template writes only a part of the calls in message {turn}.",
        "Split the turn: one tool call, its result, then the next call.",
    )


def no_tools(why: str, *, another: bool = False) -> Unrenderable:
    """The template leaves out tools, calls or results. `another`: the model has one for tools alone."""
    cure = _TOOL_TEMPLATE if another else _WITHOUT_TOOLS
    return Unrenderable("tools-ignored", f"The model's chat template does not write tools: {why}.", cure)


def lost(turn: int, role: str, what: str, *, trained: bool, called: bool = False) -> Unrenderable:
    """The template leaves out a turn (`what` is "all"), a "part" of its content, or a "call". `called`: it has some."""
    if what == "call":
        return no_tools(f"the call in message {turn} is nowhere in what the model would see")
    written = (
        f"leaves out message {turn} ({role})" if what == "all" else f"writes only a part of message {turn} ({role})"
    )
    if trained and called:
        return Unrenderable(
            "content-lost",
            f"The model's chat template leaves out the text beside the calls in message {turn}.",
            "Take that text out of the row, or write it as an assistant turn of its own before the call.",
        )
    if trained:
        return Unrenderable(
            "content-lost",
            f"The model's chat template {written}, so what is trained on is not what the row says.",
            OTHER_TEMPLATE,
        )
    cure = OTHER_TEMPLATE
    if what == "all" and role in _SYSTEM:
        cure = _SYSTEM_FIRST if turn == 0 else _SYSTEM_LATER
    elif what == "all" and role == "tool":
        cure = _WITHOUT_TOOLS
    return Unrenderable("turn-left-out", f"The model's chat template {written}: the model would never see it.", cure)


def torn() -> Unrenderable:
    """The template cuts words of the row at a control token."""
    return Unrenderable(
        "control-token-cut",
        "The row's text has a control token's name in it (such as </think>), and the model's chat template cuts the "
        "text there.",
        "Write that name otherwise in the row, or choose a base model whose template leaves texts whole.",
    )


def has_tools(row: Mapping[str, Any]) -> bool:
    """Whether a row, as it is given to a template, has tools, calls or results."""
    return bool(row.get("tools")) or any(turn["role"] == "tool" or turn.get("tool_calls") for turn in row["messages"])


def no_end(why: str) -> Unrenderable:
    """No token would teach the model to stop."""
    return Unrenderable(
        "no-end-of-turn",
        f"Nothing would teach the model to stop: {why}, so no end-of-turn token can be trained.",
        "Where the next turn begins with a control token, add its id to eos_token_id in generation_config.json. "
        f"Or: {OTHER_TEMPLATE}",
    )


def refused_thinking() -> Unrenderable:
    """The row brings thinking, and the template has no place for it."""
    return Unrenderable(
        "reasoning-not-taken",
        "The row holds what the assistant thought, and the model's chat template has no place for it.",
        "Write it into the content yourself as <think>…</think>, remove it, or choose a base model that thinks.",
    )


def lost_thinking(turn: int) -> Unrenderable:
    """The template writes thinking, and not that of this turn."""
    return Unrenderable(
        "reasoning-lost",
        f"The model's chat template does not write what the assistant thought in message {turn}.",
        "Write it into the content yourself, remove it, or choose a base model that thinks there.",
    )
