"""The HTTP library, at arm's length: a bounded client, and its exceptions as ours."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tuneport.errors import BackendError, TuneportError, UnavailableError
from tuneport.hosted.endpoint import Endpoint
from tuneport.hosted.refusals import InDoubt, Unsent
from tuneport.printable import one_line
from tuneport.services import Redactor, check_proxies, guard

PACKAGE = "httpx2"
_NEVER_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")  # no byte has left this machine


def make_client(endpoint: Endpoint, redact: Redactor, *, is_file: bool, largest: int | None = None) -> Any:
    """A client that follows no redirect, whose answers are bounded and without the key. `is_file`: answers are files,
    of at most `largest` bytes, and are passed on as they are.

    Raises UnavailableError where the package is missing or a proxy of the environment cannot be used.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise UnavailableError(f"This needs the package {PACKAGE}.", remedy=f"Run: pip install {PACKAGE}")
    import httpx2

    is_direct = endpoint.is_loopback
    if not is_direct:
        check_proxies()
    client = httpx2.Client(follow_redirects=False, trust_env=not is_direct)
    client.headers["User-Agent"] = "tuneport"
    guard(client, endpoint.title, redact, is_file=lambda _: is_file, largest_file=largest)
    return client


@contextmanager
def clear_failures(where: str, redact: Redactor) -> Iterator[None]:
    """Turn what the HTTP library raises into Unsent or InDoubt; `where` is what was asked."""
    try:
        yield
    except InDoubt:
        raise
    except BackendError as error:  # an answer over the limits: it came, and says nothing
        raise InDoubt(error.message, remedy=error.remedy, passing=True) from error
    except TuneportError:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in (PACKAGE, "httpcore2"):
            raise
        why = one_line(redact(f"{type(error).__name__}: {error}"))[:200]
        cause = None if redact.is_in(str(error)) else error
        if type(error).__name__ in _NEVER_SENT:
            raise Unsent(
                f"{where} could not be reached ({why}).", remedy="Check the network and try again.", passing=True
            ) from cause
        raise InDoubt(f"The answer of {where} was lost ({why}).", remedy="Try again.", passing=True) from cause
