"""The comparison of the tuned model with its base, and samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tuneport.evaluate import Compared, Comparison, LabelScore, Outcome, Recorded, Side
from tuneport.evaluate.text import OUTCOMES, better_or_worse, differing_rows, percent, points, probability
from tuneport.html import Html, breakable, join, tag
from tuneport.reports.charts import interval_chart
from tuneport.reports.data import Sample
from tuneport.reports.tables import wide_table
from tuneport.units import count

ROWS_AT_ONCE = 5
LABELS_AT_ONCE = 15
LONG_TEXT, LONG_LINES = 400, 10  # a text with this many characters or lines is collapsed
START_OF_TEXT = 160
_GROUPS: tuple[Outcome, ...] = ("only_base", "wrong", "neither", "only_tuned")


def comparison(found: Comparison) -> Html:
    """Scores, counts, labels and the rows themselves."""
    return join(
        [
            tag("p", tag("span", "warning", class_="severity warning"), found.warning) if found.warning else None,
            tag("p", _verdict(found), class_="verdict"),
            tag("p", _recorded_verdict(found.recorded, found.rows), class_="verdict") if found.recorded else None,
            tag("div", _intervals(found), _counts(found), class_="two"),
            [tag("p", note, class_="quiet") for note in found.notes],
            _labels(found.labels),
            _rows(found),
            _differing(found.recorded) if found.recorded else None,
        ]
    )


def samples(shown: Sequence[Sample]) -> Html:
    """Sample answers, one card each."""
    return join(
        tag(
            "article",
            tag("div", tag("h4", "Prompt"), _text(one.prompt), class_="prompt"),
            _answers(one.reference, one.base_answer, one.answer),
            class_="row",
        )
        for one in shown
    )


def _verdict(found: Comparison) -> str:
    graded = f"{found.rows_text}, graded by {found.grader}, at most {found.max_tokens} tokens per answer."
    if found.base is None or found.difference is None:
        return f"The model scores {percent(found.tuned.mean)}. {graded}"
    one = found.difference
    interval = f"95% interval {points(one.low)} to {points(one.high)}, {probability(one.p_value)}"
    change = f"{points(one.mean)} points ({interval})"
    if one.low > 0:
        return f"Better than its base: {change}. {graded}"
    if one.high < 0:
        return f"Worse than its base: {change}. {graded}"
    return f"No clear difference from its base: {change}. {graded}"


def _recorded_verdict(found: Recorded, rows: int) -> str:
    one = found.difference
    on = "the same rows" if found.rows == rows else f"the {count(found.rows)} rows that it answered"
    interval = f"95% interval {points(one.low)} to {points(one.high)}, {probability(one.p_value)}"
    change = f"{points(one.mean)} points ({interval}) on {on}"
    if one.low > 0:
        return f"Better than {found.side.ref}: {change}."
    if one.high < 0:
        return f"Worse than {found.side.ref}: {change}."
    return f"No clear difference from {found.side.ref}: {change}."


def _differing(found: Recorded) -> Html:
    """Rows on which the recorded model and the tuned one score differently."""
    rows = differing_rows(found)
    if not rows:
        return Html()
    total = found.difference.better + found.difference.worse
    extent = count(total) if len(rows) == total else f"the first {count(len(rows))} of {count(total)}"
    cards = [
        tag(
            "article",
            tag("div", tag("h4", f"Row {count(row.row)}: {better_or_worse(row)}"), _text(row.prompt), class_="prompt"),
            join(
                tag("div", tag("h4", name, _score(score)), _text(text), class_=f"answer {kind}")
                for name, kind, text, score in (
                    ("Wanted", "wanted", row.reference, None),
                    ("Old", "old", row.recorded, row.recorded_score),
                    ("Tuned", "tuned", row.tuned, row.tuned_score),
                )
            ),
            class_="row",
        )
        for row in rows
    ]
    shown, more = cards[:ROWS_AT_ONCE], cards[ROWS_AT_ONCE:]
    folded = tag("details", tag("summary", f"{count(len(more))} more"), more) if more else None
    title = tag("h3", "Rows that the old model answers differently", tag("span", f" {extent}", class_="quiet"))
    return join([title, shown, folded])


def _intervals(found: Comparison) -> Html:
    named: list[tuple[str, str, Side | None]] = [
        ("base", "base", found.base),
        ("tuned" if found.base else "model", "tuned", found.tuned),
    ]
    if found.recorded:
        named.append(("old", "old", found.recorded.side))
    sides = []
    for name, kind, side in named:
        if side is not None:
            text = f"{percent(side.mean)}  ({percent(side.low)} to {percent(side.high)})"
            sides.append((name, kind, side.mean, side.low, side.high, text))
    chart = interval_chart(sides, title="Scores with 95% intervals", width=420)
    caption = tag("figcaption", tag("b", "Score"), tag("span", "mean and 95% interval"))
    return tag("figure", caption, chart, class_="intervals")


def _counts(found: Comparison) -> Html:
    """Which model was right on how many rows; for partial scores, how many rows got better or worse. Without a base
    model, two counts.
    """
    if found.base is None:
        return tag("p", f"{count(found.outcomes['right'])} right, {count(found.outcomes['wrong'])} wrong.")

    def cell(number: int, kind: str) -> Html:
        return tag("td", tag("b", count(number)), tag("span", percent(number / found.rows)), class_=f"cell {kind}")

    def head(words: str, scope: str) -> Html:
        return tag("th", words, scope=scope)

    counts = found.outcomes
    if found.has_partial_scores and found.difference:
        better, worse = found.difference.better, found.difference.worse
        caption = "tuned compared with base"
        rows = [
            [head("better", "col"), head("same", "col"), head("worse", "col")],
            [cell(better, "gained"), cell(found.rows - better - worse, "same"), cell(worse, "lost")],
        ]
    else:
        caption = "which model was right"
        rows = [
            [tag("td"), head("tuned right", "col"), head("tuned wrong", "col")],
            [head("base right", "row"), cell(counts["both"], "same"), cell(counts["only_base"], "lost")],
            [head("base wrong", "row"), cell(counts["only_tuned"], "gained"), cell(counts["neither"], "same")],
        ]
    table = tag("table", tag("tbody", (tag("tr", row) for row in rows)), class_="fourfold")
    return tag("figure", tag("figcaption", tag("b", "Rows"), tag("span", caption)), table)


def _labels(labels: Sequence[LabelScore]) -> Html:
    if not labels:
        return Html()
    with_base = labels[0].base_right is not None
    heads = ["Label", "Rows", *(["Base right"] if with_base else []), "Tuned right", "Mistaken for"]
    shown, more = labels[:LABELS_AT_ONCE], labels[LABELS_AT_ONCE:]
    first = wide_table(heads, map(_label, shown), class_="labels")
    rest = wide_table(heads, map(_label, more), class_="labels")
    folded = tag("details", tag("summary", f"{count(len(more))} more labels"), rest) if more else None
    return join([tag("h3", f"By label, weakest first ({count(len(labels))})"), first, folded])


def _label(one: LabelScore) -> Html:
    mistake = (
        [breakable(one.mistaken_for), tag("span", f" {count(one.mistakes)}×", class_="quiet")]
        if one.mistaken_for
        else None
    )
    base = None if one.base_right is None else tag("td", _bar(one.base_right, one.rows, "base"), class_="number")
    return tag(
        "tr",
        tag("th", breakable(one.label), scope="row"),
        tag("td", count(one.rows), class_="number"),
        base,
        tag("td", _bar(one.tuned_right, one.rows, "tuned"), class_="number"),
        tag("td", mistake),
    )


def _bar(right: int, rows: int, kind: str) -> Html:
    bar = tag(
        "svg",
        tag("rect", class_="track", width=60, height=8, rx=2),
        tag("rect", class_=f"bar {kind}", width=60 * right / rows, height=8, rx=2),
        viewBox="0 0 60 8",
        width=60,
        height=8,
        aria_hidden="true",
    )
    return join([bar, f"{right / rows:.0%}".rjust(4, "\u2007")])  # a figure space is as wide as a digit


def _rows(found: Comparison) -> Html:
    groups = []
    for name in _GROUPS:
        total, rows = found.outcomes.get(name, 0), [row for row in found.examples if row.outcome == name]
        if not rows:
            continue
        extent = f"{count(total)}" if len(rows) == total else f"the first {count(len(rows))} of {count(total)}"
        groups.append(
            tag(
                "section",
                tag("h4", OUTCOMES[name].capitalize(), tag("span", f" {extent}", class_="quiet")),
                map(_row, rows[:ROWS_AT_ONCE]),
                tag(
                    "details", tag("summary", f"{count(len(rows) - ROWS_AT_ONCE)} more"), map(_row, rows[ROWS_AT_ONCE:])
                )
                if len(rows) > ROWS_AT_ONCE
                else None,
                class_=f"group {name}",
            )
        )
    if not groups:
        return Html()
    search = tag(
        "input",
        type="search",
        id="find",
        placeholder="Find in these rows",
        aria_label="Find in these rows",
        hidden=True,
    )
    return join([tag("div", tag("h3", "Rows to review"), search, class_="with-search"), groups])


def _row(row: Compared) -> Html:
    return tag(
        "article",
        tag("div", tag("h4", f"Row {count(row.row)}"), _text(row.prompt), class_="prompt"),
        _answers(row.reference, row.base, row.tuned, row.base_score, row.tuned_score),
        class_="row",
    )


def _answers(
    reference: str | None,
    base: str | None,
    tuned: str,
    base_score: float | None = None,
    tuned_score: float | None = None,
) -> Html:
    texts: Iterable[tuple[str, str | None, float | None]] = (
        ("Wanted", reference, None),
        ("Base", base, base_score),
        ("Tuned", tuned, tuned_score),
    )
    return join(
        tag("div", tag("h4", name, _score(score)), _text(text), class_=f"answer {name.lower()}")
        for name, text, score in texts
        if text is not None
    )


def _score(score: float | None) -> Html | None:
    if score is None:
        return None
    if score in (0, 1):
        words, kind = ("right", "good") if score else ("wrong", "bad")
        return join([" ", tag("span", "✓" if score else "✗", class_=kind, role="img", aria_label=words, title=words)])
    return tag("span", f" {score:.2f}", class_="quiet")


def _text(text: str) -> Html:
    """A text as it is. A long one is collapsed, and its start is shown."""
    shown = text.strip("\n")
    if not shown.strip():
        return tag("div", "(nothing)", class_="text quiet")
    full = tag("div", shown, class_="text")
    if len(shown) <= LONG_TEXT and shown.count("\n") < LONG_LINES:
        return full
    start = " ".join(shown[:LONG_TEXT].split())[:START_OF_TEXT].rstrip()
    size = tag("span", f"{count(len(shown))} characters", class_="size")
    summary = tag("summary", tag("span", f"{start}…", class_="start"), size)
    return tag("details", summary, full, class_="long")
