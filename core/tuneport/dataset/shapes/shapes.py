"""Foreign rows to examples: which columns a file has, what they mean, and how a row becomes an example."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tuneport.dataset.example import Completion, Conversation, Example, Message, Preference
from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.read.strict_json import escape
from tuneport.dataset.shapes import messages as turns
from tuneport.dataset.shapes.call_ids import with_call_ids
from tuneport.dataset.shapes.call_text import with_calls_of_text
from tuneport.dataset.shapes.context import is_rated, rating, telling
from tuneport.dataset.shapes.pairs import ASKED, openai_pair, pair, with_system
from tuneport.dataset.shapes.recipe import Recipe, Row, kind
from tuneport.dataset.shapes.text_values import with_turns
from tuneport.dataset.shapes.tools import decoded, read_calls
from tuneport.errors import UsageError

ALIASES: dict[str, tuple[str, ...]] = {
    "text": ("text", "message", "utterance", "sentence"),
    "label": ("label", "category", "intent", "class"),
    "messages": ("messages", "contents"),
    "conversations": ("conversations", "conversation"),
    "question": ("question", "query", "user", "input"),
    "answer": ("answer", "answers", "response", "assistant", "output"),
    "completion": ("completion", "response"),
    "output": ("output", "response"),
    "input": ("input", "context"),
    "context": ("context", "passage", "background", "document"),
    "system": ("system", "system_prompt", "system_message", "systemInstruction", "system_instruction"),
    "history": ("history", "chat_history", "conversation_history"),
    "tools": ("tools", "functions", "toolConfig"),
    "reasoning": ("reasoning_content",),  # other names may mean a text for people: to be named
}
"""The column names that stand for one of ours; any other role is named as itself."""


@dataclass(frozen=True)
class Shape:
    """A known shape: the roles that a row must have, those that it may have, and what makes an example of them."""

    name: str
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    build: Callable[[Row], Example | None]
    asked: bool = False
    """Whether rows are read so only where their columns are named."""


def _canonical(row: Row) -> Example | None:
    """What `Dataset.write` and job snapshots hold: our own rows, each with its shape."""
    shape = row.values.get("shape")
    if shape == "completion":
        return _completion(row)
    if shape == "preference":
        prompt, chosen, rejected = (row.messages(role) for role in ("prompt", "chosen", "rejected"))
        return Preference(prompt=prompt, chosen=chosen, rejected=rejected, tools=row.tools())
    if shape == "conversation":
        return _chat(row)
    row.report.add("mixed-shapes", f"shape is {shape!r}, which is none of tuneport's.", "/shape")
    return None


def _chat(row: Row) -> Example:
    parallel = row.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        row.report.add("not-text", "parallel_tool_calls is neither true nor false.", row.pointer("parallel_tool_calls"))
        parallel = None
    found = _around(row, row.messages("messages"), lambda index: f"{row.at('messages', index)}/content")
    return Conversation(messages=found, tools=row.tools(), parallel_tool_calls=parallel)


def _sharegpt(row: Row) -> Example:
    found = turns.read_sharegpt(row.parsed("conversations"), row.pointer("conversations"), row.report)
    found = _around(row, found, lambda index: f"{row.at('conversations', index)}/value")
    return Conversation(messages=found, tools=row.tools())


def _around(row: Row, messages: tuple[Message, ...], pointer: Callable[[int], str]) -> tuple[Message, ...]:
    """The turns of a row with its system prompt and its earlier turns in front; `pointer` says where each stands."""
    system, earlier = row.system_prompt(), row.history()
    own = next((place for place, turn in enumerate(messages) if turn.role not in ("system", "developer")), 0)
    # A system prompt that differs from the turns' own stays beside it: nothing is left out in silence.
    first = (Message(role="system", content=system),) if system else ()
    first = () if first == messages[:1] else first

    def place(_: str, index: int) -> str:
        index -= len(first)
        if index < 0:
            return row.pointer("system")
        if own <= index < own + len(earlier):
            return row.pointer("history")
        return pointer(index if index < own else index - len(earlier))

    row.report.place = place
    return (*first, *messages[:own], *earlier, *messages[own:])


def _prompt_completion(row: Row) -> Example:
    if isinstance(row.get("prompt"), list | dict) or isinstance(row.get("completion"), list | dict):
        prompt = row.side("prompt", "user")
        if row.get("reasoning"):
            message = f"{row.pointer('reasoning')[1:]} stands beside turns, not on the assistant's."
            row.report.add("bad-reasoning", message, row.pointer("reasoning"))
        found = _around(
            row,
            prompt + row.side("completion", "assistant"),
            lambda index: (
                f"{row.at('prompt', index)}/content"
                if index < len(prompt)
                else f"{row.at('completion', index - len(prompt))}/content"
            ),
        )
        return Conversation(messages=found, tools=row.tools())
    if row.recipe.turns or any(row.get(role) for role in TURN_ROLES):
        return _turns(row, row.more("context", row.text("prompt")), "prompt", "completion")
    return _completion(row)


def _completion(row: Row) -> Completion:
    row.report.place = lambda part, _: row.pointer(part)
    prompt = row.text("prompt") if "prompt" in row.recipe.columns else ""
    return Completion(prompt=row.more("context", prompt, before=True), completion=row.text("completion"))


def _alpaca(row: Row) -> Example:
    question = row.more("context", row.more("input", row.text("instruction")))
    return _turns(row, question, "instruction", "output")


def _question_answer(row: Row) -> Example:
    return _turns(row, row.more("context", row.text("question")), "question", "answer")


def _text_label(row: Row) -> Example:
    return _turns(row, row.more("context", row.text("text")), "text", "label")


def _turns(row: Row, question: str, asked: str, answered: str) -> Conversation:
    thought = row.text("reasoning") if row.get("reasoning") is not None else ""
    text = row.answer(answered) if answered == "answer" else row.text(answered)
    said = turns.once(text, thought, row.pointer(answered), row.report)
    calls = _calls(row, answered, said)
    answer = Message(
        role="assistant", content=None if calls else said, tool_calls=calls, reasoning_content=thought or None
    )
    pair = (Message(role="user", content=question), answer)
    found = _around(row, pair, lambda index: row.pointer(answered if index else asked))
    return Conversation(messages=found, tools=row.tools())


def _calls(row: Row, answered: str, said: turns.Content) -> list[dict[str, Any]] | None:
    """The calls that an answer in JSON is, in a row that has tools."""
    if not row.get("tools"):
        return None
    calls = decoded(said)
    if not (isinstance(calls, list) and calls and all(isinstance(one, dict) and "name" in one for one in calls)):
        return None
    return read_calls(calls, row.pointer(answered), row.report)


SHAPES = (
    Shape(
        "tuneport",
        ("shape",),
        ("messages", "tools", "parallel_tool_calls", "prompt", "completion", "chosen", "rejected"),
        _canonical,
    ),
    Shape("preference", ("input", "preferred_output", "non_preferred_output"), (), openai_pair),
    Shape(
        "chosen/rejected",
        ("chosen", "rejected"),
        (*ASKED, "input", "context", "system", "tools"),
        pair,
    ),
    Shape("messages", ("messages",), ("tools", "parallel_tool_calls", "system", "history"), _chat),
    Shape("conversations", ("conversations",), ("system", "history", "tools"), _sharegpt),
    Shape(
        "prompt/completion",
        ("prompt", "completion"),
        ("context", "system", "history", "tools", "reasoning"),
        _prompt_completion,
    ),
    Shape(
        "instruction/output",
        ("instruction", "output"),
        ("input", "context", "system", "history", "tools", "reasoning"),
        _alpaca,
    ),
    Shape(
        "question/answer",
        ("question", "answer"),
        ("context", "system", "history", "tools", "reasoning"),
        _question_answer,
    ),
    Shape("completion", ("completion",), (), _completion, asked=True),
    Shape("text/label", ("text", "label"), ("context", "system", "history", "reasoning"), _text_label),
)
_BY_NAME = {shape.name: shape for shape in SHAPES}
TURN_ROLES = frozenset({"system", "history", "tools", "reasoning"})
"""The columns that make a prompt and its completion turns of a conversation."""
ROLES = tuple(sorted({role for shape in SHAPES[1:] for role in shape.needs + shape.takes}))


def takes_of(shape: str) -> tuple[str, ...]:
    """The roles that rows of a shape may have beside those that they must have."""
    return _BY_NAME[shape].takes


def recognise(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], system: str | None) -> Recipe | None:
    """The recipe that fits most of the first rows, or None; UsageError when `columns` names what is not there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_columns(columns, names)
    best: tuple[int, Recipe] | None = None
    for shape in SHAPES:
        if not set(columns) <= set(shape.needs + shape.takes) or (shape.asked and not columns):
            continue
        found = _found(shape, columns, names)
        fits = sum(all(role in found and found[role] in row for role in shape.needs) for row in rows)
        if shape.name == "tuneport":
            fits = sum(row.get("shape") in ("conversation", "completion", "preference") for row in rows)
        if fits and (best is None or fits > best[0]):
            turned = any(row.get(found[role]) for row in rows for role in TURN_ROLES & found.keys())
            rated = rating(names, found.values(), rows, labels=shape.name == "text/label")
            best = fits, Recipe(shape.name, found, system, tuple(names), rated, turned)
    if best is None and columns and names:
        raise UsageError(
            f"columns names {', '.join(columns)}, which together make no shape that tuneport knows.",
            remedy="Name for example text and label, question and answer, prompt and completion, or messages.",
        )
    return best[1] if best else None


