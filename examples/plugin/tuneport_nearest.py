"""A tuneport backend that learns by heart, and answers with what belongs to the nearest message it has heard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

import tuneport
import tuneport.plugin

TUNEPORT_API = 1


class NearestSettings(tuneport.plugin.Settings):
    """The keys under `backends.nearest` in a config file."""

    shortest: int = Field(default=1, ge=1, description="Words with fewer letters are not looked at.")


class Nearest(tuneport.Backend):
    name = "nearest"
    capabilities = tuneport.plugin.Capabilities(methods=frozenset({"sft"}), local=True, auto_epochs="1")
    settings_class = NearestSettings

    def start(self, request: tuneport.plugin.TrainRequest) -> tuneport.Job:
        job = NearestJob(request.name)
        if not job.path.exists():  # asked again with the same intent, it is the same job
            assert isinstance(request.settings, NearestSettings)
            pairs = [prompt_and_answer(example) for example in request.train]
            done = tuneport.Event(
                seq=1, time=tuneport.plugin.utc_now(), kind="status", message=f"learned {len(pairs)} rows"
            )
            lineage = tuneport.Lineage(
                base=str(request.base),
                job=str(job.ref),
                data_fingerprint=request.train.fingerprint,
                created=done.time.isoformat(),
            )
            learned = {"pairs": pairs, "shortest": request.settings.shortest}
            kept = {"model": learned, "events": [done.to_dict()], "lineage": lineage.to_dict()}
            job.path.with_suffix(".new").write_text(json.dumps(kept))
            job.path.with_suffix(".new").rename(job.path)  # complete, or not there
        return job

    def job(self, name: str) -> NearestJob:
        job = NearestJob(name)
        if not job.path.exists():
            raise tuneport.errors.JobNotFound(f"There is no job nearest:{name}.", remedy="See: tuneport jobs")
        return job

    def model(self, name: str) -> tuneport.Model:
        if name == "blank":
            return NearestModel(tuneport.Ref("nearest", "blank"), {"pairs": [], "shortest": 1}, None)
        return self.job(name).result()

    def check_base(self, base: str) -> None:
        if base != "blank":
            self.job(base)  # one that was trained may be trained from; else it says that there is none

    def bases(self) -> list[tuneport.plugin.BaseInfo]:
        blank = tuneport.Ref("nearest", "blank")
        return [tuneport.plugin.BaseInfo(ref=blank, description="has heard nothing yet", present=True)]

    def plan(self, request: tuneport.plugin.TrainRequest) -> tuneport.Plan:
        return tuneport.Plan(
            base=str(request.base),
            rows=len(request.train),
            usd=tuneport.Quantity(value=0, unit="USD", source="your own machine"),
        )


class NearestJob(tuneport.Job):
    def __init__(self, name: str) -> None:
        self.ref = tuneport.Ref("nearest", name)
        self.path: Path = tuneport.plugin.home("nearest") / f"{name}.json"

    def state(self) -> tuneport.JobState:
        return tuneport.JobState(status=tuneport.Status.SUCCEEDED)

    def events(self, after: int = 0) -> Iterable[tuneport.Event]:
        return [tuneport.Event.from_dict(one) for one in json.loads(self.path.read_text())["events"][after:]]

    def cancel(self) -> None:
        pass  # it is over before anybody can ask

    def result(self) -> tuneport.Model:
        kept = json.loads(self.path.read_text())
        return NearestModel(self.ref, kept["model"], tuneport.Lineage.from_dict(kept["lineage"]))

    def delete(self, *, dry_run: bool = False) -> tuneport.Removal:
        if not dry_run:
            self.path.unlink()
        return tuneport.Removal(removed=[f"the file {self.path}"])


class NearestModel(tuneport.Model):
    def __init__(self, ref: tuneport.Ref, learned: dict[str, Any], lineage: tuneport.Lineage | None) -> None:
        self.ref, self.learned, self.lineage = ref, learned, lineage

    def generate(
        self, prompts: Sequence[Sequence[tuneport.Message]], options: tuneport.GenerateOptions
    ) -> list[tuneport.Reply]:
        del options  # there is nothing to sample
        return [tuneport.Reply(text=self._nearest(prompt[-1].text)) for prompt in prompts]

    def _nearest(self, text: str) -> str:
        asked = self._words(text)
        pairs = self.learned["pairs"]
        return max(pairs, key=lambda pair: len(asked & self._words(pair[0])), default=("", ""))[1]

    def _words(self, text: str) -> set[str]:
        return {word for word in text.lower().split() if len(word) >= self.learned["shortest"]}


def prompt_and_answer(example: tuneport.Example) -> tuple[str, str]:
    """What is asked and what is to be answered. Other kinds of example never come: the method is sft."""
    if isinstance(example, tuneport.Completion):
        return example.prompt, example.completion
    assert isinstance(example, tuneport.Conversation)
    return example.messages[-2].text, example.messages[-1].text


@tuneport.plugin.hookimpl
def tuneport_backends() -> list[tuneport.Backend]:
    return [Nearest()]
