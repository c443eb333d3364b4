"""Bar charts of a dataset's stats as lines of text, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from tuneport.dataset.stats import Bin, Distribution, Stats
from tuneport.printable import one_line


def draw_stats(stats: Stats, *, plain: bool = False) -> list[str]:
    """The shapes and roles, and a chart of each quantity that varies; `plain` uses only ASCII."""
    if not stats.rows:
        return []
    counts = [", ".join(f"{count:,} {shape}{'s' if count != 1 else ''}" for shape, count in stats.shapes.items())]
    if stats.roles:
        counts.append("messages: " + ", ".join(f"{count:,} {role}" for role, count in stats.roles.items()))
    lines = ["; ".join(counts)]
    for unit, found in (("turns", stats.turns), ("characters", stats.characters), ("tokens", stats.tokens)):
        if found is not None and found.min < found.max:
            lines += draw_histogram(found, unit=f"{unit} a row", plain=plain).splitlines()
    if stats.labels:
        lines += draw_labels(stats.labels, plain=plain).splitlines()
    return lines


def draw_histogram(distribution: Distribution, *, unit: str, width: int = 40, plain: bool = False) -> str:
    """The distribution as lines of text with bars up to `width` characters; `plain` uses only ASCII.

    >>> from tuneport.dataset.stats import Lengths
    >>> lengths = Lengths()
    >>> lengths.add_all([1, 1, 2])
    >>> print(draw_histogram(lengths.distribution(), unit="turns", width=4, plain=True))
    turns  min 1, median 1, p90 2, max 2
      1  #### 2
      2  ##   1
    """
    most = max((each.count for each in distribution.bins), default=0)
    spans = [_format_span(each, plain) for each in distribution.bins]
    column = max(map(len, spans))
    head = ", ".join(f"{name} {getattr(distribution, name):,}" for name in ("min", "median", "p90", "max"))
    lines = [f"{unit}  {head}"]
    for span, each in zip(spans, distribution.bins, strict=True):
        lines.append(f"  {span:>{column}}  {draw_bar(each.count, most, width, plain=plain):<{width}} {each.count:,}")
    return "\n".join(lines)


def draw_labels(labels: Mapping[str, int], *, most: int = 20, width: int = 40, plain: bool = False) -> str:
    """The `most` frequent labels with bars, and the number of the others; `plain` uses only ASCII."""
    shown = list(islice(labels.items(), most))
    names = [_shorten(name) for name, _ in shown]
    column = max(map(len, names))
    lines = [f"labels  {len(labels):,} over {sum(labels.values()):,} rows"]
    for name, (_, count) in zip(names, shown, strict=True):
        lines.append(f"  {name:<{column}}  {draw_bar(count, shown[0][1], width, plain=plain):<{width}} {count:,}")
    if len(labels) > most:
        rest = list(labels.values())[most:]
        dash = "-" if plain else "–"
        lines.append(f"  and {len(rest):,} more with {min(rest):,}{dash}{max(rest):,} rows each")
    return "\n".join(lines)


def draw_bar(value: int, largest: int, width: int, *, plain: bool = False) -> str:
    """A bar in eighths of a block; any value above 0 is visible."""
    if not value or not largest:
        return ""
    eighths = max(1, round(8 * width * value / largest))
    if plain:
        return "#" * max(1, eighths // 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")


def _format_span(each: Bin, plain: bool) -> str:
    dash = "-" if plain else "–"
    return f"{each.low:,}" if each.low == each.high else f"{each.low:,}{dash}{each.high:,}"


def _shorten(name: str) -> str:
    text = one_line(" ".join(name.split()))
    return text if len(text) <= 40 else text[:39] + "…"
