"""Checks the proxies that the environment names, before an HTTP client fails on them."""

from __future__ import annotations

import importlib.util
import os
from urllib.request import getproxies

from tuneport.doors import AUTHORS, public
from tuneport.errors import UnavailableError

_SCHEMES = ("http", "https", "socks5", "socks5h")  # what httpx and httpx2 can use


@public(AUTHORS)
def check_proxies() -> None:
    """Raise UnavailableError if a proxy variable names a proxy that httpx (or httpx2) cannot use here. Sends
    nothing.
    """
    found = getproxies()
    if "*" in [host.strip() for host in found.get("no", "").split(",")]:
        return
    for kind in ("https", "http", "all"):
        address = found.get(kind, "")
        scheme, colon, rest = address.partition("://")
        scheme = scheme.lower() if colon else "http"
        name = _variable(kind)
        if address and scheme not in _SCHEMES:
            better = f"socks5://{rest.rpartition('@')[2]}" if scheme.startswith("socks") else "http://HOST:PORT"
            raise UnavailableError(
                f"{name} names an unsupported kind of proxy: {scheme}://.",
                remedy=f"Set {name}={better}, or unset it.",
            )
        if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
            library = "httpx2" if importlib.util.find_spec("httpx2") else "httpx"
            raise UnavailableError(
                f"{name} names a SOCKS proxy, which needs the package socksio.",
                remedy=f"Run: pip install '{library}[socks]', or unset {name}.",
            )


def _variable(kind: str) -> str:
    """The variable's name as it is in the environment. Lowercase has priority, as in Python."""
    name = f"{kind}_proxy"
    return next((one for one in (name, name.upper()) if os.environ.get(one)), f"The system setting {name}")
