"""The top of the page: the job, its status, and the main figures."""

from __future__ import annotations

from statistics import median

from tuneport.evaluate.text import percent
from tuneport.html import Html, breakable, join, prose, tag
from tuneport.reports.data import ReportData
from tuneport.reports.series import Series
from tuneport.reports.times import times_of
from tuneport.units import count, duration, finite, loss, moment, money, parsed_time, short, size


def header(data: ReportData) -> Html:
    """The ref, status, base and date, and the job's message."""
    status = str(data.state.get("status") or "unknown")
    finished = parsed_time(data.state.get("finished"))
    facts = [
        f"from {data.base}" if data.base else None,
        f"finished {moment(finished)}" if finished else f"as of {moment(data.created)}",
    ]
    message, remedy = data.state.get("message"), data.state.get("remedy")
    if status == "succeeded":
        message = data.state.get("missing")
    return tag(
        "header",
        tag("p", "Fine-tuning report", class_="kicker"),
        tag("h1", breakable(data.ref)),
        tag(
            "p",
            tag("span", status, class_=f"status {status if status.isalpha() else 'unknown'}"),
            [tag("span", fact) for fact in facts if fact],
            class_="facts",
        ),
        tag(
            "div",
            tag("p", prose(str(message))),
            tag("p", prose(str(remedy))) if remedy else None,
            class_=f"banner {status}",
        )
        if message
        else None,
    )


def tiles(data: ReportData, series: Series) -> Html:
    """The main figures. A figure that is not known has no tile."""
    built = [
        _score(data),
        _loss(series),
        _rows(data),
        _tokens(data, series),
        _steps(data, series),
        _time(data),
        _memory(data),
        _cost(data),
    ]
    shown = [tile for tile in built if tile]
    return tag("section", shown, class_="tiles", aria_label="Figures") if shown else Html()


def _tile(name: str, value: Html | str, *notes: str | None, wide: bool = False) -> Html:
    spans = [tag("span", note, class_="note") for note in notes if note]
    return tag(
        "div",
        tag("span", name, class_="name"),
        tag("span", value, class_="figure"),
        spans,
        class_="tile wide" if wide else "tile",
    )


def _change(before: str, after: str) -> Html:
    return join([tag("span", f"{before} → ", class_="before"), after])


def _score(data: ReportData) -> Html | None:
    found = data.comparison
    if found is None:
        return None
    interval = f"95% interval {percent(found.tuned.low)} to {percent(found.tuned.high)}"
    value = _change(percent(found.base.mean), percent(found.tuned.mean)) if found.base else percent(found.tuned.mean)
    return _tile(f"Score, {found.grader}", value, f"on {found.rows_text}", interval, wide=True)


def _loss(series: Series) -> Html | None:
    for name, words in (("valid_loss", "Validation loss"), ("train_loss", "Training loss")):
        points = series.points(name)
        if points:
            best_step, best = min(points, key=lambda point: point[1])
            value = _change(loss(points[0][1]), loss(best)) if len(points) > 1 else loss(best)
            return _tile(words, value, f"best at {series.x_label} {best_step:,g}", wide=len(points) > 1)
    return None


def _rows(data: ReportData) -> Html | None:
    rows = (data.plan or {}).get("rows")
    if rows is None:
        rows = (data.check or {}).get("used")
    if not isinstance(rows, int):
        return None
    validation = (data.plan or {}).get("validation_rows")
    holdout = data.comparison.rows if data.comparison else None
    apart = [f"{count(n)} {word}" for n, word in ((validation, "validation"), (holdout, "holdout")) if n]
    return _tile("Rows trained on", count(rows), " · ".join(apart))


def _tokens(data: ReportData, series: Series) -> Html | None:
    tokens = data.state.get("tokens")
    speeds = [speed for _, speed in series.points("tokens_per_second")]
    pace = f"{short(median(speeds))} per second (median)" if speeds else None
    return _tile("Tokens", count(tokens), pace) if tokens else None


def _steps(data: ReportData, series: Series) -> Html | None:
    step, total = data.state.get("step"), data.state.get("total_steps")
    if not step:
        return None
    of = f"of {count(total)}" if total and total != step else None
    return _tile("Steps", count(step), of, f"{series.epochs:g} epochs" if series.epochs and series.epochs > 1 else None)


def _time(data: ReportData) -> Html | None:
    times = times_of(data.events, data.state)
    if times is None:
        return None
    if times.queued is None:
        return _tile("Time", duration(times.worked), "including the queue")
    apart = [
        f"{duration(span)} {word}" for span, word in ((times.queued, "queued"), (times.idle, "paused")) if span >= 1
    ]
    return _tile("Training time", duration(times.worked), f"and {' · '.join(apart)}" if apart else None)


def _memory(data: ReportData) -> Html | None:
    peak = finite((data.state.get("details") or {}).get("peak_memory"))
    return _tile("Memory", size(peak), "measured peak") if peak else None


def _cost(data: ReportData) -> Html | None:
    if data.usd is not None:
        return _tile("Cost", money(data.usd), "as the job reports")
    planned = ((data.plan or {}).get("usd") or {}).get("value")
    return _tile("Cost", money(planned), "as planned") if planned else None
