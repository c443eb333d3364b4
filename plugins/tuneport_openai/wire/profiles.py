"""Named endpoints that speak the OpenAI wire: where each one is, and where its key is kept."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tuneport.errors import ConfigError, HomeError, NotFoundError, UsageError
from tuneport.plugin import home, lock_file, open_regular, write_json
from tuneport_openai.wire.addresses import azure_url, check_url, is_loopback
from tuneport_openai.wire.limits import Limits, read_limits
from tuneport_openai.wire.vendors import VENDORS, Vendor, VendorName, recognize

OPENAI_URL = "https://api.openai.com/v1"
NEBIUS_URL = "https://api.tokenfactory.nebius.com/v1"
AZURE_VARIABLE = "AZURE_OPENAI_ENDPOINT"
_FIXED = "openai"  # a user who sets OPENAI_API_KEY relies on this name leading to this host
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")
_KEPT = ("base_url", "key", "vendor")
_NOTES = ("in_keyring", "used", "removed")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An endpoint by name. `base_url` is empty while it is unknown; `key` is the name of an environment variable, never
    a key. `in_keyring`: the system's keyring has a key for this very address. `removed`: the profile was removed, and
    its name is kept for the jobs that were started there.
    """

    name: str
    base_url: str
    key: str
    vendor: VendorName = "other"
    in_keyring: bool = False
    removed: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def traits(self) -> Vendor:
        """What its vendor does differently."""
        return VENDORS[self.vendor]

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        return bool(self.base_url) and is_loopback(urlsplit(self.base_url).hostname or "")

    @property
    def poll_seconds(self) -> float:
        """Seconds between two requests for a job's state; a server on this machine is asked more often."""
        default = 0.5 if self.is_loopback else 5.0
        return default if self.limits.poll_seconds is None else self.limits.poll_seconds

    @property
    def account(self) -> str:
        """The user under whom the system's keyring has its key: another address is another user."""
        return f"{self.name}@{urlsplit(self.base_url).netloc}"


def profiles() -> dict[str, Profile]:
    """Every profile by name: those built in, then those of home. Raises ConfigError when their file is damaged."""
    stored = _read()
    built_in = _built_in()
    removed = {name: _placeholder(name) for name in sorted(stored.removed - built_in.keys())}
    found = {**built_in, **stored.profiles, **removed}
    return {name: replace(one, in_keyring=one.account in stored.in_keyring) for name, one in found.items()}


def profile(name: str) -> Profile:
    """The profile of that name, as it is now; raises NotFoundError."""
    found = profiles().get(name)
    if found is None or found.removed:
        raise NotFoundError(f"There is no profile {name!r}.", remedy="Run: tuneport profiles list")
    return found


def require_address(one: Profile) -> Profile:
    """The same profile; raises ConfigError where its address is not known."""
    if not one.base_url:
        what = f"The profile {one.name} was removed." if one.removed else f"The address of {one.name} is not known."
        raise ConfigError(what, remedy=address_remedy(one))
    return one


def address_remedy(one: Profile) -> str:
    """What to type so that a profile has an address."""
    if one.vendor == "azure":
        url = "https://NAME.openai.azure.com"
        return f"Set {AZURE_VARIABLE}={url}, or run: tuneport profiles add {one.name} {url}"
    return f"Run: tuneport profiles add {one.name} URL"


def add(
    name: str,
    base_url: str,
    key: str | None = None,
    vendor: VendorName | None = None,
    limits: Iterable[str] = (),
) -> Profile:
    """Keep an endpoint under a name. `key` is the name of the variable that holds its key; by default it is made from
    the profile's name, such as LAB_API_KEY. `vendor` is recognized by the address when it is not given. `limits` are
    texts `NAME=NUMBER`.

    Raises UsageError for a name that is taken or an address to which a key must not be sent.
    """
    if name == _FIXED:
        raise UsageError("The profile openai is api.openai.com and cannot be changed.", remedy="Choose another name.")
    if not _NAME.match(name):
        raise UsageError(f"{name!r} cannot be a profile's name.", remedy="Use small letters, digits, - and _.")
    key = key or _variable_of(name)
    if not _VARIABLE.match(key):
        raise UsageError(
            "--key takes the name of an environment variable, not the key itself.",
            remedy="Put the key into a variable, for example: export LAB_API_KEY=…; then: --key LAB_API_KEY. "
            f"The value of --key ({len(key)} characters) is now in your shell's history: if it was a key, replace it.",
        )
    url = check_url(base_url)
    vendor = vendor or ("azure" if name == "azure" else recognize(url))
    made = _profile(
        name,
        base_url=azure_url(url) if vendor == "azure" else url,
        key=key,
        vendor=vendor,
        limits=Limits().change(limits).overrides(),
    )
    with _edit() as stored:
        stored.profiles[name] = made
        stored.removed.discard(name)
    return profile(name)


