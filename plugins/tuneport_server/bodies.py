"""Read request bodies as they stream, with limits on their size and on the time that they take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from tuneport_server.limits import ResourceLimits
from tuneport_server.network.patience import patience
from tuneport_server.wire import WireError, bad, decode

_FIELD_BYTES = 64 * 1024
# A body without a type, or with curl's default type, is JSON too: the vendor's own recipes send it like that. No page
# can make a browser send either here with a token.
_JSON_KINDS = ("application/json", "application/x-www-form-urlencoded", "")
_DRAIN_BYTES = 64 * 2**20  # read and thrown away, so that the sender sees the refusal


async def read_json(request: Request, limits: ResourceLimits, *, empty: bool = False) -> dict[str, Any]:
    """Return the JSON object in a request's body; with `empty`, an empty object if there is no body. Raises
    WireError.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body, message = bytearray(), f"The body is larger than {limits.json_bytes:,} bytes."
    check_announced(request, limits.json_bytes, message)
    async for chunk in chunks(request, limits):
        body += chunk
        if len(body) > limits.json_bytes:
            raise await too_large(request, limits, message)
    if not body and empty:
        return {}
    if kind not in _JSON_KINDS:
        raise bad("Send the body as application/json.", code="invalid_content_type")
    return decode(bytes(body))


async def read_fields(request: Request, limits: ResourceLimits) -> dict[str, str]:
    """Return the fields of a form of our own page. Raises WireError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await read_form_body(request, limits)
    if kind != "application/x-www-form-urlencoded":
        raise bad("Send the form as application/x-www-form-urlencoded.", code="invalid_content_type")
    return form_fields(body)


def form_fields(body: bytes) -> dict[str, str]:
    """Return the fields of a form of our own page, from its bytes. Raises WireError."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=32))
    except ValueError as error:
        raise bad("The form cannot be read.", code="invalid_form") from error


async def read_form_body(request: Request, limits: ResourceLimits) -> bytes:
    """Return the bytes of a form of our own page, which is small and arrives at once. Raises WireError."""
    body = bytearray()
    async for chunk in chunks(request, limits, limits.head_seconds):
        body += chunk
        if len(body) > _FIELD_BYTES:  # not read further: anyone may send this
            message = f"The form is larger than {_FIELD_BYTES:,} bytes."
            raise WireError(413, message, code="too_large", headers={"connection": "close"})
    return bytes(body)


async def chunks(request: Request, limits: ResourceLimits, seconds: int | None = None) -> AsyncIterator[bytes]:
    """Yield the body as it arrives. All of it must arrive within `seconds` (default: `limits.body_seconds`), and at the
    least rate. Time in which the server itself works does not count.
    """
    stream, clock = aiter(request.stream()), asyncio.get_running_loop().time
    most = seconds or limits.body_seconds
    received, waited = 0, 0.0
    while True:
        left = min(most, patience(received, min(most, limits.silence_seconds), limits.least_rate)) - waited
        began = clock()
        try:
            async with asyncio.timeout(max(0.0, min(left, limits.silence_seconds))):  # unlike wait_for, without a task
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            message = "The body did not arrive, or arrived too slowly."
            raise WireError(408, message, code="request_timeout", headers={"connection": "close"}) from None
        except ClientDisconnect:
            raise WireError(400, "The client closed the connection.") from None
        waited += clock() - began
        received += len(chunk)
        yield chunk


def check_announced(request: Request, most: int, message: str) -> None:
    """Refuse a body that is too large before it is sent, if its sender waits for permission (`Expect`). Other senders
    read a response only after they have sent it.
    """
    length = request.headers.get("content-length", "")
    if "expect" in request.headers and length.isdecimal() and int(length) > most:
        raise WireError(413, message, code="too_large", headers={"connection": "close"})


async def too_large(request: Request, limits: ResourceLimits, message: str) -> WireError:
    """Return the error for a body that is too large, after reading some of the rest so that the sender sees it."""
    thrown = 0
    try:
        async with asyncio.timeout(limits.silence_seconds):
            async for chunk in chunks(request, limits):
                thrown += len(chunk)
                if thrown > _DRAIN_BYTES:
                    break
    except (TimeoutError, WireError, RuntimeError):
        pass  # the sender is gone, or will see no more than a closed connection
    return WireError(413, message, code="too_large", headers={"connection": "close"})
