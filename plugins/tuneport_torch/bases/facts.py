"""Facts about a model from its files, without torch and without reading its weights."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from tuneport.errors import UnavailableError
from tuneport_torch.bases.files import check_inside, check_name, model_files, open_regular, read_bytes, read_json
from tuneport_torch.bases.headers import BadHeader, Header, read_gguf, read_safetensors
from tuneport_torch.bases.plausible import check_sizes

_FIRST_NAMED = frozenset(
    {"config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "adapter_config.json"}
)
_INDEX = "model.safetensors.index.json"
_INDEX_BYTES = 24 * 2**20  # the largest seen, of a model of 1e12 parameters, has 13 MB
_SAMPLE = 2**20
_RECENT_NS = 2 * 10**9  # file systems may give two changes within this time the same time stamp
_DAMAGED = "Download or copy it again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a model's config and weights say about it; None for what they do not say. `stop_ids` end an answer. `dtype`
    is the type of the stored weights.
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
    """Facts from config.json, generation_config.json and the weights' headers. Raises UnavailableError for damaged
    files.
    """
    path = folder / "config.json"
    config, headers = _read_config(path), weight_headers(folder)
    check_sizes(config, headers, path)
    stop = read_json(folder / "generation_config.json").get("eos_token_id")
    return _facts_of_config(config, sum(header.parameters for header in headers) or None, path, stop)


def facts_of_known(repository: str) -> Facts:
    """Facts about a hub model that is not downloaded: those in `known.json`, which lists few models."""
    found = _read_known().get(repository)
    if found is None:
        return Facts()
    return _facts_of_config(found["config"], found["parameters"], Path(repository), None)


@cache
def _read_known() -> Mapping[str, Any]:
    table: Mapping[str, Any] = json.loads(
        files("tuneport_torch.bases").joinpath("known.json").read_text(encoding="utf-8")
    )["models"]
    return table


def _facts_of_config(config: Mapping[str, Any], parameters: int | None, path: Path, stop: object) -> Facts:
    text = config.get("text_config") or config
    stops = [stop, text.get("eos_token_id")]
    return Facts(
        model_type=_word(config.get("model_type"), "model_type", path) or "unknown",
        vocabulary=_count(text.get("vocab_size"), "vocab_size", path),
        layers=_count(text.get("num_hidden_layers"), "num_hidden_layers", path),
        hidden=_count(text.get("hidden_size"), "hidden_size", path),
        max_positions=_count(text.get("max_position_embeddings"), "max_position_embeddings", path),
        parameters=parameters,
        stop_ids=_ids([one for stop in stops for one in (stop if isinstance(stop, list) else [stop])], path.parent),
        dtype=_word(config.get("dtype") or config.get("torch_dtype"), "dtype", path),
        config=config,
    )


def _read_config(path: Path) -> dict[str, Any]:
    """A config.json. Raises UnavailableError if its `text_config` is not an object."""
    config = read_json(path)
    if not isinstance(config.get("text_config") or {}, dict):
        raise UnavailableError(f"{path} says text_config is {_format(config['text_config'])}.", remedy=_DAMAGED)
    return config


def facts_of_gguf(path: Path) -> Facts:
    """Facts from the header of a .gguf file. Raises UnavailableError if the file is damaged."""
    header = _header(path)
    metadata = header.metadata
    if not header.parameters:
        raise UnavailableError(f"{path} contains no weights.", remedy=_DAMAGED)
    check_sizes(metadata, [header], path)
    kind = _word(metadata.get("general.architecture"), "general.architecture", path) or "unknown"
    embedding = header.shapes.get("token_embd.weight", ())
    vocabulary = embedding[1] if len(embedding) > 1 else None

    def count(name: str, default: int | None = None) -> int | None:
        return _count(metadata.get(f"{kind}.{name}", default), f"{kind}.{name}", path)

    return Facts(
        model_type=kind,
        vocabulary=count("vocab_size", vocabulary),
        layers=count("block_count"),
        hidden=count("embedding_length"),
        max_positions=count("context_length"),
        parameters=header.parameters,
        stop_ids=_ids([metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")], path),
        config={"tie_word_embeddings": "output.weight" not in header.shapes},
    )


def _count(value: object, name: str, path: Path) -> int | None:
    """A positive number, or None for None."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63):
        return value
    raise UnavailableError(f"{path} says {name} is {_format(value)}, not a positive number.", remedy=_DAMAGED)


def _word(value: object, name: str, path: Path) -> str | None:
    if value is None or (isinstance(value, str) and len(value) < 200):
        return value
    raise UnavailableError(f"{path} says {name} is {_format(value)}, not a word.", remedy=_DAMAGED)


def _ids(values: Sequence[object], path: Path) -> tuple[int, ...]:
    """Token ids without duplicates. None and -1 are skipped; anything else that is no id is an error."""
    ids: list[int] = []
    for one in values:
        if one is None or one == -1:
            continue
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one < 2**31:
            raise UnavailableError(f"{path} says a stop token's id is {_format(one)}.", remedy=_DAMAGED)
        ids.append(one)
    return tuple(dict.fromkeys(ids))


