"""Pushes a model to the Hugging Face hub: checks the repository, exports, and uploads in one commit."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.errors import BackendError, TuneportError, UnavailableError, UnsupportedError, UsageError
from tuneport.plugin import Comparison, Publication, PushRequest, Redactor, check_proxies, guard, home
from tuneport_torch import export
from tuneport_torch.bases.loading import without_bars
from tuneport_torch.export.card import root_base

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from tuneport_torch.bases import Base

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*\Z", re.ASCII)
_TAG = "tuneport"  # of every model card that tuneport writes
_LOGIN = "Run: hf auth login (with a token that may write), or set HF_TOKEN."


def push(base: Base, repository: str, kind: str, request: PushRequest) -> Publication:
    """Upload an export of that kind to a repository of this account: a new one, or one that tuneport made earlier.

    One commit replaces its content. Raises UsageError for a name or repository that cannot be used, UnsupportedError
    for a model that cannot be exported in this way, UnavailableError without a token or network.
    """
    _check(base, repository, kind, request)
    with _hub_errors(repository):
        from huggingface_hub import HfApi

        api = HfApi()
        found = _Repository.find(api, repository, private=request.private)
        url = f"{api.endpoint}/{repository}"
        publication = Publication(url=url, kind=kind, private=found.private, new=found.new, account=found.account)
        if request.dry_run:
            return publication
        facts = export.CardFacts(
            here=repository,
            file=f"{repository.partition('/')[2]}.gguf",
            license=_license(api, base),
            comparison=Comparison.from_dict(request.comparison) if request.comparison is not None else None,
        )
    with tempfile.TemporaryDirectory(dir=home("spool"), prefix="push-") as scratch:
        folder = export.write(base, Path(scratch) / "model", "ollama" if kind == "gguf" else kind, request.dtype, facts)
        with _hub_errors(repository), without_bars():
            if found.new:
                api.create_repo(repository, private=request.private)
            done = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=f"Upload a model ({kind}) with tuneport",
                delete_patterns=["*"],
            )
    return Publication(url=url, kind=kind, private=found.private, new=found.new, account=found.account, commit=done.oid)


def _check(base: Base, repository: str, kind: str, request: PushRequest) -> None:
    """Refuse what can be refused without the network."""
    from huggingface_hub import get_token, is_offline_mode

    if not _NAME.match(repository):
        raise UsageError(f"{repository!r} is not a repository name.", remedy="Write OWNER/NAME, such as ada/tickets.")
    export.check(base, "ollama" if kind == "gguf" else kind, request.dtype)
    if kind == "adapter" and base.parent is not None and base.parent.upstream.startswith("/"):
        raise UnsupportedError(
            f"{base.name} was trained over {base.parent.upstream}, a folder on this machine that others do not have.",
            remedy="Push it as: merged",
        )
    if is_offline_mode():
        raise UnavailableError("HF_HUB_OFFLINE switches the hub off.", remedy="Unset HF_HUB_OFFLINE to push.")
    check_proxies()
    if get_token() is None:
        raise UnavailableError("No token for the hub was found.", remedy=_LOGIN)


@dataclass(frozen=True, slots=True)
class _Repository:
    """A repository name that this account may use."""

    new: bool
    private: bool
    account: str

    @classmethod
    def find(cls, api: HfApi, repository: str, *, private: bool) -> _Repository:
        """Look up the name. Raises UsageError if another account owns it, or if tuneport did not make its content."""
        from huggingface_hub.errors import RepositoryNotFoundError

        who = api.whoami()
        account, owner = str(who["name"]), repository.partition("/")[0]
        if owner not in {account, *(str(one["name"]) for one in who.get("orgs", ()))}:
            raise UsageError(
                f"The token belongs to {account}, which is not a member of {owner}.",
                remedy=f"Push to {account}/{repository.partition('/')[2]}, or log in to another account: hf auth login",
            )
        try:
            info = api.model_info(repository)
        except RepositoryNotFoundError:
            return cls(new=True, private=private, account=account)
        files = [one.rfilename for one in info.siblings or () if one.rfilename != ".gitattributes"]
        if files and _TAG not in (info.tags or ()):
            raise UsageError(
                f"{repository} exists and was not made by tuneport: it has {files[0]} and {len(files) - 1} more files.",
                remedy="Choose another name, because the content of a repository is replaced.",
            )
        if private and not info.private:
            raise UsageError(
                f"{repository} exists and is public.",
                remedy="Make it private on the hub first, choose another name, or leave out --private.",
            )
        return cls(new=False, private=bool(info.private), account=account)


def _license(api: HfApi, base: Base) -> str | None:
    """The base model's license according to the hub; None if unknown."""
    from huggingface_hub.errors import HfHubHTTPError

    under = root_base(base)
    if under.upstream.startswith("/"):
        return None
    try:
        data = api.model_info(under.upstream).card_data
    except HfHubHTTPError:
        return None
    found = data.get("license") if data is not None else None
    return found if isinstance(found, str) else None


@contextmanager
def _hub_errors(repository: str) -> Iterator[None]:
    """Turn the hub's errors into TuneportError, with limits on size and time, and without the token."""
    from huggingface_hub import get_session, get_token
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
    from huggingface_hub.errors import HTTPError as TransportError  # type: ignore[attr-defined]  # httpx's or httpx2's

    redact = Redactor(lambda: [get_token() or ""])
    remove_guard = guard(get_session(), "The hub", redact)
    try:
        yield
    except TuneportError:
        raise
    except LocalTokenNotFoundError as error:
        raise UnavailableError("No token for the hub was found.", remedy=_LOGIN) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise UnavailableError(
                f"The token may not write to {repository} (HTTP {status}).", remedy=_LOGIN
            ) from error
        text = " ".join((error.server_message or "").split())[:500] or f"HTTP {status}"
        raise BackendError(f"The hub refused the upload to {repository}: {text}", remedy="Try again later.") from error
    except (TransportError, ConnectionError) as error:
        raise UnavailableError(
            f"The hub cannot be reached: {type(error).__name__}.", remedy="Check the network, and try again."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackendError(
            f"The response is not from the hub's API: {type(error).__name__}.", remedy="Try again later."
        ) from error
    finally:
        remove_guard()
