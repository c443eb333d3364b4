"""Columns that change what a question and its answer mean: earlier turns, system prompts, context, ratings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tuneport.dataset.example import Message
from tuneport.dataset.findings.row_report import RowReport

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
"""Columns of a second text, such as sentence2."""
_LETTERS = frozenset("abcdefgh")
_RATINGS = _words("label kto_tag kto_label desirable is_desirable thumbs_up is_good good liked accepted")
_OPINIONS = _words(
    "rating feedback thumb thumbs vote is_correct correctness approved is_approved preferred is_accepted helpful "
    "is_helpful"
)
"""Columns that may rate only some rows; the other rows are used."""
_BAD = _words("false 0 0.0 -1 no bad wrong incorrect negative down thumbs_down thumb_down dislike disliked rejected")
_GOOD = _words("true 1 1.0 yes good right correct positive up thumbs_up thumb_up like liked accepted approved")
_TRUTH = _words("true false 0 1 0.0 1.0 yes no")


def history_turns(value: Any, pointer: str, report: RowReport) -> list[Message] | None:
    """Earlier turns, from pairs of a user's and an assistant's text; None where they are written as messages."""
    if value is None or value in ("", [], {}):
        return []
    if not isinstance(value, list):
        _report_bad_history(pointer, report)
        return []
    if all(isinstance(one, dict) and ("role" in one or "from" in one) for one in value):
        return None
    if all(isinstance(one, str) for one in value) and len(value) % 2 == 0:
        value = [value[place : place + 2] for place in range(0, len(value), 2)]
    pairs = [_pair(one) for one in value]
    if not all(pairs):
        _report_bad_history(pointer, report)
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


def _report_bad_history(pointer: str, report: RowReport) -> None:
    report.add("bad-history", "The history is neither [user, assistant] pairs nor a list of messages.", pointer)


def changes_meaning(column: str) -> bool:
    """Whether an unused column's name suggests that a row means something else without it."""
    words = set(re.sub(r"([a-z])([A-Z])", r"\1 \2", column).lower().replace("-", " ").replace("_", " ").split())
    return _ANOTHER.fullmatch(column.strip()) is not None or (bool(words & _MEANS_MORE) and not words & _ABOUT)


def context_columns(columns: Iterable[object]) -> list[str]:
    """The names among unused columns without which a row probably means something else."""
    names = [str(column) for column in columns]
    letters = [name for name in names if name.strip().lower() in _LETTERS]  # the choices of a question
    return [name for name in names if changes_meaning(name) or (name in letters and len(letters) > 1)]


def is_about_thoughts(column: str) -> bool:
    """Whether a column's name suggests the reasoning before an answer."""
    return bool({"reasoning", "thinking", "thought", "thoughts"} & set(column.lower().replace("-", "_").split("_")))


def rating_column(
    columns: Iterable[str], used: Iterable[str], rows: Sequence[Mapping[str, Any]], *, labels: bool = False
) -> str | None:
    """The column that says whether each answer is good, as KTO needs it. With `labels`, opinions are about the text
    and do not count.
    """
    taken = set(used)
    for column in columns:
        name = str(column).strip().lower()
        opinion = name in _OPINIONS and not labels
        if column in taken or not (opinion or name in _RATINGS):
            continue
        values = [value for row in rows if (value := row.get(column)) not in (None, "")]
        known = _BAD | _GOOD if opinion else _TRUTH
        if values and all(isinstance(one, int | float | str) and _normalize_word(one) in known for one in values):
            return column
    return None


def is_rated(column: str, value: Any) -> bool:
    """Whether a row cannot be trained on because of its rating: any rating, but of opinions only a bad one."""
    if value in (None, ""):
        return False
    return str(column).strip().lower() in _RATINGS or _normalize_word(value) in _BAD


def _normalize_word(value: Any) -> str:
    text = str(value).strip().lower()
    return text if text == "-1" else text.replace(" ", "_").replace("-", "_")
