"""Clients of the openai package that talk to one host only, and its exceptions as tuneport's errors."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from tuneport.errors import (
    BackendError,
    JobNotFound,
    ModelNotFound,
    NotFoundError,
    TuneportError,
    UnavailableError,
    UsageError,
)
from tuneport.plugin import Redactor, check_proxies, guard
from tuneport_openai.wire import keys
from tuneport_openai.wire.profiles import Profile, require_address
from tuneport_openai.wire.refusals import code_of, line_of, message_of, param_of
from tuneport_openai.wire.words import retry_after

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

INSTALL = "pip install 'tuneport[openai]'"
INTENT = "tuneport_intent"  # the key in the metadata that marks our own jobs
_GLANCE_SECONDS = 10.0  # for requests that only improve a message
_MOST_NAMED = 12
_NEVER_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")  # of httpx and httpx2: no byte has left this machine
_FILE = re.compile(r"/files/[^/]+/content\Z")
_ODD = ValueError | TypeError | AttributeError | LookupError | OSError | ArithmeticError | RecursionError
"""What the package, and our code that reads its answers, raise for an answer of another shape."""


class Wire:
    """One profile's endpoint, with a client that sends once and a client that may repeat a request.

    Neither follows redirects nor sends anything to another host. `largest_file` is the limit in bytes for a file that
    is downloaded. Raises UnavailableError where the package is missing, ConfigError where the key or the address is.
    """

    def __init__(self, profile: Profile, *, largest_file: int | None = None) -> None:
        self.profile = profile
        self.limits = profile.limits
        self._largest_file = largest_file
        self._key = keys.Key(profile)
        self.redact = Redactor(self._key.secrets)

    @cached_property
    def once(self) -> OpenAI:
        """For what must not be sent twice: no retries at all."""
        return self._client(retries=0, seconds=self.limits.create_seconds)

    @cached_property
    def patient(self) -> OpenAI:
        """For reading: repeats a request after a lost connection, a 429 or a 5xx, as Retry-After says."""
        return self._client(retries=int(self.limits.retries), seconds=self.limits.read_seconds)

    def _client(self, *, retries: int, seconds: float) -> OpenAI:
        require_address(self.profile)
        http = http_client(
            self.profile.name,
            self.redact,
            seconds=seconds,
            direct=self.profile.is_loopback,
            check=self._check,
            largest_file=self._largest_file,
        )
        import openai

        client = openai.OpenAI(
            api_key=self._key.reveal(),
            base_url=self.profile.base_url,
            max_retries=retries,
            timeout=seconds,
            http_client=http,
        )
        if self.profile.vendor != "openai":
            # The package takes these from the environment, where they are meant for OpenAI.
            client.organization = client.project = None
        return client

    def _check(self, request: Any) -> None:
        """Stop a request for another host, and remove headers for OpenAI from a request for another vendor."""
        asked, own = urlsplit(str(request.url)), urlsplit(self.profile.base_url)
        if (asked.scheme, asked.netloc) != (own.scheme, own.netloc):
            raise UnavailableError(f"{self.profile.name}: a request for another host ({asked.netloc}) was stopped.")
        if self.profile.vendor != "openai":
            named = [line.partition(":")[0] for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()]
            for header in ("OpenAI-Organization", "OpenAI-Project", *filter(None, map(str.strip, named))):
                request.headers.pop(header, None)
        # The variable's current value, whatever else the environment set.
        request.headers["Authorization"] = f"Bearer {self._key.reveal()}"

    @contextmanager
    def translate_errors(self, doing: str, missing: type[NotFoundError] = NotFoundError) -> Iterator[None]:
        """Turn exceptions inside into tuneport's errors; `missing` is the error for a 404."""
        try:
            yield
        except TuneportError:
            raise
        except Exception as error:  # noqa: BLE001 - the package also lets errors of httpx and of JSON through
            self.explain(error, doing, missing)

    def explain(self, error: Exception, doing: str, missing: type[NotFoundError] = NotFoundError) -> NoReturn:
        """Raise tuneport's error for a foreign one; tuneport's own errors and plain bugs pass unchanged."""
        import openai

        name = self.profile.name
        if isinstance(error, UnicodeEncodeError):
            raise UsageError(
                f"The text for {name} contains a lone surrogate, {error.object[error.start : error.end]!a}. "
                "It cannot be sent.",
                remedy="Remove it from the text or the name.",
            ) from error
        if isinstance(error, openai.APIStatusError):
            raise self._of_status(error, doing, missing) from self._cause(error)
        if isinstance(error, openai.APITimeoutError):
            raise UnavailableError(
                f"{name} did not answer in time while {doing}.", remedy="Try again in a while.", passing=True
            ) from self._cause(error)
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__
            if isinstance(cause, TuneportError):
                raise cause
            why = f"{type(cause).__name__}: {cause}" if cause else str(error)
            raise UnavailableError(
                f"{name} could not be reached at {self.profile.base_url} while {doing}: {self._to_line(why)}.",
                remedy="Check the network and the address (`tuneport profiles list`), then try again.",
                passing=True,
            ) from self._cause(error)
        if type(error) is openai.APIError:  # an error in the middle of a stream
            raise BackendError(
                f"{name} closed the connection while {doing}: {self._to_line(error.message)}",
                remedy="Try again.",
                passing=True,
            ) from self._cause(error)
        if isinstance(error, _ODD | openai.OpenAIError) or is_http(error):
            raise BackendError(
                f"{name} returned a response that is not in the OpenAI API format while {doing}: "
                f"{type(error).__name__}: {self._to_line(error)[:200]}",
                remedy="Try again. If it happens again, there is no OpenAI-compatible API at that address.",
                passing=True,
            ) from self._cause(error)
        raise error

    def _of_status(self, error: APIStatusError, doing: str, missing: type[NotFoundError]) -> TuneportError:
        from tuneport_openai.wire.closing import refusal_remedy

        name, status = self.profile.name, error.status_code
        said = self.redact(message_of(error))
        if status == 401:
            return UnavailableError(
                f"{name} does not accept the key in {keys.place(self.profile)} (401): {said}",
                remedy=f"Put a valid key there. It is sent to {self.profile.base_url} only.",
            )
        if status == 403:
            return UnavailableError(
                f"{name} refuses this account while {doing} (403): {said}", remedy=refusal_remedy(self.profile)
            )
        if status == 402 or (status == 429 and code_of(error) == "insufficient_quota"):
            return UnavailableError(
                f"{name} requires payment while {doing} ({status}): {said}",
                remedy="The account has no credit left: see its billing page.",
            )
        if status in (404, 410):
            is_model = missing is ModelNotFound or param_of(error) == "model"
            cure = self._which_models() if is_model else _remedy_404(missing)
            return missing(f"{name} did not find it while {doing} ({status}): {said}", remedy=cure)
        if status == 429:
            wait = retry_after(error.response.headers)
            return UnavailableError(
                f"{name} is limiting requests while {doing} (429): {said}",
                remedy=f"Try again {f'in {wait:,.0f} s' if wait else 'in a while'}.",
                passing=True,
                retry_after=wait,
            )
        if 400 <= status < 500 and status not in (408, 425):
            cure = self._which_models() if param_of(error) == "model" else _remedy_400(error)
            return UsageError(f"{name} refused the request while {doing} ({status}): {said}", remedy=cure)
        if status < 400:
            where = line_of(error.response.headers.get("location", "")) or "nowhere"
            return BackendError(
                f"{name} redirected the request while {doing} ({status}): {where}.",
                remedy="A key is not sent after a redirect. Add the profile with the final address.",
            )
        return UnavailableError(
            f"{name} failed while {doing} ({status}): {said}",
            remedy="Try again in a while.",
            passing=True,
            retry_after=retry_after(error.response.headers),
        )

    def _which_models(self) -> str:
        """What to do about a model that the server does not have. Servers of your own are asked for their models."""
        if self.profile.vendor == "azure":
            return "Check the model's name. A tuned model answers under its deployment's name, once it is deployed."
        if self.profile.vendor == "openai":
            return "Check the model's name."
        try:
            found = [line_of(one.id) for one in self._client(retries=0, seconds=_GLANCE_SECONDS).models.list().data]
        except Exception:  # noqa: BLE001 - only a hint: the first error is the one to report
            found = []
        if not found:
            return "Check the model's name."
        named = ", ".join(found[:_MOST_NAMED]) + (", …" if len(found) > _MOST_NAMED else "")
        return f"Check the model's name. {self.profile.name} has: {named}"

    def _to_line(self, text: object) -> str:
        """An exception's text as one line; the HTTP library quotes what it could not read."""
        return self.redact(line_of(text))

    def _cause(self, error: Exception) -> Exception | None:
        """The foreign exception, for the traceback, unless its message contains the key."""
        inner: BaseException | None = error
        while inner is not None:
            if self.redact.is_in(str(inner)):
                return None
            inner = inner.__cause__ or inner.__context__
        return error


