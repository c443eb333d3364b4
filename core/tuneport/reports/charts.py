"""Charts as inline SVG: lines over steps, histograms, intervals on a scale. The style sheet has their colors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from tuneport.html import Html, join, tag
from tuneport.units import count, short

Points = Sequence[tuple[float, float]]
MOST_POINTS = 500
HOVER_COLUMNS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line: its name, its points (x, y) by x, its CSS class `kind`. A `faint` line has no hover values."""

    name: str
    kind: str
    points: Points
    dots: bool = False
    faint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A vertical line at x; `strong` ones have labels."""

    x: float
    label: str = ""
    strong: bool = False


def smooth(points: Points) -> Points:
    """A centered moving average over 5% of the points. It does not lag, and its window is a third as wide at both
    ends.
    """
    sums = [0.0, *accumulate(y for _, y in points)]
    most = len(points) // 40
    averaged = []
    for place, (x, _) in enumerate(points):
        reach = max(most // 3, min(most, place, len(points) - 1 - place))
        start, end = max(0, place - reach), min(len(points), place + reach + 1)
        averaged.append((x, (sums[end] - sums[start]) / (end - start)))
    return averaged


def thin(points: Points, most: int = MOST_POINTS) -> Points:
    """At most `most` points: the lowest and highest of each bucket, so that every spike stays."""
    if len(points) <= most:
        return points
    bucket = math.ceil(len(points) / (most // 2))
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), bucket):
        group = points[start : start + bucket]
        kept.extend(sorted({min(group, key=lambda p: p[1]), max(group, key=lambda p: p[1])}))
    return kept


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    width: int,
    height: int,
    form: Callable[[float], str] = short,
    marks: Sequence[Mark] = (),
    from_zero: bool = False,
    class_: str | None = None,
) -> Html:
    """Lines over a common x axis. The y axis is logarithmic if the smooth lines change more than tenfold."""
    drawn = [line for line in lines if line.points]
    judged = [y for line in drawn for _, y in line.points if not line.faint]
    every = [y for line in drawn for _, y in line.points]
    log = not from_zero and min(every) > 0 and max(judged) / min(judged) > 10
    ticks = (
        _log_ticks(min(every), max(every)) if log else _ticks(min(0, *every) if from_zero else min(every), max(every))
    )
    labels = [form(tick) for tick in ticks]
    xs = [x for line in drawn for x, _ in line.points]
    frame = _Frame(
        width=width, height=height, left=14 + 6.6 * max(map(len, labels)) + 16, log=log, xs=(min(xs), max(xs)), ys=ticks
    )
    return tag(
        "svg",
        _grid(frame, labels),
        _axes(frame, x_label, y_label),
        _marks(marks, frame),
        [_path(line, frame) for line in drawn],
        [_dots(line, frame) for line in drawn if line.dots or len(line.points) == 1],
        _hovers(drawn, frame, form, x_label),
        viewBox=f"0 0 {width} {height}",
        class_=class_,
        role="img",
        aria_label=title,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Maps values to positions: the size, the margins, the first and last x, the ticks of the y axis."""

    width: int
    height: int
    left: float
    log: bool
    xs: tuple[float, float]
    ys: Sequence[float]
    end: float = 12  # the right margin
    top: float = 22
    bottom: float = 40

    @property
    def right(self) -> float:
        return self.width - self.end

    @property
    def base(self) -> float:
        return self.height - self.bottom

    def x_of(self, x: float) -> float:
        return _scale(*self.xs, self.left, self.right)(x)

    def y_of(self, y: float) -> float:
        return _scale(_transform(self.ys[0], self.log), _transform(self.ys[-1], self.log), self.base, self.top)(
            _transform(y, self.log)
        )


