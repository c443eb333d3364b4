"""A model on the Hugging Face hub: looked at first, then exported and uploaded in one commit."""

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
from tuneport_torch.export.card import root

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from tuneport_torch.bases import Base

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*\Z", re.ASCII)
_OURS = "tuneport"  # the tag that every model card of ours has
_LOGIN = "Run: hf auth login (a token with the right to write), or set HF_TOKEN."


def push(base: Base, repository: str, kind: str, request: PushRequest) -> Publication:
    """Upload an export of that kind to a repository of this account: a new one, or one that tuneport made before.

    What was in it is replaced, in one commit. Raises UsageError for a name or a repository that cannot be taken,
    UnsupportedError for a model that cannot be exported so, UnavailableError without a token or a network.
    """
    _check(base, repository, kind, request)
    with _told(repository):
        from huggingface_hub import HfApi

        api = HfApi()
        there = _Repository.look(api, repository, private=request.private)
        url = f"{api.endpoint}/{repository}"
        found = Publication(url=url, kind=kind, private=there.private, new=there.new, account=there.account)
        if request.dry_run:
            return found
        facts = export.Facts(
            here=repository,
            file=f"{repository.partition('/')[2]}.gguf",
            license=_license(api, base),
            comparison=Comparison.from_dict(request.comparison) if request.comparison is not None else None,
        )
    with tempfile.TemporaryDirectory(dir=home("spool"), prefix="push-") as scratch:
        folder = export.write(base, Path(scratch) / "model", "ollama" if kind == "gguf" else kind, request.dtype, facts)
        with _told(repository), without_bars():
            if there.new:
                api.create_repo(repository, private=request.private)
            done = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=f"Upload a model ({kind}) with tuneport",
                delete_patterns=["*"],
            )
    return Publication(url=url, kind=kind, private=there.private, new=there.new, account=there.account, commit=done.oid)


def _check(base: Base, repository: str, kind: str, request: PushRequest) -> None:
    """Refuse what can be refused without asking anybody."""
    from huggingface_hub import get_token, is_offline_mode

    if not _NAME.match(repository):
        raise UsageError(f"{repository!r} is no name of a repository.", remedy="Write OWNER/NAME, such as ada/tickets.")
    export.check(base, "ollama" if kind == "gguf" else kind, request.dtype)
    if kind == "adapter" and base.parent is not None and base.parent.upstream.startswith("/"):
        raise UnsupportedError(
            f"{base.name} was trained over {base.parent.upstream}, a folder that nobody else has.",
            remedy="Push it as: merged",
        )
    if is_offline_mode():
        raise UnavailableError("The hub is switched off here.", remedy="Unset HF_HUB_OFFLINE to push.")
    check_proxies()
    if get_token() is None:
        raise UnavailableError("There is no token for the hub.", remedy=_LOGIN)


@dataclass(frozen=True, slots=True)
class _Repository:
    """What the hub says of a name that this account may use."""

    new: bool
    private: bool
    account: str

    @classmethod
    def look(cls, api: HfApi, repository: str, *, private: bool) -> _Repository:
        """Raises UsageError where the name is another's, or holds what tuneport did not make."""
        from huggingface_hub.errors import RepositoryNotFoundError

        who = api.whoami()
        account, owner = str(who["name"]), repository.partition("/")[0]
        if owner not in {account, *(str(one["name"]) for one in who.get("orgs", ()))}:
            raise UsageError(
                f"The token is that of {account}, who does not belong to {owner}.",
                remedy=f"Push to {account}/{repository.partition('/')[2]}, or log in as another: hf auth login",
            )
        try:
            info = api.model_info(repository)
        except RepositoryNotFoundError:
            return cls(new=True, private=private, account=account)
        files = [one.rfilename for one in info.siblings or () if one.rfilename != ".gitattributes"]
        if files and _OURS not in (info.tags or ()):
            raise UsageError(
                f"{repository} exists already, and not from tuneport: {files[0]} and {len(files) - 1} more files.",
                remedy="Choose another name; what is in a repository is replaced.",
            )
        if private and not info.private:
            raise UsageError(
                f"{repository} exists already, and anybody can see it.",
                remedy="Make it private on the hub first, choose another name, or leave --private out.",
            )
        return cls(new=False, private=bool(info.private), account=account)


def _license(api: HfApi, base: Base) -> str | None:
    """The licence of the model under it, as the hub tells it; None where nobody tells."""
    from huggingface_hub.errors import HfHubHTTPError

    under = root(base)
    if under.upstream.startswith("/"):
        return None
    try:
        data = api.model_info(under.upstream).card_data
    except HfHubHTTPError:
        return None
    told = data.get("license") if data is not None else None
    return told if isinstance(told, str) else None


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """The hub's answers in our words, bounded in size and time, and without the token."""
    from huggingface_hub import get_session, get_token
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
    from huggingface_hub.errors import HTTPError as TransportError  # type: ignore[attr-defined]  # httpx's or httpx2's

    redact = Redactor(lambda: [get_token() or ""])
    take_off = guard(get_session(), "The hub", redact)
    try:
        yield
    except TuneportError:
        raise
    except LocalTokenNotFoundError as error:
        raise UnavailableError("There is no token for the hub.", remedy=_LOGIN) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise UnavailableError(
                f"The hub does not let this token write to {repository} (HTTP {status}).", remedy=_LOGIN
            ) from error
        said = " ".join((error.server_message or "").split())[:500] or f"HTTP {status}"
        raise BackendError(f"The hub refused to take {repository}: {said}", remedy="Try again later.") from error
    except (TransportError, ConnectionError) as error:
        raise UnavailableError(
            f"The hub cannot be reached: {type(error).__name__}.", remedy="Try again where there is a network."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackendError(
            f"The hub gave an answer that is none of the hub's: {type(error).__name__}.", remedy="Try again later."
        ) from error
    finally:
        take_off()
