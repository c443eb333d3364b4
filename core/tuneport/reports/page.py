"""Builds the page: one file that needs no network, with a policy that makes the browser enforce it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from tuneport.files import write_file
from tuneport.homefolder import local_path
from tuneport.html import Html, escape, tag
from tuneport.reports.about import config_section, data_section, events_section, lineage_section, settings_section
from tuneport.reports.data import ReportData
from tuneport.reports.headline import header, tiles
from tuneport.reports.result import comparison, samples
from tuneport.reports.series import series_of
from tuneport.reports.training import training
from tuneport.units import moment


def write_report(path: str | Path, data: ReportData) -> Path:
    """Write the report of a run to `path`, completely or not at all, and return the path. Raises OSError."""
    target = local_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, page(data))
    return target


def page(data: ReportData) -> str:
    """The page as text. A section without content is left out. All text from outside is escaped."""
    series = series_of(data.events)
    found = data.comparison
    sections = [
        (
            "result",
            "Tuned and base" if found and found.base else "Result",
            comparison(found) if found else None,
        ),
        ("training", "Training", training(data, series)),
        ("samples", "Samples", samples(data.samples) if data.samples else None),
        ("data", "Data", data_section(data.check) if data.check else None),
        ("events", "Events", events_section(data.events) if data.events else None),
        ("settings", "Settings as used", _settings(data)),
        ("config", "Configuration", config_section(data.config) if data.config else None),
        ("lineage", "Lineage", lineage_section(data) if data.lineage or data.versions or data.machine else None),
    ]
    filled = [(name, title, body) for name, title, body in sections if body]
    body = tag(
        "main",
        header(data),
        tiles(data, series),
        tag("nav", [tag("a", title, href=f"#{name}") for name, title, _ in filled], aria_label="Sections")
        if len(filled) > 2
        else None,
        [tag("section", tag("h2", title), content, id=name) for name, title, content in filled],
        tag("footer", tag("p", f"Written by tuneport on {moment(data.created)}. This page needs no network.")),
    )
    return f"<!doctype html>\n{tag('html', _head(data.ref), tag('body', body, _script()), lang='en')}\n"


def _settings(data: ReportData) -> Html | None:
    """The settings that the job reports, or those of the plan."""
    for source in (data.state.get("details"), data.plan):
        resolved, reasons = ((source or {}).get(name) for name in ("resolved", "reasons"))
        if isinstance(resolved, Mapping) and isinstance(reasons, Mapping) and reasons:
            return settings_section(resolved, reasons)
    return None


def _head(title: str) -> Html:
    style, script = _package_file("page.css"), _package_file("page.js")
    policy = (
        f"default-src 'none'; style-src '{_sha256(style)}'; script-src '{_sha256(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("link", rel="icon", href="data:,"),
        tag("title", f"{title}: fine-tuning report"),
        tag("style", style),
    )


def _script() -> Html:
    return tag("script", _package_file("page.js"))


def _package_file(name: str) -> Html:
    """A file of this package. It is our own text, so it is not escaped."""
    return Html(resources.files("tuneport.reports").joinpath(name).read_text(encoding="utf-8"))


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
