"""Why a row cannot be trained on with a template, and what to do about it."""

from __future__ import annotations

from tuneport import DataError

OTHER_TEMPLATE = "Choose another base model, or mend chat_template.jinja in a copy of this one's folder."


RESIZE = (
    "Resize the model's embeddings (resize_token_embeddings in transformers), or take the token out of tokenizer.json."
)
"""What to do about a token that the model has no row for."""


class Unrenderable(DataError):  # noqa: N818 - reads as what the row is
    """A row that cannot be trained on with this template; `code` is the diagnostic's."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


def beyond(why: str) -> Unrenderable:
    """A token of the row is one that the model has no row for; `why` names it."""
    return Unrenderable("token-beyond-model", f"The model cannot read this row: {why}.", RESIZE)


def no_template() -> Unrenderable:
    """The model has no chat template at all."""
    return Unrenderable(
        "no-template",
        "The base model has no chat template, so conversations cannot be written for it.",
        "Choose an instruct model, or give rows with prompt and completion.",
    )


def refused(why: str) -> Unrenderable:
    """The template raised an error, `why` in its own words."""
    cure = OTHER_TEMPLATE
    if "system" in why.lower():
        cure = "Put the system text at the beginning of the first user turn, or choose a base model that takes one."
    elif "alternat" in why.lower():
        cure = "Let user and assistant take turns in the row, user first."
    return Unrenderable("template-refuses", f"The model's chat template refuses this: {why.rstrip('.')}.", cure)


def no_end(why: str) -> Unrenderable:
    """No token would teach the model to stop."""
    return Unrenderable(
        "no-end-of-turn",
        f"Nothing would teach the model to stop: {why}, so no end-of-turn token can be trained.",
        OTHER_TEMPLATE,
    )
