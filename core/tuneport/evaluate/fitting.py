"""Chooses the grader that fits the answers of a dataset, and warns of one that clearly does not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from tuneport.dataset import Example
from tuneport.errors import DataError
from tuneport.evaluate.exchange import parse_json, prompt_and_reference

Kind = Literal["labels", "JSON", "marked numbers", "numbers", "short texts", "long texts", "unknown"]

AUTO = "auto"
MOST_ROWS = 5_000
"""The number of rows whose answers are read."""
_LABEL = 80  # the most characters of a label
_SHORT_WORDS = 6
_MARKED = re.compile(r"####[^\d\n]*\d")
_NUMBER = re.compile(r"[-+\u2212]?\s?[$€£¥]?\s?[-+\u2212]?(\d[\d,]*(\.\d+)?|\.\d+)([eE][-+]?\d+)?\s?[%€$£¥]?")
_FITTING: dict[Kind, tuple[str, str]] = {
    "labels": ("exact", "the answers are a set of labels"),
    "JSON": ("json", "the answers are JSON"),
    "marked numbers": ("numeric", "the answers end in a number after ####"),
    "numbers": ("numeric", "the answers are numbers"),
    "short texts": ("normalized", "the answers are short texts"),
    "long texts": ("token_f1", "the answers are long texts"),
    "unknown": ("exact", "there are no answers to read"),
}
_MISFITS: dict[Kind, tuple[str, ...]] = {
    "JSON": ("exact", "normalized", "contains"),
    "marked numbers": ("exact", "normalized", "contains"),
    "long texts": ("exact", "normalized", "contains"),
}
_REQUIRES = {
    "exact": "exactly the same text",
    "normalized": "the same words",
    "contains": "the complete reference in the answer",
}


@dataclass(frozen=True, slots=True)
class Fit:
    """The grader that fits some answers: its name, the kind of answers, and the reason in words."""

    grader: str
    kind: Kind
    why: str

    def misfit(self, named: str) -> str | None:
        """A warning if a grader clearly does not fit; None if it may."""
        if named not in _MISFITS.get(self.kind, ()):
            return None
        return (
            f"The grader {named} requires {_REQUIRES[named]}, but {self.why}: correct answers may score 0. "
            f"Set compare.grader (--grader) to {self.grader}."
        )


def fit_grader(examples: Iterable[Example], rows: int = MOST_ROWS) -> Fit:
    """Choose the grader that fits the answers of the first `rows` examples."""
    kind = _kind([text for example in islice(examples, rows) if (text := _reference(example))])
    return Fit(_FITTING[kind][0], kind, _FITTING[kind][1])


def _reference(example: Example) -> str:
    try:
        return prompt_and_reference(example)[1].strip()
    except DataError:
        return ""


def _kind(texts: list[str]) -> Kind:
    """The kind of answers. JSON and numbers only if all are, because their graders refuse other references."""
    if not texts:
        return "unknown"
    if all(isinstance(parse_json(text), dict | list) for text in texts):
        return "JSON"
    if all(_MARKED.search(text) for text in texts):
        return "marked numbers"
    short = all(len(text) <= _LABEL and "\n" not in text for text in texts)
    if short and len(set(texts)) <= max(1, len(texts) // 2):
        return "labels"
    if all(_NUMBER.fullmatch(text) for text in texts):
        return "numbers"
    if short and not any(" " in text for text in texts):
        return "labels"  # such as card_arrival, even if each is rare
    words = sum(len(text.split()) for text in texts) / len(texts)
    return "short texts" if short and words <= _SHORT_WORDS else "long texts"
