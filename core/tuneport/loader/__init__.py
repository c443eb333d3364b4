"""Plugins and their backends: found by entry point, and none can break the others."""

from __future__ import annotations

from tuneport.loader.loader import PluginBroken, PluginInfo, Plugins, availability, load, told_by

__all__ = ["PluginBroken", "PluginInfo", "Plugins", "availability", "load", "told_by"]
