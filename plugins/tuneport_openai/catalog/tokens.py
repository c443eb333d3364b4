"""Sizes in tokens: counted where the model's vocabulary is on this machine, else estimated."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tuneport.plugin import Example, measure_example

_VOCABULARIES = "https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"


@dataclass(frozen=True, slots=True)
class Counter:
    """Counts with one vocabulary. Can be sent to other processes."""

    encoding: str

    def __call__(self, examples: Sequence[Example]) -> list[int]:
        encode = _encoding(self.encoding).encode
        return [int(measure_example(one, lambda text: len(encode(text, disallowed_special=())))) for one in examples]


def counter(encoding: str | None) -> Counter | None:
    """A counter for that vocabulary, or None where it is not on this machine. Uses no network."""
    if encoding is None or importlib.util.find_spec("tiktoken") is None or not _is_cached(encoding):
        return None
    return Counter(encoding)


def how_to_count(encoding: str) -> str:
    """What to type so that tokens are counted."""
    return (
        f"To count them, fetch the vocabulary once: python -c \"import tiktoken; tiktoken.get_encoding('{encoding}')\""
    )


def _is_cached(encoding: str) -> bool:
    """Whether tiktoken's own cache has the vocabulary: checked first, because tiktoken would download it."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder is None:
        folder = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    name = hashlib.sha1(_VOCABULARIES.format(name=encoding).encode(), usedforsecurity=False).hexdigest()
    return bool(folder) and (Path(folder) / name).is_file()


@cache
def _encoding(name: str) -> Any:
    import tiktoken

    return tiktoken.get_encoding(name)
