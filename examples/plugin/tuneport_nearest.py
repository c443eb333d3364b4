"""A tuneport backend that memorizes its rows, and answers with the answer to the most similar prompt."""

from __future__ import annotations

import json
from typing import Any, cast

from pydantic import Field

import tuneport
from tuneport import plugin

TUNEPORT_API = 1
BLANK = tuneport.Ref("nearest", "blank")


class NearestSettings(plugin.Settings):
    """The keys under `backends.nearest` in a config file."""

    shortest: int = Field(default=1, ge=1, description="Words with fewer letters are ignored.")


class Nearest(tuneport.Backend):
    name = "nearest"
    settings_class = NearestSettings
    capabilities = plugin.Capabilities(
        methods=frozenset({"sft"}), local=True, auto_epochs="1", seed=False, validation=False, max_epochs=1
    )

    def start(self, request: plugin.TrainRequest) -> tuneport.Job:
        job = NearestJob(request.name)
        if not job.path.exists():  # called again with the same intent, it is the same job
            shortest = cast(NearestSettings, request.settings).shortest
            done = tuneport.Event(seq=1, time=plugin.utc_now(), kind="status", message="memorized all rows")
            lineage = tuneport.Lineage(
                base=str(request.base),
                job=str(job.ref),
                data_fingerprint=request.train.fingerprint,
                created=done.time.isoformat(),
            )
            pairs = [prompt_and_answer(example) for example in request.train]
            model = {"pairs": pairs, "shortest": shortest}
            plugin.write_json(
                job.path, {"model": model, "events": [done.to_dict()], "lineage": lineage.to_dict()}
            )  # complete, or not there
        return job

    def job(self, name: str) -> NearestJob:
        job = NearestJob(name)
        if not job.path.exists():
            raise tuneport.errors.JobNotFound(f"There is no job nearest:{name}.", remedy="See: tuneport jobs")
        return job

    def model(self, name: str) -> tuneport.Model:
        return NearestModel(BLANK, {"pairs": [], "shortest": 1}) if name == "blank" else self.job(name).result()

    def check_base(self, base: str) -> None:
        self.model(base)  # a job's model can be trained further; any other name is refused

    def bases(self) -> list[plugin.BaseInfo]:
        return [plugin.BaseInfo(ref=BLANK, description="has memorized nothing yet", present=True)]

    def plan(self, request: plugin.TrainRequest) -> tuneport.Plan:
        free = tuneport.Quantity(value=0, unit="USD", source="your own machine")
        return tuneport.Plan(base=str(request.base), rows=len(request.train), usd=free)


class NearestJob(tuneport.Job):
    def __init__(self, name: str) -> None:
        self.ref = tuneport.Ref("nearest", name)
        self.path = plugin.home("nearest") / f"{name}.json"

    def state(self) -> tuneport.JobState:
        return tuneport.JobState(status=tuneport.Status.SUCCEEDED)

    def events(self, after: int = 0) -> list[tuneport.Event]:
        return [tuneport.Event.from_dict(one) for one in json.loads(self.path.read_text())["events"][after:]]

    def cancel(self) -> None:
        """Nothing: the job is over before anyone can cancel it."""

    def result(self) -> tuneport.Model:
        kept = json.loads(self.path.read_text())
        return NearestModel(self.ref, kept["model"], tuneport.Lineage.from_dict(kept["lineage"]))

    def delete(self, *, dry_run: bool = False) -> tuneport.Removal:
        if not dry_run:
            self.path.unlink()
        return tuneport.Removal(removed=[f"the file {self.path}"])


class NearestModel(tuneport.Model):
    def __init__(self, ref: tuneport.Ref, memory: dict[str, Any], lineage: tuneport.Lineage | None = None) -> None:
        self.ref, self.memorized, self.lineage = ref, memory, lineage

    def generate(self, prompts: Any, options: tuneport.GenerateOptions) -> list[tuneport.Reply]:
        del options  # there is nothing to sample
        return [tuneport.Reply(text=self._nearest(prompt[-1].text)) for prompt in prompts]

    def _nearest(self, text: str) -> str:
        asked, pairs = self._words(text), self.memorized["pairs"]
        return max(pairs, key=lambda pair: len(asked & self._words(pair[0])), default=("", ""))[1]

    def _words(self, text: str) -> set[str]:
        return {word for word in text.lower().split() if len(word) >= self.memorized["shortest"]}


def prompt_and_answer(example: tuneport.Example) -> tuple[str, str]:
    """The prompt and the answer of an example. There are no preferences: the method is sft."""
    if isinstance(example, tuneport.Completion):
        return example.prompt, example.completion
    messages = cast(tuneport.Conversation, example).messages
    return messages[-2].text, messages[-1].text


@plugin.hookimpl
def tuneport_backends() -> list[tuneport.Backend]:
    return [Nearest()]
