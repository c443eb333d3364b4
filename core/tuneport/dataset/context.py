"""Columns beside a question and its answer that change what they mean: earlier turns, system prompts, context."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tuneport.dataset.example import Message
from tuneport.dataset.findings import RowReport

_ASKED = ("user", "human", "question", "instruction", "prompt", "input", "query")
_ANSWERED = ("assistant", "bot", "gpt", "answer", "output", "response", "completion", "model")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MEANS_MORE = _words(
    "context contexts history system passage passages document documents background knowledge persona scenario dialog "
    "dialogue instruction instructions input inputs tools functions image images video videos audio audios "
    "reasoning thinking thought thoughts preceding previous rejected choices options endings candidates"
)
_ABOUT = _words("id ids uuid url urls name source length len count num hash title type lang score")
_RATINGS = _words("label kto_tag kto_label desirable is_desirable thumbs_up is_good good liked accepted")
_TRUTH = _words("true false 0 1 0.0 1.0 yes no")


def history_turns(value: Any, pointer: str, report: RowReport) -> list[Message] | None:
    """Earlier turns as pairs of a user's and an assistant's text; None where they are written as messages."""
    if value is None or value in ("", [], {}):
        return []
    if not isinstance(value, list):
        _bad(pointer, report)
        return []
    if all(isinstance(one, dict) and ("role" in one or "from" in one) for one in value):
        return None
    if all(isinstance(one, str) for one in value) and len(value) % 2 == 0:
        value = [value[place : place + 2] for place in range(0, len(value), 2)]
    pairs = [_pair(one) for one in value]
    if not all(pairs):
        _bad(pointer, report)
        return []
    return [
        Message(role=role, content=text)
        for pair in pairs
        if pair
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _pair(value: Any) -> tuple[str, str] | None:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value):
        return value[0], value[1]
    if not isinstance(value, Mapping):
        return None
    asked, answered = (next((value[key] for key in keys if key in value), None) for keys in (_ASKED, _ANSWERED))
    return (asked, answered) if isinstance(asked, str) and isinstance(answered, str) else None


def _bad(pointer: str, report: RowReport) -> None:
    report.add("bad-history", "The history is neither [user, assistant] pairs nor a list of messages.", pointer)


def changes_meaning(column: str) -> bool:
    """Whether the name of a column that no shape uses tells that a row means something else without it."""
    words = set(re.sub(r"([a-z])([A-Z])", r"\1 \2", column).lower().replace("-", " ").replace("_", " ").split())
    return bool(words & _MEANS_MORE) and not words & _ABOUT


def about_thoughts(column: str) -> bool:
    """Whether a column's name says that it holds what stands before an answer as thoughts."""
    return bool({"reasoning", "thinking", "thought", "thoughts"} & set(column.lower().replace("-", "_").split("_")))


def rating(columns: Iterable[str], used: Iterable[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column that says whether each answer is a good one, as the method KTO wants it."""
    taken = set(used)
    for column in columns:
        if column in taken or str(column).strip().lower() not in _RATINGS:
            continue
        values = [value for row in rows if (value := row.get(column)) not in (None, "")]
        if values and all(isinstance(one, int | float | str) and str(one).strip().lower() in _TRUTH for one in values):
            return column
    return None
