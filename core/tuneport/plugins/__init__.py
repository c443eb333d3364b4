"""Plugins and their backends: found by entry point, and none can break the others."""

from __future__ import annotations

from tuneport.plugins.loader import PluginBroken, PluginInfo, Plugins, availability, load, told_by

__all__ = ["PluginBroken", "PluginInfo", "Plugins", "availability", "load", "told_by"]
