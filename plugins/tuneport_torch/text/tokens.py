"""A model's tokenizer and template without torch or transformers: for counting, rendering and showing."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport import UnavailableError, UnsupportedError, home
from tuneport_torch import bases
from tuneport_torch.bases.facts import read_json
from tuneport_torch.bases.headers import read_gguf
from tuneport_torch.bases.loading import load_tokenizer
from tuneport_torch.text.pretokenizer import with_pretokenizer
from tuneport_torch.text.template import ChatTemplate

if TYPE_CHECKING:
    from llguidance import LLTokenizer
    from tokenizers import Tokenizer

    from tuneport_torch.bases import Base
    from tuneport_torch.text.constraints import Constraints

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
"""The files that make a `Text`; a folder with the first of them is enough."""

# Private-use characters around a control token's text that a row brought along: see Text.quote.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_QUOTED = re.compile(f"{_OPEN}(.*?){_CLOSE}", re.DOTALL)

_CONVERSION = 2  # counts the ways in which tokenizers were converted: what an older one left in the cache is not read


def _byte_letters() -> dict[str, int]:
    """The byte behind each letter of a byte-level vocabulary: printable ones stand for themselves."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [one for one in range(256) if one not in shown]
    return {chr(one): one for one in shown} | {chr(256 + place): one for place, one in enumerate(hidden)}


