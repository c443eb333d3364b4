"""The page put together: one file, no network, and a policy that holds the browser to that."""

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
    """Write the page of a run to `path`, whole or not at all, and return the path. Raises OSError as writing does."""
    target = local_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, page(data))
    return target


def page(data: ReportData) -> str:
    """The page as text. What a run has not got has no section; all foreign text is shown as text."""
    series = series_of(data.events)
    found = data.comparison
    sections = [
        ("result", "Tuned beside base" if found and found.base else "Result", comparison(found) if found else None),
        ("training", "Training", training(data, series)),
        ("samples", "Samples", samples(data.samples) if data.samples else None),
        ("data", "Data", data_section(data.check) if data.check else None),
        ("events", "Events", events_section(data.events) if data.events else None),
        ("settings", "Settings as used", _settings(data)),
        ("config", "Configuration", config_section(data.config) if data.config else None),
        ("lineage", "Lineage", lineage_section(data) if data.lineage or data.versions or data.machine else None),
    ]
    shown = [(name, title, body) for name, title, body in sections if body]
    body = tag(
        "main",
        header(data),
        tiles(data, series),
        tag("nav", [tag("a", title, href=f"#{name}") for name, title, _ in shown], aria_label="Sections")
        if len(shown) > 2
        else None,
        [tag("section", tag("h2", title), content, id=name) for name, title, content in shown],
        tag("footer", tag("p", f"Written by tuneport on {moment(data.created)}. This page needs no network.")),
    )
    return f"<!doctype html>\n{tag('html', _head(data.ref), tag('body', body, _script()), lang='en')}\n"


def _settings(data: ReportData) -> Html | None:
    """What the job says that it used, else what was planned."""
    for told in (data.state.get("details"), data.plan):
        resolved, reasons = ((told or {}).get(name) for name in ("resolved", "reasons"))
        if isinstance(resolved, Mapping) and isinstance(reasons, Mapping) and reasons:
            return settings_section(resolved, reasons)
    return None


def _head(title: str) -> Html:
    style, script = _packed("page.css"), _packed("page.js")
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
    return tag("script", _packed("page.js"))


def _packed(name: str) -> Html:
    """A file of this package, ours and not foreign, so it goes in as it is."""
    return Html(resources.files("tuneport.reports").joinpath(name).read_text(encoding="utf-8"))


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
