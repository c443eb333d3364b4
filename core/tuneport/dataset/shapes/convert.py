"""Converts rows to examples, by the recipe of their file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from tuneport.dataset.example import Example
from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.strict_json import escape
from tuneport.dataset.read.values import find_bytes
from tuneport.dataset.shapes.call_ids import with_call_ids
from tuneport.dataset.shapes.call_text import with_calls_from_text
from tuneport.dataset.shapes.context import context_columns, is_rated, rating_column
from tuneport.dataset.shapes.conversations import with_system
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.shapes.recognize import find_column, recognize_shape
from tuneport.dataset.shapes.row_view import RowView, json_kind
from tuneport.dataset.shapes.shapes import SHAPE_OF, RowShape
from tuneport.dataset.shapes.text_values import with_turns

_EXACT = 1 << 53  # above this, not every integer is a float
_NOT_TEXT_ROLES = frozenset({"messages", "conversations", "tools", "parallel_tool_calls"})


def read_example(recipe: Recipe, values: Any, report: RowReport) -> Example | None:
    """The example of a row, or None with the reasons in the report. A number in place of a text is read as a text."""
    before = len(report.found)
    example = _convert(recipe, values, report)
    if not report.failed or not isinstance(values, dict):
        return example
    retry = RowReport(report.line)
    retry.found = report.found[:before]
    corrected = dict(values)
    for role, column in recipe.columns.items():
        value = values.get(column)
        if isinstance(value, float) and role not in _NOT_TEXT_ROLES:
            corrected[column] = _number_to_text(value, column, retry)
        elif reason := find_bytes(value):
            retry.add("not-utf8", f"{column} has {reason}.", f"/{column}")
    if retry.failed:
        report.replace(retry)
        return None
    if len(retry.found) == before:
        return example
    example = _convert(recipe, corrected, retry)
    report.replace(retry)
    return example


def _number_to_text(value: float, column: str, report: RowReport) -> str | None:
    """The text that a number is read as."""
    if math.isnan(value):
        report.add("missing-value", f"{column} is NaN, which means no value.", f"/{column}")
        return None
    if math.isinf(value):
        report.add("non-finite-number", f"{column} is {value}.", f"/{column}")
        return None
    text = str(int(value)) if value.is_integer() and abs(value) <= _EXACT else repr(value)
    report.add("read-as-text", f'{column} is {value!r}, read as "{text}".', f"/{column}")
    return text


def _convert(recipe: Recipe, values: Any, report: RowReport) -> Example | None:
    if not isinstance(values, dict):
        report.add("not-an-object", f"The row is {json_kind(values)}, not an object.")
        return None
    shape = SHAPE_OF[recipe.shape]
    missing = [role for role in shape.required if recipe.columns[role] not in values]
    if missing and (other := recognize_shape([values], {}, None)) and other.shape != recipe.shape:
        report.add("mixed-shapes", f"The row's shape is {other.shape}; that of the first rows is {recipe.shape}.")
        return None
    if not values.keys() <= set(recipe.names):
        recipe = _add_late_columns(recipe, shape, values, report)
    if recipe.rating is not None and is_rated(recipe.rating, values.get(recipe.rating)):
        column = recipe.rating
        message = f"{column} says whether the answer is good, so this is a row for KTO."
        report.add("kto-row", message, f"/{escape(column)}")
        return None
    names = [recipe.columns[role] for role in shape.required]
    if len(names) > 1 and all(values.get(name) == name for name in names):
        report.add("names-as-row", "The row has the names of its columns as values.")
    values = with_turns(recipe.shape, recipe.columns, values, report)
    if report.failed:
        return None
    built = shape.build(RowView(recipe, values, report))
    if report.failed or built is None:
        return None
    report.place = built.place
    example = with_calls_from_text(built.example, report)
    return with_system(with_call_ids(example, report), recipe.system)


def _add_late_columns(recipe: Recipe, shape: RowShape, values: Mapping[str, Any], report: RowReport) -> Recipe:
    """The recipe with columns that the first rows did not have."""
    new = [name for name in values if name not in recipe.names]
    found = dict(recipe.columns)
    for role in shape.optional:
        column = find_column(role, {}, new)
        if column and role not in found:
            found[role] = column
    rating = recipe.rating or rating_column(new, found.values(), [values], labels=shape.name == "text/label")
    used = {*found.values(), rating}
    unused = [name for name in new if name not in used and values[name] not in (None, "", [], {})]
    for name in context_columns(unused):
        message = f"{name} is not used, but the row may mean something else without it."
        report.add("context-column-unused", message, f"/{escape(name)}")
    return msgspec.structs.replace(recipe, columns=found, rating=rating)
