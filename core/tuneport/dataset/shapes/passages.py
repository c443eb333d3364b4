"""Context of a question, in the forms of various datasets, as text: passages, titles with sentences, objects."""

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
"""Keys of a passage that no answer needs. A passage with any other key is read as JSON text."""


def read_passages(value: Any) -> str | None:
    """The text of passages, each after its title, with empty lines between; None for any other list or object."""
    if isinstance(value, list):
        pair = _read_pair(value)
        found = [pair] if pair is not None else [_read_passage(one) for one in value]
        return "\n\n".join(one for one in found if one) if found and None not in found else None
    return _read_object(value) if isinstance(value, Mapping) else None


def to_text(value: Any) -> tuple[str, str]:
    """The text that a list or an object is read as, and the name of its form."""
    text = read_passages(value)
    if text is not None:
        return text, "passages with an empty line between"
    return json.dumps(value, ensure_ascii=False), "its JSON text"


def _read_passage(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _read_object(value)
    return _read_pair(value) if isinstance(value, list) else None


def _read_pair(value: Any) -> str | None:
    """A title and its sentences, as in HotpotQA."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], list):
        body = _join_sentences(value[1])
        return None if body is None else _add_title(value[0], body)
    return None


def _read_object(value: Mapping[str, Any]) -> str | None:
    """A passage with its title, or lists of both, as tables store lists of objects."""
    title_key, body_key = (
        next((key for key in keys if value.get(key) is not None), None) for keys in (_TITLES, _BODIES)
    )
    if any(key not in _ABOUT and key not in (title_key, body_key) for key, one in value.items() if one is not None):
        return None
    title, body = (None if key is None else value[key] for key in (title_key, body_key))
    if isinstance(title, list) and isinstance(body, list) and len(title) == len(body):
        found = [
            _read_pair([one, other if isinstance(other, list) else [other]])
            for one, other in zip(title, body, strict=True)
        ]
        return "\n\n".join(one for one in found if one) if None not in found else None
    if title is None and isinstance(body, list) and all(isinstance(one, str) for one in body):
        return "\n\n".join(body)
    text = _join_sentences(body)
    return None if text is None or not isinstance(title, str | None) else _add_title(title, text)


def _join_sentences(value: Any) -> str | None:
    """A text, or sentences joined to one."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "".join(
            one if not at or one[:1].isspace() or value[at - 1][-1:].isspace() else f" {one}"
            for at, one in enumerate(value)
        )
    return None


def _add_title(title: str | None, body: str) -> str:
    return f"{title}\n{body}" if title else body
