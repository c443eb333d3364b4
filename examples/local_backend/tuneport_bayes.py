"""A tuneport backend that trains in a separate process: naive Bayes over the words of each row."""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from tuneport import Conversation, Example, Lineage, Message, Model, Plan, Ref, Reply
from tuneport.local import LocalBackend, Work
from tuneport.plugin import Capabilities, DataRules, GenerateOptions, Quantity, Settings, TrainRequest, hookimpl

TUNEPORT_API = 1


class BayesSettings(Settings):
    """The keys under `backends.bayes` in a config file."""

    alpha: float = Field(default=0.5, gt=0, description="Added to each count.")
    rows_per_step: int = Field(default=8, ge=1, description="Rows counted in a step.")
    seconds_per_step: float = Field(default=0.0, ge=0, description="A pause after each step, to watch the job.")


class Bayes(LocalBackend):
    name = "bayes"
    capabilities = Capabilities(
        methods=frozenset({"sft"}),
        verbs=frozenset({"cancel", "pause", "resume"}),
        rules=DataRules(shapes={"sft": frozenset({"conversation"})}),
        auto_epochs="1",
        export_kinds=("json",),
        local=True,
        validation=False,
    )
    settings_class = BayesSettings
    base_models: ClassVar[dict[str, str]] = {"empty": "knows no words yet"}

    def plan(self, request: TrainRequest) -> Plan:
        steps = _epochs(request.options.epochs) * _steps_per_epoch(len(request.train), request.settings)
        return Plan(
            base=str(request.base),
            rows=len(request.train),
            steps=Quantity(value=steps, unit="steps", source="rows per step"),
            usd=Quantity(value=0, unit="USD", source="your own machine"),
        )

    def work(self, work: Work) -> None:
        settings = BayesSettings.model_validate(work.settings)
        rows = [_words_and_label(example) for example in work.examples("train")]
        counts = Counts.read(work.checkpoint.folder) if work.checkpoint else self._base(work.base).counts
        per_epoch = _steps_per_epoch(len(rows), settings)
        for step in work.steps(_epochs(work.options.epochs) * per_epoch, counts.write):
            epoch, place = divmod(step, per_epoch)
            order = random.Random(f"{work.seed} {epoch}").sample(rows, len(rows))
            batch = order[place * settings.rows_per_step : (place + 1) * settings.rows_per_step]
            loss = sum(counts.loss(words, label, settings.alpha) for words, label in batch) / len(batch)
            work.metric(train_loss=loss, epoch=step / per_epoch)
            for words, label in batch:
                counts.add(words, label)
            time.sleep(settings.seconds_per_step)
        work.save_model(counts.write)

    def load(self, ref: Ref, folder: Path | None, lineage: Lineage | None) -> BayesModel:
        return BayesModel(ref, Counts.read(folder) if folder else Counts(), lineage)

    def _base(self, base: Ref) -> BayesModel:
        model = self.model(base.name)
        assert isinstance(model, BayesModel)
        return model


class Counts:
    """How often each label occurs, and each word with it."""

    def __init__(self, words: dict[str, dict[str, int]] | None = None) -> None:
        self.words = {label: Counter(counted) for label, counted in (words or {}).items()}

    @classmethod
    def read(cls, folder: Path) -> Counts:
        return cls(json.loads((folder / "counts.json").read_text()))

    def write(self, folder: Path) -> None:
        (folder / "counts.json").write_text(json.dumps(self.words))

    def add(self, words: Sequence[str], label: str) -> None:
        self.words.setdefault(label, Counter()).update(words)

    def scores(self, words: Sequence[str], alpha: float) -> dict[str, float]:
        """The log-likelihood of the words for each label."""
        size = len({word for counted in self.words.values() for word in counted}) + 1
        return {
            label: sum(math.log((counted[word] + alpha) / (counted.total() + alpha * size)) for word in words)
            for label, counted in self.words.items()
        }

    def loss(self, words: Sequence[str], label: str, alpha: float) -> float:
        """The negative log-probability of the label, in nats."""
        scores = self.scores(words, alpha)
        if label not in scores:
            return math.log(2 + len(scores))
        most = max(scores.values())
        return most + math.log(sum(math.exp(one - most) for one in scores.values())) - scores[label]


class BayesModel(Model):
    export_kinds = ("json",)

    def __init__(self, ref: Ref, counts: Counts, lineage: Lineage | None) -> None:
        self.ref, self.counts, self.lineage = ref, counts, lineage

    def generate(self, prompts: Sequence[Sequence[Message]], options: GenerateOptions) -> list[Reply]:
        del options  # there is nothing to sample
        return [Reply(text=self._best(prompt[-1].text.lower().split())) for prompt in prompts]

    def write_export(self, path: Path, kind: str, dtype: str | None) -> Path:
        del kind, dtype  # there is one of each
        path.mkdir(exist_ok=True)
        self.counts.write(path)
        return path

    def _best(self, words: Sequence[str]) -> str:
        scores = self.counts.scores(words, alpha=0.5)
        return max(scores, key=scores.__getitem__, default="")


def _words_and_label(example: Example) -> tuple[list[str], str]:
    assert isinstance(example, Conversation)  # the capabilities take no other shape
    return example.messages[-2].text.lower().split(), example.messages[-1].text


def _epochs(asked: int | str) -> int:
    return 1 if asked == "auto" else int(asked)


def _steps_per_epoch(rows: int, settings: object) -> int:
    assert isinstance(settings, BayesSettings)
    return -(-rows // settings.rows_per_step)


@hookimpl
def tuneport_backends() -> list[Bayes]:
    return [Bayes()]
