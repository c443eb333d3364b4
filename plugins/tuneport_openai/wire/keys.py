"""A profile's key: in its environment variable, else in the system's keyring; never in a file of tuneport."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from tuneport.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from tuneport_openai.wire.profiles import Profile

SERVICE = "tuneport"
"""The keyring's service. The user is the profile's `account`, its name and host, so no other host gets the key."""
INSTALL = "pip install 'tuneport[keyring]'"
MANAGEMENT_TOKEN = "AZURE_MANAGEMENT_TOKEN"  # noqa: S105 - the name of a variable


class Key:
    """The key of one profile, read when it is needed: from its variable each time, else from the keyring once."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._kept = ""

    def reveal(self) -> str:
        """The key; raises ConfigError where there is none, or where it is meant for another host."""
        if why := key_conflict(self._profile):
            raise ConfigError(f"{why[0].upper()}{why[1:]}.", remedy=key_remedy(self._profile))
        if value := os.environ.get(self._profile.key, ""):
            return value
        if self._profile.in_keyring:
            self._kept = self._kept or _from_keyring(self._profile)
            return self._kept
        raise ConfigError(f"The environment variable {self._profile.key} is not set.", remedy=key_remedy(self._profile))

    def secrets(self) -> list[str]:
        """Everything secret that may be sent: the key, and the token for Azure's Resource Manager."""
        return [os.environ.get(self._profile.key, ""), self._kept, os.environ.get(MANAGEMENT_TOKEN, "")]


def source(profile: Profile) -> Literal["environment", "keyring"] | None:
    """Where the key would be read from now. Opens no keyring, which might ask for a password."""
    if os.environ.get(profile.key):
        return "environment"
    return "keyring" if profile.in_keyring else None


def key_conflict(profile: Profile) -> str:
    """Why the key in the variable must not be sent: OPENAI_BASE_URL says that OPENAI_API_KEY is for another host, as it
    does for the official clients. Empty where there is no such conflict.
    """
    address = os.environ.get("OPENAI_BASE_URL", "").strip()
    if profile.vendor != "openai" or not address or not os.environ.get(profile.key):
        return ""
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        host = ""
    if host == "openai.com" or host.endswith(".openai.com"):
        return ""
    return f"the key in {profile.key} is for {host or address}, where OPENAI_BASE_URL points, and is not sent to OpenAI"


def place(profile: Profile) -> str:
    """Where the key would be read from, for messages."""
    if source(profile) == "keyring":
        return f"the keyring (service {SERVICE}, user {profile.account})"
    return f"the variable {profile.key}"


def key_remedy(profile: Profile) -> str:
    """What to type so that the profile has a key."""
    if key_conflict(profile):
        address = os.environ["OPENAI_BASE_URL"].strip()
        return (
            f"To train there: tuneport profiles add lab {address} --key {profile.key}, and write lab:MODEL. To train "
            f"at OpenAI: unset OPENAI_BASE_URL, and set {profile.key} to an OpenAI key."
        )
    return (
        f"Set it in this shell: export {profile.key}=…, or keep the key in the system's keyring: "
        f"tuneport profiles key {profile.name}"
    )


def keep(profile: Profile, value: str) -> None:
    """Put the key into the system's keyring.

    Raises UsageError for what cannot be a key, and ConfigError where there is no keyring, or one that does not encrypt.
    """
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise UsageError("This is not a key: it is empty, or has spaces or characters that a header cannot have.")
    ring = _open_keyring()
    with _translate_errors(profile, "keep", value):
        first = next(iter(getattr(ring, "backends", ())), ring)  # a chain writes to the first of its keyrings
        if "Plaintext" in type(first).__name__:
            raise ConfigError(
                f"The keyring here ({first.name}) writes keys to an unencrypted file, so nothing was kept.",
                remedy="Choose another (`keyring --list-backends`, then PYTHON_KEYRING_BACKEND), or set the variable "
                f"{profile.key}.",
            )
        ring.set_password(SERVICE, profile.account, value)
        if ring.get_password(SERVICE, profile.account) != value:
            raise ConfigError(
                f"The keyring here ({first.name}) does not keep the key.",
                remedy=f"Choose another with PYTHON_KEYRING_BACKEND, or set the variable {profile.key}.",
            )


def forget(profile: Profile) -> None:
    """Remove the key from the system's keyring, if it is there."""
    ring = _open_keyring()
    with _translate_errors(profile, "forget"):
        if ring.get_password(SERVICE, profile.account) is not None:
            ring.delete_password(SERVICE, profile.account)


def _from_keyring(profile: Profile) -> str:
    ring = _open_keyring()
    with _translate_errors(profile, "read"):
        value = ring.get_password(SERVICE, profile.account)
    if not value:
        raise ConfigError(
            f"The keyring no longer has a key for {profile.account}.",
            remedy=f"Put it there again: tuneport profiles key {profile.name}",
        )
    return str(value)


def _open_keyring() -> Any:
    if importlib.util.find_spec("keyring") is None:
        raise ConfigError("A key in the system's keyring needs the package keyring.", remedy=f"Run: {INSTALL}")
    import keyring

    try:
        return keyring.get_keyring()
    except Exception as error:  # a keyring that was chosen and is missing may raise anything
        raise ConfigError(
            f"The system's keyring cannot be opened: {type(error).__name__}: {error}",
            remedy="Check the output of `keyring --list-backends`, and the variable PYTHON_KEYRING_BACKEND.",
        ) from error


@contextmanager
def _translate_errors(profile: Profile, verb: str, value: str = "") -> Iterator[None]:
    """Turns what a keyring raises into ConfigError; a message that contains the key is not repeated."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - keyrings are third-party plugins, which may raise anything
        has_key = bool(value) and value in str(error)
        why = type(error).__name__ if has_key else f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"The system's keyring could not {verb} the key of {profile.name}: {why}",
            remedy=f"Unlock it and try again, or set the variable {profile.key}.",
        ) from (None if has_key else error)
