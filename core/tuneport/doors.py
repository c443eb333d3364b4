"""The public modules: each lists what it exports, and imports nothing before it is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_T = TypeVar("_T")

USERS = "tuneport"
AUTHORS = "tuneport.plugin"
HOSTED = "tuneport.hosted"
LOCAL = "tuneport.local"


def public(door: str = USERS) -> Callable[[_T], _T]:
    """Mark a class or function as exported by `door`: tracebacks and reprs show where users can import it from.

    Annotations of a class are evaluated first, because libraries look their names up in the module of the class.
    """

    def mark(exported: _T) -> _T:
        if isinstance(exported, type):
            names = {**vars(sys.modules[exported.__module__]), exported.__name__: exported}
            own = vars(exported).get("__annotations__", {})
            own.update({name: _evaluate(hint, names) for name, hint in own.items()})
        exported.__module__ = door
        return exported

    return mark


def _evaluate(hint: Any, names: dict[str, Any]) -> Any:
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, names)  # noqa: S307 - an annotation in our own source
    except NameError:  # imported for type checkers alone
        return hint


def lazy(door: str, exports: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a door: `exports` maps a module below `tuneport` to the names that it defines."""
    module_of = {name: module for module, names in exports.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {door!r} has no attribute {name!r}")
        module = importlib.import_module(f"tuneport.{module_of[name]}" if module_of[name] else f"tuneport.{name}")
        value = getattr(module, name) if module_of[name] else module
        vars(importlib.import_module(door))[name] = value
        return value

    return find
