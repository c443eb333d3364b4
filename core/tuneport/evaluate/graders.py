"""Graders score answers: `(example, answer) -> float` from 0 to 1, built in or the user's own."""

from __future__ import annotations

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tuneport.dataset import Example
from tuneport.doors import public
from tuneport.errors import DataError, UsageError
from tuneport.evaluate.builtin import contains, exact, json_fields, normalized, numeric, token_f1
from tuneport.evaluate.exchange import prompt_and_reference
from tuneport.evaluate.user_grader import OwnGrader
from tuneport.spelling import did_you_mean

Grade = Callable[[Example, str], float]

BUILT_IN: Mapping[str, Grade] = {
    "exact": exact,
    "normalized": normalized,
    "contains": contains,
    "json": json_fields,
    "token_f1": token_f1,
    "numeric": numeric,
}


@public()
@dataclass(frozen=True, slots=True)
class Grader:
    """A named grading function. Calling it checks that the score is a number from 0 to 1.

    >>> from tuneport.dataset import Completion
    >>> grader("exact")(Completion("2 + 2 =", " 4"), "4")
    1.0
    """

    name: str
    function: Grade

    def __call__(self, example: Example, answer: str) -> float:
        """The score of an answer, from 0 (wrong) to 1 (right).

        Raises UsageError if the function fails, and DataError if the example has no reference to compare with.
        """
        try:
            score = self.function(example, answer)
        except (DataError, UsageError):
            raise
        except Exception as error:  # a user's function may raise anything
            raise UsageError(
                f"The grader {self.name} raised {type(error).__name__}: {error}.",
                remedy="A grader takes (example, answer) and returns a number from 0 to 1. "
                "Return 0 for an answer that it cannot read.",
            ) from error
        if not isinstance(score, numbers.Real) or not 0 <= score <= 1:
            raise UsageError(
                f"The grader {self.name} returned {score!r}.",
                remedy="A grader returns a number from 0 (wrong) to 1 (right).",
            )
        return float(score)

    @property
    def runs_own_code(self) -> bool:
        """Whether grading imports and runs the user's own code."""
        return isinstance(self.function, OwnGrader)

    def load(self) -> None:
        """Import the user's own grader now, before anything is spent on answers. Raises UsageError."""
        if isinstance(self.function, OwnGrader):
            self.function.load()

    def rehearse(self, examples: Iterable[Example], rows: int = 20) -> float:
        """Grade the references of the first rows as answers, and return the mean score.

        This costs nothing, and finds a grader that cannot read the data before training. Raises what grading raises.
        """
        scores = [self(example, prompt_and_reference(example)[1]) for example in islice(examples, rows)]
        return math.fsum(scores) / len(scores) if scores else 0.0


def grader(which: str | Grade | Grader, **options: Any) -> Grader:
    """A built-in grader by name, your own function in the working folder as `module:function`, or a grader of a
    function.

    Your own function is found without running it, and imported when it first grades. `options` are those of a built-in
    grader: `json` takes `strict` (all fields or nothing), `numeric` takes `tolerance` (relative, 1e-6). Raises
    UsageError.
    """
    if isinstance(which, Grader):
        return which
    if callable(which):
        module, name = getattr(which, "__module__", ""), getattr(which, "__qualname__", type(which).__qualname__)
        return Grader(f"{module}:{name}" if module else name, which)
    if which in BUILT_IN:
        return _with_options(which, BUILT_IN[which], options)
    if ":" in which:
        return Grader(which, OwnGrader(which))
    raise UsageError(
        f"There is no grader {which!r}.",
        remedy=f"{did_you_mean(which, BUILT_IN)}The graders are {', '.join(BUILT_IN)}, or module:function for your own "
        "function; auto chooses one by the answers.",
    )


def _with_options(name: str, function: Grade, options: Mapping[str, Any]) -> Grader:
    if not options:
        return Grader(name, function)
    known = [*inspect.signature(function).parameters][2:]
    if unknown := [option for option in options if option not in known]:
        raise UsageError(
            f"The grader {name} has no option {unknown[0]!r}.",
            remedy=f"Its options are: {', '.join(known)}." if known else "It has no options.",
        )
    text = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return Grader(f"{name}({text})", functools.partial(function, **options))
