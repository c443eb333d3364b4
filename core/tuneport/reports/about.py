"""Sections about the run: its data, events, configuration and lineage."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tuneport.contract.events import Event
from tuneport.html import Child, Html, join, prose, tag
from tuneport.reports.charts import histogram
from tuneport.reports.data import ReportData
from tuneport.reports.lineage import lineage_facts
from tuneport.reports.tables import wide_table
from tuneport.units import amount, count, short

SEVERITIES = ("error", "warning", "note")
EVENTS_AT_ONCE = 12
MOST_EVENTS = 1000


def data_section(check: Mapping[str, Any]) -> Html:
    """Rows read, used and rejected; findings by code with their first places; lengths."""
    counts = [(word, check.get(word)) for word in ("read", "used", "rejected")]
    figures = [
        tag("span", tag("b", count(number)), f" rows {word}") for word, number in counts if isinstance(number, int)
    ]
    source = [text for text in (check.get("file"), check.get("format")) if text]
    facts = [tag("span", " · ".join(map(str, source))) if source else None, figures]
    return join([tag("p", facts, class_="facts"), _findings(check), _lengths(check.get("stats") or {})])


def events_section(events: Sequence[Event]) -> Html:
    """Warnings and errors, then all events except metrics, in order."""
    listed = [event for event in events if event.kind != "metric" or event.level != "info"]
    start = events[0].time
    loud = [event for event in listed if event.level != "info"]
    parts: list[Child] = []
    if loud:
        parts.append(tag("h3", f"Warnings and errors ({count(len(loud))})"))
        parts.append(_timeline(loud[:MOST_EVENTS], start))
    if len(listed) > len(loud):
        first, rest = listed[:EVENTS_AT_ONCE], listed[EVENTS_AT_ONCE:MOST_EVENTS]
        parts += [tag("h3", "In order") if loud else None, _timeline(first, start)]
        if rest:
            parts.append(tag("details", tag("summary", f"{count(len(rest))} more"), _timeline(rest, start)))
    if len(listed) > MOST_EVENTS:
        parts.append(tag("p", f"{count(len(listed) - MOST_EVENTS)} later events are left out.", class_="quiet"))
    return join(parts)


def config_section(config: Mapping[str, Any]) -> Html:
    """The resolved configuration as YAML."""
    from ruamel.yaml import YAML

    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.width = 10_000
    yaml.dump(json.loads(json.dumps(config, default=str)), text)
    return tag("pre", tag("code", text.getvalue()))


def settings_section(resolved: Mapping[str, Any], reasons: Mapping[str, Any]) -> Html:
    """The settings that training used, including what "auto" became, and why."""
    rows = [
        tag("tr", tag("td", name.replace("_", " ")), tag("td", amount(resolved[name])), tag("td", str(why)))
        for name, why in reasons.items()
        if name in resolved
    ]
    return wide_table(("Setting", "Value", "Why"), rows, class_="settings")


def lineage_section(data: ReportData) -> Html:
    """The model's origin, so that it can be reproduced."""
    lineage = dict(data.lineage or {})
    lineage["versions"] = {**(lineage.get("versions") or {}), **data.versions}
    named = [*lineage_facts(lineage), *lineage_facts(data.machine)]
    section = tag("dl", [[tag("dt", f"{name[:1].upper()}{name[1:]}"), tag("dd", text)] for name, text in named])
    settings = lineage.get("settings")
    if not settings or data.config:
        return section
    return join([section, config_section({"settings": dict(settings)})])


def _findings(check: Mapping[str, Any]) -> Html:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in check.get("diagnostics") or ():
        found.setdefault(str(one.get("code")), []).append(one)
    if not found:
        return tag("p", "No problems found.", class_="quiet")
    counts = (check.get("stats") or {}).get("findings") or {}
    order = sorted(found.items(), key=lambda item: (SEVERITIES.index(_severity(item[1][0])), item[0]))
    return join(_finding(code, shown, counts.get(code)) for code, shown in order)


def _finding(code: str, shown: Sequence[Mapping[str, Any]], total: Any) -> Html:
    severity, number = _severity(shown[0]), total if isinstance(total, int) else len(shown)
    places = [
        tag("li", tag("span", _place(one), class_="quiet"), " ", prose(str(one.get("message") or "")))
        for one in shown[:3]
    ]
    more = tag("li", f"and {count(number - len(places))} more", class_="quiet") if number > len(places) else None
    return tag(
        "article",
        tag(
            "p", tag("span", severity, class_=f"severity {severity}"), tag("code", code), tag("b", f" {count(number)}×")
        ),
        tag("ul", places, more),
        tag("p", prose(str(shown[0].get("remedy") or "")), class_="quiet"),
        class_="finding",
    )


def _severity(one: Mapping[str, Any]) -> str:
    severity = str(one.get("severity"))
    return severity if severity in SEVERITIES else "note"


def _place(one: Mapping[str, Any]) -> str:
    line, pointer = one.get("line"), one.get("pointer")
    return " ".join(part for part in (f"line {line:,}" if isinstance(line, int) else "", str(pointer or "")) if part)


def _lengths(stats: Mapping[str, Any]) -> Html:
    figures = []
    for name, words in (("tokens", "tokens per row"), ("characters", "characters per row"), ("turns", "turns per row")):
        spread = stats.get(name)
        if not isinstance(spread, Mapping) or not (bins := spread.get("histogram")):
            continue
        shown = [
            f"{word} {short(spread[word])}" for word in ("min", "median", "p90", "max") if spread.get(word) is not None
        ]
        chart = histogram(
            [tuple(one) for one in bins], title=f"Histogram of {words}", x_label=name, width=480, height=190
        )
        figures.append(
            tag("figure", tag("figcaption", tag("b", words.capitalize()), tag("span", " · ".join(shown))), chart)
        )
    return tag("div", figures[:2], class_="two") if figures else Html()


def _timeline(events: Sequence[Event], start: datetime) -> Html:
    rows = [
        tag(
            "tr",
            tag(
                "td", _since((event.time - start).total_seconds()), class_="number quiet", title=event.time.isoformat()
            ),
            tag(
                "td",
                event.kind if event.level == "info" else tag("span", event.level, class_=f"severity {event.level}"),
            ),
            tag("td", prose(event.message), class_="message"),
        )
        for event in events
    ]
    return tag("div", tag("table", tag("tbody", rows), class_="timeline"), class_="scroll")


def _since(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"+{hours}:{minutes:02}:{rest:02}" if hours else f"+{minutes}:{rest:02}"
