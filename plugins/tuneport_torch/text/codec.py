"""A model's tokenizer and chat template, without torch or transformers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from tuneport_torch.bases.files import check_inside, read_json, read_text
from tuneport_torch.text.callform import CallForm
from tuneport_torch.text.callprobe import find_calls
from tuneport_torch.text.messages import split_block
from tuneport_torch.text.sandbox.message_forms import MARK
from tuneport_torch.text.sandbox.run_tokenizer import CLOSE, OPEN
from tuneport_torch.text.template import ChatTemplate
from tuneport_torch.text.thinking import Thinking, find_thinking, set_defaults
from tuneport_torch.text.tokenizer import Tokenizer

_T = TypeVar("_T")
_MARKS = re.compile(f"[{OPEN}{CLOSE}{MARK}]")
_QUOTED = re.compile(f"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}")

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
"""The files of a `Codec`. Only the first is required."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids, and the characters [start, end) of the text that each stands for."""

    ids: list[int]
    spans: Sequence[tuple[int, int]]


class Codec:
    """How a model reads and writes text: its tokenizer, its chat template, and the tokens that end an answer.

    `stop_ids` are those of the model's configuration and its tokenizer's end-of-sequence token, and `stops` their
    texts;
    `load_codec` and training add the template's own end of turn. `rows` is the number of rows of the model's embedding,
    if known: the model cannot read a token with a higher id. `has_tool_template`: the model has another template, for
    tools.
    """

    def __init__(self, folder: Path, stop_ids: Sequence[int] = (), rows: int | None = None) -> None:
        self.folder, self.rows = folder, rows
        self._companions: dict[Any, Any] = {}
        config = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
        self.special = {
            key: text for key, value in config.items() if key.endswith("_token") and (text := _content(value))
        }
        if (folder / "tokenizer.json").exists():
            check_inside(folder / "tokenizer.json", folder)
        self.tokenizer = Tokenizer(folder / "tokenizer.json", list(self.special.values()))
        self._prefix = self._find_prefix(config)
        source, self.has_tool_template = _read_template(folder, config)
        self.template = ChatTemplate(source, self.special) if source else None
        self.stop_ids = list(dict.fromkeys([*stop_ids, *([self.eos_id] if self.eos_id is not None else [])]))
        self.stops = [text for one, (text, _) in self.tokenizer.added.items() if one in self.stop_ids]

    @property
    def eos_id(self) -> int | None:
        """The id of the tokenizer's end-of-sequence token."""
        return self._id("eos_token")

    def token_id(self, text: str) -> int | None:
        """The id of an added token by its text."""
        return next((number for number, (one, _) in self.tokenizer.added.items() if one == text), None)

    @property
    def pad_id(self) -> int:
        """The id to pad with. Never search for it: it may equal another token's id."""
        pad = self._id("pad_token")
        padding = self.stop_ids if pad is None else [pad, *self.stop_ids]
        return next((one for one in padding if not self.describe_unreadable([one])), 0)

    @property
    def prefix_ids(self) -> list[int]:
        """What the tokenizer puts before plain text: beginning of sequence, or nothing. Templates write it
        themselves.
        """
        return list(self._prefix)

    def describe_unreadable(self, ids: Sequence[int]) -> str | None:
        """A description of the first id that the model has no embedding row for; None if it can read all ids."""
        if self.rows is None or not ids or max(ids) < self.rows:
            return None
        first = next(one for one in ids if one >= self.rows)
        token = self.tokenizer.added[first][0] if first in self.tokenizer.added else self.decode([first])
        return f"{token[:80]!r} has the id {first}; the model has {self.rows:,} rows"

    @property
    def unreadable_added_token(self) -> str | None:
        """The same for all added tokens of the tokenizer, whether a text uses them or not."""
        return self.describe_unreadable(sorted(self.tokenizer.added))

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """The ids of control tokens (turns, ends, padding), which ordinary text must not become."""
        return frozenset(number for number, (_, is_control) in self.tokenizer.added.items() if is_control)

    @cached_property
    def _control(self) -> re.Pattern[str]:
        texts = sorted(
            (text for text, is_control in self.tokenizer.added.values() if is_control), key=len, reverse=True
        )
        return re.compile("|".join(map(re.escape, texts)) or r"(?!)")

    def find_control(self, text: str) -> list[tuple[int, int, int]]:
        """The control tokens in a text: (start, end, id), in characters."""
        return [(*one.span(), self.token_id(one[0]) or 0) for one in self._control.finditer(text)]

    def quote(self, value: Any) -> Any:
        """The same JSON value with marks around each control token's text, so that `encode` reads it as ordinary text.

        `<|im_end|>` in the text of a message must not end a turn, neither in training nor in use.
        """
        if isinstance(value, str):
            bare = _MARKS.sub("", value)
            return self._control.sub(rf"{OPEN}\g<0>{CLOSE}", bare) if self._control.search(bare) else bare
        if isinstance(value, Mapping):
            return {self.quote(key): self.quote(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.quote(one) for one in value]
        return value

    def quote_answer(self, text: str) -> str:
        """`quote` for an assistant's text: the tags around the thinking at its start remain control tokens."""
        block = split_block(text)
        return f"{block.opening}{self.quote(block.thinking)}{block.closing}{self.quote(block.answer)}"

    def is_torn(self, text: str) -> bool:
        """Whether a template cut a text at a quoted control token, which shows in single marks."""
        if OPEN not in text and CLOSE not in text:
            return False
        quoted = _QUOTED.findall(text)
        left = _QUOTED.sub("", text)
        return OPEN in left or CLOSE in left or not all(self._control.fullmatch(one) for one in quoted)

    def encode(self, text: str) -> Tokens:
        """The tokens of a text, without a prefix. Control tokens are read as such unless `quote` marked them."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[Tokens]:
        """`encode` for many texts, on as many cores as the tokenizers library uses. Raises UnavailableError for a
        tokenizer that breaks its limits.
        """
        return [Tokens(ids, spans) for ids, spans in self.tokenizer.encode(texts)]

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has."""
        return self.tokenizer.count(texts)

    def decode(self, ids: Sequence[int], *, keep_control: bool = False) -> str:
        """The text of token ids, without control tokens by default."""
        return self.tokenizer.decode(ids, keep_control=keep_control)

    def token_bytes(self, index: int) -> bytes:
        """The bytes of a token; several tokens may share one character."""
        return self.vocabulary[index] if 0 <= index < len(self.vocabulary) else b""

    @cached_property
    def thinking(self) -> Thinking | None:
        """How the template writes thinking; None if it has no thinking."""
        return find_thinking(self.template) if self.template is not None else None

    @cached_property
    def calls(self) -> CallForm | None:
        """How the template writes tool calls; None if it writes none, or in an unknown way."""
        return find_calls(self.template, self._without_end) if self.template is not None else None

    def without_control(self, text: str) -> str:
        """A decoded text without the control tokens in it."""
        return self._control.sub("", text)

    def set_template_defaults(self, variables: Mapping[str, bool]) -> None:
        """Make these variables the defaults of the template, also where it is saved."""
        if self.template is not None:
            self.template.close()
            self.template = ChatTemplate(set_defaults(self.template.source, variables), self.special)
            self.__dict__.pop("thinking", None)

    def companion(self, make: Callable[[Codec], _T]) -> _T:
        """What `make` returns for this codec: made once, and kept as long as the codec is. A twin has its own."""
        if make not in self._companions:
            self._companions[make] = make(self)
        found: _T = self._companions[make]
        return found

    @cached_property
    def vocabulary(self) -> list[bytes]:
        """The bytes of each token, by id."""
        return self.tokenizer.vocabulary()

    def save(self, folder: Path) -> None:
        """Copy the files of tokenizer and template into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)
        if self.template is not None:
            (folder / "chat_template.jinja").write_text(self.template.source, encoding="utf-8", newline="")

    def twin(self) -> Codec:
        """The same codec with its own processes."""
        twin = copy(self)
        twin._separate()  # noqa: SLF001 - its own
        return twin

    def close(self) -> None:
        """End the processes that tokenize and render the template. They start again when needed."""
        self.tokenizer.close()
        if self.template is not None:
            self.template.close()

    def _separate(self) -> None:
        self._companions = {}
        self.tokenizer = self.tokenizer.twin()
        if self.template is not None:
            self.template = ChatTemplate(self.template.source, self.template.variables, self.template.seconds)

    def _without_end(self, text: str) -> str:
        """An answer's text without the control token at its end."""
        text = text.rstrip()
        last = next((start for start, end, _ in self.find_control(text) if end == len(text)), len(text))
        return text[:last]

    def _find_prefix(self, config: Mapping[str, Any]) -> list[int]:
        bos = self._id("bos_token")
        add_bos = config.get("add_bos_token")
        if add_bos is not None:
            return [bos] if add_bos and bos is not None else []
        return [bos] if bos is not None and self.tokenizer.start[:1] == [bos] else []

    def _id(self, name: str) -> int | None:
        text = self.special.get(name)
        return self.tokenizer.ids.get(text) if text is not None else None


def _content(value: object) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _read_template(folder: Path, config: Mapping[str, Any]) -> tuple[str | None, bool]:
    """The template for conversations, and whether there is another one only for tools."""
    given = config.get("chat_template")
    listed = [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []
    named = {name: one.get("template") for one in listed if isinstance(name := one.get("name"), str)}
    for_tools = "tool_use" in named or (folder / "additional_chat_templates" / "tool_use.jinja").is_file()
    file = folder / "chat_template.jinja"
    if file.exists():
        check_inside(file, folder)
        return read_text(file), for_tools
    if listed:
        given = named.get("default", next(iter(named.values())) if len(listed) == len(named) == 1 else None)
    return (given if isinstance(given, str) else None), for_tools
