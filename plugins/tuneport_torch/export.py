"""What a tuned model is on disk: the folder that training leaves, and the forms that other programs load.

A folder of ours holds weights (a PEFT adapter, or a whole model), tokenizer, chat template, and `tuneport.json`:
```
format           1
base             name and fingerprint of the model under it
lineage          tuneport.Lineage
style            "chat" or "plain": how it is asked
stop_ids         the tokens that end an answer
template_sha256  of chat_template.jinja, or null
golden           the token ids of golden.GOLDEN: whoever loads the folder must get the same
```
Folders are written beside their place and renamed into it, so that there is a whole one or none.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport import BackendError, Lineage, UnsupportedError, UsageError
from tuneport_torch import bases
from tuneport_torch.golden import golden_ids
from tuneport_torch.loading import load_model, quiet, round_weights
from tuneport_torch.render import Style
from tuneport_torch.tokens import load_text

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from tuneport_torch.bases import Base
    from tuneport_torch.tokens import Text

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_SAME = 1e-3  # the most that a logit may differ after reloading the same numbers: kernels may round differently
_ROUNDING = 0.05  # nats; rounding to 16 bit usually costs under 0.001


def save(folder: Path, model: torch.nn.Module, *, base: Base, text: Text, lineage: Lineage, style: Style) -> Path:
    """Write a model that was just trained, adapter or whole, with everything that it needs in use; whole or not at all.

    A whole model is written in the type of its weights. `text` is what rendered the rows: its stop ids go along.
    """
    from tuneport_torch.lora import adapted, save_peft

    with _appearing(folder) as made:
        if adapted(model):
            save_peft(model, made, base.upstream, base.revision)
        else:
            _save_whole(model, made, text)
        text.save(made)
        record = {
            "format": 1,
            "base": {"name": base.name, "fingerprint": base.fingerprint},
            "lineage": lineage.to_dict(),
            "style": style,
            "stop_ids": text.stop_ids,
            "template_sha256": text.template.sha256 if text.template is not None else None,
            "golden": golden_ids(text),
        }
        _write_json(made / bases.TUNED, record)
    return folder


def adapter(base: Base, folder: Path) -> Path:
    """Write the adapter in PEFT's format, with tokenizer, template and a model card.

    Raises UnsupportedError for a model that has none, or whose own base is an adapter, which PEFT could not load.
    """
    if base.parent is None or base.path is None:
        raise UnsupportedError(f"{base.name} is a whole model, not an adapter.", remedy="Export it as: merged")
    if base.parent.parent is not None:
        raise UnsupportedError(
            f"{base.name} is an adapter over another adapter ({base.parent.name}), which PEFT cannot load.",
            remedy="Export it as: merged",
        )
    with _appearing(folder) as made:
        for name in (*_ADAPTER_FILES, bases.TUNED):
            if (base.path / name).is_file():
                shutil.copyfile(base.path / name, made / name)
        load_text(base).save(made)
        (made / "README.md").write_text(_card(base, "adapter", _LOAD_ADAPTER), encoding="utf-8")
    return folder


def merged(base: Base, folder: Path, *, dtype: str | None = None) -> Path:
    """Write a whole model that needs neither tuneport nor PEFT; `dtype` is the base's own unless given.

    Adapters are added in float32, then rounded. The result is loaded again and must give the live model's logits; if
    not, or if rounding changes its answers, nothing is left behind and BackendError says so.
    """
    import torch

    dtype = dtype or _own_dtype(base)
    text = load_text(bases.fetch(base))
    model = load_model(base, dtype="float32")
    ids = torch.tensor([golden_ids(text)])
    live_TV = _logits(model, ids)
    round_weights(model, dtype)
    with _appearing(folder) as made:
        _save_whole(model, made, text)
        text.save(made)
        record = bases.read_record(base)
        if record:
            _write_json(made / bases.TUNED, record)
        (made / "README.md").write_text(_card(base, "merged", _LOAD_MERGED), encoding="utf-8")
        round_weights(model, "float32")
        rounded_TV = _logits(model, ids)
        del model
        reloaded_TV = _logits(load_model(bases.resolve(str(made))), ids)
        _check(live_TV, rounded_TV, reloaded_TV, dtype)
    return folder


def _check(live_TV: torch.Tensor, rounded_TV: torch.Tensor, reloaded_TV: torch.Tensor, dtype: str) -> None:
    import torch

    off = (rounded_TV - reloaded_TV).abs().max().item()
    if not off <= _SAME:
        raise BackendError(
            f"The merged model, loaded again, does not answer as the live one: a logit differs by {off:.3g}.",
            remedy="Export the adapter instead, and report this with the name of the base model.",
        )
    live, rounded = live_TV.log_softmax(-1), rounded_TV.log_softmax(-1)
    cost = torch.nn.functional.kl_div(rounded, live, log_target=True, reduction="batchmean").item()
    if not cost <= _ROUNDING:
        raise BackendError(
            f"Rounded to {dtype} the merged model answers otherwise ({cost:.3g} nats per token).",
            remedy="Export the adapter instead, and load it over the base in float32.",
        )


def _logits(model: PreTrainedModel, ids_BT: torch.Tensor) -> torch.Tensor:
    """(T, V), float32."""
    import torch

    with torch.inference_mode():
        logits_BTV: torch.Tensor = model(input_ids=ids_BT, use_cache=False).logits
    return logits_BTV[0].float()


def _save_whole(model: PreTrainedModel, folder: Path, text: Text) -> None:
    """Weights, config and a generation config that stops where the training taught the model to stop."""
    from transformers import GenerationConfig

    stops = text.stop_ids
    generation = model.generation_config or GenerationConfig()
    generation.eos_token_id = stops[0] if len(stops) == 1 else list(stops)
    generation.pad_token_id = text.pad_id
    model.generation_config = generation
    model.config.eos_token_id = generation.eos_token_id
    with quiet():
        model.save_pretrained(folder)


def _own_dtype(base: Base) -> str:
    """The type in which the weights, or those under all adapters, are stored; bfloat16 for a quantised file."""
    told = base.facts.dtype
    return told if told in ("float32", "float16", "bfloat16") else "bfloat16"


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A new folder that takes its place, flushed to disk, when the block ends well, and vanishes when it does not."""
    folder = folder.expanduser().absolute()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UsageError(f"{folder} already exists.", remedy="Name a new folder, or remove the old one first.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    made.mkdir()
    try:
        yield made
        for path in [*made.iterdir(), made]:
            _flush(path)
        made.rename(folder)
        _flush(folder.parent)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


_LOAD_ADAPTER = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{here}")
base = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{here}")"""
_LOAD_MERGED = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{here}")
model = AutoModelForCausalLM.from_pretrained("{here}")"""


def _card(base: Base, kind: str, load: str) -> str:
    """A short model card; see huggingface.co/docs/hub/model-cards."""
    record = bases.read_record(base) or {}
    lineage = record.get("lineage", {})
    under = base.parent or base
    lines = [
        "---",
        *([] if under.upstream.startswith("/") else [f"base_model: {under.upstream}"]),
        f"library_name: {'peft' if kind == 'adapter' else 'transformers'}",
        "pipeline_tag: text-generation",
        "tags: [tuneport]",
        "---",
        "",
        f"# {lineage.get('job', under.name if under.kind != 'folder' else 'Model')}",
        "",
        f"Trained over {under.description} with tuneport."
        if lineage
        else f"{base.description}, converted by tuneport.",
    ]
    if under.kind == "gguf" and kind == "adapter":
        lines += [
            "",
            f"The weights it was trained over are those of {under.name} dequantised; {under.upstream} is close.",
        ]
    facts = {name: lineage[name] for name in ("base", "method", "created", "data_fingerprint") if lineage.get(name)}
    lines += ["", *(f"- {name.replace('_', ' ')}: `{value}`" for name, value in facts.items())] if facts else []
    lines += ["", "```python", load.format(here=".", base=under.upstream), "```", ""]
    return "\n".join(lines)
