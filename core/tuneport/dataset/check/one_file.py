"""The checks of a file: its columns, how its rows are understood, its size."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from tuneport.dataset.findings.findings import Findings
from tuneport.dataset.rules import LEARNED_BY, DataRules
from tuneport.dataset.shapes.context import context_columns, is_about_thoughts
from tuneport.dataset.shapes.conversations import TURN_ROLES
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.shapes.shapes import ALIASES, SHAPE_OF

_MEANINGS = {
    "system": "the system prompt",
    "history": "earlier turns, which are trained on too",
    "context": "part of the prompt",
    "reasoning": "the reasoning before the answer",
}


def check_columns(recipe: Recipe, findings: Findings) -> None:
    """Columns that are not used."""
    used = {*recipe.columns.values(), recipe.rating}
    unused = [str(name) for name in recipe.names if name not in used]
    missed = context_columns(unused)
    if missed:
        message = f"Not used, but the rows may mean something else without: {', '.join(missed)}."
        findings.add("context-column-unused", message, remedy=_context_remedy(recipe, missed))
    if others := [name for name in unused if name not in missed]:
        findings.add("unused-columns", f"Not used: {', '.join(others)}.", remedy=_columns_remedy(recipe))


def check_use(read: int, used: int, findings: Findings) -> None:
    """A file without any usable row."""
    if not used:
        findings.add("no-rows", "No row can be used." if read else "There is no row in the file.")


def check_method(shapes: Mapping[str, int], method: str, findings: Findings) -> None:
    """Examples that a method cannot learn from on any backend; `shapes` has the number of rows of each."""
    for shape, rows in shapes.items() if method in LEARNED_BY else ():
        others = [name for name, learned in LEARNED_BY.items() if shape in learned]
        if method not in others:
            are = f"{rows:,} rows are {shape}s" if rows != 1 else f"1 row is a {shape}"
            message = f"{are}. {method} does not learn from these, but {' or '.join(others)} does."
            findings.add("needs-other-method", message)


def check_rules(size: int, rules: DataRules, findings: Findings) -> None:
    """A backend's notes, and its limit on the size of the rows in bytes."""
    for note in rules.notes:
        findings.add("base-note", note)
    if rules.max_bytes is not None and size > rules.max_bytes:
        findings.add("file-too-large", f"The rows have {size:,} bytes. The limit is {rules.max_bytes:,}.")


def describe_reading(
    recipe: Recipe | None, shapes: Collection[str], rules: DataRules | None
) -> Iterator[tuple[str, str]]:
    """How rows are understood, as a code and a message each: what columns other than the answer mean, and whether
    prompts and completions are plain text or turns.
    """
    columns = recipe.columns if recipe is not None else {}
    meanings = [f"{columns[role]} is {meaning}" for role, meaning in _MEANINGS.items() if role in columns]
    if meanings:
        yield "read-as-context", f"In these rows {', '.join(meanings)}."
    if recipe is not None and recipe.shape == "prompt/completion" and "completion" not in shapes:
        others = " and ".join(columns[role] for role in sorted(TURN_ROLES & columns.keys()))
        if others:
            yield "read-as-turns", f"Prompt and completion are a user's and an assistant's turn, because of {others}."
    if "completion" in shapes and rules is not None and rules.has_template is not None and rules.has_template():
        yield "plain-text", "The rows are trained as plain text, without the model's chat template."


def _context_remedy(recipe: Recipe, missed: Sequence[str]) -> str:
    """How to use the columns that are left out, as far as rows of this shape can."""
    optional = SHAPE_OF[recipe.shape].optional
    roles = [role for role in _MEANINGS if role in optional and role not in recipe.columns]
    thought = next((name for name in missed if is_about_thoughts(name)), None)
    if thought is not None and "reasoning" in roles:
        return f"Train on it as the assistant's reasoning: --column reasoning={thought}. Or remove it from the file."
    roles = [role for role in roles if role != "reasoning"]
    if "context" not in optional or not roles or thought is not None:
        return "Write it into the messages that it belongs to. Or remove it from the file."
    best = "context" if "context" in roles else roles[0]
    return f"Name it as {' or '.join(roles)}: --column {best}={missed[0]}. Or remove it from the file."


def _columns_remedy(recipe: Recipe) -> str:
    now = ", ".join(f"{role}={column}" for role, column in recipe.columns.items())
    renamable = any(role in ALIASES for role in recipe.columns)
    return (
        f"Read as {now}. Name other columns if you need one of these."
        if renamable
        else "Nothing to do if this is right."
    )
