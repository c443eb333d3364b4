"""The wire's own words: its errors, its pages and its strict reading of what comes in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import QueryParams
from starlette.responses import Response

from tuneport.errors import BackendError, HomeError, NotFoundError, OptionError, TuneportError, UnsupportedError

INVALID = "invalid_request_error"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 500: "server_error"}


class WireError(Exception):
    """An answer that is an error, in the wire's shape: `{"error": {"message", "type", "param", "code"}}`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The `error` object."""
        kind = _TYPES.get(self.status, INVALID)
        return {"message": self.message, "type": kind, "param": self.param, "code": self.code}

    def response(self) -> Response:
        """The answer that tells it."""
        return reply({"error": self.body()}, self.status, self.headers)


def bad(message: str, param: str | None = None, code: str | None = None) -> WireError:
    """A 400: the request asks for what cannot be."""
    return WireError(400, message, param=param, code=code)


def missing(what: str, name: str, param: str | None = None, code: str | None = None) -> WireError:
    """A 404."""
    return WireError(404, f"No such {what}: {name[:200]}", param=param, code=code)


def of_tuneport(error: TuneportError, param: str | None = None, options: Mapping[str, str] | None = None) -> WireError:
    """What an error of tuneport's is on the wire. Cures that name commands are for who runs the server: left out.
    `options` are the request's fields behind options of an answer, where they are called otherwise.
    """
    if isinstance(error, OptionError | UnsupportedError) and error.option is not None:
        param = (options or {}).get(error.option, error.option)
        code = "invalid_value" if isinstance(error, OptionError) else "unsupported_parameter"
        return bad(error.message if param in error.message else f"{param}: {error.message}", param, code)
    if isinstance(error, NotFoundError):
        return WireError(404, error.message, param=param, code="not_found")
    if isinstance(error, HomeError | BackendError):
        return WireError(500, error.message, code="server_error")
    return bad(error.message, param)


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return Response(text, status, dict(headers or {}), "application/json")


def decode(body: bytes) -> dict[str, Any]:
    """A request's JSON object, read strictly and without its nulls: a null asks for nothing. Raises WireError."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"The body is not JSON: {error}.", code="invalid_json") from error
    if not isinstance(value, dict):
        raise bad("The body is not a JSON object.", code="invalid_json")
    return _without_nulls(value)


_SCHEMAS = frozenset({"parameters", "schema"})  # fields that hold a JSON Schema, to which a null is a value


def _without_nulls(body: dict[str, Any]) -> dict[str, Any]:
    """The same object, where no field is null at any depth; an array's nulls and JSON Schemas stay as they are."""
    waiting: list[Any] = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
            continue
        if not isinstance(value, dict):
            continue
        for name in [name for name, one in value.items() if one is None]:
            del value[name]
        waiting += [one for name, one in value.items() if name not in _SCHEMAS]
    return body


class Body(BaseModel):
    """A request's body: strict types, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


_B = TypeVar("_B", bound=Body)


def parse(shape: type[_B], value: Mapping[str, Any], within: str = "") -> _B:
    """The body, or the part of one at `within`, as its model; raises WireError whose `param` names the field."""
    try:
        return shape.model_validate(dict(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = _param(first["loc"], within)
        if first["type"] == "extra_forbidden":
            raise bad(f"Unrecognized request argument supplied: {where}", where, "unknown_parameter") from error
        code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
        raise bad(f"{where}: {_plain(first['msg'])}.", where, code) from error


def _plain(message: str) -> str:
    """A finding of pydantic's, whose type names and counts say nothing to a caller of the wire."""
    if message == "Field required":
        return "is missing"
    message = re.sub(r"^(Value error, |(Input|String|List|Dictionary) (?=should ))", "", message)
    message = re.sub(r"a valid dictionary( or instance of \w+)?", "an object", message)
    return re.sub(r" after validation, not .*", "", message)


def _param(place: Sequence[str | int], text: str) -> str:
    # Pydantic names the branch of a union among the keys; the caller wrote only the keys.
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w-]{1,64}", part) and part not in _BRANCHES:
            text += f".{part}" if text else part
    return text or "body"


_BRANCHES = frozenset({"int", "float", "str", "constrained-int", "constrained-float", "constrained-str"})


def limit_of(query: QueryParams, default: int, most: int) -> int:
    """The `limit` of a list; raises WireError when it is none."""
    text = query.get("limit")
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise bad(f"limit: should be a number from 1 to {most}.", "limit", "invalid_value")
    return int(text)


def only(query: QueryParams, *names: str) -> None:
    """Raise WireError for a query parameter that the route does not know."""
    for name in query:
        if name not in names and not (name.startswith("metadata[") and "metadata" in names):
            raise bad(f"Unrecognized request argument supplied: {name[:100]}", name[:100], "unknown_parameter")


def page(data: Sequence[Mapping[str, Any]], *, more: bool) -> dict[str, Any]:
    """A page of a list."""
    ids = [one["id"] for one in data]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return {"object": "list", "data": list(data), "first_id": first, "last_id": last, "has_more": more}


def after(items: Sequence[Mapping[str, Any]], cursor: str | None, limit: int) -> dict[str, Any]:
    """The page of `items` that follows the one whose id is the cursor; raises WireError when there is no such."""
    start = 0
    if cursor is not None:
        ids = [one["id"] for one in items]
        if cursor not in ids:
            raise bad("after: names nothing in this list.", "after", "invalid_value")
        start = ids.index(cursor) + 1
    return page(items[start : start + limit], more=len(items) > start + limit)
