"""Reads files of a model's folder: only regular files, inside the folder, of a limited size."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import tuneport
import tuneport.plugin
from tuneport.errors import UnavailableError

JSON_BYTES = 4 * 2**20
"""Limit for a JSON file of a model: real ones have a few kilobytes. Parsed, hostile JSON takes 30 times its size."""
TOKENIZER_BYTES = 40 * 2**20
"""Limit for a tokenizer.json: real ones have up to 35 MB (262,000 tokens, 515,000 merges)."""

_SUFFIXES = frozenset({".json", ".safetensors", ".jinja", ".py", ".model", ".tiktoken", ".spm", ".vocab", ".codes"})
_NAMES = frozenset({"vocab.txt", "merges.txt"})
_FOLDERS = ("additional_chat_templates", "chat_templates", "custom_generate")
_MOST_FILES = 10_000
_DEEPEST = 64  # levels of lists and objects; real files have under 10
_COPY = "Download or copy it again."


class DamagedModel(UnavailableError):  # noqa: N818 - names the thing
    """The model cannot be loaded from its files. The error is permanent until the files change."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading, without waiting for the writer of a pipe. Raises UnavailableError for anything
    else, and FileNotFoundError.
    """
    try:
        return tuneport.plugin.open_regular(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise UnavailableError(f"{path} cannot be opened: {_reason(error)}.", remedy=_COPY) from error


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises FileNotFoundError or UnavailableError."""
    with open_regular(path) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise UnavailableError(f"{path} cannot be read: {_reason(error)}.", remedy=_COPY) from error
    if len(content) > limit:
        raise UnavailableError(f"{path} has more than {limit:,} bytes.", remedy=_COPY)
    return content


def read_text(path: Path, limit: int = JSON_BYTES) -> str:
    """The UTF-8 text of a regular file of at most `limit` bytes. Raises FileNotFoundError or UnavailableError."""
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise UnavailableError(f"{path} is not UTF-8 text: {error.reason}.", remedy=_COPY) from error


def read_json(path: Path, limit: int = JSON_BYTES) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file. Raises UnavailableError for a damaged file, for one of
    more than `limit` bytes, and for JSON that is not an object.
    """
    try:
        content = read_bytes(path, limit)
        value = json.loads(content)
        if b"\\ud" in content.lower():  # half of a surrogate pair cannot be encoded for another process
            json.dumps(value, ensure_ascii=False).encode()
    except FileNotFoundError:
        return {}
    except RecursionError as error:
        raise UnavailableError(f"{path} is nested too deeply.", remedy=_COPY) from error
    except ValueError as error:
        raise UnavailableError(f"{path} cannot be read: {error}.", remedy=_COPY) from error
    if not isinstance(value, dict):
        raise UnavailableError(f"{path} contains no JSON object.", remedy=_COPY)
    if _deeper(value, _DEEPEST):
        raise UnavailableError(f"{path} is nested too deeply.", remedy=_COPY)
    return value


def check_inside(path: Path, folder: Path) -> None:
    """Raise UnavailableError for a symbolic link that leads out of the folder. Links into the blobs of a hub cache are
    allowed: that is how the cache stores files.
    """
    try:
        real, root = path.resolve(strict=True), folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise UnavailableError(f"{path} cannot be opened: {_reason(error)}.", remedy=_COPY) from error
    blobs = real.parent
    if real.is_relative_to(root) or (blobs.name == "blobs" and blobs.parent.name.startswith("models--")):
        return
    raise UnavailableError(
        f"{path} is a link to {real}, outside the model's folder.",
        remedy="If you trust the file, copy it into the folder.",
    )


def check_name(name: object, folder: Path) -> str:
    """A file name from an index, as a path inside the folder. Raises UnavailableError for one outside the folder."""
    parts = Path(name).parts if isinstance(name, str) else ()
    if not isinstance(name, str) or not parts or "\0" in name or name.startswith(("/", "~")) or ".." in parts:
        raise UnavailableError(
            f"The index in {folder} names {name!r:.200}, which is not a file in the folder.", remedy=_COPY
        )
    return name


def model_files(folder: Path) -> list[Path]:
    """The files of a folder that a model or tokenizer may be loaded from, sorted by name, each of them regular and
    inside the folder. Raises UnavailableError for one that is not.
    """
    files = []
    for path in sorted(_candidates(folder)):
        check_inside(path, folder)
        open_regular(path).close()
        files.append(path)
    return files


def _candidates(folder: Path) -> Iterator[Path]:
    found = 0
    for directory in (folder, *(folder / name for name in _FOLDERS)):
        if directory != folder and not directory.is_dir():
            continue
        try:
            entries = os.scandir(directory)
        except OSError as error:
            raise UnavailableError(f"{directory} cannot be read: {_reason(error)}.", remedy=_COPY) from error
        with entries:
            for entry in entries:
                if Path(entry.name).suffix not in _SUFFIXES and entry.name not in _NAMES:
                    continue
                found += 1
                if found > _MOST_FILES:
                    raise UnavailableError(
                        f"{folder} contains more than {_MOST_FILES:,} model files.",
                        remedy="Name the folder of one model.",
                    )
                yield directory / entry.name


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested deeper than `levels`, found without recursion."""
    level = [value]
    for _ in range(levels):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def no_weights(folder: Path) -> UnavailableError:
    """The error for a model's folder without .safetensors weights."""
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if not pickled:
        return UnavailableError(
            f"Some .safetensors files are missing in {folder}.", remedy="Download or copy it again."
        )
    return UnavailableError(
        f"The weights in {folder} are a pickle, {pickled[0]}, which can run any code when it is read.",
        remedy="Only .safetensors and .gguf weights are loaded. If you trust the file, convert it: "
        "AutoModelForCausalLM.from_pretrained(…).save_pretrained(…)",
    )
