"""Models of the Hugging Face hub: in its cache, or downloaded now."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuneport.errors import ModelNotFound, UnavailableError
from tuneport.plugin import BarStream, check_proxies, did_you_mean, one_line
from tuneport_torch.bases.base import Base, not_downloaded_error
from tuneport_torch.bases.facts import facts_of_folder, facts_of_known, is_complete
from tuneport_torch.bases.folders import open_folder

_REVISION = re.compile(r"(?=.{1,250}\Z)(?!.*\.\.)\w[\w./-]*\Z", re.ASCII)
_PLAIN_FILES = ("*.json", "*.jinja", "*.model", "*.tiktoken", "vocab.txt", "merges.txt", "*.py")


def find_hub_model(name: str, aliases: Iterable[str]) -> Base:
    """The hub model `owner/name` or `owner/name@revision`. No network.

    Raises ModelNotFound for what cannot be a hub model (`aliases` are suggested for a misspelled one), and
    UnavailableError for a model that is not downloaded while the hub is switched off.
    """
    repo, at, revision = name.partition("@")
    if not _is_repo(repo) or (at and not _REVISION.match(revision)):
        raise ModelNotFound(
            f"{name!r:.200} is not a model name.",
            remedy="Use a hub id such as org/model@revision, a folder or .gguf file (./…, ~/… or /…), or an alias: "
            + ", ".join(aliases),
        )
    folder = cached_folder(repo, revision or None)
    if folder is None and "/" not in repo:  # nearly always a typo: few models of the hub have no owner
        raise ModelNotFound(
            f"No tuned model and no alias is called {name!r}.",
            remedy=did_you_mean(repo, aliases) + "`tuneport models` lists the names. Write a hub model as owner/name.",
        )
    if folder is None:
        return _describe_absent(name)
    if not is_complete(folder):
        return replace(_describe_absent(name), revision=folder.name, facts=facts_of_folder(folder))
    return replace(_open_snapshot(folder, repo), name=name)


def fetch(base: Base, *, weights: bool = True) -> Base:
    """The base with its files on this machine, downloaded if needed; without `weights` only the small files.

    Raises UnavailableError if the hub cannot be reached, ModelNotFound if it has no such model.
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
        folder = Path(
            snapshot_download(repo, revision=base.revision, allow_patterns=patterns, tqdm_class=_progress_bars())
        )
    except GatedRepoError as error:
        raise UnavailableError(
            f"{repo} is gated: you must accept its license first.",
            remedy=f"Accept it at https://huggingface.co/{repo}, then run: hf auth login",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(f"The hub has no model {repo}.", remedy="Check the spelling on huggingface.co.") from error
    except RevisionNotFoundError as error:
        raise ModelNotFound(
            f"{repo} has no revision {base.revision}.", remedy=f"See https://huggingface.co/{repo}/commits/main"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise not_downloaded_error(base.name) from error
    if weights:
        return replace(_open_snapshot(folder, repo), name=base.name)
    return replace(base, facts=facts_of_folder(folder), revision=folder.name)


def cached_folder(repo: str, revision: str | None) -> Path | None:
    """The folder of a model in the hub's cache, complete or not; None if there is none."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def _is_repo(name: str) -> bool:
    """Whether the hub could have a model of that name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # it has no __all__

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _open_snapshot(folder: Path, repo: str) -> Base:
    """A complete model in the hub's cache, whose folders are named by commit."""
    commit = folder.name
    description = f"{repo} at {commit[:7]}"
    return replace(open_folder(folder), kind="hub", revision=commit, upstream=repo, description=description)


def _describe_absent(name: str) -> Base:
    """A hub model that is not, or not completely, in the cache. Raises UnavailableError if the hub is switched off."""
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        raise not_downloaded_error(name)
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


def _progress_bars() -> type:
    """The hub's progress bars, shown only on a terminal and without control characters in file names."""
    from tqdm.auto import tqdm

    class Bars(tqdm):  # type: ignore[misc]  # it comes without types
        def __init__(self, *args: Any, name: str | None = None, **options: Any) -> None:
            del name  # the hub's own, which tqdm does not know
            stream = BarStream()
            options |= {"file": stream, "disable": options.get("disable") or not stream.isatty()}
            super().__init__(*args, **{**options, "desc": one_line(options.get("desc") or "") or None})

    return Bars
