"""Shows what is trained on: the text as the model sees it, with the loss marked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from tuneport.dataset.example import Completion, Conversation, Example, Message
from tuneport.dataset.rules import DataRules, Piece
from tuneport.errors import UnavailableError
from tuneport.printable import visible

if TYPE_CHECKING:
    from rich.text import Text


def preview_examples(examples: Iterable[Example], rules: DataRules, rows: int = 3) -> list[list[Piece]]:
    """The first `rows` examples in pieces of text with their weights, as the rules' backend trains on them.

    Raises UnavailableError where the backend cannot show it.
    """
    if rules.preview is None:
        raise UnavailableError(
            "This backend cannot show what is trained on: it has no tokenizer here.",
            remedy="Choose a model that is trained on this machine. `tuneport plugins` lists what each backend needs.",
        )
    return [rules.preview(example) for example in islice(examples, rows)]


def example_pieces(example: Example) -> list[Piece]:
    """An example without a model's template: pieces of 0 tokens."""
    if isinstance(example, Completion):
        return [Piece(example.prompt, 0, 0), Piece(example.completion, 1, 0)]
    if isinstance(example, Conversation):
        return [*_tool_pieces(example.tools), *_turn_pieces(example.messages)]
    pieces = [*_tool_pieces(example.tools), *_turn_pieces(example.prompt)]
    for name, arm, weight in (("chosen", example.chosen, 1.0), ("rejected", example.rejected, -1.0)):
        pieces += [Piece(f"{name}\n", 0, 0), *_turn_pieces(arm, weight)]
    return pieces


def _tool_pieces(tools: Sequence[dict[str, Any]]) -> Iterator[Piece]:
    if tools:
        yield Piece(f"tools: {', '.join(str(tool.get('function', {}).get('name')) for tool in tools)}\n", 0, 0)


def _turn_pieces(messages: Sequence[Message], weight: float = 1.0) -> Iterator[Piece]:
    for message in messages:
        yield Piece(f"{message.role}: ", 0, 0)
        calls = [msgspec.json.encode(call).decode() for call in message.tool_calls or ()]
        thought = [f"<think>{message.reasoning_content}</think>"] if message.reasoning_content else []
        text = "\n".join([*thought, *([message.text] if message.text else []), *calls])
        trained = message.role == "assistant" and message.weight != 0
        yield Piece(text, weight if trained else 0, 0)
        yield Piece("\n", 0, 0)


def to_plain_text(pieces: Sequence[Piece]) -> str:
    """The pieces as text without color: ⟦…⟧ marks what is trained on, ⟦-…-⟧ what becomes less likely.

    >>> print(to_plain_text([Piece("Paris is in ", 0, 3), Piece("France.", 1, 2)]))
    Paris is in ⟦France.⟧
    2 of 5 tokens are trained on
    """
    marks = {1: "⟦{}⟧", 0: "{}", -1: "⟦-{}-⟧"}
    body = "".join(marks[sign].format(visible(text)) for text, sign in _merge(pieces))
    return "\n".join(part for part in (body.removesuffix("\n"), summarize(pieces)) if part)


def to_colored_text(pieces: Sequence[Piece]) -> Text:
    """The pieces for a terminal: green is trained on, red becomes less likely, and context is dim."""
    from rich.text import Text

    text = Text()
    styles = {1: "bold green", 0: "dim", -1: "bold red"}
    for run, sign in _merge(pieces):
        text.append(visible(run), style=styles[sign])
    text.rstrip()
    return text.append(f"\n{counts}", style="italic") if (counts := summarize(pieces)) else text


def summarize(pieces: Sequence[Piece]) -> str:
    """How many tokens are trained on; empty where none were counted."""
    trained = sum(piece.tokens for piece in pieces if piece.weight)
    total = sum(piece.tokens for piece in pieces)
    return f"{trained:,} of {total:,} tokens are trained on" if total else ""


def _merge(pieces: Sequence[Piece]) -> list[tuple[str, int]]:
    """Runs of neighboring pieces whose weights have the same sign, with that sign."""
    runs: list[tuple[str, int]] = []
    for piece in pieces:
        sign = (piece.weight > 0) - (piece.weight < 0)
        if runs and runs[-1][1] == sign:
            runs[-1] = (runs[-1][0] + piece.text, sign)
        else:
            runs.append((piece.text, sign))
    return runs
