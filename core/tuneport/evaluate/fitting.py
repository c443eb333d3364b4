"""Which grader fits the answers of a dataset, and whether one that was named clearly does not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from tuneport.dataset import Example
from tuneport.errors import DataError
from tuneport.evaluate.exchange import parsed_json, prompt_and_reference

Kind = Literal["labels", "JSON", "marked numbers", "numbers", "short texts", "long texts", "unknown"]

AUTO = "auto"
LOOKED_AT = 5_000
"""Rows whose answers are looked at."""
_LABEL = 80  # characters of a label at most
_SHORT_WORDS = 6
_MARKED = re.compile(r"####[^\d\n]*\d")
_NUMBER = re.compile(r"[-+\u2212]?\s?[$€£¥]?\s?[-+\u2212]?(\d[\d,]*(\.\d+)?|\.\d+)([eE][-+]?\d+)?\s?[%€$£¥]?")
_FITTING: dict[Kind, tuple[str, str]] = {
    "labels": ("exact", "the answers are a set of labels"),
    "JSON": ("json", "the answers are JSON"),
    "marked numbers": ("numeric", "the answers end in a number behind ####"),
    "numbers": ("numeric", "the answers are numbers"),
    "short texts": ("normalised", "the answers are short texts"),
    "long texts": ("token_f1", "the answers are long texts"),
    "unknown": ("exact", "there is no answer to look at"),
}
_MISFITS: dict[Kind, tuple[str, ...]] = {
    "JSON": ("exact", "normalised", "contains"),
    "marked numbers": ("exact", "normalised", "contains"),
    "long texts": ("exact", "normalised", "contains"),
}
_ASKS = {
    "exact": "the same text to the letter",
    "normalised": "the same words",
    "contains": "the whole reference within the answer",
}


@dataclass(frozen=True, slots=True)
class Fit:
    """The grader that fits some answers: its name, the kind of answers, and why in words."""

    grader: str
    kind: Kind
    why: str

    def misfit(self, named: str) -> str | None:
        """What to say of a grader that was named and clearly does not fit; None where it may."""
        if named not in _MISFITS.get(self.kind, ()):
            return None
        return (
            f"The grader {named} asks for {_ASKS[named]}, and {self.why}: right answers may score 0. "
            f"Set compare.grader (--grader) to {self.grader}."
        )


def fitting(examples: Iterable[Example], rows: int = LOOKED_AT) -> Fit:
    """The grader that fits the answers of the first `rows` examples."""
    kind = _kind([text for example in islice(examples, rows) if (text := _reference(example))])
    return Fit(_FITTING[kind][0], kind, _FITTING[kind][1])


def _reference(example: Example) -> str:
    try:
        return prompt_and_reference(example)[1].strip()
    except DataError:
        return ""


def _kind(texts: list[str]) -> Kind:
    """The kind of answers. JSON and numbers must be all of them: their graders refuse any other reference."""
    if not texts:
        return "unknown"
    if all(isinstance(parsed_json(text), dict | list) for text in texts):
        return "JSON"
    if all(_MARKED.search(text) for text in texts):
        return "marked numbers"
    short = all(len(text) <= _LABEL and "\n" not in text for text in texts)
    if short and len(set(texts)) <= max(1, len(texts) // 2):
        return "labels"
    if all(_NUMBER.fullmatch(text) for text in texts):
        return "numbers"
    if short and not any(" " in text for text in texts):
        return "labels"  # such as card_arrival, each of them rare
    words = sum(len(text.split()) for text in texts) / len(texts)
    return "short texts" if short and words <= _SHORT_WORDS else "long texts"
