"""A backend whose model computes slowly on this machine, and logs what it answers and how far it came."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import parrot

import tuneport
import tuneport.plugin

TUNEPORT_API = 1
STEP = 0.02  # seconds for a token


class Sloth(parrot.Parrot):
    name = "sloth"

    def model(self, name: str) -> tuneport.Model:
        kinds = {"mixing": MixingSlothModel, "joining": JoiningSlothModel}
        return kinds.get(name, SlothModel)(tuneport.Ref("sloth", name), [], None)


class SlothModel(parrot.ParrotModel):
    can_stream = True

    @property
    def memory(self) -> int:
        return 1

    def generate_streams(
        self, prompts: Sequence[Sequence[tuneport.Message]], options: tuneport.GenerateOptions
    ) -> Iterator[tuple[int, str | tuneport.Reply]]:
        for prompt in prompts:
            self._note(prompt[-1].text)
        try:
            for _ in range(options.max_tokens):
                time.sleep(STEP)
                yield from ((number, "z") for number in range(len(prompts)))
            for number in range(len(prompts)):
                yield number, tuneport.Reply(text="z" * options.max_tokens)
        except GeneratorExit:
            self._note("stopped")
            raise

    def _note(self, text: str) -> None:
        with (tuneport.plugin.home() / "sloth.txt").open("a") as out:
            out.write(f"{text}\n")


class MixingSlothModel(SlothModel):
    """Answers questions of all lengths in one batch, like a model of the torch plugin."""

    can_mix = True

    def generate_each(
        self, asked: Sequence[tuple[Sequence[tuneport.Message], tuneport.GenerateOptions]]
    ) -> Iterator[tuple[int, str | tuneport.Reply | tuneport.TuneportError]]:
        limits = [options.max_tokens for _, options in asked]
        self._note(" and ".join(sorted(prompt[-1].text for prompt, _ in asked)))
        try:
            for step in range(1, max(limits) + 1):
                time.sleep(STEP)
                for number, limit in enumerate(limits):
                    if step < limit:
                        yield number, "z"
                    elif step == limit:
                        yield number, tuneport.Reply(text="z" * limit)
        except GeneratorExit:
            self._note("stopped")
            raise


class JoiningSlothModel(MixingSlothModel):
    """Lets questions join the answers in progress. It has room for twelve answers."""

    can_join = True

    def open_batch(self) -> tuneport.plugin.LiveBatch:
        return SlothBatch(self._note)


class SlothBatch(tuneport.plugin.LiveBatch):
    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._left: dict[int, tuple[str, int]] = {}

    def add(self, number: int, prompt: Sequence[tuneport.Message], options: tuneport.GenerateOptions) -> None:
        self._left[number] = prompt[-1].text, options.max_tokens
        self._note(prompt[-1].text)

    @property
    def waiting(self) -> list[int]:
        return list(self._left)[12:]

    def drop(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            if number in self._left:
                self._note(f"dropped {self._left.pop(number)[0]}")

    def step(self) -> list[tuple[int, tuneport.AnswerPiece | tuneport.Reply | tuneport.TuneportError]]:
        time.sleep(0.05)
        pieces: list[tuple[int, tuneport.AnswerPiece | tuneport.Reply | tuneport.TuneportError]] = []
        for number, (text, left) in list(self._left.items())[:12]:
            self._left[number] = text, left - 1
            pieces.append((number, tuneport.AnswerPiece(text="z")))
            if left == 1:
                del self._left[number]
                self._note(f"answered {text}")
                pieces.append((number, tuneport.Reply(text="z")))
        return pieces

    def close(self) -> None:
        self._note("closed")


@tuneport.plugin.hookimpl
def tuneport_backends() -> list[tuneport.Backend]:
    return [Sloth()]
