"""What an answer must look like: a JSON Schema or a pydantic class, checked and bounded before a model sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tuneport.doors import AUTHORS, public
from tuneport.errors import DataError, OptionError

if TYPE_CHECKING:
    from pydantic import BaseModel

    Shape = type[BaseModel] | Mapping[str, Any] | bool

MOST_BYTES = 131_072
MOST_DEPTH = 32
MOST_PATTERN = 1_024
_EXACT = 2**53
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not", "contains", "if", "then", "else", "propertyNames")
_COMBINED = ("allOf", "anyOf", "oneOf", "$ref", "if", "patternProperties", "unevaluatedProperties")


@public(AUTHORS)
def read_schema(shape: Shape) -> dict[str, Any] | bool:
    """The JSON Schema of an answer: `True` (any JSON object), a JSON Schema, or the schema of a pydantic class.

    An object allows no properties beyond those that it lists, unless it says `additionalProperties`: a model could add
    properties without end, and what is left out keeps every such schema valid. Raises OptionError for a schema that is
    too large, is nested too deeply, or refers to another document.
    """
    if shape is True:
        return True
    if isinstance(shape, type):
        shape = _of_class(shape)
    if not isinstance(shape, Mapping):
        raise _wrong(
            f"{type(shape).__name__} is not a schema.",
            "Pass a JSON Schema as a dictionary, a pydantic class, or True for any JSON object.",
        )
    _bound(shape)
    schema: dict[str, Any] = json.loads(json.dumps(shape))
    found = list(_subschemas(schema))
    for one in found:
        _check(one)
        _hold_to_exact(one)
    if not any("allOf" in one for one in found):
        for one in found:
            if isinstance(one.get("properties"), dict) and not any(key in one for key in _COMBINED):
                one.setdefault("additionalProperties", False)
    return schema


def parse_answer(text: str, shape: Shape) -> Any:
    """The value of an answer's text: an instance of the pydantic class, else plain JSON. Raises DataError."""
    from pydantic import ValidationError

    try:
        return shape.model_validate_json(text) if isinstance(shape, type) else json.loads(text)
    except (ValidationError, ValueError, RecursionError) as error:
        name = shape.__name__ if isinstance(shape, type) else "JSON"
        raise DataError(
            f"The answer is not valid {name}: {str(error)[:400]}",
            remedy="Read the reply's text. If the answer was cut at its limit, raise max_tokens.",
        ) from error


def _of_class(shape: type) -> dict[str, Any]:
    make = getattr(shape, "model_json_schema", None)
    if make is None:
        raise _wrong(f"{shape.__name__} is not a pydantic class.", "Derive it from pydantic.BaseModel.")
    from pydantic.errors import PydanticUserError

    try:
        made: dict[str, Any] = make()
    except PydanticUserError as error:  # a class that is not complete, or a field that JSON Schema has no word for
        reason = str(error).partition("\n")[0]
        raise _wrong(f"{shape.__name__} has no JSON Schema: {reason}", "Change that field.") from error
    return made


def _bound(schema: Mapping[str, Any]) -> None:
    """Refuse what is too large or too deep before any recursion reads it."""
    size, waiting = 0, [(schema, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MOST_DEPTH:
            raise _wrong(f"The schema nests deeper than {MOST_DEPTH} levels.", "Use $defs and $ref.")
        inside: list[Any] = []
        if isinstance(value, Mapping):
            if not all(isinstance(key, str) for key in value):
                raise _wrong("The keys of a schema must be strings.", "Use strings as keys.")
            inside = list(value.values())
            size += sum(len(key) + 4 for key in value)
        elif isinstance(value, list | tuple):
            inside = list(value)
        elif isinstance(value, str):
            size += len(value.encode("utf-8", "replace"))
        elif not (value is None or isinstance(value, bool | int | float)):
            raise _wrong(f"The schema holds a {type(value).__name__}, which is not JSON.", "Pass plain JSON.")
        size += 2
        if size > MOST_BYTES:
            raise _wrong(f"The schema is larger than {MOST_BYTES:,} bytes.", "Describe less, or use $defs and $ref.")
        waiting += [(one, depth + 1) for one in inside]


def _subschemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every schema within a schema, itself first; values such as `enum` and `default` are not schemas."""
    waiting: list[Any] = [schema]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, dict):
            continue
        yield one
        for key in _MAPS:
            if isinstance(one.get(key), dict):
                waiting += one[key].values()
        for key in _LISTS:
            if isinstance(one.get(key), list):
                waiting += one[key]
        for key in _SINGLE:
            waiting += one[key] if isinstance(one.get(key), list) else [one.get(key)]


def _check(one: Mapping[str, Any]) -> None:
    refers = one.get("$ref")
    if refers is not None and not (isinstance(refers, str) and refers.startswith("#")):
        raise _wrong(
            f"$ref refers to another document: {str(refers)[:100]!r}. No document is fetched.",
            "Put what it refers to under $defs, and refer to it as '#/$defs/NAME'.",
        )
    for key in ("exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(one.get(key), bool):
            raise _wrong(f"{key} is a number, not {one[key]}.", f"Write the bound itself as {key}.")
    named = one.get("patternProperties")
    patterns = [one.get("pattern"), *(named if isinstance(named, dict) else ())]
    if any(isinstance(pattern, str) and len(pattern) > MOST_PATTERN for pattern in patterns):
        raise _wrong(f"A pattern is longer than {MOST_PATTERN:,} characters.", "Shorten it, or leave it out.")


def _hold_to_exact(one: dict[str, Any]) -> None:
    """Keep whole numbers where floating point can represent each of them: narrower bounds keep every answer valid."""
    for key, bound in (
        ("maximum", _EXACT),
        ("exclusiveMaximum", _EXACT),
        ("minimum", -_EXACT),
        ("exclusiveMinimum", -_EXACT),
    ):
        value = one.get(key)
        if isinstance(value, int) and abs(value) > _EXACT and (value > 0) == (bound > 0):
            one[key] = bound
    if any(isinstance(leaf, int) and abs(leaf) > _EXACT for leaf in _leaves([one.get("const"), one.get("enum")])):
        raise _wrong("A number in const or enum is beyond 2**53, where JSON numbers are not exact.", "Use a text.")


def _leaves(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            waiting += one.values() if isinstance(one, dict) else one
        else:
            yield one


def _wrong(message: str, remedy: str) -> OptionError:
    return OptionError(message, option="schema", remedy=remedy)
