"""A third-party backend, as small as the contract allows: it memorizes, and answers with the most similar row.

`settings.stop_at` leaves the job in a state that real backends come to by crashes and failures.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

import tuneport
import tuneport.plugin

TUNEPORT_API = 1


class ParrotSettings(tuneport.plugin.Settings):
    """Settings of the parrot."""

    learning_rate: float = Field(default=1.0, gt=0, description="Does nothing; parrots learn at once.")
    stop_at: str | None = Field(default=None, description="A status to leave the job in.")
    refuses: str | None = Field(default=None, description="Why it will not start.")
    key: tuneport.plugin.Secret | None = Field(default=None, description="A key, to see that it stays secret.")
    usd: float | None = Field(default=0.0, description="What the parrot says it costs; null is unknown.")


class Parrot(tuneport.Backend):
    name = "parrot"
    capabilities = tuneport.plugin.Capabilities(
        methods=frozenset({"sft"}), verbs=frozenset({"cancel", "resume"}), local=True, auto_epochs="1"
    )
    settings_class = ParrotSettings

    def start(self, request: tuneport.plugin.TrainRequest) -> tuneport.Job:
        folder = tuneport.plugin.home("parrot") / request.name
        if request.settings.refuses:
            raise tuneport.errors.UnavailableError(request.settings.refuses)
        if os.environ.get("PARROT_DIES") == "before":
            os._exit(9)
        if not folder.exists():
            self._learn(folder, request)
        with (folder / "starts").open("a") as file:
            file.write("started\n")
        if os.environ.get("PARROT_DIES") == "after":
            os._exit(9)
        return self.job(request.name)

    def _learn(self, folder: Path, request: tuneport.plugin.TrainRequest) -> None:
        """Written next to it and renamed into place: of several processes that start the same job, one makes it."""
        made = Path(tempfile.mkdtemp(dir=tuneport.plugin.home("parrot")))
        pairs = [(m.messages[-2].text, m.messages[-1].text) for m in request.train]
        (made / "pairs.json").write_text(json.dumps(pairs))
        facts = {"base": str(request.base), "intent": request.intent, "fingerprint": request.train.fingerprint}
        (made / "facts.json").write_text(json.dumps(facts))
        self._event(made, "status", "learning by heart")
        self._event(made, "metric", "heard", step=1, total_steps=1, train_loss=0.5, learning_rate=1.0)
        self._event(made, "status", "done")
        (made / "status").write_text(request.settings.stop_at or "succeeded")
        try:
            made.rename(folder)
        except OSError:  # another was first
            shutil.rmtree(made)

    def _event(self, folder: Path, kind: Any, message: str, **data: Any) -> None:
        file = folder / "events.jsonl"
        seq = 1 + (len(file.read_text().splitlines()) if file.exists() else 0)
        event = tuneport.Event(seq=seq, time=tuneport.plugin.utc_now(), kind=kind, message=message, data=data)
        with file.open("a") as out:
            out.write(json.dumps(event.to_dict()) + "\n")

    def job(self, name: str) -> tuneport.Job:
        folder = tuneport.plugin.home("parrot") / name
        if not (folder / "status").exists():
            raise tuneport.errors.JobNotFound(f"No parrot was taught as {name}.")
        return ParrotJob(folder)

    def model(self, name: str) -> tuneport.Model:
        if name == "gray":
            return ParrotModel(tuneport.Ref("parrot", "gray"), [], None)
        folder = tuneport.plugin.home("parrot") / name
        if not folder.exists():
            raise tuneport.errors.ModelNotFound(f"There is no parrot {name}.", remedy="There is: parrot:gray")
        return self.job(name).result()

    def check_base(self, base: str) -> None:
        self.model(base)

    def bases(self) -> list[tuneport.plugin.BaseInfo]:
        return [tuneport.plugin.BaseInfo(ref=tuneport.Ref("parrot", "gray"), description="a gray parrot", present=True)]

    def plan(self, request: tuneport.plugin.TrainRequest) -> tuneport.Plan:
        rows = len(request.train)

        def known(value: float | None, unit: str) -> tuneport.Quantity:
            return tuneport.Quantity(value=value, unit=unit, source="counted")

        return tuneport.Plan(
            base=str(request.base),
            rows=rows,
            validation_rows=0,
            tokens=known(rows * 10, "tokens"),
            steps=known(1, "steps"),
            epochs=known(1, "epochs"),
            seconds=known(0.1, "s"),
            memory=known(1e6, "B"),
            usd=known(request.settings.usd, "USD"),
        )


class ParrotJob(tuneport.Job):
    poll_seconds = 0.01

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ref = tuneport.Ref("parrot", folder.name)

    def state(self) -> tuneport.JobState:
        word = (self.folder / "status").read_text()
        message = "it forgot" if word == "failed" else ""
        return tuneport.JobState(
            status=tuneport.Status(word), native=f"parrot-{word}", message=message, step=1, total_steps=1
        )

    def events(self, after: int = 0) -> Iterable[tuneport.Event]:
        for line in (self.folder / "events.jsonl").read_text().splitlines()[after:]:
            yield tuneport.Event.from_dict(json.loads(line))

    def cancel(self) -> None:
        if not self.status.terminal:
            (self.folder / "status").write_text("cancelled")

    def resume(self) -> None:
        (self.folder / "status").write_text("succeeded")

    def result(self) -> tuneport.Model:
        facts = json.loads((self.folder / "facts.json").read_text())
        pairs = json.loads((self.folder / "pairs.json").read_text())
        lineage = tuneport.Lineage(
            base=facts["base"],
            job=str(self.ref),
            data_fingerprint=facts["fingerprint"],
            created="2026-01-01T00:00:00+00:00",
        )
        return ParrotModel(self.ref, pairs, lineage)

    def delete(self, *, dry_run: bool = False) -> tuneport.Removal:
        if not dry_run:
            shutil.rmtree(self.folder)
        return tuneport.Removal(removed=[f"the folder {self.folder}"])

    def prune(self, *, dry_run: bool = False) -> int:
        leftover = self.folder / "leftover"
        if not leftover.exists():
            return 0
        size = leftover.stat().st_size
        if not dry_run:
            leftover.unlink()
        return size


class ParrotModel(tuneport.Model):
    def __init__(self, ref: tuneport.Ref, pairs: list[list[str]], lineage: tuneport.Lineage | None) -> None:
        self.ref, self.pairs, self.lineage = ref, pairs, lineage

    def generate(
        self, prompts: Sequence[Sequence[tuneport.Message]], options: tuneport.GenerateOptions
    ) -> list[tuneport.Reply]:
        return [self._reply(self._nearest(prompt[-1].text).split(" "), options.max_tokens) for prompt in prompts]

    def _reply(self, words: list[str], most: int) -> tuneport.Reply:
        """A word is a token to a parrot."""
        return tuneport.Reply(text=" ".join(words[:most]), finish_reason="length" if len(words) > most else "stop")

    def _nearest(self, text: str) -> str:
        words = set(text.lower().split())
        best = max(self.pairs, key=lambda pair: len(words & set(pair[0].lower().split())), default=["", "Hello!"])
        return best[1]


@tuneport.plugin.hookimpl
def tuneport_backends() -> list[tuneport.Backend]:
    return [Parrot()]


@tuneport.plugin.hookimpl
def tuneport_on_event(job: tuneport.Job, event: tuneport.Event) -> None:
    with (tuneport.plugin.home() / "observed.txt").open("a") as out:
        out.write(f"{job.ref} {event.seq}\n")
