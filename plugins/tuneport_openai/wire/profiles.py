"""Named endpoints that speak the OpenAI wire: where each is, and where its key is kept."""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from tuneport.errors import ConfigError, HomeError, NotFoundError, UsageError
from tuneport.plugin import home, open_regular
from tuneport_openai.wire.limits import Limits, limits_of
from tuneport_openai.wire.locks import open_lock

Vendor = Literal["openai", "azure", "other"]

OPENAI_URL = "https://api.openai.com/v1"
AZURE_VARIABLE = "AZURE_OPENAI_ENDPOINT"
_FIXED = "openai"  # its name and its host are one promise to whoever set OPENAI_API_KEY
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")
_KEPT = ("base_url", "key", "vendor")
_NOTES = ("in_keyring", "used", "removed")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An endpoint by name. `base_url` is empty where it is not known yet; `key` is the name of an environment variable,
    never a key. `in_keyring`: a key for this very address was put into the system's keyring. `removed`: it is gone, and
    its name is kept for the jobs that were started there.
    """

    name: str
    base_url: str
    key: str
    vendor: Vendor = "other"
    in_keyring: bool = False
    removed: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        return bool(self.base_url) and _is_loopback(urlsplit(self.base_url).hostname or "")

    @property
    def poll_seconds(self) -> float:
        """How long to wait between two requests for a job's state; a server on this machine may be asked more often."""
        usual = 0.5 if self.is_loopback else 5.0
        return usual if self.limits.poll_seconds is None else self.limits.poll_seconds

    @property
    def account(self) -> str:
        """The user under whom the system's keyring has its key: another address is another user."""
        return f"{self.name}@{urlsplit(self.base_url).netloc}"


def profiles() -> dict[str, Profile]:
    """Every profile by name: `openai`, `azure`, then those of home. Raises ConfigError when their file is damaged."""
    stored = _stored()
    built_in = _built_in()
    removed = {name: _removed(name) for name in sorted(stored.removed - built_in.keys())}
    found = {**built_in, **stored.profiles, **removed}
    return {name: replace(one, in_keyring=one.account in stored.in_keyring) for name, one in found.items()}


def profile(name: str) -> Profile:
    """The profile of that name, as it is now; raises NotFoundError."""
    found = profiles().get(name)
    if found is None or found.removed:
        raise NotFoundError(f"There is no profile {name!r}.", remedy="Run: tuneport profiles list")
    return found


def checked_address(one: Profile) -> Profile:
    """The profile as it is; raises ConfigError where its address is not known."""
    if not one.base_url:
        what = f"The profile {one.name} was removed." if one.removed else f"The address of {one.name} is not known."
        raise ConfigError(what, remedy=how_to_address(one))
    return one


def how_to_address(one: Profile) -> str:
    """What to type so that a profile has an address."""
    if one.vendor == "azure":
        url = "https://NAME.openai.azure.com"
        return f"Set {AZURE_VARIABLE}={url}, or run: tuneport profiles add {one.name} {url}"
    return f"Run: tuneport profiles add {one.name} URL"


def add(
    name: str,
    base_url: str,
    key: str | None = None,
    vendor: Vendor | None = None,
    limits: Iterable[str] = (),
) -> Profile:
    """Keep an endpoint under a name of its own. `key` names the variable that holds its key; by default it is made from
    the name, such as LAB_API_KEY. `limits` are texts `NAME=NUMBER`.

    Raises UsageError for a name that is taken or an address to which a key must not be sent.
    """
    if name == _FIXED:
        raise UsageError("The profile openai is api.openai.com and stays so.", remedy="Choose another name.")
    if not _NAME.match(name):
        raise UsageError(f"{name!r} cannot be a profile's name.", remedy="Use small letters, digits, - and _.")
    key = key or _variable_of(name)
    if not _VARIABLE.match(key):
        raise UsageError(
            "--key takes the name of an environment variable, not the key itself.",
            remedy=f"Put the key into a variable, for example: export LAB_API_KEY=…; then: --key LAB_API_KEY. "
            f"What was given as --key (of {len(key)} characters) is in your shell's history now: if it was a key, "
            "have it replaced.",
        )
    url = checked_url(base_url)
    if vendor is None:
        vendor = "azure" if name == "azure" or _is_azure(url) else "other"
    made = _profile(
        name,
        base_url=_azure_url(url) if vendor == "azure" else url,
        key=key,
        vendor=vendor,
        limits=Limits().changed(limits).stored(),
    )
    with _changing() as stored:
        stored.profiles[name] = made
        stored.removed.discard(name)
    return profile(name)


