"""Data on a terminal: bars of text."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

from tuneport.printable import one_line

if TYPE_CHECKING:
    from tuneport.dataset.stats import Bin, Distribution


def histogram(distribution: Distribution, *, unit: str, width: int = 40, plain: bool = False) -> str:
    """The distribution as lines of text with bars up to `width` characters; `plain` keeps to ASCII.

    >>> from tuneport.dataset.stats import Lengths
    >>> lengths = Lengths()
    >>> lengths.add_all([1, 1, 2])
    >>> print(histogram(lengths.distribution(), unit="turns", width=4, plain=True))
    turns  min 1, median 1, p90 2, max 2
      1  #### 2
      2  ##   1
    """
    most = max((each.count for each in distribution.bins), default=0)
    spans = [_span(each, plain) for each in distribution.bins]
    column = max(map(len, spans))
    head = ", ".join(f"{name} {getattr(distribution, name):,}" for name in ("min", "median", "p90", "max"))
    lines = [f"{unit}  {head}"]
    for span, each in zip(spans, distribution.bins, strict=True):
        lines.append(f"  {span:>{column}}  {bar(each.count, most, width, plain=plain):<{width}} {each.count:,}")
    return "\n".join(lines)


def label_chart(labels: Mapping[str, int], *, most: int = 20, width: int = 40, plain: bool = False) -> str:
    """The labels with bars, the `most` frequent ones and how many more there are."""
    shown = list(islice(labels.items(), most))
    names = [_one_line(name) for name, _ in shown]
    column = max(map(len, names))
    lines = [f"labels  {len(labels):,} over {sum(labels.values()):,} rows"]
    for name, (_, count) in zip(names, shown, strict=True):
        lines.append(f"  {name:<{column}}  {bar(count, shown[0][1], width, plain=plain):<{width}} {count:,}")
    if len(labels) > most:
        rest = list(labels.values())[most:]
        dash = "-" if plain else "–"
        lines.append(f"  and {len(rest):,} more with {min(rest):,}{dash}{max(rest):,} rows each")
    return "\n".join(lines)


def bar(value: int, largest: int, width: int, *, plain: bool = False) -> str:
    """A bar of eighths of a block; anything above nothing shows."""
    if not value or not largest:
        return ""
    eighths = max(1, round(8 * width * value / largest))
    if plain:
        return "#" * max(1, eighths // 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")


def _span(each: Bin, plain: bool) -> str:
    dash = "-" if plain else "–"
    return f"{each.low:,}" if each.low == each.high else f"{each.low:,}{dash}{each.high:,}"


def _one_line(name: str) -> str:
    text = one_line(" ".join(name.split()))
    return text if len(text) <= 40 else text[:39] + "…"
