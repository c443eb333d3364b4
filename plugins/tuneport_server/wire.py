"""The API's format: errors, pages of lists, and strict reading of requests."""

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
    """An error response, in the wire's shape: `{"error": {"message", "type", "param", "code"}}`."""

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
        """Return the `error` object."""
        kind = _TYPES.get(self.status, INVALID)
        return {"message": self.message, "type": kind, "param": self.param, "code": self.code}

    def response(self) -> Response:
        """Return the response."""
        return reply({"error": self.body()}, self.status, self.headers)


def bad(message: str, param: str | None = None, code: str | None = None) -> WireError:
    """Return a 400: the request is invalid."""
    return WireError(400, message, param=param, code=code)


def missing(what: str, name: str, param: str | None = None, code: str | None = None) -> WireError:
    """Return a 404."""
    return WireError(404, f"No such {what}: {name[:200]}", param=param, code=code)


def from_tuneport(
    error: TuneportError, param: str | None = None, options: Mapping[str, str] | None = None
) -> WireError:
    """Return an error of tuneport as the wire's. Its remedy is left out, because it names commands on the server's
    machine. `options` maps options of an answer to the request's fields, where those have other names.
    """
    if isinstance(error, OptionError | UnsupportedError) and error.option is not None:
        param = (options or {}).get(error.option, error.option)
        code = "invalid_value" if isinstance(error, OptionError) else "unsupported_parameter"
        return bad(error.message if param in error.message else f"{param}: {error.message}", param, code)
    if isinstance(error, NotFoundError):
        return WireError(404, error.message, param=param, code="not_found")
    if isinstance(error, BackendError) and error.unexpected:  # its text is for the log only
        return WireError(500, "The backend failed; see the server log.", code="server_error")
    if isinstance(error, HomeError | BackendError):
        return WireError(500, error.message, code="server_error")
    return bad(error.message, param)


def unknown_cursor() -> WireError:
    """Return a 400 for a list whose `after` is not the id of one of its items."""
    return bad("after: no item has this id.", "after", "invalid_value")


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return Response(text, status, dict(headers or {}), "application/json")


def decode(body: bytes) -> dict[str, Any]:
    """Return a request's JSON object, read strictly. Nulls count as absent. Raises WireError."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"The body is not JSON: {error}.", code="invalid_json") from error
    if not isinstance(value, dict):
        raise bad("The body is not a JSON object.", code="invalid_json")
    return _without_nulls(value)


_SCHEMAS = frozenset({"parameters", "schema"})  # fields that hold a JSON Schema, where a null is a value


def _without_nulls(body: dict[str, Any]) -> dict[str, Any]:
    """Remove fields that are null, at any depth; nulls in arrays and in JSON Schemas stay."""
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
    """Validate a body, or the part of one at `within`. Raises WireError whose `param` names the field."""
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
    """Return a message of pydantic without its type names and counts, which mean nothing to a client."""
    if message == "Field required":
        return "is missing"
    message = re.sub(r"^(Value error, |(Input|String|List|Dictionary) (?=should ))", "", message)
    message = re.sub(r"a valid dictionary( or instance of \w+)?", "an object", message)
    return re.sub(r" after validation, not .*", "", message)


def _param(place: Sequence[str | int], text: str) -> str:
    # Pydantic names the branch of a union among the keys; the client wrote only the keys.
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w-]{1,64}", part) and part not in _BRANCHES:
            text += f".{part}" if text else part
    return text or "body"


_BRANCHES = frozenset({"int", "float", "str", "constrained-int", "constrained-float", "constrained-str"})


def limit_of(query: QueryParams, default: int, most: int) -> int:
    """Return the `limit` of a list. Raises WireError."""
    text = query.get("limit")
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise bad(f"limit: should be a number from 1 to {most}.", "limit", "invalid_value")
    return int(text)


def check_query(query: QueryParams, *names: str) -> None:
    """Raise WireError for a query parameter other than these."""
    for name in query:
        if name not in names and not (name.startswith("metadata[") and "metadata" in names):
            raise bad(f"Unrecognized request argument supplied: {name[:100]}", name[:100], "unknown_parameter")


def list_page(data: Sequence[Mapping[str, Any]], *, more: bool) -> dict[str, Any]:
    """Return a page of a list."""
    ids = [one["id"] for one in data]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return {"object": "list", "data": list(data), "first_id": first, "last_id": last, "has_more": more}


def page_after(items: Sequence[Mapping[str, Any]], cursor: str | None, limit: int) -> dict[str, Any]:
    """Return the page of `items` after the one whose id is the cursor. Raises WireError if no item has that id."""
    start = 0
    if cursor is not None:
        ids = [one["id"] for one in items]
        if cursor not in ids:
            raise unknown_cursor()
        start = ids.index(cursor) + 1
    return list_page(items[start : start + limit], more=len(items) > start + limit)
