"""An example as a model sees it in training: token ids, and proof of which of them the model is to learn."""

from __future__ import annotations

import bisect
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from tuneport import Completion, Conversation, DataError, Diagnostic, Piece, UnavailableError, UsageError

if TYPE_CHECKING:
    from tuneport import Example, Message
    from tuneport_torch.tokens import Text, Tokens

Style = Literal["chat", "plain"]
"""How a model is asked: through its chat template, or with the bare text, as one trained on completions is."""

_CACHED_OPENINGS = 10_000


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids and the weight of each in the loss, of equal length.

    `turns_left_out` counts assistant turns that carry no loss although their weight says so, because the template
    rewrites them once others follow (as those do that strip earlier thinking).
    """

    ids: list[int]
    weights: list[float]
    turns_left_out: int = 0


class Unrenderable(DataError):  # noqa: N818 - reads as what the row is
    """A row that cannot be trained on with this template; `code` is the diagnostic's."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


class Renderer:
    """Renders examples with one tokenizer and template, and nothing else: training, use and export see the same tokens.

    The loss is on what the assistant writes, its end of turn included. Where it writes is taken from the template's
    generation tags, or else proven: the text of `messages[:i]` that asks for an answer is a prefix of the text of
    `messages[:i + 1]`, and that of the whole. `text.stop_ids` gains the template's end of turn where that is missing.
    """

    def __init__(self, text: Text) -> None:
        self.text = text
        self._openings: dict[str, list[int]] = {}

    def render(self, example: Example) -> Rendered:
        """Ids and weights of one example; raises Unrenderable with the reason."""
        rendered = self.try_render([example])[0]
        if isinstance(rendered, Unrenderable):
            raise rendered
        return rendered

    def try_render(self, examples: Sequence[Example]) -> list[Rendered | Unrenderable]:
        """Ids and weights of each example, or why there are none, in order. Faster than one by one."""
        texts = self._texts(examples, turns=True)
        encoded = iter(self.text.encode_many([text["text"] for text in texts if isinstance(text, dict)]))
        rendered: list[Rendered | Unrenderable] = []
        for example, text in zip(examples, texts, strict=True):
            if isinstance(text, Unrenderable):
                rendered.append(text)
                continue
            tokens = next(encoded)
            try:
                if isinstance(example, Completion):
                    rendered.append(self._completion(example, tokens))
                elif isinstance(example, Conversation):
                    rendered.append(self._conversation(example, text, tokens))
            except Unrenderable as why:
                rendered.append(why)
        return rendered

    def count_tokens(self, examples: Sequence[Example]) -> list[int]:
        """The training length of each example in tokens. A row that cannot be rendered counts its bare texts."""
        texts = [
            text["text"] if isinstance(text, dict) else _bare(one)
            for one, text in zip(examples, self._texts(examples, turns=False), strict=True)
        ]
        counts = self.text.count_many(texts)
        completions = [place for place, one in enumerate(examples) if isinstance(one, Completion)]
        for place, one in zip(completions, self.try_render([examples[place] for place in completions]), strict=True):
            counts[place] = len(one.ids) if isinstance(one, Rendered) else counts[place]
        return counts

    def pieces(self, example: Example) -> list[Piece]:
        """Runs of equal weight, as text: what is trained on and what is context. Raises Unrenderable."""
        rendered = self.render(example)
        pieces, at = [], 0
        for weight, run in groupby(rendered.weights):
            size = len(list(run))
            pieces.append(Piece(self.text.decode(rendered.ids[at : at + size], keep_control=True), weight, size))
            at += size
        return pieces

    def diagnose(self, example: Example) -> list[Diagnostic]:
        """What `DataProfile.check_row` reports: why the row cannot be trained on, or which turns are left out."""
        rendered = self.try_render([example])[0]
        if isinstance(rendered, Unrenderable):
            why = (rendered.code, rendered.message, rendered.remedy or "")
            return [Diagnostic(code=why[0], severity="error", message=why[1], remedy=why[2])]
        if rendered.turns_left_out:
            return [
                Diagnostic(
                    code="turns-left-out",
                    severity="warning",
                    message=f"{rendered.turns_left_out} assistant turns are context only: the model's template "
                    "rewrites them once others follow, so training on them would teach what it never sees.",
                    remedy="Write each of those turns as the last one of a row of its own, or leave it so.",
                )
            ]
        return []

    def prompts(
        self, conversations: Sequence[Sequence[Message]], tools: Sequence[Mapping[str, Any]] = (), style: Style = "chat"
    ) -> list[list[int]]:
        """Token ids of each conversation, up to where the model is to answer. Raises UsageError when it cannot be."""
        template = self.text.template
        if style == "plain" or template is None:
            if template is None and any(len(one) > 1 for one in conversations):
                raise UsageError("This model has no chat template, so it continues one text.", remedy="Pass one text.")
            plain = ["\n\n".join(message.text for message in one) for one in conversations]
            return [[*self.text.prefix_ids, *one.ids] for one in self.text.encode_many(plain)]
        rows = [{**self._row(one, tools), "prompt": True} for one in conversations]
        answers = template.rows(rows)
        for answer in answers:
            if "error" in answer:
                why = _refused(answer["error"])
                raise UsageError(why.message, remedy=why.remedy)
        return [one.ids for one in self.text.encode_many([answer["text"] for answer in answers])]

    def _texts(self, examples: Sequence[Example], *, turns: bool) -> list[dict[str, Any] | Unrenderable]:
        """Each example's text, as the template's child answers it."""
        texts: list[dict[str, Any] | Unrenderable] = []
        rows: list[dict[str, Any]] = []
        places: list[int] = []
        for example in examples:
            if isinstance(example, Completion):
                texts.append({"text": example.prompt + example.completion})
            elif not isinstance(example, Conversation):
                texts.append(Unrenderable("shape", "A preference is not an answer to learn.", "Use method: dpo."))
            elif self.text.template is None:
                texts.append(_no_template())
            else:
                try:
                    rows.append(self._row(example.messages, example.tools))
                except Unrenderable as why:
                    texts.append(why)
                    continue
                if turns:
                    rows[-1]["turns"] = _assistant_turns(example)
                places.append(len(texts))
                texts.append({})
        if self.text.template is not None and rows:
            for place, answer in zip(places, self.text.template.rows(rows), strict=True):
                texts[place] = _refused(answer["error"]) if "error" in answer else answer
        return texts

    def _row(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        assert self.text.template is not None
        developer = "developer" if "developer" in self.text.template.source else "system"
        turns = [_turn(message, developer) for message in messages]
        return {"messages": self.text.quote(turns), "tools": self.text.quote(list(tools))}

    def _completion(self, example: Completion, whole: Tokens) -> Rendered:
        """Prompt and completion in one tokenisation, but in two where a token would join them, as in use."""
        if self.text.eos_id is None:
            raise _no_end("the tokenizer has no end-of-sequence token")
        first = bisect.bisect_left(whole.spans, (len(example.prompt), 0))
        before, after = whole.ids[:first], whole.ids[first:]
        prompt = self.text.encode(example.prompt).ids
        if before != prompt:
            before, after = prompt, self.text.encode(example.completion).ids
        if after[-1:] != [self.text.eos_id]:
            after.append(self.text.eos_id)
        context = [*self.text.prefix_ids, *before]
        return Rendered(context + after, [0.0] * len(context) + [1.0] * len(after))

    def _conversation(self, example: Conversation, answer: dict[str, Any], tokens: Tokens) -> Rendered:
        self._check_tools(example, answer["text"])
        spans, left_out = _trained_spans(example, answer)
        weights = [0.0] * len(tokens.ids)
        for turn, weight, start, end in spans:
            _check_content(example.messages[turn], self.text.quote, answer["text"][start:end])
            first = self._opening(answer["text"], tokens, start)
            last = self._end_of_turn(answer["text"], tokens, first, end, tagged="tagged" in answer)
            weights[first:last] = [weight] * (last - first)
        if not any(weights):
            raise Unrenderable(
                "nothing-to-train",
                "No token of this row carries a loss.",
                "Give it an assistant turn, last in the row, whose weight is not 0.",
            )
        return Rendered(tokens.ids, weights, left_out)

    def _opening(self, text: str, tokens: Tokens, start: int) -> int:
        """The first token that the assistant writes; proven to follow the very tokens with which the model is asked.

        Text before a control token does not change how the text after it is tokenised, so it is enough to compare from
        the last control token on, which is nearly always the same few characters.
        """
        first = bisect.bisect_left(tokens.spans, (start, 0))
        near = first - 1
        while near > 0 and tokens.ids[near] not in self.text.control_ids:
            near -= 1
        asked = text[tokens.spans[near][0] if near > 0 else 0 : start]
        ids = self._openings.get(asked)
        if ids is None:
            if len(self._openings) >= _CACHED_OPENINGS:
                self._openings.clear()
            ids = self._openings[asked] = self.text.encode(asked).ids
        if ids != tokens.ids[max(near, 0) : first]:
            raise Unrenderable(
                "token-straddles",
                "The answer's first token begins in the text before it, so in use the model would be asked otherwise.",
                f"Take white space away from the beginning of the answer. {_OTHER_TEMPLATE}",
            )
        return first

    def _end_of_turn(self, text: str, tokens: Tokens, first: int, end: int, *, tagged: bool) -> int:
        """One past the token that ends the turn. What the template writes after it, the model need not."""
        last = bisect.bisect_left(tokens.spans, (end, 0))
        if last > first and tokens.spans[last - 1][1] > end:
            raise Unrenderable(
                "token-straddles", "The answer's last token goes on into what follows it.", _OTHER_TEMPLATE
            )
        if tagged and last < len(tokens.ids) and not self._ends(tokens.ids[first:last]):
            # Some templates close the generation tag before their end of turn. Left out, the model would never stop.
            if tokens.ids[last] not in self.text.stop_ids:
                raise _no_end("the template's generation tag does not hold it")
            return last + 1
        at = last - 1
        while at >= first and tokens.ids[at] not in self.text.control_ids and tokens.ids[at] not in self.text.stop_ids:
            at -= 1
        if at < first or text[tokens.spans[at][1] : end].strip():
            raise _no_end("the template ends a turn with plain text")
        if tokens.ids[at] not in self.text.stop_ids:
            self.text.stop_ids.append(tokens.ids[at])
        return at + 1

    def _ends(self, ids: Sequence[int]) -> bool:
        return any(one in self.text.stop_ids or one in self.text.control_ids for one in ids[-2:])

    def _check_tools(self, example: Conversation, text: str) -> None:
        """A template that knows no tools leaves them out without a word."""
        named = [tool.get("function", tool) for tool in example.tools]
        named += [call.get("function", {}) for message in example.messages for call in message.tool_calls or ()]
        for one in named:
            name = one.get("name")
            if isinstance(name, str) and self.text.quote(name) not in text:
                raise Unrenderable(
                    "tools-ignored",
                    f"The model's chat template does not write tools: {name!r} is nowhere in what the model would see.",
                    "Choose a base model whose template knows tools, or write the calls as text.",
                )


def _trained_spans(example: Conversation, answer: Mapping[str, Any]) -> tuple[list[tuple[int, float, int, int]], int]:
    """(message, weight, start, end) of what the loss is on, in characters, and how many turns had to be left out."""
    turns = _assistant_turns(example)
    found: list[Any] = answer.get("tagged") or answer.get("turns") or []
    if len(found) != len(turns):
        raise Unrenderable(
            "mask-unproven",
            f"The template marks {len(found)} assistant turns where the row has {len(turns)}.",
            "Join assistant turns that follow one another into one.",
        )
    spans, reasons = [], []
    for turn, place in zip(turns, found, strict=True):
        weight = example.messages[turn].weight
        weight = 1.0 if weight is None else float(weight)
        if weight == 0:
            continue
        if isinstance(place, str):
            reasons.append((turn, place))
        else:
            spans.append((turn, weight, *place))
    if reasons and (not spans or spans[-1][0] != turns[-1]):
        turn, why = reasons[-1]
        raise Unrenderable(
            "mask-unproven",
            f"What the assistant writes in message {turn} cannot be told from the rest: {why}.",
            "End the row with the turn to be trained on, or choose a base model with another template.",
        )
    return spans, len(reasons)


def _turn(message: Message, developer: str) -> dict[str, Any]:
    """A message as templates expect it: content is always text, a tool call's arguments an object and not its JSON."""
    if not isinstance(message.content, str | None) and any(part.get("type") != "text" for part in message.content):
        raise Unrenderable("images", "This row holds parts that are not text.", "Leave the row out.")
    turn: dict[str, Any] = {"role": developer if message.role == "developer" else message.role, "content": message.text}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [_call(call) for call in message.tool_calls]
    return turn


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return dict(call)
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return dict(call)
    return {**call, "function": {**function, "arguments": arguments}}


def _check_content(message: Message, quote: Any, span: str) -> None:
    """What is trained on holds what the row says; templates may move thinking and trim, but lose nothing else."""
    said = [message.text.rpartition("</think>")[2].strip()]
    said += [str(call.get("function", {}).get("name", "")) for call in message.tool_calls or ()]
    if any(quote(one) not in span for one in said):
        raise Unrenderable(
            "content-lost",
            "The template does not write the assistant's whole answer, so what is trained on is not what the row says.",
            _OTHER_TEMPLATE,
        )


def _assistant_turns(example: Conversation) -> list[int]:
    return [at for at, message in enumerate(example.messages) if message.role == "assistant"]


def _bare(example: Example) -> str:
    if isinstance(example, Conversation):
        return "\n".join(message.text for message in example.messages)
    if isinstance(example, Completion):
        return example.prompt + example.completion
    return "\n".join(message.text for message in (*example.prompt, *example.chosen, *example.rejected))


_OTHER_TEMPLATE = "Choose another base model, or mend chat_template.jinja in a copy of this one's folder."


def _no_template() -> Unrenderable:
    return Unrenderable(
        "no-template",
        "The base model has no chat template, so conversations cannot be written for it.",
        "Choose an instruct model, or give rows with prompt and completion.",
    )


def _refused(why: str) -> Unrenderable:
    cure = _OTHER_TEMPLATE
    if "system" in why.lower():
        cure = "Put the system text at the beginning of the first user turn, or choose a base model that takes one."
    elif "alternat" in why.lower():
        cure = "Let user and assistant take turns in the row, user first."
    return Unrenderable("template-refuses", f"The model's chat template refuses this: {why.rstrip('.')}.", cure)


def _no_end(why: str) -> Unrenderable:
    return Unrenderable(
        "no-end-of-turn",
        f"Nothing would teach the model to stop: {why}, so no end-of-turn token can be trained.",
        _OTHER_TEMPLATE,
    )


GOLDEN = (
    {"role": "user", "content": "Où est ma carte ? It is 3 days late."},
    {"role": "assistant", "content": "On its way 🙂."},
    {"role": "user", "content": "Thanks!"},
)
"""The conversation whose token ids go with every tuned model: it shows whether text is still read alike."""


def learn_stops(text: Text) -> None:
    """Add the template's end of turn to the stop ids, for models whose configuration forgets it."""
    from tuneport import Message

    turns = tuple(Message(turn["role"], turn["content"]) for turn in GOLDEN[:2])
    if text.template is not None:
        with suppress(DataError):  # a template that cannot be rendered is told where a row needs it
            Renderer(text).try_render([Conversation(turns)])


def golden_ids(text: Text) -> list[int]:
    """The ids of GOLDEN up to where the model would answer; of its bare texts where the template refuses it."""
    from tuneport import Message

    renderer, messages = Renderer(text), [Message(turn["role"], turn["content"]) for turn in GOLDEN]
    if text.template is not None:
        try:
            return renderer.prompts([messages])[0]
        except UsageError:
            pass
    return renderer.prompts([messages[:1]], style="plain")[0]


def check_golden(text: Text, golden: Sequence[int], template_sha256: str | None) -> None:
    """Raise UnavailableError when tokenizer or template are not those of the training, by hash and by golden ids."""
    have = text.template.sha256 if text.template is not None else None
    if have != template_sha256:
        changed = "chat template"
    elif golden_ids(text) != list(golden):
        changed = "tokenizer"
    else:
        return
    raise UnavailableError(
        f"The {changed} in {text.folder} is not the one of this model's training, so it would misread its input.",
        remedy="Bring back the folder's tokenizer.json, tokenizer_config.json and chat_template.jinja as they were.",
    )