def http_client(
    name: str,
    redact: Redactor,
    *,
    seconds: float,
    direct: bool,
    check: Callable[[Any], None] | None = None,
    largest_file: int | None = None,
) -> Any:
    """A client of the HTTP library that the openai package uses: httpx, or httpx2 from its version 3 on.

    It follows no redirects, and what it receives is bounded and cleaned. `name` is the server's, for messages.
    `direct`: without a proxy, as for this machine itself. `check` sees each request before it is sent. Raises
    UnavailableError where the package is missing or a proxy of the environment cannot be used.
    """
    if importlib.util.find_spec("openai") is None:
        raise UnavailableError("This needs the package openai.", remedy=f"Run: {INSTALL}")
    if not direct:
        check_proxies()
    import openai

    client = openai.DefaultHttpxClient(
        follow_redirects=False,
        trust_env=not direct,
        event_hooks={"request": [check] if check else []},
        timeout=seconds,
    )
    guard(client, name, redact, is_file=lambda request: bool(_FILE.search(request.url.path)), largest_file=largest_file)
    return client


def was_never_sent(error: BaseException) -> bool:
    """Whether the connection was never made, so that the server knows nothing of the request."""
    if isinstance(error, UnicodeEncodeError):
        return True  # it could not become a request
    inner: BaseException | None = error
    while inner is not None:
        if type(inner).__name__ in _NEVER_SENT and is_http(inner):
            return True
        inner = inner.__cause__
    return False


def is_http(error: BaseException) -> bool:
    """Whether an exception is of the HTTP library, under any name that the openai package uses for it."""
    return type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2")


def _remedy_404(missing: type[NotFoundError]) -> str:
    return "Run: tuneport jobs" if missing is JobNotFound else "Check the name."


def _remedy_400(error: APIStatusError) -> str:
    param = param_of(error)
    return f"It is about {param!r}." if param else "Change what the message names, then try again."