def _format(value: object) -> str:
    return f"{value!r:.80}"


class _Index(msgspec.Struct):
    """The part of an index of shards that is used."""

    weight_map: dict[str, str] = {}


def shards(folder: Path) -> list[str]:
    """The names of the model's .safetensors files, relative to its folder. Raises UnavailableError for an index that is
    damaged or names files outside the folder.
    """
    path = folder / _INDEX
    try:
        index = msgspec.json.decode(read_bytes(path, _INDEX_BYTES), type=_Index)
    except FileNotFoundError:
        index = _Index()
    except (ValueError, RecursionError) as error:
        raise UnavailableError(f"{path} cannot be read: {error}.", remedy=_DAMAGED) from error
    names = sorted({check_name(name, folder) for name in index.weight_map.values()})
    for name in names:
        if not name.endswith(".safetensors"):
            raise UnavailableError(f"{path} names {name!r:.200}, which is not a .safetensors file.", remedy=_DAMAGED)
    return names or ["model.safetensors"]


def is_complete(folder: Path) -> bool:
    """Whether the folder has all .safetensors files of the model."""
    return all(os.path.lexists(folder / name) for name in shards(folder))  # of any length


def weights(folder: Path) -> list[Path]:
    """The .safetensors files of a model: all in its folder, and those in subfolders that its index names. Raises
    UnavailableError unless each is a regular file inside the folder.
    """
    files = [file for file in model_files(folder) if file.suffix == ".safetensors" and file.parent == folder]
    for name in shards(folder):
        file = folder / name
        if file.parent != folder and os.path.lexists(file):
            check_inside(file, folder)
            files.append(file)
    return files


def _header(path: Path) -> Header:
    try:
        return read_gguf(path) if path.suffix == ".gguf" else read_safetensors(path)
    except (BadHeader, OSError) as error:
        raise UnavailableError(str(error), remedy="Download or copy the file again.") from error


def weight_headers(path: Path) -> list[Header]:
    """The headers of all weight files of a folder, or of a .gguf file. Raises UnavailableError for a damaged one."""
    return [_header(path)] if path.is_file() else [_header(file) for file in weights(path)]


def fingerprint(path: Path) -> str:
    """A hash over every file that the model, its tokenizer or its own code may be loaded from, of which large ones
    count by size and samples. A copy has the same fingerprint; another training of the same architecture does not.
    """
    if path.is_file():
        return _digest([(path.name, path)], named=False)
    files = [*model_files(path), *(file for file in weights(path) if file.parent != path)]
    names = {file.relative_to(path).as_posix(): file for file in files}
    return _digest(sorted(names.items()))


def first_fingerprint(path: Path) -> str:
    """The first form of the fingerprint, over fewer files. Older jobs and adapters have it stored."""
    if path.is_file():
        return fingerprint(path)
    files = [one for one in model_files(path) if one.parent == path]
    return _digest([(one.name, one) for one in files if one.name in _FIRST_NAMED or one.suffix == ".safetensors"])


def _digest(files: Sequence[tuple[str, Path]], *, named: bool = True) -> str:
    """The hash of files. It is computed again only if a file was changed since the last call."""
    states = tuple(_FileState.read(name if named else "", file) for name, file in files)
    if max((state.changed_ns for state in states), default=0) > time.time_ns() - _RECENT_NS:
        return _compute_digest(states)
    return _cached_digest(states)


@dataclass(frozen=True, slots=True)
class _FileState:
    """A file with what changes when its content does. `changed_ns` cannot be set by programs."""

    name: str
    path: Path
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def read(cls, name: str, path: Path) -> _FileState:
        found = path.stat()
        times = found.st_mtime_ns, found.st_ctime_ns
        return cls(name, path, found.st_dev, found.st_ino, found.st_size, *times)


def _compute_digest(states: tuple[_FileState, ...]) -> str:
    digest = hashlib.sha256()
    for state in states:
        if state.name:
            digest.update(os.fsencode(state.name) + b"\0")
        _sample(state.path, digest)
    return digest.hexdigest()


_cached_digest = lru_cache(maxsize=64)(_compute_digest)


def _sample(path: Path, digest: hashlib._Hash) -> None:
    """Add the size, and 1 MiB each from start, middle and end: naming a model must not read a hundred gigabytes."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(size.to_bytes(8, "little"))
        for start in sorted({0, max(0, size // 2 - _SAMPLE // 2), max(0, size - _SAMPLE)}):
            file.seek(start)
            digest.update(file.read(_SAMPLE))


def describe(facts: Facts, name: str) -> str:
    """A short description of a model."""
    millions = f"{facts.parameters / 1e6:,.0f} million parameters, " if facts.parameters else ""
    return f"{name} ({millions}{facts.model_type})"
