"""A backend whose model computes here, slowly, and writes down what it answers and how far it came."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import parrot

import tuneport

TUNEPORT_API = 1
STEP = 0.02  # seconds for a token


class Sloth(parrot.Parrot):
    name = "sloth"

    def model(self, name: str) -> tuneport.Model:
        kind = MixingSlothModel if name == "mixing" else SlothModel
        return kind(tuneport.Ref("sloth", name), [], None)


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
        with (tuneport.home() / "sloth.txt").open("a") as out:
            out.write(f"{text}\n")


class MixingSlothModel(SlothModel):
    """Answers questions of all lengths in one batch, as a model of the torch plugin does."""

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


@tuneport.hookimpl
def tuneport_backends() -> list[tuneport.Backend]:
    return [Sloth()]
