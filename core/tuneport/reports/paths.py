"""Removes this machine's folders from a report, so that it can be sent to others. The names of files stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tuneport.homefolder import home
from tuneport.reports.data import ReportData

_PART = r"""[^\s/\\'"`<>|:;,()\[\]{}]+"""
# An absolute path inside a text: after a root that nothing else starts with, or with at least two parts. It does not
# follow a letter or a dot, so that URLs (https://host/part) and relative paths stay.
_INSIDE = re.compile(
    rf"(?<![\w/\\~.])(?:(?:file://|~\w*|[A-Za-z]:|\\)(?:[/\\]{_PART})+|(?:/{_PART}){{2,}})[/\\]?", re.IGNORECASE
)
_PATH = re.compile(r"(?P<scheme>\w{2,}:(?=[/~\\]|[A-Za-z]:[/\\]))?(?P<path>(?:~|[A-Za-z]:[/\\]|/(?!/)|\\\\).*)")
_CONTENT = frozenset({"system", "pointer"})  # text that a user wrote for the model, and positions inside a row
_SHOWN = ("comparison", "samples", "created", "usd")  # answers and numbers, which are the subject of the report


def without_paths(data: ReportData) -> ReportData:
    """The same data with every absolute path reduced to its name. Rows, answers and system prompts do not change."""
    hidden = _Hidden(data)
    kept = {one.name: getattr(data, one.name) for one in fields(data)}
    changed = {name: hidden.value(value) for name, value in kept.items() if name not in (*_SHOWN, "events")}
    changed["events"] = tuple(replace(event, message=hidden.text(event.message)) for event in data.events)
    if (found := data.comparison) is not None:
        notes = tuple(map(hidden.text, found.notes))
        changed["comparison"] = replace(found, grader=hidden.text(found.grader), notes=notes)
    return replace(data, **changed)


class _Hidden:
    """The paths in the data, longest first. They are replaced literally, because no pattern finds the end of a path
    with spaces.
    """

    def __init__(self, data: ReportData) -> None:
        self._known: dict[str, str] = {}
        for value in (data.config, data.check, data.base, data.lineage, data.machine, data.state):
            self._collect(value)
        for folder in (str(home()), str(Path.home()), str(Path.cwd())):
            if len(Path(folder).parts) > 2:  # "/root" and the like occur inside other words
                self._known.setdefault(folder, "/local/folder")
        self._known = dict(sorted(self._known.items(), key=lambda item: -len(item[0])))

    def value(self, value: Any) -> Any:
        """Remove the folders in a value, at any depth."""
        if isinstance(value, Mapping):
            return {self.value(key): one if key in _CONTENT else self.value(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        if not isinstance(value, str):
            return value
        found = _as_path(value)
        return f"{found[0]}{_name(found[1])}" if found else self.text(value)

    def text(self, text: str) -> str:
        """Remove the folders in a sentence."""
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
        elif isinstance(value, str) and (found := _as_path(value)) and len(re.split(r"[/\\]", found[1])) > 2:
            self._known[found[1].rstrip("/\\")] = _name(found[1])


def _as_path(text: str) -> tuple[str, str] | None:
    """The scheme of a reference (such as `torch:`) and the path, if a text is nothing but an absolute path."""
    found = _PATH.fullmatch(text)
    if found is None or (" " in text and not _exists(found["path"])):  # "/think Answer briefly." is not a path
        return None
    return found["scheme"] or "", found["path"]


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def _name(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or "folder"
