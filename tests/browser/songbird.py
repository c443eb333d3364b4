"""A backend whose trainings take a while and do nothing: their progress depends on the clock and on buttons."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from parrot import Parrot, ParrotModel

import tuneport
import tuneport.plugin

TUNEPORT_API = 1

STEP_SECONDS = 0.1
STEPS_PER_EPOCH = 20


class Songbird(Parrot):
    name = "songbird"
    capabilities = tuneport.plugin.Capabilities(
        methods=frozenset({"sft"}), verbs=frozenset({"cancel", "pause", "resume"}), local=True
    )

    def start(self, request: tuneport.plugin.TrainRequest) -> tuneport.Job:
        folder = tuneport.plugin.home("songbird") / request.name
        if not folder.exists():
            folder.mkdir()
            pairs = [(one.messages[-2].text, one.messages[-1].text) for one in request.train]
            epochs = 1 if request.options.epochs == "auto" else request.options.epochs
            facts = {"base": str(request.base), "pairs": pairs, "steps": epochs * STEPS_PER_EPOCH}
            (folder / "facts.json").write_text(json.dumps(facts))
            SongbirdJob(folder).note("start")
        return self.job(request.name)

    def job(self, name: str) -> tuneport.Job:
        folder = tuneport.plugin.home("songbird") / name
        if not (folder / "verbs").exists():
            raise tuneport.errors.JobNotFound(f"No songbird was taught as {name}.")
        return SongbirdJob(folder)

    def model(self, name: str) -> tuneport.Model:
        ref = tuneport.Ref("songbird", name)
        return Finch(ref, [], None) if name == "finch" else self.job(name).result()


class Finch(ParrotModel):
    """Returns one word at a time if asked to sing."""

    def generate_stream(
        self, prompt: Sequence[tuneport.Message], options: tuneport.GenerateOptions
    ) -> Generator[str, None, tuneport.Reply]:
        if "sing" not in prompt[-1].text:
            [reply] = self.generate([prompt], options)
            yield reply.text
            return reply
        words = [f"la{number} " for number in range(1, options.max_tokens + 1)]
        for word in words:
            time.sleep(STEP_SECONDS / 2)
            yield word
        return tuneport.Reply(text="".join(words), finish_reason="length")


class SongbirdJob(tuneport.Job):
    """A file has a line for each action with its time; everything else follows from it and the clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ref = tuneport.Ref("songbird", folder.name)
        self._facts = json.loads((folder / "facts.json").read_text())

    def note(self, verb: str) -> None:
        with (self.folder / "verbs").open("a") as file:
            file.write(f"{verb} {time.time()}\n")

    def state(self) -> tuneport.JobState:
        verbs, done, steps = self._verbs(), len(list(self._steps())), self._facts["steps"]
        status = {"cancel": "cancelled", "pause": "paused"}.get(verbs[-1][0], "running")
        if done == steps:
            status = "succeeded"
        return tuneport.JobState(status=tuneport.Status(status), native=status, step=done, total_steps=steps)

    def events(self, after: int = 0) -> Iterable[tuneport.Event]:
        yield from list(self._events())[after:]

    def cancel(self) -> None:
        self.note("cancel")

    def pause(self) -> None:
        self.note("pause")

    def resume(self) -> None:
        self.note("resume")

    def result(self) -> tuneport.Model:
        return ParrotModel(self.ref, self._facts["pairs"], None)

    def delete(self, *, dry_run: bool = False) -> tuneport.Removal:
        return tuneport.Removal()

    def _verbs(self) -> list[tuple[str, float]]:
        lines = (line.split() for line in (self.folder / "verbs").read_text().splitlines())
        return [(verb, float(seconds)) for verb, seconds in lines]

    def _steps(self) -> Iterator[float]:
        """Return the time of every step so far."""
        verbs, made = self._verbs(), 0
        ends = [*(seconds for _, seconds in verbs[1:]), time.time()]
        for (verb, began), end in zip(verbs, ends, strict=True):
            for number in range(1, int((end - began) / STEP_SECONDS) + 1 if verb in ("start", "resume") else 1):
                if made == self._facts["steps"]:
                    return
                made += 1
                yield began + number * STEP_SECONDS

    def _events(self) -> Iterator[tuneport.Event]:
        began, total = self._verbs()[0][1], self._facts["steps"]
        yield _event(1, began, "status", "learning to sing")
        moment, step = began, 0
        for step, moment in enumerate(self._steps(), 1):
            loss = 0.4 + 2 * math.exp(-4 * step / total) + 0.06 * math.sin(step * 1.7)
            data = {"step": step, "total_steps": total, "train_loss": loss}
            if step % 5 == 0:
                data["valid_loss"] = loss + 0.15
            yield _event(step + 1, moment, "metric", "sung", **data)
        if step == total:
            yield _event(total + 2, moment, "status", "done")


def _event(seq: int, seconds: float, kind: str, message: str, **data: float) -> tuneport.Event:
    return tuneport.Event(seq=seq, time=datetime.fromtimestamp(seconds, UTC), kind=kind, message=message, data=data)


@tuneport.plugin.hookimpl
def tuneport_backends() -> list[tuneport.Backend]:
    return [Songbird()]
