"""The model card of an export: the model's origin and how to load it. It never contains data rows.

The hub reads its header: huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.plugin import Comparison
from tuneport_torch import bases
from tuneport_torch.bases.files import read_json

if TYPE_CHECKING:
    from tuneport_torch.bases import Base

_LOAD = {
    "adapter": """\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{here}")
base = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{here}")
```""",
    "merged": """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{here}")
model = AutoModelForCausalLM.from_pretrained("{here}")
```""",
    "ollama": """\
In this folder:

```sh
llama-cli -m {file} --jinja        # llama.cpp
ollama create my-model -f Modelfile && ollama run my-model
```""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """Facts that are not in the model's record: `here` is its future name or path, `license` that of the base, `file`
    the name of the GGUF file.
    """

    here: str = "."
    license: str | None = None
    comparison: Comparison | None = None
    file: str = "model.gguf"


def card(base: Base, kind: str, facts: CardFacts | None = None) -> str:
    """The text of README.md for an export of the kind adapter, merged or ollama."""
    known, record = facts or CardFacts(), bases.read_record(base.path) or {}
    lineage = record.get("lineage", {})
    under = root_base(base)
    parts = [
        _head(under, kind, known),
        f"# {lineage.get('job', under.name if under.kind != 'folder' else 'Model')}",
        _origin(base, under, kind, tuned=bool(lineage)),
        *([_training(lineage, _row_count(base))] if lineage else []),
        *([_figures(known.comparison)] if known.comparison is not None else []),
        "## How to load it",
        _LOAD[kind].format(here=known.here, base=under.upstream, file=known.file),
        *([_system(lineage["system"])] if lineage.get("system") else []),
    ]
    return "\n\n".join(parts) + "\n"


def root_base(base: Base) -> Base:
    """The model under all adapters."""
    return base if base.parent is None else root_base(base.parent)


def _head(under: Base, kind: str, known: CardFacts) -> str:
    library = {"adapter": "peft", "merged": "transformers"}.get(kind)
    lines = [
        *([] if under.upstream.startswith("/") else [f"base_model: {under.upstream}"]),
        *([f"base_model_relation: {_RELATIONS[kind]}"] if not under.upstream.startswith("/") else []),
        *([f"license: {known.license}"] if known.license else []),
        *([f"library_name: {library}"] if library else []),
        "pipeline_tag: text-generation",
        f"tags: [tuneport{', gguf' if kind == 'ollama' else ''}]",
    ]
    return "\n".join(["---", *lines, "---"])


_RELATIONS = {"adapter": "adapter", "merged": "finetune", "ollama": "finetune"}


def _origin(base: Base, under: Base, kind: str, *, tuned: bool) -> str:
    if not tuned:
        return f"{base.description}, converted by tuneport."
    text = f"Trained over {under.description} with tuneport."
    if under.kind == "gguf" and kind == "adapter":
        text += f" It was trained over the dequantized weights of {under.name}; those of {under.upstream} are close."
    return text


def _row_count(base: Base) -> int | None:
    """The number of training rows, from the request next to a job's model; None for any other model."""
    count = read_json(base.require_path().parent / "request.json").get("data", {}).get("train", {}).get("rows")
    return count if isinstance(count, int) else None


def _training(lineage: Mapping[str, Any], rows: int | None) -> str:
    counted = f", {rows:,} rows" if rows is not None else ""
    facts = {
        "base": f"`{_without_folders(lineage['base'])}`",
        "method": lineage["method"],
        "created": lineage["created"],
        "data": f"SHA-256 `{lineage['data_fingerprint']}`{counted}",
        "versions": ", ".join(f"{name} {version}" for name, version in lineage["versions"].items()),
    }
    lines = ["## Training", "", *(f"- {name}: {value}" for name, value in facts.items() if value)]
    settings = list(_plain(lineage["settings"]))
    return "\n".join(lines + (["", "| setting | value |", "|---|---|", *settings] if settings else []))


def _without_folders(ref: str) -> str:
    """A ref whose path is shortened to its last part, because paths of this machine are private."""
    backend, _, name = ref.partition(":")
    return f"{backend}:{Path(name).name}" if name.startswith((".", "~", "/")) else ref


def _plain(settings: Mapping[str, Any], under: str = "") -> Iterator[str]:
    """A table row for each setting that was set; nested ones by their path."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _plain(value, f"{under}{name}.")
        elif value is not None:
            yield f"| {under}{name} | {value} |"


def _figures(comparison: Comparison) -> str:
    tuned, base, difference = comparison.tuned, comparison.base, comparison.difference
    lines = [
        "## Comparison",
        "",
        f"Grader `{comparison.grader}` on {comparison.rows_text}; mean score with 95% interval.",
        "",
        "| | score | interval |",
        "|---|---|---|",
        *([f"| base | {base.mean:.1%} | {base.low:.1%} to {base.high:.1%} |"] if base is not None else []),
        f"| this model | {tuned.mean:.1%} | {tuned.low:.1%} to {tuned.high:.1%} |",
    ]
    if difference is not None:
        lines.append(f"| difference | {difference.mean:+.1%} | {difference.low:+.1%} to {difference.high:+.1%} |")
    if comparison.warning:
        lines += ["", f"Note: {comparison.warning}"]
    return "\n".join(lines)


def _system(prompt: str) -> str:
    quoted = "\n".join(f"    {line}" for line in prompt.splitlines())
    return f"It was trained with this system prompt, and answers best with it:\n\n{quoted}"
