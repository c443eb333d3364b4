"""A fixed conversation whose token ids are stored with every tuned model, to detect a changed tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from tuneport.errors import DataError, UnavailableError, UsageError
from tuneport.plugin import Conversation, Message
from tuneport_torch.text.render import Renderer
from tuneport_torch.text.thinking import Mode

if TYPE_CHECKING:
    from tuneport_torch.text.codec import Codec

GOLDEN = (
    {"role": "user", "content": "Où est ma carte ? It is 3 days late."},
    {"role": "assistant", "content": "On its way 🙂."},
    {"role": "user", "content": "Thanks!"},
)


def add_template_stops(codec: Codec) -> None:
    """Add the template's end of turn to the stop ids, for models whose configuration forgets it."""
    turns = tuple(Message(turn["role"], turn["content"]) for turn in GOLDEN[:2])
    if codec.template is not None:
        renderer = Renderer(codec)
        with suppress(DataError):  # a template that cannot be rendered is reported where a row needs it
            renderer.try_render([Conversation(turns)])
        codec.stop_ids += renderer.new_stop_ids


def golden_ids(codec: Codec) -> list[int]:
    """The ids of GOLDEN up to where the model would answer, or of its plain text if the template refuses it."""
    renderer, messages = Renderer(codec, Mode.SAVED), [Message(turn["role"], turn["content"]) for turn in GOLDEN]
    if codec.template is not None:
        try:
            return renderer.prompts([messages])[0]
        except UsageError:
            pass
    return renderer.prompts([messages[:1]], style="plain")[0]


def check_golden(codec: Codec, golden: Sequence[int], template_sha256: str | None) -> None:
    """Raise UnavailableError if tokenizer or template have changed since training, by hash and by golden ids."""
    found = codec.template.sha256 if codec.template is not None else None
    if found != template_sha256:
        changed = "chat template"
    elif golden_ids(codec) != list(golden):
        changed = "tokenizer"
    else:
        return
    raise UnavailableError(
        f"The {changed} in {codec.folder} has changed since this model was trained, so it would misread its input.",
        remedy="Restore the folder's original tokenizer.json, tokenizer_config.json and chat_template.jinja.",
    )