_BYTES = _byte_letters()


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids, and the characters [start, end) of the text that each stands for."""

    ids: list[int]
    spans: list[tuple[int, int]]


class Text:
    """How a model reads and writes text: its tokenizer, its chat template, and the tokens that end an answer.

    `stop_ids` are those of the model's configuration and its tokenizer's end-of-sequence token; rendering adds the
    template's own end of turn where that is another one.
    """

    def __init__(self, folder: Path, stop_ids: Sequence[int] = ()) -> None:
        from tokenizers import Tokenizer

        self.folder = folder
        try:
            self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises bare Exceptions
            raise UnavailableError(
                f"{folder / 'tokenizer.json'} cannot be read: {error}.", remedy="Copy or download it again."
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        config = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
        self.special = {
            key: text for key, value in config.items() if key.endswith("_token") and (text := _content(value))
        }
        self._prefix = self._beginning(config)
        # Added tokens at the start and trimmed offsets come from the post-processor, and we want neither.
        self._tokenizer.post_processor = None
        source = _template(folder, config)
        self.template = ChatTemplate(source, self.special) if source else None
        self.stop_ids = list(dict.fromkeys([*stop_ids, *([self.eos_id] if self.eos_id is not None else [])]))

    @property
    def eos_id(self) -> int | None:
        """The id of the tokenizer's end-of-sequence token."""
        return self._id("eos_token")

    @property
    def pad_id(self) -> int:
        """What to pad with; nothing is ever found by looking for this id, since it may equal another token's."""
        pad = self._id("pad_token")
        return pad if pad is not None else next(iter(self.stop_ids), 0)

    @property
    def prefix_ids(self) -> list[int]:
        """What the tokenizer puts before plain text: beginning of sequence, or nothing. Templates write their own."""
        return list(self._prefix)

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """The ids of tokens that steer (turns, ends, padding) and that no ordinary text should become."""
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(index for index, token in added.items() if token.special)

    @cached_property
    def _control(self) -> re.Pattern[str]:
        added = self._tokenizer.get_added_tokens_decoder()
        texts = sorted((token.content for token in added.values() if token.special), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts)) or r"(?!)")

    def quote(self, value: Any) -> Any:
        """The same JSON value, where each control token's text is marked so that `encode` takes it as ordinary text.

        A row's words are words: `<|im_end|>` in a message ends no turn, neither in training nor in use.
        """
        if isinstance(value, str):
            bare = value.replace(_OPEN, "").replace(_CLOSE, "") if _OPEN in value or _CLOSE in value else value
            return self._control.sub(rf"{_OPEN}\g<0>{_CLOSE}", bare) if self._control.search(bare) else bare
        if isinstance(value, Mapping):
            return {key: self.quote(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.quote(one) for one in value]
        return value

    def encode(self, text: str) -> Tokens:
        """The tokens of a text, and none in front. Control tokens are read as such except where `quote` marked them."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[Tokens]:
        """`encode` for many texts at once, on as many cores as tokenizers takes."""
        plain = [text for text in texts if _OPEN not in text]
        encoded = iter(self._tokenizer.encode_batch(plain, add_special_tokens=False))
        return [
            self._quoted(text) if _OPEN in text else Tokens((one := next(encoded)).ids, one.offsets) for text in texts
        ]

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has."""
        if any(_OPEN in text for text in texts):
            return [len(one.ids) for one in self.encode_many(texts)]
        return [len(one.ids) for one in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int], *, keep_control: bool = False) -> str:
        """The text of token ids, without control tokens unless asked for."""
        decoded: str = self._tokenizer.decode(list(ids), skip_special_tokens=not keep_control)
        return decoded

    def token_bytes(self, index: int) -> bytes:
        """The bytes that a token stands for; several tokens may share one character."""
        token = self._tokenizer.id_to_token(index)
        if token is None:
            return b""
        if index in self._added:
            return token.encode("utf-8", "replace")
        if self._byte_level:
            return bytes(_BYTES[one] for one in token if one in _BYTES)
        byte = re.fullmatch(r"<0x([0-9A-F]{2})>", token)
        return bytes([int(byte[1], 16)]) if byte else token.replace("\u2581", " ").encode("utf-8", "replace")

    @cached_property
    def constraints(self) -> Constraints:
        """What makes answers follow a schema or call a tool."""
        from tuneport_torch.text.constraints import Constraints

        return Constraints(self)

    def constraint_tokenizer(self) -> LLTokenizer:
        """The same tokenizer as llguidance reads it, with every token that ends an answer. Raises UnsupportedError."""
        from llguidance import LLTokenizer

        try:
            return LLTokenizer(self._tokenizer.to_str(), eos_token=self.stop_ids)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the library is no Exception
            raise UnsupportedError(
                f"This model's tokenizer cannot hold an answer to a form: {str(error)[:200]}",
                remedy="Leave out schema and tool_choice, or ask another model.",
            ) from error

    def save(self, folder: Path) -> None:
        """Copy the files of tokenizer and template into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)
        if self.template is not None:
            (folder / "chat_template.jinja").write_text(self.template.source, encoding="utf-8", newline="")

    def close(self) -> None:
        """End the process that renders the template; it comes back when needed."""
        if self.template is not None:
            self.template.close()

    def _quoted(self, text: str) -> Tokens:
        """Piece by piece: only the rare text with a quoted control token is not tokenised in one call."""
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for number, (start, end) in enumerate(_pieces(text)):
            reader = self._literal if number % 2 else self._tokenizer
            piece = reader.encode(text[start:end], add_special_tokens=False)
            ids += piece.ids
            spans += [(start + left, start + right) for left, right in piece.offsets]
        return Tokens(ids, spans)

    @cached_property
    def _added(self) -> frozenset[int]:
        return frozenset(self._tokenizer.get_added_tokens_decoder())

    @cached_property
    def _byte_level(self) -> bool:
        decoder = json.loads(self._tokenizer.to_str()).get("decoder") or {}
        return "ByteLevel" in {decoder.get("type"), *(one.get("type") for one in decoder.get("decoders", ()))}

    @cached_property
    def _literal(self) -> Tokenizer:
        """The same tokenizer, to which control tokens are ordinary text."""
        twin: Tokenizer = type(self._tokenizer).from_str(self._tokenizer.to_str())
        twin.encode_special_tokens = True
        return twin

    def _beginning(self, config: Mapping[str, Any]) -> list[int]:
        bos = self._id("bos_token")
        asked = config.get("add_bos_token")
        if asked is not None:
            return [bos] if asked and bos is not None else []
        ids = self._tokenizer.encode("", add_special_tokens=True).ids
        return [bos] if bos is not None and ids[:1] == [bos] else []

    def _id(self, name: str) -> int | None:
        text = self.special.get(name)
        found: int | None = self._tokenizer.token_to_id(text) if text is not None else None
        return found


def load_text(base: Base) -> Text:
    """The tokenizer and template of a base. Without a tokenizer.json (a `.gguf`, sentencepiece) it is converted through
    transformers once and kept in home's cache. Raises UnavailableError.
    """
    from tuneport_torch.text.golden import check_golden, learn_stops

    folder = bases.text_folder(base)
    if base.parent is not None and not (folder and (folder / "tokenizer.json").is_file()):
        return load_text(base.parent)  # an adapter of another tool's making, which brings no tokenizer of its own
    if folder is None and base.kind == "hub":
        folder = bases.text_folder(bases.fetch(base, weights=False))
    if folder is None or not (folder / "tokenizer.json").is_file():
        folder = _converted(base)
    record = bases.read_record(base.path)
    text = Text(folder, record["stop_ids"] if record else base.facts.stop_ids)
    if record:
        check_golden(text, record["golden"], record["template_sha256"])
    else:
        learn_stops(text)
    return text


def conversion(base: Base) -> Path:
    """Where the files of a `Text` stand, or will, for a base that brings no tokenizer.json."""
    return home("cache", "tokenizers") / f"{base.fingerprint}.{_CONVERSION}"


def _converted(base: Base) -> Path:
    folder = conversion(base)
    if not (folder / "tokenizer.json").is_file():
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = convert(base, Path(scratch) / "made")
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was first, with the same files
                    raise
    return folder


def convert(base: Base, folder: Path) -> Path:
    """Write the files of a `Text` into a new folder for a base that has no tokenizer.json. Raises UnavailableError."""
    load_tokenizer(base).save_pretrained(folder)
    if not (folder / "tokenizer.json").is_file():
        raise UnavailableError(
            f"The tokenizer of {base.name} has no fast form, a tokenizer.json.",
            remedy="Choose another base.",
        )
    if base.kind == "gguf":
        told = read_gguf(base.here()).metadata
        cut, begins = told.get("tokenizer.ggml.pre"), told.get("tokenizer.ggml.add_bos_token")
        if cut is not None and told.get("tokenizer.ggml.model") == "gpt2":
            tokenizer = read_json(folder / "tokenizer.json")
            _write(folder / "tokenizer.json", with_pretokenizer(tokenizer, cut))
        if begins is not None:
            _write(
                folder / "tokenizer_config.json",
                {**read_json(folder / "tokenizer_config.json"), "add_bos_token": begins},
            )
    return folder


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _pieces(text: str) -> list[tuple[int, int]]:
    """The stretches between marks: ordinary, quoted, ordinary, … The marks themselves stand in none."""
    found, at = [], 0
    for match in _QUOTED.finditer(text):
        found += [(at, match.start()), match.span(1)]
        at = match.end()
    return [*found, (at, len(text))]


def _content(value: object) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        return beside.read_bytes().decode()
    given = config.get("chat_template")
    if isinstance(given, list):
        given = next((one.get("template") for one in given if one.get("name") == "default"), None)
    return given if isinstance(given, str) else None
