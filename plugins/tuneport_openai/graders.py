"""What scores an answer in reinforcement: OpenAI's graders, and the one of Amazon Bedrock."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tuneport.plugin import Settings

_TYPE = "Which grader it is."
_NAME = "Its name in the vendor's reports."
_INPUT = "What is graded, such as `{{sample.output_text}}`."
_MESSAGES = "The prompt of the grading model: turns as `{role, content}`, with templates."
_MODEL = "The model that grades, by the vendor's own name."


class StringCheck(Settings):
    """Compares the answer with a text: 1 where the comparison holds, else 0."""

    type: Literal["string_check"] = Field(description=_TYPE)
    name: str = Field(description=_NAME)
    input: str = Field(description=_INPUT)
    reference: str = Field(description="The text to compare with, such as `{{item.reference_answer}}`.")
    operation: Literal["eq", "ne", "like", "ilike"] = Field(
        description="Equal, not equal, contains, contains in any case."
    )


class TextSimilarity(Settings):
    """Measures how similar the answer is to a text."""

    type: Literal["text_similarity"] = Field(description=_TYPE)
    name: str = Field(description=_NAME)
    input: str = Field(description=_INPUT)
    reference: str = Field(description="The text to compare with, such as `{{item.reference_answer}}`.")
    evaluation_metric: Literal[
        "cosine",
        "fuzzy_match",
        "bleu",
        "gleu",
        "meteor",
        "rouge_1",
        "rouge_2",
        "rouge_3",
        "rouge_4",
        "rouge_5",
        "rouge_l",
    ] = Field(description="The measure.")


class PythonCode(Settings):
    """Runs your Python code at the vendor: `def grade(sample, item) -> float`."""

    type: Literal["python"] = Field(description=_TYPE)
    name: str = Field(description=_NAME)
    source: str = Field(description="The code.")
    image_tag: str | None = Field(default=None, description="The vendor's image that runs it.")


class ScoreModel(Settings):
    """Asks a model for the score."""

    type: Literal["score_model"] = Field(description=_TYPE)
    name: str = Field(description=_NAME)
    model: str = Field(description=_MODEL)
    input: list[dict[str, Any]] = Field(description=_MESSAGES)
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="The lowest and the highest score; 0 and 1 when absent."
    )
    sampling_params: dict[str, Any] | None = Field(
        default=None, description="Its sampling options, such as the temperature."
    )


class LabelModel(Settings):
    """Asks a model for a label; only inside a multi grader."""

    type: Literal["label_model"] = Field(description=_TYPE)
    name: str = Field(description=_NAME)
    model: str = Field(description=_MODEL)
    input: list[dict[str, Any]] = Field(description=_MESSAGES)
    labels: list[str] = Field(description="The labels to choose from.")
    passing_labels: list[str] = Field(description="The labels that pass.")


Single = Annotated[StringCheck | TextSimilarity | PythonCode | ScoreModel | LabelModel, Field(discriminator="type")]


class Multi(Settings):
    """Combines several graders by a formula."""

    type: Literal["multi"] = Field(description=_TYPE)
    name: str = Field(description=_NAME)
    graders: dict[str, Single] | list[Single] = Field(
        min_length=1, description="The graders, by the names that the formula has for them."
    )
    calculate_output: str = Field(description="The formula, such as `0.5 * exact + 0.5 * near`.")


class Lambda(Settings):
    """Amazon Bedrock only: calls your AWS Lambda function for the score."""

    type: Literal["lambda"] = Field(description=_TYPE)
    function: str = Field(description="The function's ARN: `arn:aws:lambda:REGION:ACCOUNT:function:NAME`.")


Grader = Annotated[StringCheck | TextSimilarity | PythonCode | ScoreModel | Multi | Lambda, Field(discriminator="type")]
TYPES = ("string_check", "text_similarity", "python", "score_model", "multi", "lambda")


def wire_grader(grader: Settings) -> dict[str, Any]:
    """A grader as it is sent."""
    if isinstance(grader, Lambda):
        return {"type": "lambda", "lambda": {"function": grader.function}}
    return grader.model_dump(mode="json", exclude_none=True)
