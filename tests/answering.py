"""A model for tests: a real Model whose answers are written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuneport import GenerateOptions, Message, Model, Ref, Reply


class ScriptedModel(Model):
    """Answers each prompt with what `answer` makes of its last message; remembers what it was asked."""

    def __init__(self, name: str, answer: Callable[[str], str | Reply]) -> None:
        self.ref = Ref("scripted", name)
        self.answer = answer
        self.asked: list[tuple[list[Message], GenerateOptions]] = []
        self.largest_call = 0
        self.closed = False

    def generate(self, prompts: Sequence[Sequence[Message]], options: GenerateOptions) -> list[Reply]:
        self.largest_call = max(self.largest_call, len(prompts))
        self.asked += [(list(prompt), options) for prompt in prompts]
        answers = [self.answer(prompt[-1].text) for prompt in prompts]
        return [one if isinstance(one, Reply) else Reply(text=one) for one in answers]

    def close(self) -> None:
        self.closed = True


class ContinuingModel(ScriptedModel):
    """The same, and it continues plain text."""

    can_continue = True
