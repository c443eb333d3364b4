"""The known shapes of rows: which columns each has, and what builds its examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tuneport.dataset.shapes.conversations import (
    Built,
    build_alpaca,
    build_canonical,
    build_completion,
    build_messages,
    build_prompt_completion,
    build_question_answer,
    build_sharegpt,
    build_text_label,
)
from tuneport.dataset.shapes.pairs import PROMPT_ROLES, build_openai_pair, build_pair
from tuneport.dataset.shapes.row_view import RowView

ALIASES: dict[str, tuple[str, ...]] = {
    "text": ("text", "message", "utterance", "sentence"),
    "label": ("label", "category", "intent", "class"),
    "messages": ("messages", "contents"),
    "conversations": ("conversations", "conversation"),
    "question": ("question", "query", "user", "input"),
    "answer": ("answer", "answers", "response", "assistant", "output"),
    "completion": ("completion", "response"),
    "output": ("output", "response"),
    "input": ("input", "context"),
    "context": ("context", "passage", "background", "document"),
    "system": ("system", "system_prompt", "system_message", "systemInstruction", "system_instruction"),
    "history": ("history", "chat_history", "conversation_history"),
    "tools": ("tools", "functions", "toolConfig"),
    "reasoning": ("reasoning_content",),  # other names may mean a text for people, so users must name those
}
"""The column names of each role; a role that is not here has one column name, its own."""


@dataclass(frozen=True)
class RowShape:
    """A known shape: the roles that a row must and may have, and what builds its example."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    build: Callable[[RowView], Built | None]
    only_named: bool = False
    """Whether it is used only where the user names its columns."""


_AROUND = ("context", "system", "history", "tools", "reasoning")
SHAPES = (
    RowShape(
        "tuneport",
        ("shape",),
        ("messages", "tools", "parallel_tool_calls", "prompt", "completion", "chosen", "rejected"),
        build_canonical,
    ),
    RowShape("preference", ("input", "preferred_output", "non_preferred_output"), (), build_openai_pair),
    RowShape(
        "chosen/rejected",
        ("chosen", "rejected"),
        (*PROMPT_ROLES, "input", "context", "system", "tools"),
        build_pair,
    ),
    RowShape("messages", ("messages",), ("tools", "parallel_tool_calls", "system", "history"), build_messages),
    RowShape("conversations", ("conversations",), ("system", "history", "tools"), build_sharegpt),
    RowShape("prompt/completion", ("prompt", "completion"), _AROUND, build_prompt_completion),
    RowShape("instruction/output", ("instruction", "output"), ("input", *_AROUND), build_alpaca),
    RowShape("question/answer", ("question", "answer"), _AROUND, build_question_answer),
    RowShape("completion", ("completion",), (), build_completion, only_named=True),
    RowShape("text/label", ("text", "label"), ("context", "system", "history", "reasoning"), build_text_label),
)
SHAPE_OF = {shape.name: shape for shape in SHAPES}
ROLES = tuple(sorted({role for shape in SHAPES[1:] for role in shape.required + shape.optional}))
"""The roles that users can name columns for."""
