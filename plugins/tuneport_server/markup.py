"""HTML in which every text is escaped unless it was made here, and curves as SVG without a style of their own."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 900, 260, 52, 24, 10
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
    return Html(html.escape(_STEERING.sub("\ufffd", str(value))))


def tag(name: str, /, *inside: object, **attributes: object) -> Html:
    """An element. `class_` and the like lose their underscore, `data_x` becomes `data-x`; True is a bare attribute,
    None and False are left out.
    """
    said = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
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
    """A table that scrolls sideways where there is no room for it."""
    titles = tag("tr", *(tag("th", one, scope="col") for one in head))
    lines = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("div", tag("table", tag("thead", titles), tag("tbody", *lines)), class_="scroll")


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values."""
    return tag("dl", *(join((tag("dt", name), tag("dd", value))) for name, value in pairs))


def curves(lines: Sequence[tuple[str, str, Sequence[Point]]]) -> Html:
    """Lines (name, class, points by x) over a common scale; nothing where there is no point."""
    points = [point for _, _, line in lines for point in line]
    if not points:
        return Html("")
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    wide, tall = (right - left) or 1.0, (high - low) or 1.0

    def place(point: Point) -> str:
        x = _LEFT + (point[0] - left) / wide * (_WIDTH - _LEFT - 8)
        y = _TOP + (high - point[1]) / tall * (_HEIGHT - _TOP - _BOTTOM)
        return f"{x:.1f},{y:.1f}"

    def level(share: float) -> Html:
        value = high - share * tall
        y = _TOP + share * (_HEIGHT - _TOP - _BOTTOM)
        rule = tag("line", x1=_LEFT, x2=_WIDTH - 8, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid")
        return join((rule, tag("text", f"{value:.3g}", x=_LEFT - 8, y=f"{y + 4:.1f}", text_anchor="end")))

    drawn = [level(share) for share in (0.0, 0.5, 1.0)]
    for _, kind, line in lines:
        shown = _thinned(line)
        if len(shown) == 1:
            x, y = place(shown[0]).split(",")
            drawn.append(tag("circle", cx=x, cy=y, r=3, class_=f"dot {kind}"))
        elif shown:
            drawn.append(tag("polyline", points=" ".join(place(point) for point in shown), class_=f"line {kind}"))
    ends = (
        tag("text", f"step {left:g}", x=_LEFT, y=_HEIGHT - 6),
        tag("text", f"{right:g}", x=_WIDTH - 8, y=_HEIGHT - 6, text_anchor="end"),
    )
    named = ", ".join(f"{name} {line[-1][1]:.3g} at step {line[-1][0]:g}" for name, _, line in lines if line)
    picture = tag("svg", *drawn, *ends, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=named)
    keys = [tag("span", f"— {name}  ", class_=f"key {kind}") for name, kind, line in lines if line]
    return tag("figure", tag("figcaption", *keys), picture, class_="scroll")


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
