"""Tuned models without the training: a tiny base with an adapter, or weights, of random numbers."""

from __future__ import annotations

import torch

from tuneport import Lineage, Ref
from tuneport_torch import bases, export
from tuneport_torch.bases.loading import load_model
from tuneport_torch.bases.lora import attach
from tuneport_torch.model import TorchModel
from tuneport_torch.text.load import load_codec

LINEAGE = Lineage(
    base="torch:tiny",
    job="torch:tickets-1",
    data_fingerprint="ab" * 32,
    created="2026-01-01T00:00:00+00:00",
    system="Answer with one word.",
)


def tune(base_folder, path, *, whole=False, style="chat"):
    """A tuned model without the training: an adapter (or weights) of random numbers large enough to change answers."""
    base = bases.resolve(str(base_folder))
    model, codec = load_model(base), load_codec(base)
    torch.manual_seed(1)
    if whole:
        with torch.no_grad():
            model.get_input_embeddings().weight.add_(torch.randn(128) * 0.1)
    else:
        attach(model, rank=4, alpha=8)
        for name, weight in model.named_parameters():
            if name.endswith("lora_B"):
                torch.nn.init.normal_(weight, std=0.1)
    export.save(path, model.eval(), base=base, codec=codec, lineage=LINEAGE, style=style)
    codec.close()
    return model.eval()


def opened(path, dtype="float32"):
    return TorchModel(Ref("torch", str(path)), bases.resolve(str(path)), dtype=dtype)


def logits(model, ids=None):
    with torch.no_grad():
        return model(torch.tensor([ids or [1, 40, 50, 60, 70, 2]])).logits
