"""Writes the result of training: a folder with weights (PEFT adapter or full model), tokenizer, template and record.

```
tuneport.json:
format           1
base             name and fingerprint of the model under it
lineage          tuneport.Lineage
style            "chat" or "plain": how to prompt it
stop_ids         the tokens that end an answer
template_sha256  of chat_template.jinja, or null
golden           the token ids of golden.GOLDEN, which must be the same after loading
```
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.plugin import Lineage, write_json
from tuneport_torch import bases
from tuneport_torch.bases.loading import quiet
from tuneport_torch.export.atomic import atomic_output
from tuneport_torch.text.golden import golden_ids

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from tuneport_torch.bases import Base
    from tuneport_torch.text.codec import Codec
    from tuneport_torch.text.render import Style


def save(folder: Path, model: torch.nn.Module, *, base: Base, codec: Codec, lineage: Lineage, style: Style) -> Path:
    """Write a newly trained model, adapter or full, with everything needed to use it. The folder is complete or absent.

    A full model is written in the type of its weights. `codec` is the one that rendered the rows, with its stop ids.
    """
    from tuneport_torch.bases.lora import adapter_layers, save_peft

    with atomic_output(folder) as draft:
        if adapter_layers(model):
            save_peft(model, draft, base.upstream, base.revision)
        else:
            save_full_model(model, draft, codec)
        codec.save(draft)
        record = {
            "format": 1,
            "base": {"name": base.name, "fingerprint": base.fingerprint, **({"near": base.near} if base.near else {})},
            "lineage": lineage.to_dict(),
            "style": style,
            "stop_ids": codec.stop_ids,
            "template_sha256": codec.template.sha256 if codec.template is not None else None,
            "golden": golden_ids(codec),
        }
        write_json(draft / bases.TUNED, record)
    return folder


def save_full_model(model: PreTrainedModel, folder: Path, codec: Codec) -> None:
    """Write weights, config, and a generation config that stops at the trained stop tokens."""
    stops = codec.stop_ids
    with quiet():
        from transformers import GenerationConfig

        generation = model.generation_config or GenerationConfig()
        generation.eos_token_id = stops[0] if len(stops) == 1 else list(stops)
        generation.pad_token_id = codec.pad_id
        model.generation_config = generation
        model.config.eos_token_id = generation.eos_token_id
        model.save_pretrained(folder)
