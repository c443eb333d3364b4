"""What stands beside a question in a data set's own form: passages, titles with sentences, objects; as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_TITLES = ("title", "titles", "heading")
_BODIES = ("text", "texts", "sentences", "contents", "content", "contexts", "passages", "passage", "paragraphs", "body")
_ABOUT = frozenset(
    {"id", "_id", "idx", "index", "docid", "doc_id", "pid", "rank", "score", "similarity", "url", "link", "source"}
    | {"hasanswer", "has_answer", "is_selected", "labels", "meshes", "metadata", "meta"}
)
"""What a passage may hold beside its text that no answer needs. With any other key it is read as JSON text."""


def passages(value: Any) -> str | None:
    """A list or an object as text: each passage behind its title, an empty line between. None where it is no such."""
    if isinstance(value, list):
        pair = _pair(value)
        found = [pair] if pair is not None else [_passage(one) for one in value]
        return "\n\n".join(one for one in found if one) if found and None not in found else None
    return _object(value) if isinstance(value, Mapping) else None


FOREIGN = "\0bytes"
"""The one key of an object that stands for bytes which are no text; its value says why."""


def foreign_in(value: Any) -> str | None:
    """What is said of bytes that are no text, somewhere in a value."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            if FOREIGN in one:
                return str(one[FOREIGN])
            stack.extend(one.values())
        elif isinstance(one, list):
            stack.extend(one)
    return None


def as_text(value: Any) -> tuple[str, str]:
    """The text that a list or an object is read as, and how that is said."""
    text = passages(value)
    if text is not None:
        return text, "passages with an empty line between"
    return json.dumps(value, ensure_ascii=False), "its JSON text"


def _passage(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _object(value)
    return _pair(value) if isinstance(value, list) else None


def _pair(value: Any) -> str | None:
    """A title and its sentences, as HotpotQA writes them."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], list):
        body = _body(value[1])
        return None if body is None else _titled(value[0], body)
    return None


def _object(value: Mapping[str, Any]) -> str | None:
    """A passage with its title; or a column of each, as tables hold lists of objects."""
    title_key, body_key = (
        next((key for key in keys if value.get(key) is not None), None) for keys in (_TITLES, _BODIES)
    )
    if any(key not in _ABOUT and key not in (title_key, body_key) for key, one in value.items() if one is not None):
        return None
    title, body = (None if key is None else value[key] for key in (title_key, body_key))
    if isinstance(title, list) and isinstance(body, list) and len(title) == len(body):
        found = [
            _pair([one, other if isinstance(other, list) else [other]]) for one, other in zip(title, body, strict=True)
        ]
        return "\n\n".join(one for one in found if one) if None not in found else None
    if title is None and isinstance(body, list) and all(isinstance(one, str) for one in body):
        return "\n\n".join(body)
    text = _body(body)
    return None if text is None or not isinstance(title, str | None) else _titled(title, text)


def _body(value: Any) -> str | None:
    """A text, or sentences as one."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "".join(
            one if not at or one[:1].isspace() or value[at - 1][-1:].isspace() else f" {one}"
            for at, one in enumerate(value)
        )
    return None


def _titled(title: str | None, body: str) -> str:
    return f"{title}\n{body}" if title else body
