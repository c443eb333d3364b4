"""Reads YAML, TOML and JSON into plain values, and keeps the line of every key."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from typing import Any

from tuneport.errors import ConfigError
from tuneport.files import open_regular
from tuneport.homefolder import near_files

KeyPath = tuple[str | int, ...]
SET = "--set"

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 40


@dataclass(frozen=True)
class Source:
    """Where a config was read: the file as the user named it, the line (from 1) of each key by its path, and the
    command-line options, such as `--set` or `--epochs`, by the path of the key that they set. All sources compare
    equal, because two configs with the same values are the same config.
    """

    file: str | None = field(default=None, compare=False)
    lines: Mapping[KeyPath, int] = field(default_factory=dict, compare=False)
    options: Mapping[KeyPath, str] = field(default_factory=dict, compare=False)

    def locate(self, path: KeyPath) -> tuple[str, int | None]:
        """The start of a message about a key (`tune.yaml:7: train.epochs: `, `--epochs: `), and its line, or that of
        the enclosing key.
        """
        key = f"{format_path(path)}: " if path else ""
        for given, option in self.options.items():
            if path[: len(given)] == given or given[: len(path)] == path != ():
                return f"{option} {key}" if option == SET else f"{option}: ", None
        if self.file is None:
            return key, None
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return f"{self.file}:{self.lines[path[:end]]}: {key}", self.lines[path[:end]]
        return f"{self.file}: {key}", None


def format_path(path: KeyPath) -> str:
    """A path as text: `("data", "train", 0)` is `data.train[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def read(path: Path, file: str) -> tuple[dict[str, Any], Source]:
    """The plain values of a YAML, TOML or JSON file, and where they are. `file` is its name for messages.

    Raises ConfigError if the file cannot be read, repeats a key, or holds anything but plain values.
    """
    readers = {".yaml": _yaml, ".yml": _yaml, ".toml": _toml, ".json": _json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(
            f"{file}: a config must be YAML, TOML or JSON.",
            remedy="Give it a name that ends in .yaml, .toml or .json.",
            file=file,
        )
    text = _text(path, file)
    try:
        values, lines = reader(text, file)
    except RecursionError:
        raise ConfigError(f"{file}: it is nested too deeply (the limit is {MAX_DEPTH} levels).", file=file) from None
    source = Source(file, lines)
    plain = _Plain(source).convert(values, ())
    if plain is None:
        plain = {}
    if not isinstance(plain, dict):
        raise ConfigError(
            f"{file}: it has no keys.",
            remedy="Start with `model: torch:smollm2-135m`, or run: tuneport init DATA",
            file=file,
        )
    return plain, source


def parse_value(text: str, label: str) -> Any:
    """Parse one YAML value, such as `1e-4`, `true` or `[a, b]`. `label` names it in messages."""
    try:
        values, _ = _yaml(text, label)
    except ConfigError as error:
        raise ConfigError(f"{label}: its value is not valid YAML; put it in quotes.", key=error.key) from None
    except RecursionError:
        raise ConfigError(f"{label}: its value is nested too deeply (the limit is {MAX_DEPTH} levels).") from None
    return _Plain(Source(label)).convert(values, ())


class _Plain:
    """Copies a parser's values into dict, list, str, int, float, bool and None, and limits how far aliases expand."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.values = 0

    def convert(self, value: Any, path: KeyPath) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.error(path, f"it has more than {MAX_VALUES:,} values after its aliases are expanded")
        if len(path) > MAX_DEPTH:
            raise self.error(path[:3], f"it is nested too deeply (the limit is {MAX_DEPTH} levels)")
        tag = getattr(getattr(value, "tag", None), "value", None)
        if tag is not None:
            raise self.error(path, f"the tag {tag} is not allowed in a config; write a plain value")
        if isinstance(value, dict):
            return {self.key(key, path): self.convert(one, (*path, key)) for key, one in value.items()}
        if isinstance(value, list):
            return [self.convert(one, (*path, index)) for index, one in enumerate(value)]
        return self.scalar(value, path)

    def scalar(self, value: Any, path: KeyPath) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str(value)
        if type(value).__name__ == "ScalarBoolean":  # ruamel's boolean with an anchor is a subclass of int
            return bool(value)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        if isinstance(value, date | time):
            return value.isoformat()
        number = isinstance(value, float)
        raise self.error(path, "is not a finite number" if number else "is not a plain value such as text or a number")

    def key(self, key: Any, path: KeyPath) -> str:
        if not isinstance(key, str):
            raise self.error((*path, str(key)), "a key must be text; quote it")
        return str(key)

    def error(self, path: KeyPath, problem: str) -> ConfigError:
        where, line = self.source.locate(path)
        return ConfigError(f"{where}{problem}", file=self.source.file, line=line, key=format_path(path) or None)


def _text(path: Path, file: str) -> str:
    try:
        with open_regular(path) as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: file not found.",
            remedy=f"{near_files(file)}`tuneport init DATA` writes a config for your data.",
            file=file,
        ) from None
    except OSError as error:
        raise ConfigError(f"{file}: it cannot be read: {error.strerror or error}.", file=file) from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(
            f"{file}: it is larger than {MAX_BYTES:,} bytes, the limit of a config. Is it the data file?", file=file
        )
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: it is not UTF-8. Save it as UTF-8.", file=file, line=line) from None


def _yaml(text: str, file: str) -> tuple[Any, dict[KeyPath, int]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    # ruamel's time grows with the square of the depth of brackets, long before it gives up.
    depth = 0
    for bracket in re.finditer(r"[][{}]", text):
        depth = depth + 1 if bracket[0] in "[{" else max(0, depth - 1)
        if depth > 10 * MAX_DEPTH:
            raise RecursionError
    try:
        values = YAML(typ="rt", pure=True).load(text)
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        line = mark.line + 1 if mark else None
        problem = str(getattr(error, "problem", None) or "it is not valid YAML")
        # ruamel quotes both values of a repeated key. Our messages show no values.
        twice = re.match(r'found duplicate key "(.*?)"', problem)
        if twice:
            problem = f"the key {twice[1]!r} is written twice"
        if problem == "but found another document":
            problem = "a config is one YAML document, and a second one starts here"
        at = f"{file}:{line}" if line else file
        raise ConfigError(f"{at}: {problem}", file=file, line=line, key=twice[1] if twice else None) from None

    lines: dict[KeyPath, int] = {}
    _note_lines(values, (), (), lines)
    return values, lines


def _note_lines(value: Any, path: KeyPath, above: tuple[int, ...], lines: dict[KeyPath, int]) -> None:
    """Record the line of each key and element under a node of ruamel's."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    # A node that an alias repeats has its lines already, and one that contains itself would never end.
    if id(value) in above or len(path) > MAX_DEPTH or len(lines) > MAX_VALUES:
        return
    if isinstance(value, CommentedMap | CommentedSeq):
        positions = value.lc.data or {}
        pairs = value.items() if isinstance(value, CommentedMap) else enumerate(value)
        for key, one in pairs:
            if key in positions:
                lines[(*path, key)] = positions[key][0] + 1
            _note_lines(one, (*path, key), (*above, id(value)), lines)


def _json(text: str, file: str) -> tuple[Any, dict[KeyPath, int]]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        problem = error.msg[0].lower() + error.msg[1:]
        raise ConfigError(f"{file}:{error.lineno}: {problem}", file=file, line=error.lineno) from None
    lines: dict[KeyPath, int] = {}
    for path, line in _json_keys(text):
        if path in lines:
            raise ConfigError(
                f"{file}:{line}: the key {path[-1]!r} is written twice", file=file, line=line, key=format_path(path)
            )
        lines[path] = line
    return values, lines


def _json_keys(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Each key and array element of a valid JSON text with its line, in order."""
    path: list[str | int] = []  # the last part is the current key or index, "" before the first key
    line, expects = 1, ""
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[][{},:\n]|[^][{},:\s"]+', text):
        word = token[0]
        if word == "\n":
            line += 1
            continue
        if expects == "item" and word != "]":
            yield tuple(path), line
            expects = ""
        if expects == "key" and word != "}":
            path[-1] = json.loads(word)
            yield tuple(path), line
            expects = ""
        elif word in "{[":
            path.append("" if word == "{" else 0)
            expects = "key" if word == "{" else "item"
        elif word in "}]":
            path.pop()
            expects = ""
        elif word == ",":
            last = path[-1]
            expects = "key" if isinstance(last, str) else "item"
            if isinstance(last, int):
                path[-1] = last + 1


def _toml(text: str, file: str) -> tuple[Any, dict[KeyPath, int]]:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        problem = re.sub(r"\s*\(at .*\)$", "", str(error))
        twice = _find_repeated_toml_key(text) if problem.startswith("Cannot ") else None
        if twice:
            problem, line = f"the key {twice[0]!r} is written twice", twice[1]
        raise ConfigError(f"{file}:{line}: {problem[0].lower()}{problem[1:]}", file=file, line=line) from None

    lines: dict[KeyPath, int] = {}
    for path, number in _toml_keys(text):
        lines.setdefault(path, number)
    return values, lines


def _toml_keys(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Each key that starts a line, with its line. tomllib gives no positions, so keys are found by a pattern. A line in
    a multi-line string that looks like a key can at worst cause a wrong line number in a message.
    """
    prefix: KeyPath = ()
    key = r"""(?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*"""
    for number, content in enumerate(text.split("\n"), start=1):
        header = re.match(rf"\s*\[\[?\s*({key})\s*\]", content)
        assignment = re.match(rf"\s*({key})\s*=", content)
        if header:
            prefix = _toml_parts(header[1])
            yield prefix, number
        elif assignment:
            parts = _toml_parts(assignment[1])
            yield from (((*prefix, *parts[:end]), number) for end in range(1, len(parts) + 1))


def _find_repeated_toml_key(text: str) -> tuple[str, int] | None:
    seen: dict[KeyPath, int] = {}
    for path, number in _toml_keys(text):
        if path in seen and number != seen[path]:
            return format_path(path), number
        seen[path] = number
    return None


def _toml_parts(key: str) -> KeyPath:
    return tuple(part.strip("\"' ") for part in re.findall(r"""[\w-]+|"[^"]*"|'[^']*'""", key))
