"""What training leaves: a folder with weights (a PEFT adapter, or a whole model), tokenizer, template, `tuneport.json`.

```
format           1
base             name and fingerprint of the model under it
lineage          tuneport.Lineage
style            "chat" or "plain": how it is asked
stop_ids         the tokens that end an answer
template_sha256  of chat_template.jinja, or null
golden           the token ids of golden.GOLDEN: whoever loads the folder must get the same
```
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.plugin import Lineage
from tuneport_torch import bases
from tuneport_torch.bases.loading import quiet
from tuneport_torch.export.appearing import appearing, write_json
from tuneport_torch.text.golden import golden_ids

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from tuneport_torch.bases import Base
    from tuneport_torch.text.codec import Codec
    from tuneport_torch.text.render import Style


def save(folder: Path, model: torch.nn.Module, *, base: Base, codec: Codec, lineage: Lineage, style: Style) -> Path:
    """Write a model that was just trained, adapter or whole, with everything that it needs in use; whole or not at all.

    A whole model is written in the type of its weights. `text` is what rendered the rows: its stop ids go along.
    """
    from tuneport_torch.bases.lora import adapted, save_peft

    with appearing(folder) as made:
        if adapted(model):
            save_peft(model, made, base.upstream, base.revision)
        else:
            save_whole(model, made, codec)
        codec.save(made)
        record = {
            "format": 1,
            "base": {"name": base.name, "fingerprint": base.fingerprint, **({"near": base.near} if base.near else {})},
            "lineage": lineage.to_dict(),
            "style": style,
            "stop_ids": codec.stop_ids,
            "template_sha256": codec.template.sha256 if codec.template is not None else None,
            "golden": golden_ids(codec),
        }
        write_json(made / bases.TUNED, record)
    return folder


def save_whole(model: PreTrainedModel, folder: Path, codec: Codec) -> None:
    """Weights, config and a generation config that stops where the training taught the model to stop."""
    stops = codec.stop_ids
    with quiet():
        from transformers import GenerationConfig

        generation = model.generation_config or GenerationConfig()
        generation.eos_token_id = stops[0] if len(stops) == 1 else list(stops)
        generation.pad_token_id = codec.pad_id
        model.generation_config = generation
        model.config.eos_token_id = generation.eos_token_id
        model.save_pretrained(folder)
