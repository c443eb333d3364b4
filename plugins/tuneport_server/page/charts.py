"""Curves as SVG, styled by page.css."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tuneport.plugin import html

_WIDTH, _HEIGHT = 1000, 240
_MOST_POINTS = 400

Point = tuple[float, float]


def curves(lines: Sequence[tuple[str, str, Sequence[Point]]]) -> html.Html:
    """Draw lines (name, class, points by x) on a common scale. Returns an empty text if there are no points.

    Only lines are SVG, stretched to the available room. Text is HTML next to it.
    """
    points = [point for _, _, line in lines for point in line]
    if not points:
        return html.Html("")
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    levels, written = _levels(min(y for _, y in points), max(y for _, y in points))
    wide, tall = (right - left) or 1.0, levels[0] - levels[-1]

    def place(point: Point) -> str:
        return f"{(point[0] - left) / wide * _WIDTH:.1f},{(levels[0] - point[1]) / tall * _HEIGHT:.1f}"

    drawn = [
        html.tag("line", x1=0, x2=_WIDTH, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid")
        for y in (number * _HEIGHT / (len(levels) - 1) for number in range(len(levels)))
    ]
    for _, kind, line in lines:
        if len(line) == 1:  # a line of no length with round ends is a dot, however the SVG is stretched
            drawn.append(html.tag("path", d=f"M{place(line[0])}h0", class_=f"dot {kind}"))
        elif line:
            drawn.append(html.tag("polyline", points=" ".join(map(place, _thin(line))), class_=f"line {kind}"))
    label = ", ".join(f"{name} {line[-1][1]:.3g} at step {line[-1][0]:g}" for name, _, line in lines if line)
    picture = html.tag(
        "svg", *drawn, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", preserveAspectRatio="none", role="img", aria_label=label
    )
    keys = [
        html.tag("span", name, html.tag("b", f"{line[-1][1]:.4g}"), class_=f"key {kind}")
        for name, kind, line in lines
        if line
    ]
    return html.tag(
        "figure",
        html.tag("figcaption", *keys),
        html.tag("div", *(html.tag("span", one) for one in written), class_="levels", aria_hidden="true"),
        picture,
        html.tag("div", *(html.tag("span", one) for one in _steps(left, right)), class_="steps", aria_hidden="true"),
    )


def _levels(low: float, high: float) -> tuple[list[float], list[str]]:
    """Return four to six round numbers around a range, the highest first, and their texts."""
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


def _thin(line: Sequence[Point]) -> Sequence[Point]:
    """Return at most `_MOST_POINTS` points; each bucket keeps its lowest and highest."""
    if len(line) <= _MOST_POINTS:
        return line
    size = -(-len(line) // (_MOST_POINTS // 2))
    kept: list[Point] = []
    for start in range(0, len(line), size):
        bucket = line[start : start + size]
        kept += sorted({min(bucket, key=lambda one: one[1]), max(bucket, key=lambda one: one[1])})
    return kept
