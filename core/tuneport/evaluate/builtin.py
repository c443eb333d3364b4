"""The built-in graders, which score an answer by the reference of its row."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tuneport.dataset import Example
from tuneport.errors import DataError
from tuneport.evaluate.exchange import NOT_JSON, parse_json, prompt_and_reference


def exact(example: Example, answer: str) -> float:
    """1 if the answer equals the reference, apart from white space around it."""
    return float(answer.strip() == _reference(example).strip())


def normalized(example: Example, answer: str) -> float:
    """1 if both have the same words. Case, punctuation, white space and Unicode forms are ignored."""
    reference = _reference(example)
    return float(_plain(answer) == _plain(reference)) if _plain(reference) else exact(example, answer)


def contains(example: Example, answer: str) -> float:
    """1 if the answer contains the reference as complete words, in any case."""
    wanted = _fold(_reference(example))
    if not wanted:
        return exact(example, answer)
    return float(re.search(rf"(?<!{_WORD}){re.escape(wanted)}(?!{_WORD})", _fold(answer)) is not None)


def token_f1(example: Example, answer: str) -> float:
    """The harmonic mean of precision and recall over the words of `normalized`: SQuAD's F1, with articles."""
    wanted, given = Counter(_words(_reference(example))), Counter(_words(answer))
    if not wanted or not given:
        return float(wanted == given)
    return 2 * (wanted & given).total() / (wanted.total() + given.total())


def json_fields(example: Example, answer: str, strict: bool = False) -> float:
    """The share of correct fields among all fields of both sides; with `strict`, 1 only if all are correct.

    A field is a leaf, identified by its path; items of a list are identified by position. An answer that is not JSON,
    alone or in a ``` fence, scores 0.
    """
    wanted = parse_json(_reference(example))
    if wanted is NOT_JSON:
        raise DataError(
            f"The grader json needs JSON references, and one is {_reference(example)[:80]!r}.",
            remedy="Use another grader, such as exact or contains, or convert the data's answers to JSON.",
        )
    given = parse_json(_strip_fence(answer))
    if given is NOT_JSON:
        return 0.0
    left, right = dict(_leaves(wanted)), dict(_leaves(given))
    same = sum(path in right and right[path] == leaf for path, leaf in left.items())
    share = same / len(left.keys() | right.keys())
    return float(share == 1.0) if strict else share


def numeric(example: Example, answer: str, tolerance: float = 1e-6) -> float:
    r"""1 if the last numbers of both are equal within a relative tolerance; after `####` (as in GSM8K), the first.

    >>> from tuneport.dataset import Completion
    >>> numeric(Completion("?", "9 + 9 = 18\n#### 18"), "That makes $18.00.")
    1.0
    """
    wanted, given = _number(_reference(example)), _number(answer)
    if wanted is None:
        raise DataError(
            f"The grader numeric needs a number in each reference, and one is {_reference(example)[:80]!r}.",
            remedy="Use another grader, such as exact or contains.",
        )
    return float(given is not None and math.isclose(wanted, given, rel_tol=tolerance, abs_tol=1e-12))


# Thai, Lao, Burmese, Khmer, kana and Han have no spaces between words, so each character counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = rf"[^\W{_UNSPACED}]"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_MINUS = "\u2212"
_NUMBER = re.compile(
    rf"((?<![\w.])[-{_MINUS}])?(?:[$€£¥]\s?)?"
    r"((?:\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))(?:\.\d+)?(?:[eE][-+]?\d+)?)"
)
_FENCE = re.compile(r"\s*```\w*\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


def _reference(example: Example) -> str:
    return prompt_and_reference(example)[1]


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _plain(text: str) -> str:
    return " ".join(_words(text))


def _words(text: str) -> list[str]:
    text = re.sub(r"['’‘`]", "", _fold(text))
    text = re.sub(r"(?<!\w)-(?=\d)", _MINUS, text)  # keep the sign: this minus is not punctuation in Unicode
    spaced = "".join(" " if unicodedata.category(letter).startswith("P") else letter for letter in text)
    return _TOKEN.findall(spaced)


def _number(text: str) -> float | None:
    _, marked, rest = text.rpartition("####")
    found = _NUMBER.findall(rest if marked else text)
    if not found:
        return None
    sign, digits = found[0] if marked else found[-1]
    return float(digits.replace(",", "")) * (-1 if sign else 1)


def _strip_fence(text: str) -> str:
    fence = _FENCE.fullmatch(text)
    return fence[1] if fence else text


def _leaves(value: Any) -> Iterator[tuple[tuple[str | int, ...], tuple[bool, Any]]]:
    """The leaves of a JSON value by path. An empty list or object is a leaf. True differs from 1, unlike in Python."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict) and value:
            waiting.extend(((*path, key), item) for key, item in value.items())
        elif isinstance(value, list) and value:
            waiting.extend(((*path, place), item) for place, item in enumerate(value))
        else:
            yield path, (isinstance(value, bool), value)
