"""Columns beside a question and its answer that change what they mean: earlier turns, system prompts, context."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tuneport.dataset.example import Message
from tuneport.dataset.findings.findings import RowReport

_ASKED = ("user", "human", "question", "instruction", "prompt", "input", "query")
_ANSWERED = ("assistant", "bot", "gpt", "answer", "output", "response", "completion", "model")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MEANS_MORE = _words(
    "context contexts history system passage passages document documents background knowledge persona scenario dialog "
    "dialogue instruction instructions input inputs tools functions image images video videos audio audios "
    "reasoning thinking thought thoughts preceding previous rejected choice choices option options endings candidates "
    "premise hypothesis aspect target title subject table tables schema evidence fact facts paragraph paragraphs "
    "article story hint hints example examples demonstrations shots pair weight weights mask"
)
_ABOUT = _words("id ids uuid url urls name source length len count num hash type lang score scores")
_ANOTHER = re.compile(
    r"(?:text|sentence|question|query|prompt|user|human|assistant|message|utterance|turn)s?[ _-]?(?:[2-9]|[b-d]|two)",
    re.IGNORECASE,
)
"""Columns of a second text beside the first, such as sentence2."""
_LETTERS = frozenset("abcdefgh")
_RATINGS = _words("label kto_tag kto_label desirable is_desirable thumbs_up is_good good liked accepted")
_OPINIONS = _words(
    "rating feedback thumb thumbs vote is_correct correctness approved is_approved preferred is_accepted helpful "
    "is_helpful"
)
"""Columns that may say so of some rows only: the others are used."""
_BAD = _words("false 0 0.0 -1 no bad wrong incorrect negative down thumbs_down thumb_down dislike disliked rejected")
_GOOD = _words("true 1 1.0 yes good right correct positive up thumbs_up thumb_up like liked accepted approved")
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
    return _ANOTHER.fullmatch(column.strip()) is not None or (bool(words & _MEANS_MORE) and not words & _ABOUT)


def telling(columns: Iterable[object]) -> list[str]:
    """Of the names of columns that no shape uses, those without which a row means something else."""
    names = [str(column) for column in columns]
    letters = [name for name in names if name.strip().lower() in _LETTERS]  # the choices of a question
    return [name for name in names if changes_meaning(name) or (name in letters and len(letters) > 1)]


def about_thoughts(column: str) -> bool:
    """Whether a column's name says that it holds what stands before an answer as thoughts."""
    return bool({"reasoning", "thinking", "thought", "thoughts"} & set(column.lower().replace("-", "_").split("_")))


def rating(
    columns: Iterable[str], used: Iterable[str], rows: Sequence[Mapping[str, Any]], *, labels: bool = False
) -> str | None:
    """The column that says whether each answer is a good one, as the method KTO wants it. Beside `labels`, opinions are
    about the text.
    """
    taken = set(used)
    for column in columns:
        name = str(column).strip().lower()
        opinion = name in _OPINIONS and not labels
        if column in taken or not (opinion or name in _RATINGS):
            continue
        values = [value for row in rows if (value := row.get(column)) not in (None, "")]
        known = _BAD | _GOOD if opinion else _TRUTH
        if values and all(isinstance(one, int | float | str) and _word(one) in known for one in values):
            return column
    return None


def is_rated(column: str, value: Any) -> bool:
    """Whether a row's rating keeps it from being trained on: any does, but for opinions, where only a bad one does."""
    if value in (None, ""):
        return False
    return str(column).strip().lower() in _RATINGS or _word(value) in _BAD


def _word(value: Any) -> str:
    text = str(value).strip().lower()
    return text if text == "-1" else text.replace(" ", "_").replace("-", "_")
