"""The training section: the curves, and the plan compared with what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tuneport.html import Html, breakable, join, tag
from tuneport.reports.charts import Line, Mark, line_chart, smooth
from tuneport.reports.data import RecordedTraining, ReportData
from tuneport.reports.series import Series, series_of
from tuneport.reports.tables import wide_table
from tuneport.reports.times import times_of
from tuneport.units import count, duration, finite, loss, money, short, size

_SMALL = (
    ("rewards/margins", "Reward margin", "chosen minus rejected", short, True),
    ("log_odds_ratio", "Log odds ratio", "chosen over rejected", short, True),
    ("nll", "Loss of chosen answers", "nats per token", short, True),
    ("rewards/accuracies", "Accuracy", "share of pairs with the chosen answer ahead", short, True),
    ("rewards/chosen", "Reward of chosen answers", "beta × log p / p of the reference", short, False),
    ("rewards/rejected", "Reward of rejected answers", "beta × log p / p of the reference", short, False),
    ("learning_rate", "Learning rate", "", short, False),
    ("tokens_per_second", "Throughput", "tokens per second", short, True),
    ("grad_norm", "Gradient norm", "before clipping", short, True),
)

_PLANNED: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "tokens": ("Tokens", count),
    "steps": ("Steps", count),
    "seconds": ("Time", duration),
    "memory": ("Memory", size),
    "usd": ("Cost", money),
}


def training(data: ReportData, series: Series) -> Html:
    """The loss curves, small charts, and the plan compared with the outcome."""
    curves = [_losses(series), _small_charts(series)]
    other = _recorded_losses(data.recorded) if data.recorded else None
    note = None
    if series.not_finite:
        note = f"{count(series.not_finite)} values are not finite and are not shown."
    elif not any(curves):
        note = "This job reported no metrics."
    return join([curves, tag("p", note, class_="quiet") if note else None, other, _outcome(data)])


def _recorded_losses(recorded: RecordedTraining) -> Html:
    """The curves of a recorded training, in a separate chart, because its steps and tokens are different."""
    curve = _losses(series_of(recorded.events), f"Loss of {recorded.model}")
    if not curve:
        return Html()
    note = "The tokenizer and the steps are different: compare where the curves fall and flatten, not their heights."
    return join([curve, tag("p", note, class_="quiet")])


def _losses(series: Series, title: str = "Loss") -> Html:
    train, valid = series.points("train_loss"), series.points("valid_loss")
    if not train and not valid:
        return Html()
    lines = []
    is_long = len(train) > 40
    if is_long:
        lines.append(Line(name="training, raw", kind="train", points=train, faint=True))
    lines.append(Line(name="training", kind="train", points=smooth(train) if is_long else train))
    lines.append(Line(name="validation", kind="valid", points=valid, dots=True))
    marks = [Mark(x=start) for start in series.epoch_starts] if len(series.epoch_starts) <= 20 else []
    if valid:
        best_step, best = min(valid, key=lambda point: point[1])
        marks.append(Mark(x=best_step, label=f"best {loss(best)} at {series.x_label} {best_step:,g}", strong=True))

    def chart(width: int, height: int, class_: str) -> Html:
        return line_chart(
            lines,
            title="Training and validation loss",
            x_label=series.x_label,
            y_label="loss, nats per pair" if "rewards/accuracies" in series.values else "loss, nats per token",
            width=width,
            height=height,
            form=loss_tick,
            marks=marks,
            class_=class_,
        )

    legend = [
        tag("span", tag("i", class_="key train"), "training" + (", smoothed over the raw curve" if is_long else ""))
        if train
        else None,
        tag("span", tag("i", class_="key valid"), "validation") if valid else None,
        tag("span", tag("i", class_="key epoch"), "new epoch") if any(not mark.strong for mark in marks) else None,
    ]
    return tag(
        "figure",
        tag("figcaption", tag("b", breakable(title)), legend),
        chart(1000, 340, "wide"),
        chart(400, 300, "narrow"),
    )


def loss_tick(value: float) -> str:
    """A loss on an axis or in a hover text."""
    return f"{value:.4g}"


def _small_charts(series: Series) -> Html:
    figures = []
    for name, title, unit, form, from_zero in _SMALL:
        points = series.points(name)
        if len(points) < 2:
            continue
        chart = line_chart(
            [
                Line(name=title.lower(), kind="train", points=points),
                Line(name="validation", kind="valid", points=series.points(f"valid_{name}"), dots=True),
            ],
            title=title,
            x_label=series.x_label,
            y_label=unit,
            width=340,
            height=190,
            form=form,
            from_zero=from_zero or name == "learning_rate",
        )
        figures.append(tag("figure", tag("figcaption", tag("b", title)), chart))
    return tag("div", figures, class_="small-charts") if figures else Html()


def _outcome(data: ReportData) -> Html:
    """The outcome compared with the plan."""
    if not data.plan:
        return Html()
    times = times_of(data.events, data.state)
    happened: Mapping[str, float | None] = {
        "tokens": data.state.get("tokens") or None,
        "steps": data.state.get("step") or None,
        "seconds": times.worked if times else None,
        "memory": finite((data.state.get("details") or {}).get("peak_memory")),
        "usd": data.usd,
    }
    rows = []
    for name, (words, form) in _PLANNED.items():
        quantity = data.plan.get(name)
        if not isinstance(quantity, Mapping):
            continue
        planned, real = quantity.get("value"), happened[name]
        rows.append(
            tag(
                "tr",
                tag("th", words, scope="row"),
                tag("td", "–" if real is None else form(real), class_="number"),
                tag("td", "unknown" if planned is None else form(planned), class_="number"),
                tag("td", quantity.get("error"), class_="quiet error"),
                tag("td", quantity.get("source"), class_="quiet source"),
            )
        )
    heads = ["", "Happened", "Planned", "Error", "Source of the estimate"]
    return join([tag("h3", "Outcome and plan"), wide_table(heads, rows, class_="plan")]) if rows else Html()
