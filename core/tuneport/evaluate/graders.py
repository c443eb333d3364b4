"""How right an answer is: graders `(example, answer) -> float in [0, 1]`, built in or the user's own."""

from __future__ import annotations

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any

from tuneport.dataset import Example
from tuneport.doors import public
from tuneport.errors import DataError, UsageError
from tuneport.evaluate.builtin import contains, exact, json_fields, normalised, numeric, token_f1
from tuneport.evaluate.exchange import prompt_and_reference
from tuneport.evaluate.own import OwnGrader

Grade = Callable[[Example, str], float]

BUILT_IN: Mapping[str, Grade] = {
    "exact": exact,
    "normalised": normalised,
    "contains": contains,
    "json": json_fields,
    "token_f1": token_f1,
    "numeric": numeric,
}


@public()
@dataclass(frozen=True, slots=True)
class Grader:
    """A grading function by its name; calling it checks that the score is a number between 0 and 1.

    >>> from tuneport.dataset import Completion
    >>> grader("exact")(Completion("2 + 2 =", " 4"), "4")
    1.0
    """

    name: str
    function: Grade

    def __call__(self, example: Example, answer: str) -> float:
        """The score of an answer, from 0 (wrong) to 1 (right).

        Raises UsageError where the function fails, DataError where the example has nothing to compare with.
        """
        try:
            score = self.function(example, answer)
        except (DataError, UsageError):
            raise
        except Exception as error:  # a user's function may raise anything
            raise UsageError(
                f"The grader {self.name} raised {type(error).__name__}: {error}.",
                remedy="A grader takes (example, answer) and returns a number from 0 to 1; "
                "let it return 0 for an answer that it cannot read.",
            ) from error
        if not isinstance(score, numbers.Real) or not 0 <= score <= 1:
            raise UsageError(
                f"The grader {self.name} returned {score!r}.",
                remedy="A grader returns a number from 0 (wrong) to 1 (right).",
            )
        return float(score)

    @property
    def runs_own_code(self) -> bool:
        """Whether grading runs code of the user's that nothing has imported yet."""
        return isinstance(self.function, OwnGrader)

    def load(self) -> None:
        """Import a grader of the user's own now, before anything is spent on answers. Raises UsageError."""
        if isinstance(self.function, OwnGrader):
            self.function.load()

    def rehearse(self, examples: Iterable[Example], rows: int = 20) -> float:
        """Grade the references of the first rows as if they were answers, and return the mean score.

        It costs nothing and finds a grader that cannot read this data before any training; raises as a call does.
        """
        scores = [self(example, prompt_and_reference(example)[1]) for example in islice(examples, rows)]
        return math.fsum(scores) / len(scores) if scores else 0.0


def grader(which: str | Grade | Grader, **options: Any) -> Grader:
    """The grader of that name, `module:function` for one of your own in the working folder, or one around a function.

    Your own is looked up without running it, and imported when it first grades.

    `options` are a built-in grader's own: `json` takes `strict` (all fields or nothing), `numeric` takes `tolerance`
    (relative, 1e-6). Raises UsageError.
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
    near = get_close_matches(which, BUILT_IN, n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"There is no grader {which!r}.",
        remedy=f"{meant}Graders are {', '.join(BUILT_IN)}, or module:function for a function of your own; "
        "auto chooses one by the answers.",
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
    told = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return Grader(f"{name}({told})", functools.partial(function, **options))
