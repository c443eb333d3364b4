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


def preview(examples: Iterable[Example], rules: DataRules, rows: int = 3) -> list[list[Piece]]:
    """The first `rows` examples in pieces of text with their weights, as the rules's backend trains on them.

    Raises UnavailableError where the backend cannot show it.
    """
    if rules.preview is None:
        raise UnavailableError(
            "This backend cannot show what is trained on: it has no tokenizer here.",
            remedy="Ask for a model that is trained on this machine; `tuneport plugins` says what each backend needs.",
        )
    return [rules.preview(example) for example in islice(examples, rows)]


def untokenised(example: Example) -> list[Piece]:
    """An example as it was understood, where no model says how it sees it: pieces of 0 tokens."""
    if isinstance(example, Completion):
        return [Piece(example.prompt, 0, 0), Piece(example.completion, 1, 0)]
    if isinstance(example, Conversation):
        return [*_tools(example.tools), *_turns(example.messages)]
    pieces = [*_tools(example.tools), *_turns(example.prompt)]
    for name, arm, weight in (("chosen", example.chosen, 1.0), ("rejected", example.rejected, -1.0)):
        pieces += [Piece(f"{name}\n", 0, 0), *_turns(arm, weight)]
    return pieces


def _tools(tools: Sequence[dict[str, Any]]) -> Iterator[Piece]:
    if tools:
        yield Piece(f"tools: {', '.join(str(tool.get('function', {}).get('name')) for tool in tools)}\n", 0, 0)


def _turns(messages: Sequence[Message], weight: float = 1.0) -> Iterator[Piece]:
    for message in messages:
        yield Piece(f"{message.role}: ", 0, 0)
        calls = [msgspec.json.encode(call).decode() for call in message.tool_calls or ()]
        thought = [f"<think>{message.reasoning_content}</think>"] if message.reasoning_content else []
        text = "\n".join([*thought, *([message.text] if message.text else []), *calls])
        trained = message.role == "assistant" and message.weight != 0
        yield Piece(text, weight if trained else 0, 0)
        yield Piece("\n", 0, 0)


def plain(pieces: Sequence[Piece]) -> str:
    """The pieces as text without colour; ⟦…⟧ stands around what is trained on, ⟦-…-⟧ around what is to be said less.

    >>> print(plain([Piece("Paris is in ", 0, 3), Piece("France.", 1, 2)]))
    Paris is in ⟦France.⟧
    2 of 5 tokens are trained on
    """
    marks = {1: "⟦{}⟧", 0: "{}", -1: "⟦-{}-⟧"}
    body = "".join(marks[sign].format(visible(text)) for text, sign in _merged(pieces))
    return "\n".join(part for part in (body.removesuffix("\n"), summary(pieces)) if part)


def coloured(pieces: Sequence[Piece]) -> Text:
    """The same for a terminal: what is trained on stands out in green, what is to be said less in red; the context is
    dim.
    """
    from rich.text import Text

    text = Text()
    styles = {1: "bold green", 0: "dim", -1: "bold red"}
    for run, sign in _merged(pieces):
        text.append(visible(run), style=styles[sign])
    text.rstrip()
    return text.append(f"\n{said}", style="italic") if (said := summary(pieces)) else text


def summary(pieces: Sequence[Piece]) -> str:
    """How much of the row is trained on; nothing where no tokens were counted."""
    trained = sum(piece.tokens for piece in pieces if piece.weight)
    total = sum(piece.tokens for piece in pieces)
    return f"{trained:,} of {total:,} tokens are trained on" if total else ""


def _merged(pieces: Sequence[Piece]) -> list[tuple[str, int]]:
    """Neighbours that are trained on alike, as one run, with the sign of their weight."""
    runs: list[tuple[str, int]] = []
    for piece in pieces:
        sign = (piece.weight > 0) - (piece.weight < 0)
        if runs and runs[-1][1] == sign:
            runs[-1] = (runs[-1][0] + piece.text, sign)
        else:
            runs.append((piece.text, sign))
    return runs
