"""Numbers, sizes and times as short, readable text."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from tuneport.doors import AUTHORS, public

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def count(value: float) -> str:
    """An integer with thousands separators.

    >>> count(1234567)
    '1,234,567'
    """
    return f"{value:,.0f}"


@public(AUTHORS)
def many(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def short(value: float) -> str:
    """A number in about four characters.

    >>> [short(one) for one in (0, 0.00021, 0.5, 12.345, 1500, 2_000_000)]
    ['0', '2.1×10⁻⁴', '0.5', '12.3', '1.5k', '2M']
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) < 0.001:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}×10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"


def loss(value: float) -> str:
    """A loss with three or four digits, enough to compare."""
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.2g}"


@public(AUTHORS)
def duration(seconds: float) -> str:
    """A span of time in its two largest units.

    >>> [duration(one) for one in (0, 0.42, 3.2, 59.6, 102, 7260, 200000)]
    ['0 s', '0.4 s', '3 s', '1 min 0 s', '1 min 42 s', '2 h 1 min', '2 d 7 h']
    """
    whole = round(seconds)
    if 0 < seconds < 1:
        return f"{max(seconds, 0.1):.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


@public(AUTHORS)
def size(count: float) -> str:
    """A number of bytes in units of 1000.

    >>> [size(one) for one in (74, 812_480, 98_000_000, 2.6e9, 4e15)]
    ['74 bytes', '812.5 kB', '98.0 MB', '2.6 GB', '4000.0 TB']
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def money(usd: float) -> str:
    """US dollars and cents. Less than a cent is `< $0.01`."""
    return "< $0.01" if 0 < usd < 0.01 else f"${usd:,.2f}"


def moment(when: datetime) -> str:
    """A point in time, to the minute, in UTC.

    >>> moment(datetime(2026, 3, 4, 5, 6, tzinfo=UTC))
    '4 March 2026, 05:06 UTC'
    """
    when = when.astimezone(UTC)
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def parsed_time(value: Any) -> datetime | None:
    """A datetime from a datetime or an ISO text; None for anything else."""
    if isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value) if isinstance(value, str) and value else None


def finite(value: Any) -> float | None:
    """The value as a float if it is a finite number, otherwise None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def amount(value: object) -> str:
    """The value of a setting as text.

    >>> amount(0.000498), amount(16384), amount(True)
    ('0.000498', '16,384', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
