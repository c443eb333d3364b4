"""What a service's refusal means, and what its headers ask for."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from tuneport.hosted.refusals import (
    Refused,
    RefusedAccount,
    RefusedAddress,
    RefusedForNow,
    RefusedName,
    RefusedRequest,
)
from tuneport.printable import one_line

if TYPE_CHECKING:
    from tuneport.hosted.endpoint import Endpoint

_MOST_SHOWN = 500


def error_in(body: Any) -> tuple[str, str] | None:
    """(code, message) of the usual forms: `{"error": {"message", "code"}}`, `{"error": "…"}`, `{"code", "message"}`."""
    if not isinstance(body, dict):
        return None
    inner = body.get("error", body)
    if isinstance(inner, str):
        return "", inner
    if isinstance(inner, dict) and isinstance(inner.get("message"), str):
        return str(inner.get("code") or inner.get("type") or ""), inner["message"]
    return None


def explain_refusal(endpoint: Endpoint, status: int, code: str, message: str, headers: Mapping[str, str]) -> Refused:
    """The error for a refusal, by its HTTP status."""
    title = endpoint.title
    said = one_line(message)[:_MOST_SHOWN].rstrip(".") or "it gives no reason"
    wait = retry_after(headers)
    error: Refused
    if status < 400:
        error = RefusedAddress(
            f"{title} sends the request to another address ({status}).", remedy="A key is never sent after a redirect."
        )
    elif status == 401:
        error = RefusedAccount(
            f"{title} does not accept the key in {endpoint.key}: {said}.", remedy=endpoint.how_to_set()
        )
    elif status in (402, 403):
        error = RefusedAccount(
            f"{title} refuses this account ({status}): {said}.",
            remedy="Check what the account may do, and whether its bill is paid.",
        )
    elif status in (404, 410):
        error = RefusedName(f"{title} did not find it ({status}): {said}.", remedy="Check the name.")
    elif status == 429:
        pause = f"in {wait:,.0f} s" if wait else "in a while"
        error = RefusedForNow(
            f"{title} is busy (429): {said}.", remedy=f"Try again {pause}.", passing=True, retry_after=wait
        )
    else:
        error = RefusedRequest(f"{title} refused the request ({status}): {said}.", remedy="Fix what the message names.")
    error.status, error.code, error.headers = status, code, {name.lower(): one for name, one in headers.items()}
    return error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """In how many seconds the service wants to be asked again, from a number or a date; None where it does not say."""
    text = headers.get("retry-after") or ""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, IndexError, OverflowError, OSError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
