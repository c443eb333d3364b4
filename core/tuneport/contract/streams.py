"""Streams of answers for models that write only `generate`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from tuneport.contract.answers import GenerateOptions, Reply
from tuneport.errors import TuneportError

if TYPE_CHECKING:
    from tuneport.dataset import Message

    Prompt = Sequence[Message]
    Generate = Callable[[Sequence[Prompt], GenerateOptions], list[Reply]]
    GenerateStreams = Callable[[Sequence[Prompt], GenerateOptions], Iterator[tuple[int, str | Reply]]]


def stream_in_one_piece(generate: Generate, prompt: Prompt, options: GenerateOptions) -> Generator[str, None, Reply]:
    """Yield the text of one reply at once, and return the reply."""
    reply = generate([prompt], options)[0]
    yield reply.text
    return reply


def number_pieces(pieces: Iterator[str]) -> Iterator[tuple[int, str | Reply]]:
    """The pieces of one stream as those of prompt 0, and the complete reply at the end."""
    text = ""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            yield 0, end.value if isinstance(end.value, Reply) else Reply(text=text)
            return
        text += piece
        yield 0, piece


def stream_by_options(
    generate_streams: GenerateStreams, requests: Sequence[tuple[Prompt, GenerateOptions]]
) -> Iterator[tuple[int, str | Reply | TuneportError]]:
    """Answer prompts of equal options together, one such group after another; an error stands for its prompt alone."""
    groups: list[tuple[GenerateOptions, list[int]]] = []
    for number, (_, options) in enumerate(requests):
        same = next((numbers for other, numbers in groups if other == options), None)
        if same is None or options.seed is not None:  # a seed's draws depend on the place in the batch
            groups.append((options, [number]))
        else:
            same.append(number)
    for options, numbers in groups:
        left, started = set(numbers), False
        try:
            for place, piece in generate_streams([requests[number][0] for number in numbers], options):
                started = True
                if isinstance(piece, Reply):
                    left.discard(numbers[place])
                yield numbers[place], piece
        except TuneportError as error:
            if len(numbers) == 1 or started:
                yield from ((number, error) for number in left)
                continue
            for number in numbers:  # one of them cannot be answered: the others must not suffer for it
                alone = stream_by_options(generate_streams, [requests[number]])
                yield from ((number, piece) for _, piece in alone)
