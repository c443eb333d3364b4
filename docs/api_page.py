"""Writes docs/api.md from the public modules: every name, its signature and its docstring; `--check` reports whether
the page is out of date.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Iterator
from enum import Enum
from functools import cache, cached_property
from importlib import import_module, util
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, Generic, Literal, get_args, get_origin

import tuneport

PAGE = Path(__file__).parent / "api.md"
DOORS = (
    "tuneport",
    "tuneport.errors",
    "tuneport.plugin",
    "tuneport.html",
    "tuneport.hosted",
    "tuneport.local",
    "tuneport.testing",
)
INTRODUCTION = """\
<!-- Written by docs/api_page.py from the code: change it there, then run `make docs`. -->

# API

What the public modules export. Nothing else is promised. A name that two modules export is described once, where users
import it from.
"""


def main() -> int:
    """Write the page, or with `--check` compare it with the code. The exit status is 1 when it is out of date."""
    text = "\n".join([INTRODUCTION, *_sections()])
    if PAGE.is_file() and PAGE.read_text() == text:
        return 0
    if "--check" in sys.argv:
        print(f"docs/{PAGE.name} is out of date: run `make docs`.")
        return 1
    PAGE.write_text(text)
    print(f"wrote docs/{PAGE.name}")
    return 0


def public_modules() -> list[ModuleType]:
    """The public modules of this version, imported."""
    return [import_module(name) for name in DOORS if util.find_spec(name) is not None]


def exports(module: ModuleType) -> list[str]:
    """The names that a public module exports, sorted."""
    return sorted(module.__all__)


def _sections() -> Iterator[str]:
    described: dict[int, str] = {}
    for module in public_modules():
        yield f"## `{module.__name__}`\n"
        yield f"{inspect.getdoc(module)}\n"
        for name in exports(module):
            value = getattr(module, name)
            if inspect.ismodule(value):
                yield f"### `{module.__name__}.{name}`\n\nThe module `{value.__name__}`, below.\n"
            elif id(value) in described:
                yield f"### `{module.__name__}.{name}`\n\nThe same as `{described[id(value)]}`.\n"
            else:
                described[id(value)] = f"{module.__name__}.{name}"
                yield from _describe(f"{module.__name__}.{name}", value)


def _describe(path: str, value: Any) -> Iterator[str]:
    yield f"### `{path}`\n"
    if inspect.isclass(value):
        bases = [base.__name__ for base in value.__bases__ if base not in (object, Generic)]
        title = f"{value.__name__}({', '.join(bases)})" if bases else value.__name__
        yield f"```text\nclass {title}\n```\n"
        yield from _prose(value.__doc__)
        if _takes_keywords(value):
            yield "Its fields are passed by keyword.\n"
        yield from _fields(value)
        yield from _methods(value)
    elif inspect.isroutine(value):
        yield f"```text\n{_signature(value.__name__, value)}\n```\n"
        yield from _prose(value.__doc__)
    elif get_origin(value) is Literal:
        yield f"One of {', '.join(f'`{one!r}`' for one in get_args(value))}.\n"
    elif isinstance(value, UnionType):
        yield f"One of {', '.join(f'`{one.__name__}`' for one in get_args(value))}.\n"
    elif get_origin(value) is Literal:
        yield f"One of {', '.join(f'`{one}`' for one in get_args(value))}.\n"
    else:
        yield f"An instance of `{type(value).__name__}`. {(inspect.getdoc(value) or '').partition('.')[0]}.\n"


def _takes_keywords(cls: type) -> bool:
    """Whether a class is made from its fields, and each must be named."""
    if "__dataclass_fields__" not in vars(cls):
        return False
    return all(one.kw_only for one in vars(cls)["__dataclass_fields__"].values() if one.init)


def _prose(docstring: str | None) -> Iterator[str]:
    """A docstring's text; its examples as a block."""
    lines = inspect.cleandoc(docstring or "").split("\n")
    example = next((number for number, line in enumerate(lines) if line.startswith(">>>")), len(lines))
    text = "\n".join(lines[:example]).strip()
    if text:
        yield f"{text}\n"
    if example < len(lines):
        yield "```text\n" + "\n".join(lines[example:]).strip() + "\n```\n"


def _fields(cls: type) -> Iterator[str]:
    if issubclass(cls, Enum):
        yield f"Values: {', '.join(f'`{one.value}`' for one in cls)}.\n"
        return
    body = _definitions()[cls.__name__].body if cls.__name__ in _definitions() else []
    settings = getattr(cls, "model_fields", {})
    rows = []
    for line, after in itertools.pairwise([*body, ast.Pass()]):
        if isinstance(line, ast.AnnAssign) and not (name := ast.unparse(line.target)).startswith("_"):
            default = ast.unparse(line.value) if line.value is not None else ""
            text = (settings[name].description or "") if name in settings else ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = " ".join(str(after.value.value).split())
            kind = ast.unparse(line.annotation).strip("'").replace("|", "\\|")
            shown = (
                f"`{default}`".replace("|", "\\|") if default and not default.startswith(("field(", "Field(")) else ""
            )
            rows.append(f"| `{name}` | `{kind}` | {shown} | {text} |")
    if rows:
        yield "\n".join(["| field | type | default | |", "|---|---|---|---|", *rows]) + "\n"


@cache
def _definitions() -> dict[str, ast.ClassDef]:
    """The definitions of exported classes by name. (`inspect.getsource` looks in the module that exports them.)"""
    sources = (path.read_text() for path in sorted(Path(tuneport.__file__).parent.rglob("*.py")))
    classes = (one for source in sources for one in ast.parse(source).body if isinstance(one, ast.ClassDef))
    return {one.name: one for one in classes if any("public" in ast.unparse(mark) for mark in one.decorator_list)}


def _methods(cls: type) -> Iterator[str]:
    for name, attribute in sorted(vars(cls).items()):
        member = getattr(attribute, "__func__", attribute)
        if name.startswith("_") or getattr(member, "__module__", "").startswith("pydantic."):
            continue
        if isinstance(member, property | cached_property):
            title, docstring = f"{name}", inspect.getdoc(member)
        elif inspect.isfunction(member):
            title, docstring = _signature(name, member), inspect.getdoc(member)
        else:
            continue
        text = "\n\n".join(one.strip() for one in _prose(docstring))
        yield f"- `{title}`\n\n{textwrap.indent(text, '  ')}\n"


def _signature(name: str, function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [one for one in signature.parameters.values() if one.name not in ("self", "cls")]
    shown = re.sub(r"<\w+ .* at 0x\w+>", "...", str(signature.replace(parameters=parameters)))
    return f"{name}{shown}".replace("'", "").replace("tuneport.", "")


if __name__ == "__main__":
    sys.exit(main())
