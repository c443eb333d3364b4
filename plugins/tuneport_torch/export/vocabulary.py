"""A tokenizer in the form of GGUF files. Keys: ggml's docs/gguf.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneport.errors import UnsupportedError
from tuneport_torch.text.pretokenizer import name_of

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from tuneport_torch.text.codec import Codec

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # gguf.TokenType
_STOPS = ("eos", "eot", "eom")  # llama.cpp ends an answer at these ids


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens by id with their types, the merges in order, and `pre`, the name of the pre-tokenizer."""

    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    special: dict[str, int]
    add_bos: bool
    template: str | None

    def write(self, writer: GGUFWriter) -> None:
        """Add all keys to a file's header."""
        writer.add_tokenizer_model("gpt2")  # the format's name for every byte-level BPE
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        for name, number in self.special.items():
            getattr(writer, f"add_{name}_token_id")(number)
        writer.add_add_bos_token(self.add_bos)  # always written, because llama.cpp's default depends on `pre`
        if self.template is not None:
            writer.add_chat_template(self.template)


def read_vocabulary(codec: Codec, size: int) -> Vocabulary:
    """The vocabulary of a tokenizer, padded with unused tokens to `size`, the rows of the embedding.

    Raises UnsupportedError for a tokenizer that llama.cpp would read differently.
    """
    pre = name_of(codec.tokenizer.steps())
    most, tokens, merges = codec.tokenizer.pieces(size)
    if most >= size:
        raise UnsupportedError(
            f"The tokenizer has {most + 1:,} tokens, the model's embedding only {size:,} rows.",
            remedy="Export it as: merged",
        )
    kinds = [_UNUSED if token is None else _NORMAL for token in tokens]
    for number, (_, is_control) in codec.tokenizer.added.items():
        kinds[number] = _CONTROL if is_control else _USER_DEFINED
    named = [f"[UNUSED{number}]" if token is None else token for number, token in enumerate(tokens)]
    return Vocabulary(
        pre=pre,
        tokens=[*named, *(f"[UNUSED{number}]" for number in range(len(named), size))],
        types=[*kinds, *[_UNUSED] * (size - len(kinds))],
        merges=merges,
        special=_special(codec),
        add_bos=bool(codec.prefix_ids),
        template=codec.template.source if codec.template is not None else None,
    )


def _special(codec: Codec) -> dict[str, int]:
    """Special ids by the format's names. The tokenizer's end of sequence is `eos` if it ends an answer."""
    named = {"bos": "bos_token", "unk": "unk_token", "pad": "pad_token"}
    ids = codec.tokenizer.ids
    found: dict[str, Any] = {name: ids.get(codec.special.get(key, "")) for name, key in named.items()}
    stops = sorted(codec.stop_ids, key=lambda one: one != codec.eos_id)
    if len(stops) > len(_STOPS):
        raise UnsupportedError(
            f"{len(stops)} tokens end this model's answers, but a GGUF file can name only {len(_STOPS)}.",
            remedy="Export it as: merged",
        )
    found |= dict(zip(_STOPS, stops, strict=False))
    return {name: number for name, number in found.items() if number is not None}
