"""Where a service is, and the key that goes to that host and to no other."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tuneport.doors import HOSTED, public
from tuneport.errors import ConfigError

KEYRING = "keyring"
"""The value of a key's variable that means: the key is in the system's keyring."""
_SERVICE = "tuneport"


@public(HOSTED)
@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long and how often a service is asked. Times are in seconds.

    `read` bounds each silence of a request, `create` that of the request that starts a job, `transfer` that of an
    upload or a download. `retries` is how often a harmless request is repeated, `pause` the first wait between two,
    which doubles. `ready` is how long a file or a deployment may take to become ready, `certain` how long after it was
    sent a start that no list shows may still appear. `at_once` is how many questions are sent at the same time.
    """

    read: float = 60.0
    create: float = 120.0
    transfer: float = 600.0
    retries: int = 4
    pause: float = 0.5
    poll: float = 5.0
    outage: float = 1800.0
    ready: float = 3600.0
    certain: float = 900.0
    at_once: int = 8


@public(HOSTED)
@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A named address and the names of the variables around it; it holds no key.

    `name` is the backend's, `title` the service's name in messages. `key` names the environment variable that holds the
    key, `address` the variable that overrides `url`, such as for a proxy of yours. `help` says where to get a key.
    `header` is the name of the header that carries the key, `scheme` what precedes the key in it.
    """

    name: str
    title: str
    url: str
    key: str
    address: str = ""
    help: str = ""
    header: str = "Authorization"
    scheme: str = "Bearer "
    limits: Limits = field(default_factory=Limits)

    @property
    def base_url(self) -> str:
        """The address now, without its last slash. Raises ConfigError for one to which a key must not be sent."""
        asked = os.environ.get(self.address, "").strip() if self.address else ""
        return check_address(asked or self.url, self.address or self.name)

    @property
    def host(self) -> str:
        """The host and port that the key is bound to. Raises ConfigError, as `base_url` does."""
        return urlsplit(self.base_url).netloc

    @property
    def is_loopback(self) -> bool:
        """Whether the service is on this machine."""
        return is_loopback(urlsplit(self.base_url).hostname or "")

    def missing(self) -> str:
        """What keeps the service from being asked here, in a clause; empty where nothing does. Asks no keyring, which
        might ask for a password.
        """
        try:
            _ = self.base_url
        except ConfigError as error:
            return error.message.rstrip(".")
        if not os.environ.get(self.key):
            return f"the variable {self.key} is not set"
        if os.environ[self.key] == KEYRING and importlib.util.find_spec("keyring") is None:
            return "the key is in the keyring, and the package keyring is not installed"
        return ""

    def how_to_set(self) -> str:
        """What to type so that the service has a key."""
        user = f"{self.name}@{urlsplit(self.url).netloc}"
        return (
            f"{self.help + ' ' if self.help else ''}Run: export {self.key}=…. To keep the key in the system's keyring: "
            f"keyring set {_SERVICE} {user}, then export {self.key}={KEYRING}"
        )

    def read_key(self) -> str:
        """The key now, for the host at `base_url`. Raises ConfigError where there is none."""
        value = os.environ.get(self.key, "")
        if not value:
            raise ConfigError(f"The environment variable {self.key} is not set.", remedy=self.how_to_set())
        if value == KEYRING:
            value = self._from_keyring()
        if not value.isascii() or not value.isprintable() or " " in value:
            raise ConfigError(
                f"The key in {self.key} holds blanks or characters that no header takes.", remedy="Copy the key again."
            )
        return value

    def _from_keyring(self) -> str:
        user = f"{self.name}@{self.host}"  # another host is another user, so that it never gets this key
        try:
            import keyring

            value = keyring.get_password(_SERVICE, user)
        except Exception as error:  # keyrings are third-party plugins and raise anything
            raise ConfigError(
                f"The system's keyring could not be read: {type(error).__name__}.",
                remedy=f"Unlock it and try again, or put the key itself into {self.key}.",
            ) from error
        if not value:
            raise ConfigError(
                f"The keyring has no key for {user}.", remedy=f"Run: keyring set {_SERVICE} {user}, and try again."
            )
        return str(value)


def check_address(text: str, where: str) -> str:
    """An address that a key may be sent to, without its last slash. Raises ConfigError; `where` names its source."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"The address in {where} cannot be read: {error}.", remedy="Write https://HOST") from error
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(f"{where} is not the address of a service.", remedy="Write https://HOST")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigError(
            f"The address in {where} would send the key to {host} unencrypted.",
            remedy="Write https://, or use a tunnel that ends at 127.0.0.1.",
        )
    return text.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
