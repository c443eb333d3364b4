"""How a chat template handles thinking: its tags, where it reads the text, and how to prompt without thinking."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneport.errors import TuneportError
from tuneport_torch.text.sandbox.message_forms import FIELDS

if TYPE_CHECKING:
    from tuneport.plugin import Message
    from tuneport_torch.text.template import ChatTemplate

TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>thought", "<channel|>"),
)
"""Known tags around thinking. Others are found if the template writes a message's field."""
_SWITCHES = ("enable_thinking", "thinking")
_HINT = re.compile(r"think|reasoning|thought|analysis", re.IGNORECASE)
_ASKED, _THOUGHT, _ANSWER, _CALLED = "Which one is asked?", "zqThoughtqz", "zqAnswerqz", "zqCalledqz"
_DEFAULTS = re.compile(r"\A(\{%- if \w+ is not defined %\}\{%- set \w+ = (true|false) %\}\{%- endif %\})+")

Variables = Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Thinking:
    """How one template handles thinking.

    `opens` and `closes` are the block's tags. `field` is the key of a message under which the template reads the
    thinking. `inline`: it keeps a block at the start of the last answer. `opened`: the prompt itself may open a block.
    `lead` is what the template writes before an answer without thinking, such as a channel's name. `before_call` is
    what it writes between thinking and the name of a called tool if the block does not end with `closes` there.

    `on` and `off` are the template's variables for prompting with and without thinking. With `off` no thinking block is
    trained or generated: the prompt has an empty one, or none. `off` is None if the template has no such variables.
    `many`: earlier answers are written as `on` prompts for them, and not as `off`.
    """

    opens: str
    closes: str
    field: str | None
    inline: bool
    opened: bool
    lead: str
    on: Variables
    off: Variables | None
    many: bool = False
    before_call: str = ""

    @property
    def has_choice(self) -> bool:
        """Whether the template can prompt both ways."""
        return self.off is not None and self.off != self.on

    @property
    def supported(self) -> bool:
        """Whether rows can have thinking: in the template's field, or between its tags before the last answer."""
        return self.field is not None or bool(self.opens and self.closes)

    def is_opened_by(self, tail: str) -> bool:
        """Whether a prompt with this end has opened a block that the model must close."""
        return bool(self.opens) and tail.rstrip().endswith(self.opens)

    def place(self, turns: Sequence[dict[str, Any]]) -> None:
        """Move each turn's `reasoning_content` to where the template reads it. The turns are already quoted, so that
        tags which are control tokens stay control tokens.
        """
        for turn in turns:
            thought = turn.pop("reasoning_content", None)
            if thought is None:
                continue
            if self.field is not None:
                turn[self.field] = thought
            elif self.inline:
                turn["content"] = f"{self.opens}\n{thought}\n{self.closes}\n\n{turn['content'] or ''}"


def asks_to_think(messages: Sequence[Message], thinking: Thinking) -> bool:
    """Whether a conversation prompts the model to think: it has thinking, or earlier answers that the template writes
    only in that way.
    """
    trained = [one for one in messages[:-1] if one.role == "assistant" and one.weight != 0]
    return bool(thinking.many and trained) or has_thinking(messages, thinking)


def has_thinking(messages: Sequence[Message], thinking: Thinking | None) -> bool:
    """Whether an assistant turn has thinking, as a field or as a block at the start of its text."""
    return any(split_turn(one, thinking)[0] is not None for one in messages if one.role == "assistant")


def split_turn(message: Message, thinking: Thinking | None) -> tuple[str | None, str]:
    """The thinking of an assistant turn, and the text after it. A block at the start of the text counts if it has the
    template's tags or other known ones; its opening tag may be missing if the prompt writes it. An empty block is None.
    """
    text, field = message.text, (message.reasoning_content or "").strip()
    if field or thinking is None or not thinking.supported:
        return field or None, text
    own = [(thinking.opens, thinking.closes)] if thinking.closes else []
    for opens, closes in [*own, *TAGS]:
        head, found, rest = text.partition(closes)
        unopened = thinking.opened and closes == thinking.closes and head.endswith("\n")
        if found and (unopened or head.lstrip().startswith(opens)):
            return head.lstrip().removeprefix(opens).strip() or None, rest.lstrip()
    return None, text


