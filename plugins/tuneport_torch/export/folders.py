"""A model as a folder that other programs load: PEFT's adapter, or a whole model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.errors import UnsupportedError
from tuneport_torch import bases
from tuneport_torch.bases.loading import load_model, round_weights
from tuneport_torch.export import proof
from tuneport_torch.export.appearing import appearing, write_json
from tuneport_torch.export.card import Facts, card
from tuneport_torch.export.saved import save_whole
from tuneport_torch.text.golden import golden_ids
from tuneport_torch.text.load import load_codec

if TYPE_CHECKING:
    from tuneport_torch.bases import Base

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
"""What a whole model can be stored in, and torch's names for it."""

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def adapter(base: Base, folder: Path, facts: Facts | None = None) -> Path:
    """Write the adapter in PEFT's format, with tokenizer, template and a model card.

    Raises UnsupportedError for a model that has none, or whose own base is an adapter, which PEFT could not load.
    """
    check_adapter(base)
    with appearing(folder) as made:
        for name in (*_ADAPTER_FILES, bases.TUNED):
            if (base.here() / name).is_file():
                shutil.copyfile(base.here() / name, made / name)
        load_codec(base).save(made)
        (made / "README.md").write_text(card(base, "adapter", facts), encoding="utf-8")
    return folder


def check_adapter(base: Base) -> None:
    """Raise UnsupportedError for what PEFT could not load as an adapter."""
    if base.parent is None:
        raise UnsupportedError(f"{base.name} is a whole model, not an adapter.", remedy="Export it as: merged")
    if base.parent.parent is not None:
        raise UnsupportedError(
            f"{base.name} is an adapter over another adapter ({base.parent.name}), which PEFT cannot load.",
            remedy="Export it as: merged",
        )


def merged(base: Base, folder: Path, facts: Facts | None = None, *, dtype: str | None = None) -> Path:
    """Write a whole model that needs neither tuneport nor PEFT; `dtype` is the base's own unless given.

    Adapters are added in float32, then rounded. The result is loaded again and must give the live model's logits; if
    not, or if rounding changes its answers, nothing is left behind and BackendError says so.
    """
    base = bases.fetch(base)
    dtype = dtype or own_dtype(base)
    codec = load_codec(base)
    model = load_model(base, dtype="float32")
    ids = golden_ids(codec)
    live_TV = proof.logits(model, ids)
    round_weights(model, dtype)
    with appearing(folder) as made:
        save_whole(model, made, codec)
        codec.save(made)
        record = bases.read_record(base.path)
        if record:
            write_json(made / bases.TUNED, record)
        (made / "README.md").write_text(card(base, "merged", facts), encoding="utf-8")
        round_weights(model, "float32")
        rounded_TV = proof.logits(model, ids)
        del model
        reloaded_TV = proof.logits(load_model(bases.resolve(str(made))), ids)
        proof.check(live_TV, rounded_TV, reloaded_TV, dtype)
    return folder


def own_dtype(base: Base) -> str:
    """The type in which the weights, or those under all adapters, are stored; bfloat16 for a quantised file."""
    told = base.facts.dtype
    return told if told in ("float32", "float16", "bfloat16") else "bfloat16"
