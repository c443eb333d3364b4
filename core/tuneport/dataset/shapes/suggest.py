"""What to type where the columns of a file are none that tuneport knows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_ABOUT = re.compile(
    r"(?i)(^|_|\b)(id|idx|index|uuid|url|source|date|time|timestamp|lang|language|score|hash|type|system)(_|\b|$)"
)
_BETTER = re.compile(r"(?i)chosen|accept|prefer|win|better|good|positive|(_j|_1|_a)$")
_WORSE = re.compile(r"(?i)reject|lose|loser|worse|bad|negative|(_k|_2|_b)$")
_MARKS = re.compile(r"<\|im_start\|>|\[INST\]|<\|start_header_id\|>|<start_of_turn>|<\|user\|>|### Instruction:")
_LABEL_LENGTH = 40
_WORDS = 3
_TURN = frozenset({"role", "from", "content", "value", "user", "human", "assistant", "speaker"})
_PLAIN = ("text", "content", "document", "body", "article", "passage", "paragraph", "story", "code", "raw", "output")
BY_ROW = "Write the rows one by one. In pandas: frame.to_json('rows.jsonl', orient='records', lines=True)"


def by_column(row: Any) -> bool:
    """Whether what was read as a row is a table written column by column, as pandas writes JSON."""
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


def proposal(row: Any) -> str | None:
    """The options that would fit the columns of a row; None where nothing can be proposed."""
    if not isinstance(row, Mapping):
        return 'Write each row as an object with named columns: {"text": "…", "label": "…"}.'
    if by_column(row):
        return BY_ROW
    if len(row) == 1 and re.search(r"[^\w.-]", str(next(iter(row)))):
        return "Name the columns in the first line. In a table of text a comma, a semicolon, a tab or | separates them."
    if any(len(str(name).split()) > _WORDS for name in row):
        return "The first line should name the columns: write text,label or question,answer above it."
    turns = [name for name, value in row.items() if _is_turns(value)]
    if turns:
        return _columns({"messages": turns[0]})
    texts = [str(name) for name, value in row.items() if isinstance(value, str | int | float) and not _about(name)]
    if pair := _pair(texts):
        return _columns(pair)
    if len(texts) == 2:
        first, second = texts
        if len(str(row[second])) > _LABEL_LENGTH:
            return f"If the second answers the first: {_columns({'question': first, 'answer': second})}"
        asked, labeled = _columns({"question": first, "answer": second}), _columns({"text": first, "label": second})
        return f"If the second answers the first: {asked} If it is a label: {labeled}"
    if len(texts) == 1 and _MARKS.search(str(row[texts[0]])):
        return (
            "The text holds the marks of a chat template. Write its turns as messages: the template adds its own marks."
        )
    if len(texts) == 1 and texts[0].lower() in _PLAIN:
        plain = _columns({"completion": texts[0]})
        return f"A text alone has no question and no answer. To train on it as plain text: {plain}"
    return None


def _is_turns(value: Any) -> bool:
    return (
        isinstance(value, Sequence) and bool(value) and isinstance(value[0], Mapping) and bool(value[0].keys() & _TURN)
    )


def _about(name: Any) -> bool:
    return bool(_ABOUT.search(str(name)))


def _pair(names: Sequence[str]) -> dict[str, str] | None:
    """The columns of a prompt with a better and a worse answer, where their names tell."""
    better = [name for name in names if _BETTER.search(name)]
    worse = [name for name in names if _WORSE.search(name)]
    rest = [name for name in names if name not in better + worse]
    if len(better) == len(worse) == len(rest) == 1:
        return {"prompt": rest[0], "chosen": better[0], "rejected": worse[0]}
    return None


def _columns(named: Mapping[str, str]) -> str:
    options = " ".join(f"--column {role}={_quoted(name)}" for role, name in named.items())
    python = ", ".join(f"{role!r}: {name!r}" for role, name in named.items())
    return f"{options} (columns={{{python}}} in Python)."


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.-]+", name) else "'" + name.replace("'", "'\\''") + "'"
