"""The lineage of a model in words, for reports and for the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORDS = {"system": "system prompt", "template_sha256": "chat template (SHA-256)"}


def lineage_facts(lineage: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The entries of a Lineage's dictionary as names and texts. Settings are left out, because they have a section.

    >>> lineage_facts({"data_fingerprint": "9f3a", "system": None, "versions": {"torch": "2.9", "python": "3.11"}})
    [('data fingerprint', '9f3a'), ('versions', 'python 3.11, torch 2.9')]
    """
    entries = {key: value for key, value in lineage.items() if value not in (None, "", {}) and key != "settings"}
    return [(_WORDS.get(key, key.replace("_", " ")), _text(value)) for key, value in entries.items()]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one}" for name, one in sorted(value.items()))
    return str(value)
