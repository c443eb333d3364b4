"""HTML in which every text is escaped unless it was made here, and curves as SVG without a style of their own."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence

_WIDTH, _HEIGHT = 1000, 240
_MOST_POINTS = 400
_STEERING = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # would turn the text around them about

Point = tuple[float, float]


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Html:
    """A text as it reads; HTML as it is."""
    if isinstance(value, Html):
        return value
    return _escaped(value)


def steady(value: object) -> str:
    """A text without the characters that would turn the text around it about."""
    return _STEERING.sub("\ufffd", str(value))


def _escaped(value: object) -> Html:
    return Html(html.escape(steady(value)))


def tag(name: str, /, *inside: object, **attributes: object) -> Html:
    """An element. `class_` and the like lose their underscore, `data_x` becomes `data-x`; True is a bare attribute,
    None and False are left out.
    """
    said = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_escaped(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in ("input", "link", "meta"):
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{join(inside)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Parts one after another."""
    return Html("".join(text(part) for part in parts))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """A table; where there is no room for its columns, each row becomes a list of its cells, under their names."""
    titles = tag("tr", *(tag("th", one, scope="col") for one in head))
    lines = [
        tag("tr", *(tag("td", cell, data_name=name or None) for name, cell in zip(head, row, strict=True)))
        for row in rows
    ]
    return tag("table", tag("thead", titles), tag("tbody", *lines))


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs))


def curves(lines: Sequence[tuple[str, str, Sequence[Point]]]) -> Html:
    """Lines (name, class, points by x) over a common scale; nothing where there is no point.

    Only lines are drawn as SVG, stretched to whatever room there is; what is to be read stands beside them as text.
    """
    points = [point for _, _, line in lines for point in line]
    if not points:
        return Html("")
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    levels, written = _levels(min(y for _, y in points), max(y for _, y in points))
    wide, tall = (right - left) or 1.0, levels[0] - levels[-1]

    def place(point: Point) -> str:
        return f"{(point[0] - left) / wide * _WIDTH:.1f},{(levels[0] - point[1]) / tall * _HEIGHT:.1f}"

    drawn = [
        tag("line", x1=0, x2=_WIDTH, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid")
        for y in (number * _HEIGHT / (len(levels) - 1) for number in range(len(levels)))
    ]
    for _, kind, line in lines:
        if len(line) == 1:  # a line of no length with round ends is a dot, however the picture is stretched
            drawn.append(tag("path", d=f"M{place(line[0])}h0", class_=f"dot {kind}"))
        elif line:
            drawn.append(tag("polyline", points=" ".join(map(place, _thinned(line))), class_=f"line {kind}"))
    told = ", ".join(f"{name} {line[-1][1]:.3g} at step {line[-1][0]:g}" for name, _, line in lines if line)
    picture = tag(
        "svg", *drawn, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", preserveAspectRatio="none", role="img", aria_label=told
    )
    keys = [
        tag("span", name, tag("b", f"{line[-1][1]:.4g}"), class_=f"key {kind}") for name, kind, line in lines if line
    ]
    return tag(
        "figure",
        tag("figcaption", *keys),
        tag("div", *(tag("span", one) for one in written), class_="levels", aria_hidden="true"),
        picture,
        tag("div", *(tag("span", one) for one in _steps(left, right)), class_="steps", aria_hidden="true"),
    )


def _levels(low: float, high: float) -> tuple[list[float], list[str]]:
    """Some four to six round numbers around a range, the highest first, and how they are written."""
    rough = (high - low) / 4 or abs(high) / 4 or 0.25
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * one for one in (1, 2, 2.5, 5, 10) if size * one >= rough * 0.999)
    bottom = math.floor(low / step)
    top = max(math.ceil(high / step), bottom + 1)
    levels = [number * step for number in range(top, bottom - 1, -1)]
    decimals = max(0, 1 - math.floor(math.log10(step)))
    return levels, [f"{one:.{decimals}f}" for one in levels]


def _steps(left: float, right: float) -> list[str]:
    middle = (left + right) / 2
    between = [f"{middle:g}"] if middle.is_integer() and left < middle else []
    return [f"step {left:g}", *between, *([f"{right:g}"] if right > left else [])]


def _thinned(line: Sequence[Point]) -> Sequence[Point]:
    """At most so many points; each bucket keeps its lowest and highest."""
    if len(line) <= _MOST_POINTS:
        return line
    size = -(-len(line) // (_MOST_POINTS // 2))
    kept: list[Point] = []
    for start in range(0, len(line), size):
        bucket = line[start : start + size]
        kept += sorted({min(bucket, key=lambda one: one[1]), max(bucket, key=lambda one: one[1])})
    return kept
