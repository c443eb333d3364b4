"""What a plugin's author writes is typed too; read by mypy, never run."""

from collections.abc import Iterable, Sequence
from typing import assert_type

from pydantic import Field

import tuneport
import tuneport.plugin

TUNEPORT_API = 1


class Settings(tuneport.plugin.Settings):
    depth: int = Field(default=1, description="How deep.")


class Backend(tuneport.Backend):
    name = "typed"
    capabilities = tuneport.plugin.Capabilities(methods=frozenset({"sft"}))

    @property
    def settings_class(self) -> type[Settings]:
        return Settings

    def start(self, request: tuneport.plugin.TrainRequest) -> tuneport.Job:
        assert_type(request.intent, str)
        assert_type(request.base, tuneport.Ref)
        assert_type(request.train, tuneport.Dataset)
        assert_type(request.validation, tuneport.Dataset | None)
        assert_type(request.options, tuneport.plugin.TrainSettings)
        return Job()

    def job(self, name: str) -> tuneport.Job:
        raise tuneport.errors.JobNotFound(name, remedy="See: tuneport jobs")

    def model(self, name: str) -> tuneport.Model:
        return Model()

    def plan(self, request: tuneport.plugin.TrainRequest) -> tuneport.Plan:
        one = tuneport.Quantity(value=1.0, unit="steps", source="a guess")
        return tuneport.Plan(
            base=str(request.base),
            rows=len(request.train),
            validation_rows=0,
            tokens=one,
            steps=one,
            seconds=one,
            memory=one,
            usd=one,
            epochs=one,
        )


class Job(tuneport.Job):
    def state(self) -> tuneport.JobState:
        return tuneport.JobState(status=tuneport.Status.SUCCEEDED)

    def events(self, after: int = 0) -> Iterable[tuneport.Event]:
        return ()

    def cancel(self) -> None: ...

    def result(self) -> tuneport.Model:
        return Model()

    def delete(self, *, dry_run: bool = False) -> tuneport.Removal:
        return tuneport.Removal()


class Model(tuneport.Model):
    def generate(
        self, prompts: Sequence[Sequence[tuneport.Message]], options: tuneport.GenerateOptions
    ) -> list[tuneport.Reply]:
        assert_type(options.stop, tuple[str, ...])
        return [tuneport.Reply(text=prompt[-1].text) for prompt in prompts]


class Forgetful(tuneport.Job):
    """Lacks what every job has."""


Forgetful()  # type: ignore[abstract]


@tuneport.plugin.hookimpl
def tuneport_backends() -> list[tuneport.Backend]:
    return [Backend()]


@tuneport.plugin.hookimpl
def tuneport_on_event(job: tuneport.Job, event: tuneport.Event) -> None:
    assert_type(event.seq, int)
    assert_type(tuneport.plugin.open_notebook(job.ref).deliver(job), dict[str, str])
