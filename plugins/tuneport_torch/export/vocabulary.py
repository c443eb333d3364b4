"""A tokenizer as a GGUF file holds it. Keys: ggml's docs/gguf.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneport import UnsupportedError
from tuneport_torch.bases.files import TOKENIZER_BYTES, read_json
from tuneport_torch.text.pretokenizer import name_of

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from tuneport_torch.text.tokens import Text

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # gguf.TokenType
_STOPS = ("eos", "eot", "eom")  # the ids at which llama.cpp ends an answer


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens by id with their types, the merges in order, and `pre`, the name of what cuts the text before."""

    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    special: dict[str, int]
    begins: bool
    template: str | None

    def write(self, writer: GGUFWriter) -> None:
        """Add every key of it to a file's header."""
        writer.add_tokenizer_model("gpt2")  # the format's word for every byte-level BPE
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        for name, number in self.special.items():
            getattr(writer, f"add_{name}_token_id")(number)
        writer.add_add_bos_token(self.begins)  # said in any case: llama.cpp's own default hangs on `pre`
        if self.template is not None:
            writer.add_chat_template(self.template)


def read_vocabulary(text: Text, size: int) -> Vocabulary:
    """The vocabulary of a tokenizer, filled up with unused tokens to `size`, the rows of the embedding.

    Raises UnsupportedError for a tokenizer that llama.cpp would read otherwise.
    """
    told = read_json(text.folder / "tokenizer.json", TOKENIZER_BYTES)
    pre = name_of(told)
    ids: dict[str, int] = dict(told["model"]["vocab"])
    kinds = dict.fromkeys(ids.values(), _NORMAL)
    for added in told.get("added_tokens") or ():
        ids[added["content"]] = added["id"]
        kinds[added["id"]] = _CONTROL if added["special"] else _USER_DEFINED
    if max(kinds, default=0) >= size:
        raise UnsupportedError(
            f"The tokenizer has {max(kinds) + 1:,} tokens, the model's embedding only {size:,} rows.",
            remedy="Export it as: merged",
        )
    names = {number: token for token, number in ids.items()}
    return Vocabulary(
        pre=pre,
        tokens=[names.get(number, f"[UNUSED{number}]") for number in range(size)],
        types=[kinds.get(number, _UNUSED) for number in range(size)],
        merges=[merge if isinstance(merge, str) else " ".join(merge) for merge in told["model"]["merges"]],
        special=_special(text, ids),
        begins=bool(text.prefix_ids),
        template=text.template.source if text.template is not None else None,
    )


def _special(text: Text, ids: Mapping[str, int]) -> dict[str, int]:
    """By the name that the format has for it. The tokenizer's own end of sequence is `eos` if it ends an answer."""
    named = {"bos": "bos_token", "unk": "unk_token", "pad": "pad_token"}
    found: dict[str, Any] = {name: ids.get(text.special.get(key, "")) for name, key in named.items()}
    stops = sorted(text.stop_ids, key=lambda one: one != text.eos_id)
    if len(stops) > len(_STOPS):
        raise UnsupportedError(
            f"{len(stops)} tokens end this model's answers; a GGUF file can name {len(_STOPS)}.",
            remedy="Export it as: merged",
        )
    found |= dict(zip(_STOPS, stops, strict=False))
    return {name: number for name, number in found.items() if number is not None}
