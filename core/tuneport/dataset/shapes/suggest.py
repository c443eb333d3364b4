"""Suggests options for a file whose columns tuneport does not know."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_METADATA = re.compile(
    r"(?i)(^|_|\b)(id|idx|index|uuid|url|source|date|time|timestamp|lang|language|score|hash|type|system)(_|\b|$)"
)
_BETTER = re.compile(r"(?i)chosen|accept|prefer|win|better|good|positive|(_j|_1|_a)$")
_WORSE = re.compile(r"(?i)reject|lose|loser|worse|bad|negative|(_k|_2|_b)$")
_MARKS = re.compile(r"<\|im_start\|>|\[INST\]|<\|start_header_id\|>|<start_of_turn>|<\|user\|>|### Instruction:")
_LABEL_LENGTH = 40
_WORDS = 3
_TURN = frozenset({"role", "from", "content", "value", "user", "human", "assistant", "speaker"})
_PLAIN = ("text", "content", "document", "body", "article", "passage", "paragraph", "story", "code", "raw", "output")
BY_ROW = "Write one row at a time. In pandas: frame.to_json('rows.jsonl', orient='records', lines=True)"


def is_by_column(row: Any) -> bool:
    """Whether a row is really a table written column by column, as pandas writes JSON."""
    if not isinstance(row, Mapping) or not row:
        return False
    if {"columns", "data"} <= row.keys():
        return True
    columns = list(row.values())
    if len(columns) < 2:
        return False
    if all(isinstance(one, list) and len(one) > 1 and not isinstance(one[0], dict) for one in columns):
        return len({len(one) for one in columns}) == 1
    return all(isinstance(one, Mapping) and one.keys() == columns[0].keys() and one for one in columns)


def suggest_columns(row: Any) -> str | None:
    """Options that would fit the columns of a row; None where there is nothing to suggest."""
    if not isinstance(row, Mapping):
        return 'Write each row as an object with named columns: {"text": "…", "label": "…"}.'
    if is_by_column(row):
        return BY_ROW
    if len(row) == 1 and re.search(r"[^\w.-]", str(next(iter(row)))):
        return (
            "Name the columns in the first line. In a text table, separate them with a comma, a semicolon, a tab or |."
        )
    if any(len(str(name).split()) > _WORDS for name in row):
        return "The first line must name the columns: add text,label or question,answer above it."
    turns = [name for name, value in row.items() if _is_turns(value)]
    if turns:
        return _column_options({"messages": turns[0]})
    texts = [
        str(name) for name, value in row.items() if isinstance(value, str | int | float) and not _is_metadata(name)
    ]
    if pair := _find_pair(texts):
        return _column_options(pair)
    if len(texts) == 2:
        first, second = texts
        if len(str(row[second])) > _LABEL_LENGTH:
            return f"If the second answers the first: {_column_options({'question': first, 'answer': second})}"
        asked, labeled = (
            _column_options({"question": first, "answer": second}),
            _column_options({"text": first, "label": second}),
        )
        return f"If the second answers the first: {asked} If it is a label: {labeled}"
    if len(texts) == 1 and _MARKS.search(str(row[texts[0]])):
        return (
            "The text has the special tokens of a chat template. Write its turns as messages; training adds the tokens."
        )
    if len(texts) == 1 and texts[0].lower() in _PLAIN:
        plain = _column_options({"completion": texts[0]})
        return f"A single text has no question and no answer. To train on it as plain text: {plain}"
    return None


def _is_turns(value: Any) -> bool:
    return (
        isinstance(value, Sequence) and bool(value) and isinstance(value[0], Mapping) and bool(value[0].keys() & _TURN)
    )


def _is_metadata(name: Any) -> bool:
    return bool(_METADATA.search(str(name)))


def _find_pair(names: Sequence[str]) -> dict[str, str] | None:
    """The columns of a prompt, a better and a worse answer, by their names; None where the names are unclear."""
    better = [name for name in names if _BETTER.search(name)]
    worse = [name for name in names if _WORSE.search(name)]
    rest = [name for name in names if name not in better + worse]
    if len(better) == len(worse) == len(rest) == 1:
        return {"prompt": rest[0], "chosen": better[0], "rejected": worse[0]}
    return None


def _column_options(named: Mapping[str, str]) -> str:
    options = " ".join(f"--column {role}={_quote(name)}" for role, name in named.items())
    python = ", ".join(f"{role!r}: {name!r}" for role, name in named.items())
    return f"{options} (columns={{{python}}} in Python)."


def _quote(name: str) -> str:
    return name if re.fullmatch(r"[\w.-]+", name) else "'" + name.replace("'", "'\\''") + "'"
