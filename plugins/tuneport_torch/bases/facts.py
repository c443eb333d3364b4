"""What a model's files say of it, without torch and without reading its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneport import UnavailableError
from tuneport_torch.bases.headers import BadHeader, Header, read_gguf, read_safetensors

_NAMING_FILES = frozenset(
    {"config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "adapter_config.json"}
)
_SAMPLE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What config and weights say of a model; None where they do not say. `stop_ids` end an answer, `dtype` is what the
    weights are stored in.
    """

    model_type: str = "unknown"
    vocabulary: int | None = None
    layers: int | None = None
    hidden: int | None = None
    max_positions: int | None = None
    parameters: int | None = None
    stop_ids: tuple[int, ...] = ()
    dtype: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


def facts_of_folder(folder: Path) -> Facts:
    """What config.json, generation_config.json and the weights' headers say; UnavailableError for damaged files."""
    config = read_json(folder / "config.json")
    headers = [_header(file) for file in sorted(folder.glob("*.safetensors"))]
    text = config.get("text_config") or config
    stops = [read_json(folder / "generation_config.json").get("eos_token_id"), text.get("eos_token_id")]
    flat = [one for stop in stops for one in (stop if isinstance(stop, list) else [stop])]
    return Facts(
        model_type=str(config.get("model_type", "unknown")),
        vocabulary=text.get("vocab_size"),
        layers=text.get("num_hidden_layers"),
        hidden=text.get("hidden_size"),
        max_positions=text.get("max_position_embeddings"),
        parameters=sum(header.parameters for header in headers) or None,
        stop_ids=tuple(dict.fromkeys(one for one in flat if isinstance(one, int))),
        dtype=config.get("dtype") or config.get("torch_dtype"),
        config=config,
    )


def facts_of_gguf(path: Path) -> Facts:
    """What a .gguf file says of its model; UnavailableError when it is damaged."""
    header = _header(path)
    told = header.metadata
    kind = str(told.get("general.architecture", "unknown"))
    stops = (told.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot"))
    vocabulary = header.shapes.get("token_embd.weight", (0, 0))[1] or None
    return Facts(
        model_type=kind,
        vocabulary=told.get(f"{kind}.vocab_size", vocabulary),
        layers=told.get(f"{kind}.block_count"),
        hidden=told.get(f"{kind}.embedding_length"),
        max_positions=told.get(f"{kind}.context_length"),
        parameters=header.parameters,
        stop_ids=tuple(dict.fromkeys(stop for stop in stops if stop is not None)),
        config={"tie_word_embeddings": "output.weight" not in header.shapes},
    )


def is_whole(folder: Path) -> bool:
    """Whether all .safetensors files that belong to the model are in the folder."""
    index = read_json(folder / "model.safetensors.index.json")
    names = set(index.get("weight_map", {}).values()) or {"model.safetensors"}
    return all((folder / name).is_file() for name in names)


def _header(path: Path) -> Header:
    try:
        return read_gguf(path) if path.suffix == ".gguf" else read_safetensors(path)
    except (BadHeader, OSError) as error:
        raise UnavailableError(str(error), remedy="Download or copy the file again.") from error


def fingerprint(path: Path) -> str:
    """Small files and samples of the weights: a copy has the same one, another training of that shape has not."""
    digest = hashlib.sha256()
    if path.is_file():
        _sample(path, digest)
        return digest.hexdigest()
    for file in sorted(path.iterdir()):
        if file.name in _NAMING_FILES or file.suffix == ".safetensors":
            digest.update(file.name.encode() + b"\0")
            _sample(file, digest)
    return digest.hexdigest()


def _sample(path: Path, digest: hashlib._Hash) -> None:
    """The size, and 1 MiB each from start, middle and end: a hundred gigabytes are not read to name a model."""
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        for start in sorted({0, max(0, size // 2 - _SAMPLE // 2), max(0, size - _SAMPLE)}):
            file.seek(start)
            digest.update(file.read(_SAMPLE))


def described(facts: Facts, name: str) -> str:
    """A model in a few words."""
    millions = f"{facts.parameters / 1e6:,.0f} million parameters, " if facts.parameters else ""
    return f"{name} ({millions}{facts.model_type})"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a small JSON file; empty when there is no such file; UnavailableError when it is damaged."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{path} cannot be read: {error}.", remedy="Download or copy it again.") from error
    return value if isinstance(value, dict) else {}
