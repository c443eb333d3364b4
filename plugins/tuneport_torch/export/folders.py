"""Exports a model as a folder that other programs load: a PEFT adapter, or a full model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.errors import UnsupportedError
from tuneport.plugin import write_json
from tuneport_torch import bases
from tuneport_torch.bases.loading import load_model, round_weights
from tuneport_torch.export import verify
from tuneport_torch.export.atomic import atomic_output
from tuneport_torch.export.card import CardFacts, card
from tuneport_torch.export.saved import save_full_model
from tuneport_torch.text.golden import golden_ids
from tuneport_torch.text.load import load_codec

if TYPE_CHECKING:
    from tuneport_torch.bases import Base

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
"""The types in which a full model can be stored, with torch's names."""

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def export_adapter(base: Base, folder: Path, facts: CardFacts | None = None) -> Path:
    """Write the adapter in PEFT's format, with tokenizer, template and a model card.

    Raises UnsupportedError for a model without an adapter, or whose base is an adapter, which PEFT cannot load.
    """
    check_adapter(base)
    with atomic_output(folder) as draft:
        for name in (*_ADAPTER_FILES, bases.TUNED):
            if (base.require_path() / name).is_file():
                shutil.copyfile(base.require_path() / name, draft / name)
        load_codec(base).save(draft)
        (draft / "README.md").write_text(card(base, "adapter", facts), encoding="utf-8")
    return folder


def check_adapter(base: Base) -> None:
    """Raise UnsupportedError for a model that PEFT cannot load as an adapter."""
    if base.parent is None:
        raise UnsupportedError(f"{base.name} is a full model, not an adapter.", remedy="Export it as: merged")
    if base.parent.parent is not None:
        raise UnsupportedError(
            f"{base.name} is an adapter over another adapter ({base.parent.name}), which PEFT cannot load.",
            remedy="Export it as: merged",
        )


def export_merged(base: Base, folder: Path, facts: CardFacts | None = None, *, dtype: str | None = None) -> Path:
    """Write a full model that needs neither tuneport nor PEFT. `dtype` is the base's own by default.

    Adapters are added in float32, then rounded. The result is loaded again and must have the trained model's logits.
    If it has not, or if rounding changes its answers, it is deleted and BackendError is raised.
    """
    base = bases.fetch(base)
    dtype = dtype or own_dtype(base)
    codec = load_codec(base)
    model = load_model(base, dtype="float32")
    ids = golden_ids(codec)
    live_TV = verify.logits(model, ids)
    round_weights(model, dtype)
    with atomic_output(folder) as draft:
        save_full_model(model, draft, codec)
        codec.save(draft)
        record = bases.read_record(base.path)
        if record:
            write_json(draft / bases.TUNED, record)
        (draft / "README.md").write_text(card(base, "merged", facts), encoding="utf-8")
        round_weights(model, "float32")
        rounded_TV = verify.logits(model, ids)
        del model
        reloaded_TV = verify.logits(load_model(bases.resolve(str(draft))), ids)
        verify.check(live_TV, rounded_TV, reloaded_TV, dtype)
    return folder


def own_dtype(base: Base) -> str:
    """The type of the stored weights under all adapters; bfloat16 for a quantized file."""
    stored = base.facts.dtype
    return stored if stored in ("float32", "float16", "bfloat16") else "bfloat16"
