"""Graders, and a tuned model beside its base on rows that training never saw."""

from tuneport.evaluate.compare import compare_models
from tuneport.evaluate.comparison import Compared, Comparison, Difference, LabelScore, Outcome, Side
from tuneport.evaluate.exchange import answer_text, prompt_and_reference
from tuneport.evaluate.fitting import AUTO, LOOKED_AT, Fit, fitting
from tuneport.evaluate.graders import BUILT_IN, Grader, grader

__all__ = [
    "AUTO",
    "BUILT_IN",
    "LOOKED_AT",
    "Compared",
    "Comparison",
    "Difference",
    "Fit",
    "Grader",
    "LabelScore",
    "Outcome",
    "Side",
    "answer_text",
    "compare_models",
    "fitting",
    "grader",
    "prompt_and_reference",
]
