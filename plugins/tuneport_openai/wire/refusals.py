"""What a server says when it refuses, in whatever format."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import APIStatusError

_REFUSALS = frozenset({400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 429})
_MOST_READ, _MOST_SHOWN, _MOST_LISTED = 8192, 500, 5
_MESSAGE_KEYS = ("message", "error", "detail", "details", "msg", "error_description", "description", "title", "reason")
_HIDDEN = re.compile(r"<(script|style)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")


def is_refusal(error: BaseException) -> bool:
    """Whether the server itself refused: a refusal's status with the wire's own error body.

    Only that proves that nothing was started. A gateway's page, or an error in another format, may come from something
    in front of the server, after the server got the request.
    """
    import openai

    if not isinstance(error, openai.APIStatusError) or error.status_code not in _REFUSALS:
        return False
    said = _parse(error.response.text)
    return isinstance(said, dict) and isinstance(said.get("error"), dict) and "message" in said["error"]


def message_of(error: APIStatusError) -> str:
    """The server's message, at most 500 characters: from the wire's error, other JSON, or the text of a page."""
    return message_in(error.response.text)


def message_in(text: str) -> str:
    """The message in a refusal's body, at most 500 characters."""
    found = _parse(text)
    said = _page_text(text) if found is None else _message(found)
    return line_of(said) or "no reason given"


def answer_of(error: BaseException | None) -> str:
    """The status and the message of a refusal anywhere in a chain of errors, or an empty text."""
    import openai

    while error is not None and not isinstance(error, openai.APIStatusError):
        error = error.__cause__
    return f"{error.status_code}: {message_of(error)}" if error is not None else ""


def line_of(text: object) -> str:
    """A server's text as one bounded line for a message."""
    return printable(" ".join(str(text).split()))[:_MOST_SHOWN]


def printable(text: str) -> str:
    """A server's text without characters that control a terminal."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text)


def code_of(error: APIStatusError) -> str | None:
    """The wire's code for the error, such as `model_not_found`."""
    found = error.body.get("code") if isinstance(error.body, dict) else None
    return found if isinstance(found, str) else None


def param_of(error: APIStatusError) -> str | None:
    """The field of the request that the error is about."""
    found = error.body.get("param") if isinstance(error.body, dict) else None
    return line_of(found) if isinstance(found, str) and found else None


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _message(value: Any, depth: int = 4) -> str:
    """The message in a JSON value: under the usual names, else the value itself."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth:
        return "; ".join(filter(None, (_message(one, depth - 1) for one in value[:_MOST_LISTED])))
    if isinstance(value, dict) and depth:
        for name in _MESSAGE_KEYS:
            said = _message(value[name], depth - 1) if value.get(name) else ""
            if said:
                where = value.get("loc")  # of a validation error: the path of the field
                return f"{'.'.join(map(str, where[:8]))}: {said}" if isinstance(where, list) else said
    return json.dumps(value) if value else ""


def _page_text(text: str) -> str:
    """The text of an HTML page or of plain text, or a note that the bytes are not text."""
    text = html.unescape(_TAG.sub(" ", _HIDDEN.sub(" ", text[:_MOST_READ])))
    odd = sum(not (one.isprintable() or one.isspace()) or one == "\ufffd" for one in text)
    return "(bytes that are not text)" if odd * 3 > len(text) else text
