"""Addresses that a key may be sent to."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from tuneport.errors import UsageError


def check_url(text: str) -> str:
    """The address without its last slash. Raises UsageError for one that a key must not be sent to."""
    try:
        parts = urlsplit(text.strip())
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"The address is not valid: {error}.", remedy="Write for example https://HOST/v1") from error
    if parts.username or parts.password or "@" in parts.netloc:
        raise UsageError("The address contains a name or a password.", remedy="Leave it out: --key names a variable.")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise UsageError(f"{text!r} is not the address of a server.", remedy="Write for example https://HOST/v1")
    if parts.scheme == "http" and not is_loopback(host):
        raise UsageError(
            f"The key would be sent to {host} unencrypted over http.",
            remedy="Use https://, or a tunnel that ends on 127.0.0.1.",
        )
    return text.strip().rstrip("/")


def azure_url(url: str) -> str:
    """Azure's portal shows the resource's address; the wire is served below /openai/v1."""
    path = urlsplit(url).path.rstrip("/")
    return url if path.endswith("/v1") else f"{url.removesuffix('/openai')}/openai/v1"


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
