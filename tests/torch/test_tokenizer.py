"""The tokenizer's process has the library's results, and enough memory for every real tokenizer, but not more."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from random import Random

import pytest

from folder_doors import Doors
from hostile_folders import written
from tuneport_torch.bases import resolve
from tuneport_torch.text.load import load_codec


def test_ids_and_spans_are_the_librarys(tiny_llama: Path) -> None:
    from tokenizers import Tokenizer

    said = ["", "My card never arrived.", "caf\u00e9 \U0001f642 <|im_end|>"]
    codec = load_codec(resolve(str(tiny_llama)))
    library = Tokenizer.from_file(str(tiny_llama / "tokenizer.json"))
    found = [(one.ids, one.spans) for one in codec.encode_many(said)]
    counted = codec.count_many(said)
    codec.close()
    for (ids, spans), wanted in zip(found, library.encode_batch(said, add_special_tokens=False), strict=True):
        assert (ids, list(spans), spans[1:3]) == (wanted.ids, wanted.offsets, wanted.offsets[1:3])
        assert [spans[at] for at in range(-len(spans), len(spans))] == 2 * wanted.offsets
    assert counted == [len(ids) for ids, _ in found]


def large(tokens: int, merges: int) -> str:
    """A byte-fallback BPE tokenizer of that size, in the layout of the largest real ones."""
    draw, letters = Random(1), [*"abcdefghijklmnopqrstuvwxyz", *map(chr, range(0x430, 0x450)), "\u2581"]
    vocab = {one: number for number, one in enumerate(["<unk>", *(f"<0x{n:02X}>" for n in range(256)), *letters])}
    parts, pairs = list(letters), []
    while len(vocab) < tokens:
        left, right = parts[draw.randrange(min(20_000, len(parts)))], parts[draw.randrange(min(3000, len(parts)))]
        if len(left + right) < 10 and left + right not in vocab:
            vocab[left + right] = len(vocab)
            parts.append(left + right)
            pairs.append([left, right])
    more = ([part[:at], part[at:]] for part in parts for at in range(1, len(part)))
    pairs += itertools.islice((one for one in more if one[0] in vocab and one[1] in vocab), merges - len(pairs))
    model = {"type": "BPE", "unk_token": "<unk>", "byte_fallback": True, "vocab": vocab, "merges": pairs}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model}, ensure_ascii=False, indent=2)


@pytest.mark.parametrize(
    ("tokens", "merges"), [(20_000, 40_000), pytest.param(262_144, 514_906, marks=pytest.mark.soak)]
)
def test_a_large_tokenizer_is_read(tiny_llama: Path, tmp_path: Path, tokens: int, merges: int) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    written("tokenizer.json", large(tokens, merges))(folder)
    doors = Doors(tmp_path / "home", tiny_llama)
    try:
        assert doors.go(folder, "text") == {"text": "ok"}
    finally:
        doors.close()
