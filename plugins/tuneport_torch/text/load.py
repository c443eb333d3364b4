"""The codec of a base model, found or converted, and checked to be the one of the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneport_torch import bases
from tuneport_torch.text.codec import Codec
from tuneport_torch.text.conversion import find_converted
from tuneport_torch.text.golden import add_template_stops, check_golden

if TYPE_CHECKING:
    from tuneport_torch.bases import Base


def load_codec(base: Base) -> Codec:
    """The tokenizer and template of a base.

    A base without a tokenizer.json (a `.gguf` file, sentencepiece) is converted once by transformers, and the result is
    kept in home's cache. Raises UnavailableError.
    """
    folder = bases.text_folder(base)
    if base.parent is not None and not (folder and (folder / "tokenizer.json").is_file()):
        return load_codec(base.parent)  # an adapter made by another tool, without a tokenizer
    if folder is None and base.kind == "hub":
        folder = bases.text_folder(bases.fetch(base, weights=False))
    if folder is None or not (folder / "tokenizer.json").is_file():
        folder = find_converted(base)
    record = bases.read_record(base.path)
    codec = Codec(folder, record["stop_ids"] if record else base.facts.stop_ids, base.facts.vocabulary)
    if record:
        check_golden(codec, record["golden"], record["template_sha256"])
    else:
        add_template_stops(codec)
    return codec
