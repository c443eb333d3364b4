"""Leaves the folders of this machine out of a report, so that it can be sent to others: names of files stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tuneport.homefolder import home
from tuneport.reports.data import ReportData

_PART = r"""[^\s/\\'"`<>|:;,()\[\]{}]+"""
# An absolute path inside a text: after a root that nothing else begins with, or with two parts at least. It does not
# follow a letter or a point, so that addresses (https://host/part) and relative paths stay.
_INSIDE = re.compile(
    rf"(?<![\w/\\~.])(?:(?:file://|~\w*|[A-Za-z]:|\\)(?:[/\\]{_PART})+|(?:/{_PART}){{2,}})[/\\]?", re.IGNORECASE
)
_WHOLE = re.compile(r"(?P<scheme>\w{2,}:(?=[/~\\]|[A-Za-z]:[/\\]))?(?P<path>(?:~|[A-Za-z]:[/\\]|/(?!/)|\\\\).*)")
_CONTENT = frozenset({"system", "pointer"})  # what a user wrote for the model, and places inside a row
_SHOWN = ("comparison", "samples", "created", "usd")  # answers and numbers: what they say is the report's subject


def without_paths(data: ReportData) -> ReportData:
    """The same data with the name alone of every absolute path. Rows, answers and system prompts stay as they are."""
    hidden = _Hidden(data)
    kept = {one.name: getattr(data, one.name) for one in fields(data)}
    changed = {name: hidden.value(value) for name, value in kept.items() if name not in (*_SHOWN, "events")}
    changed["events"] = tuple(replace(event, message=hidden.text(event.message)) for event in data.events)
    if (found := data.comparison) is not None:
        notes = tuple(map(hidden.text, found.notes))
        changed["comparison"] = replace(found, grader=hidden.text(found.grader), notes=notes)
    return replace(data, **changed)


class _Hidden:
    """The paths that the data names, longest first: a text may name one with spaces, whose end no pattern finds."""

    def __init__(self, data: ReportData) -> None:
        self._known: dict[str, str] = {}
        for value in (data.config, data.check, data.base, data.lineage, data.machine, data.state):
            self._collect(value)
        for folder in (str(home()), str(Path.home()), str(Path.cwd())):
            if len(Path(folder).parts) > 2:  # "/root" and the like would be found inside other words
                self._known.setdefault(folder, "/local/folder")
        self._known = dict(sorted(self._known.items(), key=lambda item: -len(item[0])))

    def value(self, value: Any) -> Any:
        """A value of the data, at any depth."""
        if isinstance(value, Mapping):
            return {self.value(key): one if key in _CONTENT else self.value(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        if not isinstance(value, str):
            return value
        found = _whole(value)
        return f"{found[0]}{_name(found[1])}" if found else self.text(value)

    def text(self, text: str) -> str:
        """A sentence, with the names of the paths in it."""
        for path, name in self._known.items():
            text = text.replace(path, name)
        return _INSIDE.sub(lambda found: _name(found[0]), text)

    def _collect(self, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, one in value.items():
                if key not in _CONTENT:
                    self._collect(one)
        elif isinstance(value, list | tuple):
            for one in value:
                self._collect(one)
        elif isinstance(value, str) and (found := _whole(value)) and len(re.split(r"[/\\]", found[1])) > 2:
            self._known[found[1].rstrip("/\\")] = _name(found[1])


def _whole(text: str) -> tuple[str, str] | None:
    """The scheme of a reference (such as `torch:`) and the path, where a text is an absolute path and nothing else."""
    found = _WHOLE.fullmatch(text)
    if found is None or (" " in text and not _exists(found["path"])):  # "/think Answer briefly." is no path
        return None
    return found["scheme"] or "", found["path"]


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def _name(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or "folder"