def remove(name: str) -> bool:
    """Forget a profile of home; returns whether its name is kept.

    Where jobs were started there the name is kept, so that their refs can say what is missing, until it is removed a
    second time. Raises NotFoundError when there is no profile of that name.
    """
    with _edit() as stored:
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
    if one.name not in _read().used:
        with _edit() as stored:
            stored.used.add(one.name)


def note_key(one: Profile, *, in_keyring: bool) -> None:
    """Remember whether the system's keyring has the key of a profile, so that the keyring need not be opened to see."""
    with _edit() as stored:
        (stored.in_keyring.add if in_keyring else stored.in_keyring.discard)(one.account)


def _built_in() -> dict[str, Profile]:
    openai = Profile(name="openai", base_url=OPENAI_URL, key="OPENAI_API_KEY", vendor="openai")
    given = os.environ.get(AZURE_VARIABLE, "").strip()
    try:
        url = azure_url(check_url(given)) if given else ""
    except UsageError:
        url = ""  # availability says what is wrong with it
    azure = Profile(name="azure", base_url=url, key="AZURE_OPENAI_API_KEY", vendor="azure")
    nebius = Profile(name="nebius", base_url=NEBIUS_URL, key="NEBIUS_API_KEY", vendor="nebius")
    return {"openai": openai, "azure": azure, "nebius": nebius}


def _profile(
    name: str, *, base_url: str, vendor: VendorName = "other", limits: Mapping[str, Any] | None = None, **facts: Any
) -> Profile:
    if vendor == "other":  # kept before its vendor was known here
        found = recognize(base_url)
        vendor = found if found in ("nebius", "bedrock") else vendor
    return Profile(name=name, base_url=base_url, vendor=vendor, limits=read_limits(limits or {}), **facts)


def _facts_of(one: Profile) -> dict[str, Any]:
    """A profile as the file in home keeps it."""
    facts = {name: getattr(one, name) for name in _KEPT}
    return facts | ({"limits": changed} if (changed := one.limits.overrides()) else {})


def _placeholder(name: str) -> Profile:
    return Profile(name=name, base_url="", key=_variable_of(name), removed=True)


def _variable_of(name: str) -> str:
    return "AZURE_OPENAI_API_KEY" if name == "azure" else f"{re.sub('[^A-Z0-9]', '_', name.upper())}_API_KEY"


def _file() -> Path:
    return home() / "profiles.json"


@dataclass(slots=True)
class _Stored:
    """The file in home: profiles, accounts whose keys are in the keyring, names at which jobs were started, and those
    of these names whose profile was removed.
    """

    profiles: dict[str, Profile] = field(default_factory=dict)
    in_keyring: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)


def _read() -> _Stored:
    path = _file()
    try:
        with open_regular(path) as file:
            kept = json.loads(file.read())
        found = {name: _profile(name, **facts) for name, facts in kept["profiles"].items()}
        for one in found.values():
            check_url(one.base_url)
        found.pop(_FIXED, None)
        return _Stored(found, *(set(map(str, kept.get(notes, ()))) for notes in _NOTES))
    except FileNotFoundError:
        return _Stored()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{path} is damaged: {error}.", remedy="Fix it, or remove it and add the profiles again.", file=str(path)
        ) from error
    except OSError as error:
        raise HomeError(f"{path} cannot be read: {error.strerror}.", remedy="Check its permissions.") from error


@contextmanager
def _edit() -> Iterator[_Stored]:
    """The stored profiles, to be changed; written completely when the block ends well, by one process at a time."""
    with lock_file(home() / "profiles.lock"):
        stored = _read()
        yield stored
        kept = {name: _facts_of(one) for name, one in stored.profiles.items()}
        facts = {"version": 1, "profiles": kept, **{notes: sorted(getattr(stored, notes)) for notes in _NOTES}}
        write_json(_file(), facts, mode=0o600)
