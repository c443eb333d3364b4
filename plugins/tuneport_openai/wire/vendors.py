"""What each vendor of the OpenAI wire does differently. The sources are in `catalog/models.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

VendorName = Literal["openai", "azure", "nebius", "bedrock", "other"]
Method = Literal["sft", "dpo", "reinforcement"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """How one vendor departs from the wire that OpenAI describes. A field that is None or empty is unknown.

    `hosts` are the ends of its host names, or their beginnings with a final `.`. `openai_models`: it tunes OpenAI's own
    models, by OpenAI's published rules for data. `learning_rate` is the unit of the rate that it takes. `mark` is where
    a start leaves its intent, so that the job can be found again: in the job's metadata, in its suffix, or in the name
    of its training file. `longest_suffix` is in characters; 0 means that it refuses any. `sends_auto`: it understands
    the word "auto" for a hyperparameter; otherwise the field is left out. `graders` are the types that it takes.
    `serves_checkpoints`: a job's model is its last checkpoint, which must be registered before it answers.
    """

    title: str
    hosts: tuple[str, ...] = ()
    openai_models: bool = False
    methods: frozenset[str] = frozenset({"sft", "dpo", "reinforcement"})
    verbs: frozenset[str] = frozenset({"cancel", "pause", "resume"})
    learning_rate: Literal["multiplier", "absolute"] = "multiplier"
    mark: Literal["metadata", "suffix", "file"] = "metadata"
    longest_suffix: int = 64
    takes_seed: bool = True
    sends_auto: bool = True
    auto_epochs: int | None = None
    graders: frozenset[str] = frozenset({"string_check", "text_similarity", "python", "score_model", "multi"})
    serves_checkpoints: bool = False
    min_rows: int = 1
    max_bytes: int | None = None
    most_images: int | None = None


VENDORS: dict[VendorName, Vendor] = {
    "openai": Vendor(
        title="OpenAI",
        openai_models=True,
        min_rows=10,
        max_bytes=8 * 1024**3,  # the bound of the Uploads API
        most_images=10,
    ),
    "azure": Vendor(
        title="Azure",
        hosts=(".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com"),
        openai_models=True,
        longest_suffix=18,
        min_rows=10,
        max_bytes=512_000_000,
        most_images=64,
    ),
    "nebius": Vendor(
        title="Nebius Token Factory",
        hosts=("api.tokenfactory.nebius.com", "api.studio.nebius.com"),
        methods=frozenset({"sft"}),
        verbs=frozenset({"cancel"}),
        learning_rate="absolute",
        mark="suffix",
        sends_auto=False,
        auto_epochs=3,
        graders=frozenset(),
        serves_checkpoints=True,
        max_bytes=5 * 1000**3,
    ),
    "bedrock": Vendor(
        title="Amazon Bedrock",
        hosts=("bedrock-mantle.",),
        methods=frozenset({"reinforcement"}),
        verbs=frozenset({"cancel"}),
        mark="file",
        longest_suffix=0,
        takes_seed=False,
        sends_auto=False,
        graders=frozenset({"lambda"}),
    ),
    "other": Vendor(title="this server"),
}


def recognize(url: str) -> VendorName:
    """The vendor at an address, by its host; `other` for one that is not known."""
    host = urlsplit(url).hostname or ""
    for name, vendor in VENDORS.items():
        for one in vendor.hosts:
            if host.startswith(one) if one.endswith(".") else host.endswith(one):
                return name
    return "other"
