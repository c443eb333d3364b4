"""Plugins and their backends: found by entry point, and none can break the others."""

from __future__ import annotations

from tuneport.loader.alternatives import alternatives, closing_note
from tuneport.loader.availability import ask_backend, availabilities, availability
from tuneport.loader.declaration import PluginBroken, missing_verbs
from tuneport.loader.loader import PluginInfo, Plugins, load
from tuneport.loader.together import ask_together

__all__ = [
    "PluginBroken",
    "PluginInfo",
    "Plugins",
    "alternatives",
    "ask_backend",
    "ask_together",
    "availabilities",
    "availability",
    "closing_note",
    "load",
    "missing_verbs",
]
