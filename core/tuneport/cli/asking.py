"""Commands that ask a model: ask, chat."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from tuneport.cli.options import ModelRef, SchemaFile
from tuneport.errors import UsageError
from tuneport.terminal.outlet import say, say_json
from tuneport.terminal.tables import Json, working

SystemPrompt = Annotated[
    str | None, typer.Option("--system", metavar="TEXT", help="The system prompt, instead of the one from training.")
]
MaxTokens = Annotated[
    int, typer.Option("--max-tokens", metavar="N", min=1, help="The maximum length of an answer, in tokens.")
]
Temperature = Annotated[
    float, typer.Option("--temperature", metavar="NUMBER", min=0.0, help="0 always gives the most likely answer.")
]


def ask(
    ref: ModelRef,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The question, or - to read it from standard input.")],
    system: SystemPrompt = None,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    schema: SchemaFile = None,
    json: Json = False,
) -> int:
    """Ask a model one question. The answer is printed as it is generated."""
    from tuneport.cli.schemafile import read_schema_file
    from tuneport.workflow import open_model

    question = sys.stdin.read() if text == "-" else text
    if not question.strip():
        raise UsageError("There is no question.", remedy=f'Write: tuneport ask {ref} "…"')
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": question})
    model = open_model(ref)
    options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "schema": read_schema_file(schema)}
    if json:
        with working(f"Loading {model.ref} …"):
            reply = model.reply(turns, **options)
        say_json(reply.to_dict())
        return 0
    _print_pieces(model.ref, model.stream(turns, **options))
    return 0


def chat(
    ref: ModelRef,
    system: SystemPrompt = None,
    max_tokens: MaxTokens = 512,
    temperature: Temperature = 0.0,
    history: Annotated[
        bool,
        typer.Option(
            "--history/--no-history", help="Save the lines that you type, so that later chats can recall them."
        ),
    ] = True,
) -> int:
    """Chat with a model. An empty line or Ctrl-D ends the chat."""
    from tuneport.cli.lines import conversation
    from tuneport.workflow import open_model

    model = open_model(ref)
    turns: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    say(f"{model.ref} - an empty line ends the chat.", err=True)
    with conversation(remember=history) as next_line:
        while True:
            try:
                line = next_line()
            except EOFError:
                return 0
            if not line.strip():
                return 0
            turns.append({"role": "user", "content": line})
            answer = _print_pieces(model.ref, model.stream(turns, max_tokens=max_tokens, temperature=temperature))
            turns.append({"role": "assistant", "content": answer})


def _print_pieces(ref: object, pieces: Iterator[str]) -> str:
    """Print an answer as it is generated, and return it. Until it starts, show that the model is loading."""
    from itertools import chain

    from tuneport.terminal.outlet import say_pieces

    with working(f"Loading {ref} …"):
        first = next(pieces, "")
    return say_pieces(chain((first,), pieces))


COMMANDS = (ask, chat)
