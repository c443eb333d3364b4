"""Graders, and the comparison of a tuned model with its base on unseen rows."""

from tuneport.evaluate.compare import answer_room, compare_models
from tuneport.evaluate.comparison import Comparison
from tuneport.evaluate.exchange import answer_text, prompt_and_reference
from tuneport.evaluate.fitting import AUTO, MOST_ROWS, Fit, fit_grader
from tuneport.evaluate.graders import BUILT_IN, Grader, grader
from tuneport.evaluate.record import Record, answer_line, prompt_key
from tuneport.evaluate.scores import Compared, Difference, Differing, LabelScore, Outcome, Recorded, Side

__all__ = [
    "AUTO",
    "BUILT_IN",
    "MOST_ROWS",
    "Compared",
    "Comparison",
    "Difference",
    "Differing",
    "Fit",
    "Grader",
    "LabelScore",
    "Outcome",
    "Record",
    "Recorded",
    "Side",
    "answer_line",
    "answer_room",
    "answer_text",
    "compare_models",
    "fit_grader",
    "grader",
    "prompt_and_reference",
    "prompt_key",
]
