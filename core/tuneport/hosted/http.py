"""Requests to one service: sent once or repeated, with a key that no other host receives."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlsplit

from tuneport.doors import HOSTED, public
from tuneport.errors import BackendError, ConfigError, TuneportError, UsageError
from tuneport.hosted.answers import error_in, explain_refusal, retry_after
from tuneport.hosted.client import clear_failures, make_client
from tuneport.hosted.endpoint import KEYRING, Endpoint, Limits, is_loopback
from tuneport.hosted.refusals import InDoubt, RefusedName
from tuneport.printable import one_line
from tuneport.services import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

_SAFE = "/:@-._~!$&'()*+,;="
_LONGEST_PAUSE = 60.0
_NEARER = 50  # how much more often a service on this machine is asked

ErrorReader = Callable[[Any], tuple[str, str] | None]
"""Reads (code, message) from the JSON of a service's error, or None where it is not the service's own form."""


@public(HOSTED)
class Http:
    """The client of one endpoint. Safe to use from several threads.

    The key is read when a request leaves, goes to the endpoint's host alone and follows no redirect; it is removed from
    everything that comes back. `read_error` knows the service's own form of an error: only an error of that form proves
    that the service refused.
    """

    def __init__(self, endpoint: Endpoint, read_error: ErrorReader = error_in) -> None:
        self.endpoint = endpoint
        self.redact = Redactor(self._secrets)
        self._read_error = read_error
        self._sent: set[str] = set()
        self._clients: dict[tuple[str, bool], Any] = {}
        self._lock = threading.Lock()

    @property
    def limits(self) -> Limits:
        """The endpoint's limits. Services on this machine are polled more often."""
        limits = self.endpoint.limits
        if not self.endpoint.is_loopback:
            return limits
        return replace(limits, poll=limits.poll / _NEARER, pause=limits.pause / _NEARER)

    def once(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        file: tuple[str, str, Path] | None = None,
        seconds: float | None = None,
    ) -> Any:
        """Send a request once and return the JSON of its answer, None for an empty one.

        `path` begins with `/`. `body` is sent as JSON, `form` and `file`, (field, file name, path), as a form. Raises
        Refused, Unsent or InDoubt, which are also tuneport's usual errors, and ConfigError for a missing key.
        """
        endpoint = self.endpoint
        url = endpoint.base_url + _checked_path(path)
        headers = self._key_header()
        options: dict[str, Any] = {"headers": headers, "params": dict(query or {})}
        if body is not None:
            options["content"] = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if form is not None:
            options["data"] = dict(form)
        if seconds is None:
            seconds = self.limits.transfer if file else self.limits.read
        client = self._client(urlsplit(url).netloc, is_file=False)
        with clear_failures(endpoint.title, self.redact):
            if file is None:
                answer = client.request(method, url, timeout=seconds, **options)
            else:
                field, name, source = file
                with source.open("rb") as content:
                    parts = {field: (name, content, "application/octet-stream")}
                    answer = client.request(method, url, timeout=seconds, files=parts, **options)
        return self._value(answer)

    def stream(self, path: str, body: Any) -> Iterator[Any]:
        """Post a body once, and yield the JSON of each server-sent event of the answer, until the service ends it with
        `[DONE]`. Raises what `once` raises; InDoubt for an answer that breaks off.
        """
        url = self.endpoint.base_url + _checked_path(path)
        headers = {**self._key_header(), "Content-Type": "application/json"}
        client = self._client(urlsplit(url).netloc, is_file=False)
        content = json.dumps(body).encode()
        with (
            clear_failures(self.endpoint.title, self.redact),
            client.stream("POST", url, content=content, headers=headers, timeout=self.limits.read) as answer,
        ):
            if not answer.is_success:
                answer.read()
                self._value(answer)
            for line in answer.iter_lines():
                data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                if data == "[DONE]":
                    return
                if data:
                    yield _event_value(data, self.endpoint.title)
        raise InDoubt(f"{self.endpoint.title} ended its response too early.", remedy="Ask again.", passing=True)

    def again(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """As `once`, for a request that does no harm when it is carried out twice: repeated after a lost connection, a
        5xx or a 429, as Retry-After says.
        """
        return self.retry(lambda: self.once(method, path, body, **options))

    def find(self, path: str) -> Any | None:
        """The JSON at a path, or None where the service has nothing there (404, 410). Repeated as `again` does."""
        try:
            return self.again("GET", path)
        except RefusedName:
            return None

    def delete(self, path: str, **query: str) -> bool:
        """Delete what is at a path, and return whether it was there. Repeated as `again` does."""
        sent = 0

        def send() -> None:
            nonlocal sent
            sent += 1
            self.once("DELETE", path, query=query)

        try:
            self.retry(send)
        except RefusedName:
            return sent > 1  # an earlier request, whose answer was lost, has deleted it
        return True

    def pages(
        self, path: str, key: str, *, cursor: tuple[str, str] = ("nextPageToken", "pageToken"), **query: Any
    ) -> Iterator[Mapping[str, Any]]:
        """The items under `key` of a list in pages. `cursor` is the field of a page that names the next one, and the
        parameter that asks for it; the default is Google's form.

        Raises BackendError for pages that lead in a circle.
        """
        field, parameter = cursor
        tokens = [""]
        while True:
            page = self.again("GET", path, query={**query, **({parameter: tokens[-1]} if tokens[-1] else {})})
            yield from page.get(key) or ()
            token = str(page.get(field) or "")
            if not token:
                return
            if token in tokens:
                raise BackendError(f"{self.endpoint.title} repeats the pages of a list.", remedy="Try again.")
            tokens.append(token)

    def retry(self, send: Callable[[], Any]) -> Any:
        """Call a request, and call it again after a failure that may pass. Raises the last failure."""
        limits = self.limits
        for attempt in range(limits.retries + 1):
            try:
                return send()
            except TuneportError as error:
                wait = getattr(error, "retry_after", None)
                pause = limits.pause * 2**attempt if wait is None else wait
                if not error.passing or attempt == limits.retries or pause > _LONGEST_PAUSE:
                    raise
                time.sleep(pause)
        raise AssertionError("unreachable")

    def fetch(self, path: str, into: IO[bytes], *, most_bytes: int, query: Mapping[str, Any] | None = None) -> None:
        """Write a file of the service itself to an open file. Sent once: what came before a failure is in the file."""
        url = self.endpoint.base_url + _checked_path(path)
        self._download(self.endpoint.title, url, into, most_bytes, headers=self._key_header(), params=dict(query or {}))

    def fetch_signed(self, address: str, into: IO[bytes], *, most_bytes: int) -> None:
        """Write the file at a signed address, which may be at another host, to an open file. Sends no key."""
        self._download(self._signed_host(address), address, into, most_bytes)

    def put_signed(self, address: str, path: Path, headers: Mapping[str, str] | None = None) -> None:
        """Send a file to a signed address, which may be at another host. Sends no key. May be repeated."""
        host = self._signed_host(address)
        client = self._client("signed", is_file=False)

        def send() -> None:
            with clear_failures(host, self.redact), path.open("rb") as content:
                own = {"Content-Length": str(path.stat().st_size), **(headers or {})}
                answer = client.put(address, content=content, headers=own, timeout=self.limits.transfer)
            if not answer.is_success:
                self._refuse_file(host, answer.status_code)

        self.retry(send)

    def _download(self, where: str, url: str, into: IO[bytes], most_bytes: int, **options: Any) -> None:
        client = self._client(f"{where} {most_bytes}", is_file=True, largest=most_bytes)
        with (
            clear_failures(where, self.redact),
            client.stream("GET", url, timeout=self.limits.transfer, **options) as answer,
        ):
            if answer.is_success:
                for piece in answer.iter_bytes():
                    into.write(piece)
                return
        self._refuse_file(where, answer.status_code)

    def _key_header(self) -> dict[str, str]:
        key = self.endpoint.read_key()
        self._sent.add(key)
        return {self.endpoint.header: f"{self.endpoint.scheme}{key}"}

    def _secrets(self) -> list[str]:
        here = os.environ.get(self.endpoint.key, "")
        return [*self._sent, "" if here == KEYRING else here]

    def _client(self, host: str, *, is_file: bool, largest: int | None = None) -> Any:
        with self._lock:
            found = self._clients.get((host, is_file))
            if found is None:
                found = self._clients[host, is_file] = make_client(
                    self.endpoint, self.redact, is_file=is_file, largest=largest
                )
            return found

    def _value(self, answer: Any) -> Any:
        status, title = answer.status_code, self.endpoint.title
        try:
            body = json.loads(answer.content) if answer.content.strip() else None
        except (ValueError, RecursionError):
            body = answer  # of no JSON
        if answer.is_success:
            if body is not answer:
                return body
            raise self._doubt(f"{title} sent an answer that is not JSON ({status}).", answer)
        said = self._read_error(body) if body is not answer else None
        if 300 <= status < 500 and status not in (408, 425) and (said is not None or status < 400):
            code, message = said or ("", "")
            raise explain_refusal(self.endpoint, status, code, message, answer.headers)
        shown = f": {one_line(said[1])[:300]}" if said and said[1] else ""
        raise self._doubt(f"{title} failed ({status}){shown}.", answer)

    def _doubt(self, message: str, answer: Any) -> InDoubt:
        error = InDoubt(message, remedy="Try again in a while.", passing=True, retry_after=retry_after(answer.headers))
        error.status = answer.status_code
        return error

    def _signed_host(self, address: str) -> str:
        """The host of a signed address; the rest of it is a secret and appears in no message."""
        try:
            parts = urlsplit(address)
            host = parts.hostname or ""
        except (ValueError, TypeError, AttributeError):
            host = ""
        if not host or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
            raise BackendError(f"{self.endpoint.title} gave an address that is not https.", remedy="Try again.")
        return host

    def _refuse_file(self, where: str, status: int) -> NoReturn:
        raise BackendError(
            f"{where}, where {self.endpoint.title} keeps the file, refused it ({status}).",
            remedy="Try again: a signed address expires.",
            passing=status >= 500 or status in (408, 429),
        )


def _event_value(data: str, title: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InDoubt(f"{title} sent an event that is not JSON.", remedy="Ask again.", passing=True) from error


def _checked_path(path: str) -> str:
    """A path that stays where it is: a name that a user typed may be a part of it."""
    if any(part in (".", "..") for part in path.split("/")) or not path.startswith("/"):
        raise UsageError(f"{one_line(path)!r} is not a valid name.", remedy="Check the name.")
    try:
        return quote(path, safe=_SAFE)
    except UnicodeEncodeError as error:
        raise UsageError(f"{path!a} contains a lone surrogate.", remedy="Remove it from the name.") from error


def bound_to(endpoint: Endpoint, started_at: str, ref: str) -> None:
    """Raise ConfigError where a job was started at another address than the endpoint's: no other host may receive its
    questions, and the old one must not receive the new key.
    """
    if started_at != endpoint.base_url:
        cure = f"Run: export {endpoint.address}={started_at}" if endpoint.address else "Restore the old address."
        raise ConfigError(
            f"{ref} was started at {started_at}, and {endpoint.name} is {endpoint.base_url} now.", remedy=cure
        )
