"""An example as a model sees it in training: token ids, and which of them the model is to learn."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from tuneport.errors import UsageError
from tuneport.plugin import Completion, Conversation, Diagnostic, Piece
from tuneport_torch.text.mask import LossMask
from tuneport_torch.text.refusals import (
    RESIZE,
    Unrenderable,
    beyond,
    has_tools,
    lost,
    lost_calls,
    no_end,
    no_template,
    no_tools,
    refused,
    refused_thinking,
    torn,
)
from tuneport_torch.text.thinking import Mode, asks_to_think, has_thinking, split_turn, variables_of
from tuneport_torch.text.turns import assistant_turns, bare_text, template_turn

if TYPE_CHECKING:
    from tuneport.plugin import Example, Message
    from tuneport_torch.text.codec import Codec, Tokens

Style = Literal["chat", "plain"]
"""How a model is asked: through its chat template, or with the bare text, as one trained on completions is."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids and the weight of each in the loss, of equal length.

    `turns_left_out` counts assistant turns that carry no loss although their weight says so, because the template
    rewrites them once others follow (as those do that strip earlier thinking). `names_left_out` counts messages whose
    name the template does not write.
    """

    ids: list[int]
    weights: list[float]
    turns_left_out: int = 0
    names_left_out: int = 0
    thinks: bool = True
    """Whether the model was asked in the way that lets it think."""


class Renderer:
    """Renders examples with one tokenizer and template, and nothing else: training, use and export see the same tokens.

    The loss is on what the assistant writes, its end of turn included; `mask` says how that is proven.
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
        """Ids and weights of each example, or why there are none, in order. Faster than one by one."""
        return self._try(examples, self._ways(examples))

    def render_thinking(self, examples: Sequence[Example]) -> list[Rendered | Unrenderable]:
        """The same, where all of them are asked in the way that lets the model think."""
        return self._try(examples, [True] * len(examples))

    def _ways(self, examples: Sequence[Example]) -> list[bool | None]:
        """For each example whether the model is asked to think; None where the template leaves no choice."""
        thinking = self.codec.thinking
        if self.mode != Mode.ROWS or thinking is None or not thinking.has_choice:
            return [None] * len(examples)
        return [isinstance(one, Conversation) and asks_to_think(one.messages, thinking) for one in examples]

    def _try(self, examples: Sequence[Example], ways: Sequence[bool | None]) -> list[Rendered | Unrenderable]:
        texts = self._texts(examples, ways, turns=True)
        encoded = iter(self.codec.encode_many([text["text"] for text in texts if isinstance(text, dict)]))
        rendered: list[Rendered | Unrenderable] = []
        for example, text, thinks in zip(examples, texts, ways, strict=True):
            if isinstance(text, Unrenderable):
                rendered.append(text)
                continue
            tokens = next(encoded)
            try:
                if isinstance(example, Completion):
                    rendered.append(self._readable(self._completion(example, tokens)))
                elif isinstance(example, Conversation):
                    named = sum(what == "name" for _, what in text["lost"])
                    weights, left_out = self._mask.weigh(example, text, tokens)
                    rendered.append(self._readable(Rendered(tokens.ids, weights, left_out, named, thinks is not False)))
            except Unrenderable as why:
                rendered.append(why)
        return rendered

    def count_tokens(self, examples: Sequence[Example]) -> list[int]:
        """The training length of each example in tokens. A row that cannot be rendered counts its bare texts."""
        texts = [
            text["text"] if isinstance(text, dict) else bare_text(one)
            for one, text in zip(examples, self._texts(examples, self._ways(examples), turns=False), strict=True)
        ]
        counts = self.codec.count_many(texts)
        completions = [place for place, one in enumerate(examples) if isinstance(one, Completion)]
        for place, one in zip(completions, self.try_render([examples[place] for place in completions]), strict=True):
            counts[place] = len(one.ids) if isinstance(one, Rendered) else counts[place]
        return counts

    def pieces(self, example: Example) -> list[Piece]:
        """Runs of equal weight, as text: what is trained on and what is context. Raises Unrenderable."""
        return self.shown(self.render(example))

    def shown(self, rendered: Rendered) -> list[Piece]:
        """The same of an example that is rendered."""
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
                    "rewrites them once others follow, so training on them would teach what it never sees.",
                    remedy="Write each of those turns as the last one of a row of its own, or leave it so.",
                )
            )
        if rendered.names_left_out:
            found.append(
                Diagnostic(
                    code="names-left-out",
                    severity="warning",
                    message=f"The model's chat template leaves out the names of {rendered.names_left_out} messages, so "
                    "the model does not see who speaks.",
                    remedy="Write each name into the text of its message, or leave it so.",
                )
            )
        return found

    def prompts(
        self, conversations: Sequence[Sequence[Message]], tools: Sequence[Mapping[str, Any]] = (), style: Style = "chat"
    ) -> list[list[int]]:
        """Token ids of each conversation, up to where the model is to answer. Raises UsageError when it cannot be."""
        template = self.codec.template
        if style == "plain" or template is None:
            if template is None and any(len(one) > 1 for one in conversations):
                raise UsageError("This model has no chat template, so it continues one text.", remedy="Pass one text.")
            plain = ["\n\n".join(message.text for message in one) for one in conversations]
            return self._askable([[*self.codec.prefix_ids, *one.ids] for one in self.codec.encode_many(plain)])
        rows = [{**self._row(one, tools, thinks=False), "prompt": True} for one in conversations]
        answers = template.rows(rows)
        for row, answer in zip(rows, answers, strict=True):
            why = None
            if "error" in answer:
                why = refused(answer["error"], row)
            elif self.codec.torn(answer["text"]):
                why = torn()
            if why is not None:
                raise UsageError(why.message, remedy=why.remedy)
        return self._askable([one.ids for one in self.codec.encode_many([answer["text"] for answer in answers])])

    def _readable(self, rendered: Rendered) -> Rendered:
        """The same row; raises Unrenderable where the model has no row for one of its tokens."""
        if why := self.codec.beyond(rendered.ids):
            raise beyond(why)
        return rendered

    def _askable(self, prompts: list[list[int]]) -> list[list[int]]:
        for ids in prompts:
            if why := self.codec.beyond(ids):
                raise UsageError(f"The model cannot read this: {why}.", remedy=RESIZE)
        return prompts

    def _texts(
        self, examples: Sequence[Example], ways: Sequence[bool | None], *, turns: bool
    ) -> list[dict[str, Any] | Unrenderable]:
        """Each example's text, as the template's child answers it."""
        texts: list[dict[str, Any] | Unrenderable] = []
        rows: list[dict[str, Any]] = []
        places: list[int] = []
        for example, thinks in zip(examples, ways, strict=True):
            if isinstance(example, Completion):
                texts.append({"text": example.prompt + example.completion})
            elif not isinstance(example, Conversation):
                texts.append(
                    Unrenderable("shape", "A preference is not an answer to learn.", "Use method: dpo or orpo.")
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
                texts[place] = self._checked(examples[place], row, answer)
        return texts

    def _checked(
        self, example: Example, row: Mapping[str, Any], answer: dict[str, Any]
    ) -> dict[str, Any] | Unrenderable:
        """The child's answer, or what is wrong with it: all of the row's words must be in it, and no mark of ours."""
        assert self.codec.template is not None
        assert isinstance(example, Conversation)
        if has_tools(row) and "tool" not in self.codec.template.source:
            return no_tools("it has no place for them", another=self.codec.has_tool_template)
        if "error" in answer:
            return refused(answer["error"], row)
        if self.codec.torn(answer["text"]):
            return torn()
        losses = [(_is_trained(example.messages[turn]), turn, what) for turn, what in answer["lost"] if what != "name"]
        if losses:  # of answers first: that is worse
            trained, turn, what = max(losses, key=lambda one: (one[0], -one[1]))
            message = example.messages[turn]
            calls = message.tool_calls or ()
            if what == "call" and sum(one == (turn, "call") for one in map(tuple, answer["lost"])) < len(calls):
                return lost_calls(turn)
            return lost(turn, message.role, what, trained=trained, called=what == "all" and bool(calls))
        return answer

    def _training_row(self, example: Conversation, *, thinks: bool) -> dict[str, Any]:
        """A row as it is trained on, with the thinking of its last answer. Raises Unrenderable."""
        thinking = self.codec.thinking
        if has_thinking(example.messages, thinking) and not (thinking is not None and thinking.takes):
            raise refused_thinking()
        row = {**self._row(example.messages, example.tools, thinks=thinks), "stops": self.codec.stops}
        if thinking is not None and example.messages and example.messages[-1].role == "assistant":
            thought = self.codec.quote(split_turn(example.messages[-1], thinking)[0] or "")
            row["block"] = {"opens": thinking.opens, "closes": thinking.closes, "thought": thought}
        return row

    def _row(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, thinks: bool) -> dict[str, Any]:
        assert self.codec.template is not None
        developer = "developer" if "developer" in self.codec.template.source else "system"
        thinking = self.codec.thinking
        given = [template_turn(message, developer, thinking) for message in messages]
        turns = self.codec.quote(given)
        for turn, one in zip(turns, given, strict=True):
            if turn["role"] == "assistant":
                turn["content"] = self.codec.quote_answer(one["content"])
        if thinking is not None:
            thinking.place(turns)
        row = {"messages": turns, "tools": self.codec.quote(list(tools))}
        if variables := variables_of(self.mode, thinking, thinks=thinks):
            row["variables"] = dict(variables)
        return row

    def _completion(self, example: Completion, whole: Tokens) -> Rendered:
        """Prompt and completion in one tokenisation, but in two where a token would join them, as in use."""
        if self.codec.eos_id is None:
            raise no_end("the tokenizer has no end-of-sequence token")
        first = bisect.bisect_left(whole.spans, (len(example.prompt), 0))
        before, after = whole.ids[:first], whole.ids[first:]
        prompt = self.codec.encode(example.prompt).ids
        if before != prompt:
            before, after = prompt, self.codec.encode(example.completion).ids
        if after[-1:] != [self.codec.eos_id]:
            after.append(self.codec.eos_id)
        context = [*self.codec.prefix_ids, *before]
        return Rendered(context + after, [0.0] * len(context) + [1.0] * len(after))


def _is_trained(message: Message) -> bool:
    return message.role == "assistant" and message.weight != 0
