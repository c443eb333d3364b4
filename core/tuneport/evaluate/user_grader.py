"""The user's own grader, `module:function`: found without running it, imported when it first grades."""

from __future__ import annotations

import ast
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tuneport.errors import UsageError

_EXAMPLE = "Write module:function, such as grading:score for the function score of grading.py in this folder."


class OwnGrader:
    """The function that `module:function` names, in the working folder or in an installed package.

    Creating one runs nothing: it finds the module and reads its source. Raises UsageError if there is no such module or
    it does not define the name.
    """

    def __init__(self, which: str) -> None:
        self.which = which
        self.module, _, self.name = which.partition(":")
        self.folder = str(Path.cwd())
        self._function: Callable[..., Any] | None = None
        if self.module.endswith(".py") or "/" in self.module:
            raise UsageError(f"{which!r} names a file, not a module.", remedy=_EXAMPLE)
        self._find()

    def __call__(self, *arguments: Any) -> Any:
        """Grade an answer. The first call imports the module."""
        return self.load()(*arguments)

    def load(self) -> Callable[..., Any]:
        """Import the function and return it. Raises UsageError if the import fails."""
        if self._function is None:
            self._function = self._import()
        return self._function

    def _find(self) -> None:
        parts = self.module.split(".")
        if not all(part.isidentifier() for part in (*parts, *self.name.split("."))):
            raise self._error("it does not name a module and a function")
        if self.module in sys.modules:
            return  # imported already
        spec = _spec(parts, self.folder)
        if spec is None:
            raise self._error(f"there is no module {self.module!r}")
        source = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
        if source is None:
            return  # compiled, or part of Python: only importing can find out
        try:
            tree = ast.parse(source.read_bytes())
        except (SyntaxError, ValueError, OSError, RecursionError, MemoryError) as error:
            raise UsageError(
                f"The grader {self.which} cannot be read: {type(error).__name__}: {error}.",
                remedy=f"See {source}.",
            ) from error
        if not _defines(tree.body, self.name.split(".")):
            raise self._error(f"{source} does not define {self.name!r}")

    def _import(self) -> Callable[..., Any]:
        sys.path.insert(0, self.folder)
        try:
            function = functools.reduce(getattr, self.name.split("."), importlib.import_module(self.module))
        except (ImportError, AttributeError, ValueError) as error:
            raise self._error(str(error)) from error
        except Exception as error:  # importing runs the user's code
            raise UsageError(
                f"The grader {self.which} cannot be imported: {type(error).__name__}: {error}.",
                remedy=f'Try: python -c "import {self.module}"',
            ) from error
        finally:
            sys.path.remove(self.folder)
        if not callable(function):
            kind = type(function).__name__
            raise UsageError(f"The grader {self.which} is not a function but a {kind}.", remedy=_EXAMPLE)
        found: Callable[..., Any] = function
        return found

    def _error(self, why: str) -> UsageError:
        return UsageError(f"The grader {self.which} cannot be imported from {self.folder}: {why}.", remedy=_EXAMPLE)


def _spec(parts: list[str], folder: str) -> ModuleSpec | None:
    """Find a module. `importlib.util.find_spec` would import the package of a module in a package."""
    found = PathFinder.find_spec(parts[0], [folder]) or find_spec(parts[0])
    for end in range(2, len(parts) + 1):
        if found is None or found.submodule_search_locations is None:
            return None
        found = PathFinder.find_spec(".".join(parts[:end]), list(found.submodule_search_locations))
    return found


def _defines(body: list[ast.stmt], names: list[str]) -> bool:
    """Whether statements may define a name. A star import or `__getattr__` may define any name."""
    for statement in _flatten(body):
        if isinstance(statement, ast.ClassDef) and statement.name == names[0] and len(names) > 1:
            # It may be inherited, which only importing can find out.
            return bool(statement.bases) or _defines(statement.body, names[1:])
        if {names[0], "*", "__getattr__"} & set(_names(statement)):
            return True
    return False


def _flatten(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements, and those inside `if`, `try`, `with`, `for` and `while`."""
    for statement in body:
        yield statement
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for part in ("body", "orelse", "finalbody"):
                yield from _flatten(getattr(statement, part, []))
            for handler in getattr(statement, "handlers", []):
                yield from _flatten(handler.body)


def _names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (one.asname or one.name.partition(".")[0] for one in statement.names)
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