def set_defaults(source: str, variables: Variables) -> str:
    """The template with these defaults, so that every later use prompts as in training."""
    bare = _DEFAULTS.sub("", source)
    return "".join(_default(name, value) for name, value in variables.items()) + bare


def has_defaults(source: str) -> bool:
    """Whether training set the template's defaults. A GGUF file has no other record of that."""
    return _DEFAULTS.match(source) is not None


def thinking_variables(thinking: Thinking) -> Variables:
    """The variables for prompting with thinking, explicit even if they are the template's defaults."""
    return thinking.on or {name: not value for name, value in (thinking.off or {}).items()}


def _default(name: str, value: bool) -> str:
    return f"{{%- if {name} is not defined %}}{{%- set {name} = {str(value).lower()} %}}{{%- endif %}}"


def find_thinking(template: ChatTemplate) -> Thinking | None:
    """How the template handles thinking, found by rendering; None if it does not."""
    if not _HINT.search(template.source):
        return None
    with suppress(TuneportError):  # a template that breaks its limits is reported where a row needs it
        return _Probe(template).thinking()
    return None


class _Probe:
    """Renders one question and one answer in every way that matters."""

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template
        names = [name for name in _SWITCHES if re.search(rf"\b{name}\b", template.source)]
        self.modes: list[Variables] = [{}, *({name: value} for name in names for value in (False, True))]
        self.tags = [pair for pair in TAGS if pair[1] in template.source]
        self._texts: dict[tuple[int, str], str] = {}
        self._render()

    def _render(self) -> None:
        asked = {"role": "user", "content": _ASKED}
        answers: dict[str, dict[str, Any]] = {"": {"content": _ANSWER}}
        answers |= {name: {"content": _ANSWER, name: _THOUGHT} for name in FIELDS}
        function = {"name": _CALLED, "arguments": {}}
        calls = [{"id": "callcall1", "type": "function", "function": function}]
        answers |= {f"call {name}": {"content": "", name: _THOUGHT, "tool_calls": calls} for name in FIELDS}
        answers |= {opens: {"content": f"{opens}\n{_THOUGHT}\n{closes}\n\n{_ANSWER}"} for opens, closes in self.tags}
        last = {"role": "assistant", "content": _ANSWER}
        longer = {
            "many": [asked, last, asked, last],
            "many calls": [
                asked,
                {"role": "assistant", "content": "", "tool_calls": calls},
                {"role": "tool", "content": "Found.", "tool_call_id": "callcall1"},
                last,
            ],
        }
        keys: list[tuple[int, str]] = []
        rows: list[dict[str, Any]] = []
        for number, mode in enumerate(self.modes):
            keys.append((number, "prompt"))
            rows.append({"messages": [asked], "prompt": True, "variables": mode})
            for name, answer in answers.items():
                keys.append((number, name))
                rows.append({"messages": [asked, {"role": "assistant", **answer}], "variables": mode})
            for name, turns in longer.items():
                keys.append((number, name))
                rows.append({"messages": turns, "variables": mode})
        for key, found in zip(keys, self.template.rows(rows), strict=True):
            self._texts[key] = found.get("text", "")

    def thinking(self) -> Thinking | None:
        field = next((name for name in FIELDS if self._writes(name)), None)
        tags = self._tags(field)
        if tags is None:
            return None
        opens, closes = tags
        inline = (opens, closes) in self.tags and self._writes(opens)
        if field is None:  # some write it before a call of a tool alone
            field = next((name for name in FIELDS if self._writes(f"call {name}")), None)
        opened = any(self._text(mode, "prompt").rstrip().endswith(opens) for mode in range(len(self.modes)) if opens)
        off = self._off(closes)
        on = self._on(field if field and self._writes(field) else opens if inline else None, opens)
        lead = self._lead(off if off is not None else {}, opens)
        many = off is not None and any(
            self._begins(on, name) and not self._begins(off, name) for name in ("many", "many calls")
        )
        return Thinking(opens, closes, field, inline, opened, lead, on, off, many, self._before_call(field, closes))

    def _before_call(self, field: str | None, closes: str) -> str:
        for mode in range(len(self.modes)):
            thought, found, after = self._text(mode, f"call {field}").partition(_THOUGHT)
            if found and thought and _CALLED in after:
                between = after.partition(_CALLED)[0]
                return "" if not closes or closes in between else between.lstrip()
        return ""

    def _begins(self, mode: Variables, name: str) -> bool:
        """Whether a conversation starts with the prompt for its first answer."""
        number = self.modes.index(mode)
        prompt = self._text(number, "prompt")
        return bool(prompt) and self._text(number, name).startswith(prompt)

    def _text(self, mode: int, name: str) -> str:
        return self._texts.get((mode, name), "")

    def _writes(self, name: str) -> bool:
        return any(_THOUGHT in self._text(mode, name) for mode in range(len(self.modes)))

    def _tags(self, field: str | None) -> tuple[str, str] | None:
        """The tags around the thinking: those that the template writes, or known ones in its source."""
        if field is None:
            opened = [pair for pair in self.tags if self._text(0, "prompt").rstrip().endswith(pair[0])]
            return next(iter([*opened, *self.tags]), None)
        mode = next(mode for mode in range(len(self.modes)) if _THOUGHT in self._text(mode, field))
        before, _, after = self._text(mode, field).partition(_THOUGHT)
        between = after.partition(_ANSWER)[0].strip() if _ANSWER in after else ""
        known = [pair for pair in TAGS if before.rstrip().endswith(pair[0]) and between.startswith(pair[1])]
        if known:
            return known[0]
        prompt = self._text(mode, "prompt")
        opens = before.removeprefix(prompt).strip() if before.startswith(prompt) else ""
        return (opens, between) if opens and between else ("", "")

    def _off(self, closes: str) -> Variables | None:
        """The variables with which an answer follows the prompt without a block."""
        for number, mode in enumerate(self.modes):
            prompt, text = self._text(number, "prompt"), self._text(number, "")
            if prompt and text.startswith(prompt) and _ANSWER in text[len(prompt) :]:
                lead = text[len(prompt) :].partition(_ANSWER)[0]
                if not closes or closes not in lead:
                    return mode
        return None

    def _on(self, name: str | None, opens: str) -> Variables:
        """The variables for prompting with thinking: a switch if it changes the prompt, otherwise none."""
        plain = self._text(0, "prompt")
        for number, mode in enumerate(self.modes):
            prompt = self._text(number, "prompt")
            if True not in mode.values() or not prompt or prompt == plain:
                continue
            if name is None or self._text(number, name).startswith(prompt) or prompt.rstrip().endswith(opens):
                return mode
        return {}

    def _lead(self, mode: Variables, opens: str) -> str:
        number = self.modes.index(mode)
        prompt, text = self._text(number, "prompt"), self._text(number, "")
        if not text.startswith(prompt):
            return ""
        lead = text[len(prompt) :].partition(_ANSWER)[0].strip()
        return "" if opens and opens in lead else lead


class Mode:
    """How a renderer prompts: `rows` as each row needs it, `on` with thinking, or `saved` by the template's own
    defaults, which training sets for a tuned model.
    """

    ROWS, ON, SAVED = "rows", "on", "saved"


def variables_of(mode: str, thinking: Thinking | None, *, thinks: bool) -> Variables:
    """The template's variables for a row, or for a prompt, which does not think in the mode `rows`."""
    if thinking is None or mode == Mode.SAVED:
        return {}
    if mode == Mode.ON or thinks or thinking.off is None:
        return thinking.on
    return thinking.off
