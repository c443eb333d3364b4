"""The grammar of required tool calls in the form of a chat template, in llguidance's dialect of Lark."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuneport_torch.text.callform import ANY_ID, ANY_NAME

if TYPE_CHECKING:
    from tuneport_torch.text.callform import CallForm

Literal = Callable[[str], str]
Json = Callable[[Mapping[str, Any] | bool], str]
_MOST_CALLS = 16


def can_write(form: CallForm) -> bool:
    """Whether calls of this form can be constrained: their arguments must be JSON or between tags."""
    if form.kind == "object":
        return form.name[:-1] == form.arguments[:-1]
    return form.kind in ("json", "pairs") and ANY_ID not in form.mid


def calls_rules(
    form: CallForm, tools: Sequence[tuple[str, Mapping[str, Any]]], *, many: bool, literal: Literal, any_json: Json
) -> list[str]:
    """Rules whose start rule is `calls`. `tools` are names with the schemas of their arguments. `literal` and
    `any_json` write a text and a schema in the grammar's notation.
    """
    rules = ["LEAD: /\\n{0,2}/"]
    first, following = [], []
    for number, (name, schema) in enumerate(tools):
        rules += _call_rules(form, number, name, schema, literal, any_json)
        head = form.head.replace(ANY_NAME, name).lstrip("\n")
        first.append(f"{literal(head)} call{number}" if head else f"call{number}")
        if form.between is not None:
            following.append(f"{literal(form.between.replace(ANY_NAME, name))} call{number}")
    rules.append(f"first: {' | '.join(first)}")
    more = ""
    if many and following:
        rules.append(f"next: {' | '.join(following)}")
        more = f" next{{0,{_MOST_CALLS - 1}}}"
    lead = "LEAD " if form.head.startswith("\n") else ""
    return [*rules, f"calls: {lead}first{more}{' ' + literal(form.close) if form.close else ''}"]


def _call_rules(
    form: CallForm, number: int, name: str, schema: Mapping[str, Any], literal: Literal, any_json: Json
) -> list[str]:
    rule = f"call{number}"
    if form.kind == "object":
        *outer, key = form.name
        opening = "".join(f'{{"{one}": ' for one in outer)
        opening += f'{{"{key}": {json.dumps(name, ensure_ascii=False)}, "{form.arguments[-1]}": '
        return [
            f"{rule}: {literal(opening)} args{number} {literal('}' * (1 + len(outer)))}",
            f"args{number}: {any_json(schema)}",
        ]
    opening = literal(name + form.mid)
    if form.kind == "json":
        return [f"{rule}: {opening} args{number}", f"args{number}: {any_json(schema)}"]
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    rules, pairs = [], []
    if not properties:  # any arguments
        value = f"{rule}_any[suffix={literal(form.ends)}]: /(.|\\n)*/"
        given = f"{literal(form.opens)} {rule}_key {literal(form.joins)} {rule}_any"
        return [f"{rule}: {opening} ({given}){{0,{_MOST_CALLS}}}", f'{rule}_key: /[^<>"\\s]+/', value]
    for place, (key, value) in enumerate(properties.items()):
        one = f"arg{number}_{place}"
        rules.append(f"{one}: {literal(form.opens + key + form.joins)} {_value(one, value, form, literal)}")
        if not _is_text(value):
            rules.append(f"{one}_value: {any_json(value)}")
        elif not value.get("enum"):
            rules.append(f"{one}_value[suffix={literal(form.ends)}]: /(.|\\n)*/")
        pairs.append(one if key in required else f"{one}?")
    return [f"{rule}: {' '.join([opening, *pairs])}", *rules]


def _value(rule: str, schema: Any, form: CallForm, literal: Literal) -> str:
    """The value of a parameter and the text that ends it."""
    if _is_text(schema):
        if schema.get("enum"):
            return f"({' | '.join(literal(one) for one in schema['enum'])}) {literal(form.ends)}"
        return f"{rule}_value"
    return f"{rule}_value {literal(form.ends)}"


def _is_text(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "string"