def remove(name: str) -> bool:
    """Forget a profile of home. Where jobs were started there its name is kept, so that their refs say what is missing,
    until it is removed once more; whether it is. Raises NotFoundError when there is none of that name.
    """
    with _changing() as stored:
        if stored.profiles.pop(name, None) is not None:
            stored.removed |= stored.used & {name}
        elif name in stored.removed:
            stored.removed.discard(name)
            stored.used.discard(name)
        else:
            what = "is built in" if name in _built_in() else "does not exist"
            raise NotFoundError(f"The profile {name!r} {what}.", remedy="Run: tuneport profiles list")
        return name in stored.removed


def note_use(one: Profile) -> None:
    """Remember that a job is started at a profile; see `remove`."""
    if one.name not in _stored().used:
        with _changing() as stored:
            stored.used.add(one.name)


def note_key(one: Profile, *, in_keyring: bool) -> None:
    """Remember whether the system's keyring has the key of a profile, so that nobody need open it to tell."""
    with _changing() as stored:
        (stored.in_keyring.add if in_keyring else stored.in_keyring.discard)(one.account)


def checked_url(text: str) -> str:
    """An address that a key may be sent to, without its last slash; raises UsageError for any other."""
    try:
        parts = urlsplit(text.strip())
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"The address is none: {error}.", remedy="Write for example https://HOST/v1") from error
    if parts.username or parts.password or "@" in parts.netloc:
        raise UsageError("The address holds a name or a password.", remedy="Leave it out: --key names a variable.")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise UsageError(f"{text!r} is no address of a server.", remedy="Write for example https://HOST/v1")
    if parts.scheme == "http" and not _is_loopback(host):
        raise UsageError(
            f"A key would go to {host} in the clear over http.",
            remedy="Use https://, or a tunnel that ends on 127.0.0.1.",
        )
    return text.strip().rstrip("/")


def _built_in() -> dict[str, Profile]:
    openai = Profile(name="openai", base_url=OPENAI_URL, key="OPENAI_API_KEY", vendor="openai")
    asked = os.environ.get(AZURE_VARIABLE, "").strip()
    try:
        url = _azure_url(checked_url(asked)) if asked else ""
    except UsageError:
        url = ""  # availability says what is wrong with it
    azure = Profile(name="azure", base_url=url, key="AZURE_OPENAI_API_KEY", vendor="azure")
    return {"openai": openai, "azure": azure}


def _profile(name: str, *, base_url: str, limits: Mapping[str, Any] | None = None, **facts: Any) -> Profile:
    return Profile(name=name, base_url=base_url, limits=limits_of(limits or {}), **facts)


def _facts_of(one: Profile) -> dict[str, Any]:
    """What the file in home says of a profile."""
    facts = {name: getattr(one, name) for name in _KEPT}
    return facts | ({"limits": changed} if (changed := one.limits.stored()) else {})


def _removed(name: str) -> Profile:
    return Profile(name=name, base_url="", key=_variable_of(name), removed=True)


def _variable_of(name: str) -> str:
    return "AZURE_OPENAI_API_KEY" if name == "azure" else f"{re.sub('[^A-Z0-9]', '_', name.upper())}_API_KEY"


def _azure_url(url: str) -> str:
    """Azure's portal shows the resource's address; the wire is served below /openai/v1."""
    path = urlsplit(url).path.rstrip("/")
    return url if path.endswith("/v1") else f"{url.removesuffix('/openai')}/openai/v1"


def _is_azure(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host.endswith((".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com"))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _file() -> Path:
    return home() / "profiles.json"


@dataclass(slots=True)
class _Stored:
    """What the file in home says: profiles, accounts whose keys are in the keyring, names at which jobs were started,
    and those of them whose profile is gone.
    """

    profiles: dict[str, Profile] = field(default_factory=dict)
    in_keyring: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)


def _stored() -> _Stored:
    path = _file()
    try:
        with open_regular(path) as file:
            kept = json.loads(file.read())
        found = {name: _profile(name, **facts) for name, facts in kept["profiles"].items()}
        for one in found.values():
            checked_url(one.base_url)
        found.pop(_FIXED, None)
        return _Stored(found, *(set(map(str, kept.get(notes, ()))) for notes in _NOTES))
    except FileNotFoundError:
        return _Stored()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{path} is damaged: {error}.", remedy="Mend it, or remove it and add the profiles again.", file=str(path)
        ) from error
    except OSError as error:
        raise HomeError(f"{path} cannot be read: {error.strerror}.", remedy="Check its rights.") from error


@contextmanager
def _changing() -> Iterator[_Stored]:
    """What is stored, to be changed; written whole when the block ends well, by one process at a time."""
    with open_lock(home() / "profiles.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stored = _stored()
        yield stored
        kept = {name: _facts_of(one) for name, one in stored.profiles.items()}
        facts = {"version": 1, "profiles": kept, **{notes: sorted(getattr(stored, notes)) for notes in _NOTES}}
        handle, temporary = tempfile.mkstemp(dir=home(), prefix=".profiles.")
        with os.fdopen(handle, "w") as out:
            json.dump(facts, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).replace(_file())