def _grid(frame: _Frame, labels: Sequence[str]) -> Html:
    """The lines and numbers of the y axis, and the numbers of the x axis."""
    heights = [frame.y_of(tick) for tick in frame.ys]
    across = [
        [
            tag("line", class_="grid", x1=frame.left, x2=frame.right, y1=y, y2=y),
            tag("text", label, class_="tick end", x=frame.left - 6, y=y + 4),
        ]
        for y, label in zip(heights, labels, strict=True)
    ]
    most = min(10, max(3, int((frame.right - frame.left) // 55)))
    below = [
        tag(
            "text",
            short(tick) if tick >= 10_000 else f"{tick:g}",
            class_="tick mid",
            x=frame.x_of(tick),
            y=frame.base + 16,
        )
        for tick in _ticks(*frame.xs, most, inside=True)
    ]
    return join([*across, below])


def _axes(frame: _Frame, x_label: str, y_label: str) -> Html:
    title = ", ".join(word for word in (y_label, "log scale" if frame.log else "") if word)
    return join(
        [
            tag("line", class_="axis", x1=frame.left, x2=frame.right, y1=frame.base, y2=frame.base),
            tag("text", x_label, class_="label mid", x=(frame.left + frame.right) / 2, y=frame.height - 6),
            tag("text", title, class_="label", x=2, y=12),
        ]
    )


def _path(line: Line, frame: _Frame) -> Html:
    points = " ".join(f"{frame.x_of(x):.1f},{frame.y_of(y):.1f}" for x, y in thin(line.points))
    return tag("polyline", class_=f"line {line.kind}{' faint' if line.faint else ''}", points=points)


def _dots(line: Line, frame: _Frame) -> Html:
    return join(
        tag("circle", class_=f"dot {line.kind}", cx=frame.x_of(x), cy=frame.y_of(y), r=2.5)
        for x, y in thin(line.points, 80)
    )


def _marks(marks: Sequence[Mark], frame: _Frame) -> Html:
    drawn = []
    for mark in marks:
        x = frame.x_of(mark.x)
        drawn.append(
            tag("line", class_="mark strong" if mark.strong else "mark", x1=x, x2=x, y1=frame.top, y2=frame.base)
        )
        room = 6.2 * len(mark.label)
        flip = x + room > frame.right
        place = "end" if flip else ""
        if mark.label and not (flip and x - room < frame.left):
            y = frame.top + 10 if mark.strong else frame.base - 6
            drawn.append(tag("text", mark.label, class_=f"over {place}".strip(), x=x - 4 if flip else x + 4, y=y))
    return join(drawn)


def _hovers(lines: Sequence[Line], frame: _Frame, form: Callable[[float], str], x_label: str) -> Html:
    """Invisible columns over the chart that show the values under the pointer, without a script."""
    named = [line for line in lines if not line.faint]
    xs = sorted({x for line in named for x, _ in line.points})
    xs = xs[:: max(1, math.ceil(len(xs) / HOVER_COLUMNS))]
    if not xs:
        return Html()
    places = [frame.x_of(x) for x in xs]
    middles = [(one + other) / 2 for one, other in pairwise(places)]
    columns, latest = [], [0] * len(named)
    for x, at, before, after in zip(
        xs, places, [places[0] - 6, *middles], [*middles, min(places[-1] + 6, frame.right + 6)], strict=True
    ):
        values = []
        for which, line in enumerate(named):
            while latest[which] + 1 < len(line.points) and line.points[latest[which] + 1][0] <= x:
                latest[which] += 1
            point_x, point_y = line.points[latest[which]]
            if point_x <= x:
                since = "" if point_x == x else f" ({x_label} {point_x:g})"
                values.append(f"{line.name} {form(point_y)}{since}")
        columns.append(
            tag(
                "g",
                tag("title", f"{x_label} {x:,g}\n" + "\n".join(values)),
                tag("rect", x=before, y=frame.top, width=after - before, height=frame.base - frame.top),
                tag("line", x1=at, x2=at, y1=frame.top, y2=frame.base),
                class_="hover",
            )
        )
    return join(columns)


def histogram(bins: Sequence[tuple[float, float, int]], *, title: str, x_label: str, width: int, height: int) -> Html:
    """The number of rows in each bin (low, high, count). All bins have the same width."""
    left, right, top, bottom = 8, 8, 20, 40
    room, tallest = (width - left - right) / len(bins), max(1, *(number for _, _, number in bins))
    base = height - bottom
    bars = []
    every = max(1, math.ceil(len(bins) * 52 / (width - left - right)))
    for place, (low, high, number) in enumerate(bins):
        x, tall = left + place * room, max((base - top) * number / tallest, 1.0 if number else 0.0)
        bars.append(
            tag(
                "g",
                tag("title", f"{_between(low, high)} {x_label}: {count(number)} {'row' if number == 1 else 'rows'}"),
                tag("rect", class_="bar", x=x + 1, y=base - tall, width=max(1.0, room - 2), height=tall),
                tag("text", short(number), class_="tick mid", x=x + room / 2, y=base - tall - 4)
                if number and room > 24
                else None,
                tag("text", short(low), class_="tick", x=x + 1, y=base + 15) if place % every == 0 else None,
            )
        )
    axis = tag("line", class_="axis", x1=left, x2=width - right, y1=base, y2=base)
    label = tag("text", x_label, class_="label mid", x=width / 2, y=height - 6)
    return tag("svg", bars, axis, label, viewBox=f"0 0 {width} {height}", role="img", aria_label=title)


def _between(low: float, high: float) -> str:
    return short(low) if short(low) == short(high) else f"{short(low)} to {short(high)}"


def interval_chart(sides: Sequence[tuple[str, str, float, float, float, str]], *, title: str, width: int) -> Html:
    """Means with their intervals on a scale from 0 to 100%; a side is (name, CSS class, mean, low, high, text)."""
    left, right, row = 58, 20, 44
    x_of = _scale(0, 1, left, width - right)
    bottom = row * len(sides) + 6
    drawn = [
        [
            tag("line", class_="grid", x1=x_of(tick), x2=x_of(tick), y1=0, y2=bottom),
            tag("text", f"{tick:.0%}", class_="tick mid", x=x_of(tick), y=bottom + 16),
        ]
        for tick in (0, 0.25, 0.5, 0.75, 1)
    ]
    for place, (name, kind, mean, low, high, text) in enumerate(sides):
        y = row * place + 28
        end = x_of(mean) > x_of(0.5)  # put the text over the wider half, where it fits
        drawn.append(
            [
                tag("text", name, class_="name", x=0, y=y + 4),
                tag("line", class_=f"range {kind}", x1=x_of(low), x2=x_of(high), y1=y, y2=y),
                tag("circle", tag("title", text), class_=f"dot {kind}", cx=x_of(mean), cy=y, r=5),
                tag("text", text, class_=f"value {'end' if end else ''}", x=x_of(mean) + (8 if end else -6), y=y - 11),
            ]
        )
    return tag("svg", drawn, viewBox=f"0 0 {width} {bottom + 22}", role="img", aria_label=title)


def _transform(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = high - low
    return lambda value: start + (end - start) * ((value - low) / span if span else 0.5)


def _ticks(low: float, high: float, most: int = 6, *, inside: bool = False) -> list[float]:
    """Round numbers (1, 2, 2.5, 5 × 10ⁿ) from below `low` to above `high`, or, with `inside`, only those between."""
    if low == high:
        if inside:
            return [low]
        low, high = (0.0, high * 2) if high > 0 else (high * 2, 0.0) if high < 0 else (0.0, 1.0)
    rough = (high - low) / (most if inside else most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * unit for unit in (1, 2, 2.5, 5, 10) if power * unit >= rough * 0.999)
    if inside:
        step = max(1.0, step)
        if step == 2.5:
            step = 5.0
    first = math.ceil(low / step - 1e-9) if inside else math.floor(low / step + 1e-9)
    last = math.floor(high / step + 1e-9) if inside else math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade, or only the decades where that is crowded."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    units = (1, 2, 5) if last - first <= 3 else (1,)
    every = [unit * 10.0**power for power in range(first, last + 1) for unit in units]
    start = max((place for place, tick in enumerate(every) if tick <= low), default=0)
    end = min((place for place, tick in enumerate(every) if tick >= high), default=len(every) - 1)
    return every[start : end + 1]
