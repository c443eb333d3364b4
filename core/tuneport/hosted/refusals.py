"""How a request to a service can fail: refused, never sent, or in doubt."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tuneport.doors import HOSTED, public
from tuneport.errors import BackendError, NotFoundError, TuneportError, UnavailableError, UsageError


@public(HOSTED)
class Refused(TuneportError):  # noqa: N818 - reads as what happened, like JobFailed
    """The service answered no, in its own form: it did nothing. `status` is HTTP's, `code` the service's own word,
    `headers` are the answer's, by lowercase name.

    Every refusal is also one of tuneport's usual errors: NotFoundError for 404 and 410, UnavailableError for a key that
    is not accepted, a payment that is missing and a service that is busy, UsageError for any other.
    """

    status: int = 0
    code: str = ""
    headers: Mapping[str, str] = MappingProxyType({})


class RefusedRequest(Refused, UsageError):  # noqa: N818 - as above
    """The request itself is wrong (400, 409, 413, 422, …)."""


@public(HOSTED)
class RefusedName(Refused, NotFoundError):  # noqa: N818 - as above
    """The service has nothing of that name (404, 410)."""


class RefusedAccount(Refused, UnavailableError):  # noqa: N818 - as above
    """The service does not accept the key, or wants to be paid first (401, 402, 403)."""


class RefusedForNow(Refused, UnavailableError):  # noqa: N818 - as above
    """The service is busy (429). The same request may succeed later, in `retry_after` seconds where it says so."""


@public(HOSTED)
class RefusedAddress(Refused, BackendError):  # noqa: N818 - as above
    """The service sends the request to another address (3xx), which is in `headers["location"]`. A key follows no
    redirect; where the service hands out a signed address in this way, use it with `put_signed` or `fetch_signed`.
    """


@public(HOSTED)
class Unsent(UnavailableError):  # noqa: N818 - as above
    """There was no connection: nothing left this machine."""


@public(HOSTED)
class InDoubt(UnavailableError):  # noqa: N818 - as above
    """The request was sent and its outcome is not known: a timeout, a lost connection, a 5xx, an answer that is cut off
    or is not the service's own. `status` is HTTP's, 0 where no answer came.
    """

    status: int = 0
