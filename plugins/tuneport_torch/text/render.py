"""Renders an example into what the model is trained on: token ids, and the weight of each in the loss."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from tuneport.errors import UsageError
from tuneport.plugin import Completion, Conversation, Diagnostic, Piece
from tuneport_torch.text.mask import LossMask
from tuneport_torch.text.messages import assistant_turns, plain_text, to_template_turn
from tuneport_torch.text.refusals import (
    RESIZE,
    Unrenderable,
    calls_left_out,
    control_token_cut,
    has_tools,
    left_out,
    no_end_of_turn,
    no_template,
    template_refuses,
    thinking_not_supported,
    tools_ignored,
    unreadable_token,
)
from tuneport_torch.text.thinking import Mode, asks_to_think, has_thinking, split_turn, variables_of

if TYPE_CHECKING:
    from tuneport.plugin import Example, Message
    from tuneport_torch.text.codec import Codec, Tokens

Style = Literal["chat", "plain"]
"""How a model is prompted: through its chat template, or with plain text, as after training on completions."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids and the weight of each in the loss, of equal length.

    `turns_left_out` counts assistant turns that are not trained despite their weight, because the template rewrites
    them once others follow (for example by stripping earlier thinking). `names_left_out` counts messages whose name the
    template does not write.
    """

    ids: list[int]
    weights: list[float]
    turns_left_out: int = 0
    names_left_out: int = 0
    thinks: bool = True
    """Whether the prompt lets the model think."""


class Renderer:
    """Renders examples with one tokenizer and template: training, use and export see the same tokens.

    The loss is on what the assistant writes, including its end of turn; `mask` proves which tokens that are.
    """

    def __init__(self, codec: Codec, mode: str = Mode.ROWS) -> None:
        self.codec, self.mode = codec, mode
        self._mask = LossMask(codec)

    @property
    def new_stop_ids(self) -> list[int]:
        """The control tokens that ended turns of the rendered conversations and are not among the codec's stop ids."""
        return [one for one in self._mask.ends if one not in self.codec.stop_ids]

    def render(self, example: Example) -> Rendered:
        """Ids and weights of one example; raises Unrenderable with the reason."""
        rendered = self.try_render([example])[0]
        if isinstance(rendered, Unrenderable):
            raise rendered
        return rendered

    def try_render(self, examples: Sequence[Example]) -> list[Rendered | Unrenderable]:
        """Ids and weights of each example in order, or why there are none. Faster than one by one."""
        return self._try(examples, self._choose_thinking(examples))

    def render_thinking(self, examples: Sequence[Example]) -> list[Rendered | Unrenderable]:
        """The same, with prompts that let the model think."""
        return self._try(examples, [True] * len(examples))

    def _choose_thinking(self, examples: Sequence[Example]) -> list[bool | None]:
        """For each example whether the model is asked to think; None if the template has no choice."""
        thinking = self.codec.thinking
        if self.mode != Mode.ROWS or thinking is None or not thinking.has_choice:
            return [None] * len(examples)
        return [isinstance(one, Conversation) and asks_to_think(one.messages, thinking) for one in examples]

    def _try(self, examples: Sequence[Example], thinking: Sequence[bool | None]) -> list[Rendered | Unrenderable]:
        texts = self._texts(examples, thinking, turns=True)
        encoded = iter(self.codec.encode_many([text["text"] for text in texts if isinstance(text, dict)]))
        rendered: list[Rendered | Unrenderable] = []
        for example, text, thinks in zip(examples, texts, thinking, strict=True):
            if isinstance(text, Unrenderable):
                rendered.append(text)
                continue
            tokens = next(encoded)
            try:
                if isinstance(example, Completion):
                    rendered.append(self._check_readable(self._completion(example, tokens)))
                elif isinstance(example, Conversation):
                    named = sum(what == "name" for _, what in text["lost"])
                    weights, left_out = self._mask.weigh(example, text, tokens)
                    rendered.append(
                        self._check_readable(Rendered(tokens.ids, weights, left_out, named, thinks is not False))
                    )
            except Unrenderable as why:
                rendered.append(why)
        return rendered

    def count_tokens(self, examples: Sequence[Example]) -> list[int]:
        """The training length of each example in tokens. A row that cannot be rendered counts as plain text."""
        texts = [
            text["text"] if isinstance(text, dict) else plain_text(one)
            for one, text in zip(
                examples, self._texts(examples, self._choose_thinking(examples), turns=False), strict=True
            )
        ]
        counts = self.codec.count_many(texts)
        completions = [place for place, one in enumerate(examples) if isinstance(one, Completion)]
        for place, one in zip(completions, self.try_render([examples[place] for place in completions]), strict=True):
            counts[place] = len(one.ids) if isinstance(one, Rendered) else counts[place]
        return counts

    def pieces(self, example: Example) -> list[Piece]:
        """Runs of tokens of equal weight as text: what is trained on and what is context. Raises Unrenderable."""
        return self.pieces_of(self.render(example))

    def pieces_of(self, rendered: Rendered) -> list[Piece]:
        """The same for a rendered example."""
        pieces, at = [], 0
        for weight, run in groupby(rendered.weights):
            size = len(list(run))
            pieces.append(Piece(self.codec.decode(rendered.ids[at : at + size], keep_control=True), weight, size))
            at += size
        return pieces

    def diagnose(self, example: Example) -> list[Diagnostic]:
        """What `DataRules.check_row` reports: why the row cannot be trained on, or which turns are left out."""
        rendered = self.try_render([example])[0]
        if isinstance(rendered, Unrenderable):
            why = (rendered.code, rendered.message, rendered.remedy or "")
            return [Diagnostic(code=why[0], severity="error", message=why[1], remedy=why[2])]
        found = []
        if rendered.turns_left_out:
            found.append(
                Diagnostic(
                    code="turns-left-out",
                    severity="warning",
                    message=f"{rendered.turns_left_out} assistant turns are context only: the model's template "
                    "rewrites them once others follow, so the model would learn text that it never sees in use.",
                    remedy="Write each of those turns as the last turn of a separate row, or accept this.",
                )
            )
        if rendered.names_left_out:
            found.append(
                Diagnostic(
                    code="names-left-out",
                    severity="warning",
                    message=f"The model's chat template leaves out the names of {rendered.names_left_out} messages, so "
                    "the model does not see who is speaking.",
                    remedy="Write each name into the text of its message, or accept this.",
                )
            )
        return found

    def prompts(
        self, conversations: Sequence[Sequence[Message]], tools: Sequence[Mapping[str, Any]] = (), style: Style = "chat"
    ) -> list[list[int]]:
        """Token ids of each conversation, up to the model's answer. Raises UsageError if it cannot be rendered."""
        template = self.codec.template
        if style == "plain" or template is None:
            if template is None and any(len(one) > 1 for one in conversations):
                raise UsageError(
                    "This model has no chat template, so it can only continue one text.", remedy="Pass one text."
                )
            plain = ["\n\n".join(message.text for message in one) for one in conversations]
            return self._check_prompts([[*self.codec.prefix_ids, *one.ids] for one in self.codec.encode_many(plain)])
        rows = [{**self._row(one, tools, thinks=False), "prompt": True} for one in conversations]
        answers = template.rows(rows)
        for row, answer in zip(rows, answers, strict=True):
            why = None
            if "error" in answer:
                why = template_refuses(answer["error"], row)
            elif self.codec.is_torn(answer["text"]):
                why = control_token_cut()
            if why is not None:
                raise UsageError(why.message, remedy=why.remedy)
        return self._check_prompts([one.ids for one in self.codec.encode_many([answer["text"] for answer in answers])])

    def _check_readable(self, rendered: Rendered) -> Rendered:
        """The same row. Raises Unrenderable if the model has no embedding for one of its tokens."""
        if why := self.codec.describe_unreadable(rendered.ids):
            raise unreadable_token(why)
        return rendered

    def _check_prompts(self, prompts: list[list[int]]) -> list[list[int]]:
        for ids in prompts:
            if why := self.codec.describe_unreadable(ids):
                raise UsageError(f"The model cannot read this: {why}.", remedy=RESIZE)
        return prompts

    def _texts(
        self, examples: Sequence[Example], thinking: Sequence[bool | None], *, turns: bool
    ) -> list[dict[str, Any] | Unrenderable]:
        """Each example's text, as the template's process answers, or why there is none."""
        texts: list[dict[str, Any] | Unrenderable] = []
        rows: list[dict[str, Any]] = []
        places: list[int] = []
        for example, thinks in zip(examples, thinking, strict=True):
            if isinstance(example, Completion):
                texts.append({"text": example.prompt + example.completion})
            elif not isinstance(example, Conversation):
                texts.append(
                    Unrenderable("shape", "A preference pair cannot be trained with sft.", "Use method: dpo or orpo.")
                )
            elif self.codec.template is None:
                texts.append(no_template())
            else:
                try:
                    rows.append(self._training_row(example, thinks=thinks is not False))
                except Unrenderable as why:
                    texts.append(why)
                    continue
                if turns:
                    rows[-1]["turns"] = assistant_turns(example)
                places.append(len(texts))
                texts.append({})
        if self.codec.template is not None and rows:
            for place, row, answer in zip(places, rows, self.codec.template.rows(rows), strict=True):
                texts[place] = self._check_answer(examples[place], row, answer)
        return texts

    def _check_answer(
        self, example: Example, row: Mapping[str, Any], answer: dict[str, Any]
    ) -> dict[str, Any] | Unrenderable:
        """The process's answer, or what is wrong with it: it must contain all of the row's text, and no single mark."""
        assert self.codec.template is not None
        assert isinstance(example, Conversation)
        if has_tools(row) and "tool" not in self.codec.template.source:
            return tools_ignored("it has no place for them", another=self.codec.has_tool_template)
        if "error" in answer:
            return template_refuses(answer["error"], row)
        if self.codec.is_torn(answer["text"]):
            return control_token_cut()
        losses = [(_is_trained(example.messages[turn]), turn, what) for turn, what in answer["lost"] if what != "name"]
        if losses:  # those of answers first, because they are worse
            trained, turn, what = max(losses, key=lambda one: (one[0], -one[1]))
            message = example.messages[turn]
            calls = message.tool_calls or ()
            if what == "call" and sum(one == (turn, "call") for one in map(tuple, answer["lost"])) < len(calls):
                return calls_left_out(turn)
            return left_out(turn, message.role, what, trained=trained, called=what == "all" and bool(calls))
        return answer

    def _training_row(self, example: Conversation, *, thinks: bool) -> dict[str, Any]:
        """The template's input for a training row, with the thinking of the last answer. Raises Unrenderable."""
        thinking = self.codec.thinking
        if has_thinking(example.messages, thinking) and not (thinking is not None and thinking.supported):
            raise thinking_not_supported()
        row = {**self._row(example.messages, example.tools, thinks=thinks), "stops": self.codec.stops}
        if thinking is not None and example.messages and example.messages[-1].role == "assistant":
            thought = self.codec.quote(split_turn(example.messages[-1], thinking)[0] or "")
            row["block"] = {"opens": thinking.opens, "closes": thinking.closes, "thought": thought}
        return row

    def _row(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, thinks: bool) -> dict[str, Any]:
        assert self.codec.template is not None
        developer = "developer" if "developer" in self.codec.template.source else "system"
        thinking = self.codec.thinking
        unquoted = [to_template_turn(message, developer, thinking) for message in messages]
        turns = self.codec.quote(unquoted)
        for turn, one in zip(turns, unquoted, strict=True):
            if turn["role"] == "assistant":
                turn["content"] = self.codec.quote_answer(one["content"])
        if thinking is not None:
            thinking.place(turns)
        row = {"messages": turns, "tools": self.codec.quote(list(tools))}
        if variables := variables_of(self.mode, thinking, thinks=thinks):
            row["variables"] = dict(variables)
        return row

    def _completion(self, example: Completion, together: Tokens) -> Rendered:
        """Prompt and completion tokenized together, or separately, as in use, if a token would span both."""
        if self.codec.eos_id is None:
            raise no_end_of_turn("the tokenizer has no end-of-sequence token")
        first = bisect.bisect_left(together.spans, (len(example.prompt), 0))
        before, after = together.ids[:first], together.ids[first:]
        prompt = self.codec.encode(example.prompt).ids
        if before != prompt:
            before, after = prompt, self.codec.encode(example.completion).ids
        if after[-1:] != [self.codec.eos_id]:
            after.append(self.codec.eos_id)
        context = [*self.codec.prefix_ids, *before]
        return Rendered(context + after, [0.0] * len(context) + [1.0] * len(after))


def _is_trained(message: Message) -> bool:
    return message.role == "assistant" and message.weight != 0
