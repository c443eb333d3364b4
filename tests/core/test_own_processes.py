"""The processes that tuneport starts import nothing from the folder in which a user works."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCES = Path(__file__).parents[2]


def commands(source: str) -> list[list[ast.expr]]:
    """The command lines in a source that begin with this interpreter."""
    lists = [one.elts for one in ast.walk(ast.parse(source)) if isinstance(one, ast.List) and one.elts]
    return [elements for elements in lists if ast.unparse(elements[0]) == "sys.executable"]


def test_every_process_is_kept_from_the_working_folder() -> None:
    found = 0
    for path in [*(SOURCES / "core").rglob("*.py"), *(SOURCES / "plugins").rglob("*.py")]:
        for elements in commands(path.read_text("utf-8")):
            found += 1
            assert ast.unparse(elements[1]) in ("'-P'", "'-I'"), f"{path}: python takes the working folder in first"
    assert found >= 7