def _found(shape: Shape, columns: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """The column of each role that there is one for; an optional role takes none that another has."""
    found: dict[str, str] = {}
    for role in shape.needs + shape.takes:
        if shape.name == "chosen/rejected" and role not in columns and _asked_already(role, found):
            continue
        column = _column(role, columns, names)
        if column and (role in shape.needs or role in columns or column not in found.values()):
            found[role] = column
    return found


def _asked_already(role: str, found: Mapping[str, str]) -> bool:
    """Whether a pair needs no column for a role: one prompt is enough, and `input` belongs to an instruction."""
    if role == "input":
        return "instruction" not in found
    return role in ASKED and any(other in found for other in ASKED)


def _column(role: str, columns: Mapping[str, str], names: Sequence[str]) -> str | None:
    if role in columns:
        return columns[role]
    return next((name for name in ALIASES.get(role, (role,)) if name in names), None)


def _check_columns(columns: Mapping[str, str], names: Sequence[str]) -> None:
    for role, column in columns.items():
        if role not in ROLES:
            raise UsageError(
                f"columns maps {role!r}, which is no role of a column.",
                remedy=f"{_nearest(role, ROLES)}Roles are {', '.join(ROLES)}.",
            )
        if names and column not in names:
            raise UsageError(
                f"columns maps {role} to {column!r}, and there is no such column.",
                remedy=f"{_nearest(column, names)}The columns are {', '.join(names)}.",
            )


def _nearest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"Did you mean {near[0]!r}? " if near else ""


def convert(recipe: Recipe, values: Any, report: RowReport) -> Example | None:
    """The example of one row, or None, with the reasons in the report."""
    if not isinstance(values, dict):
        report.add("not-an-object", f"The row is {kind(values)}, not an object.")
        return None
    shape = _BY_NAME[recipe.shape]
    missing = [role for role in shape.needs if recipe.columns[role] not in values]
    if missing and (other := recognise([values], {}, None)) and other.shape != recipe.shape:
        report.add("mixed-shapes", f"The row is {other.shape}, the first rows are {recipe.shape}.")
        return None
    if not values.keys() <= set(recipe.names):
        recipe = _with_late_columns(recipe, shape, values, report)
    if recipe.rating is not None and is_rated(recipe.rating, values.get(recipe.rating)):
        column = recipe.rating
        report.add("kto-row", f"{column} says whether the answer is good: a row for KTO.", f"/{escape(column)}")
        return None
    if len(shape.needs) > 1 and all(values.get(recipe.columns[role]) == recipe.columns[role] for role in shape.needs):
        report.add("names-as-row", "The row holds the names of its columns.", None)
    values = with_turns(recipe.shape, recipe.columns, values, report)
    if report.failed:
        return None
    example = shape.build(Row(recipe, values, report))
    if report.failed or example is None:
        return None
    example = with_calls_of_text(example, report)
    return with_system(with_call_ids(example, report), recipe.system)


def _with_late_columns(recipe: Recipe, shape: Shape, values: Mapping[str, Any], report: RowReport) -> Recipe:
    """The recipe with the columns that the first rows did not have."""
    new = [name for name in values if name not in recipe.names]
    found = dict(recipe.columns)
    for role in shape.takes:
        column = _column(role, {}, new)
        if column and role not in found:
            found[role] = column
    late = recipe.rating or rating(new, found.values(), [values], labels=shape.name == "text/label")
    used = {*found.values(), late}
    for name in telling([name for name in new if name not in used and values[name] not in (None, "", [], {})]):
        message = f"{name} is not used, and the row may mean something else without."
        report.add("context-column-unused", message, f"/{escape(name)}")
    return msgspec.structs.replace(recipe, columns=found, rating=late)
