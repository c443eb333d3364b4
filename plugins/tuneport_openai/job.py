"""A handle on a job at a server: its state is the server's word, its events are numbered here once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from tuneport.errors import BackendError, JobNotFinished, JobNotFound, NotFoundError, TuneportError, UsageError
from tuneport.plugin import (
    Checkpoint,
    Event,
    Job,
    JobState,
    Lineage,
    Model,
    Ref,
    Status,
    deliver_events,
    keep_events,
    kept_events,
    utc_now,
)
from tuneport_openai.events import fetch
from tuneport_openai.wire import keys
from tuneport_openai.wire.client import Wire
from tuneport_openai.wire.pages import Pages
from tuneport_openai.wire.refusals import printable
from tuneport_openai.wire.words import numbers, remedy_for, seconds_left, status_of, time_of, whole

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

    from tuneport_openai.model import HostedModel

_MOST_CHECKPOINTS = 1_000

_HYPERPARAMETERS = ("learning_rate_multiplier", "epochs", "batch_size", "beta", "eval_interval", "eval_samples")


class HostedJob(Job):
    """A training at a server. `scratch` is what its start left here; see `submit`."""

    def __init__(self, ref: Ref, wire: Wire, scratch: MutableMapping[str, Any]) -> None:
        self.ref = ref
        self.wire = wire
        self.scratch = scratch
        self.poll_seconds = wire.profile.poll_seconds
        self.outage_seconds = wire.profile.limits.outage_seconds
        self._is_delivering = False

    def state(self) -> JobState:
        """The server's word on the job, or where its start stands; from here, without asking, once it is over."""
        request = self.scratch["request"]
        if "job" not in self.scratch:
            from tuneport_openai.start.submit import standing

            return replace(standing(self.ref, self.scratch), details=self._details(request, {}))
        facts = self._facts()
        status = status_of(facts.get("status"))
        error = facts.get("error")
        if not isinstance(error, dict):
            error = {"message": error} if isinstance(error, str) else {}
        step, total = self._last_step()
        return JobState(
            status=status,
            native=str(facts.get("status") or ""),
            message=printable(str(error.get("message") or "")) if status is Status.FAILED else "",
            remedy=remedy_for(status, self.ref, error),
            step=step,
            total_steps=total,
            tokens=whole(facts.get("trained_tokens")) or 0,
            seconds_left=seconds_left(facts) if status is Status.RUNNING else None,
            created=datetime.fromisoformat(request["created"]),
            started=time_of(facts.get("created_at")),
            finished=time_of(facts.get("finished_at")),
            details=self._details(request, facts),
        )

    def events(self, after: int = 0) -> Iterable[Event]:
        """What the server has told so far, fetched and numbered, from number `after` on."""
        if "job" in self.scratch and not self.scratch.get("told") and not self._is_delivering:
            is_complete = fetch(self.ref, self.wire, self.scratch, self.state())
            self._deliver()
            if is_complete:
                self.scratch["told"] = True
        return kept_events(self.ref, after)

    def _deliver(self) -> None:
        """Hand new events to the observers, who may read this job's events themselves: the kept ones."""
        self._is_delivering = True
        try:
            deliver_events(self)
        finally:
            self._is_delivering = False

    def wait(
        self,
        timeout: float | None = None,
        on_event: Callable[[Event], None] | None = None,
        after: int = 0,
        *,
        progress: bool | None = None,
    ) -> Model:
        """As any job's. Events are read even if nobody here wants them: observers are told by who polls."""
        shown = True if on_event is None and progress is None else progress
        return super().wait(timeout, on_event or _ignore, after, progress=shown)

    def cancel(self) -> None:
        """End the job for good; before it was started, it never will be."""
        if "job" not in self.scratch:
            from tuneport_openai.start.submit import withdraw

            if withdraw(self.scratch):
                return
            self._started("cancelled")
        if not self.status.terminal:
            self._act("cancel")
            with suppress(TuneportError):
                self.state()  # what it became is kept here, should nobody be able to ask later

    def pause(self) -> None:
        """Ask the server to stop at its next checkpoint; not every server can."""
        state = self.state()
        if state.status.terminal:
            raise UsageError(f"{self.ref} is {state.status}: there is nothing to pause.")
        if state.status in (Status.PAUSED, Status.PAUSING):
            return
        self._started("paused")
        self._act("pause")

    def resume(self) -> None:
        """Go on: with a start that was cut off before the job was created, or with a paused job."""
        state = self.state()
        if state.status.terminal:
            raise UsageError(f"{self.ref} is {state.status}: it is over and cannot be resumed.")
        if state.status is Status.UNCONFIRMED:
            self._started("resumed")
        elif "job" not in self.scratch:
            from tuneport_openai.start.submit import finish

            finish(self.wire, self.ref, self.scratch)
        elif state.status in (Status.PAUSED, Status.PAUSING):
            self._act("resume")

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that the server keeps; each name is a model, as `openai:NAME`."""
        if "job" not in self.scratch:
            return []
        try:
            with self.wire.speaking("listing checkpoints"):
                first = self.wire.patient.fine_tuning.jobs.checkpoints.list(self.scratch["job"], limit=100)
                found = list(Pages(first, most_items=_MOST_CHECKPOINTS))
        except NotFoundError:
            return []  # not every server keeps them
        kept = [
            Checkpoint(
                name=one.fine_tuned_model_checkpoint,
                step=one.step_number,
                created=time_of(one.created_at) or utc_now(),
                metrics=numbers(one.metrics.to_dict(warnings=False) if hasattr(one.metrics, "to_dict") else {}),
            )
            for one in found
            if isinstance(one.fine_tuned_model_checkpoint, str)
            and one.fine_tuned_model_checkpoint
            and whole(one.step_number) is not None
            and one.fine_tuning_job_id in (None, self.scratch["job"])
        ]
        return sorted(kept, key=lambda one: one.step)

    def result(self) -> HostedModel:
        """The tuned model; raises JobFailed, JobCancelled or JobNotFinished where there is none."""
        self.require_success()
        from tuneport_openai.model import HostedModel

        name = self._facts().get("fine_tuned_model")
        if not isinstance(name, str) or not name:
            raise BackendError(
                f"{self.wire.profile.name} says that {self.ref} succeeded, and names no model.",
                remedy=f"Look at the job {self.scratch['job']} on the server's own page.",
            )
        self.scratch["model"] = name
        if self.wire.profile.vendor == "azure":
            from tuneport_openai.model import DeployedModel

            return DeployedModel(self.ref, self.wire, name, self._lineage(), self.scratch)
        return HostedModel(self.ref, self.wire, name, self._lineage())

    def delete(self, *, dry_run: bool = False) -> list[str]:
        """Remove the model, the result files and the data from the server, and the copy of what was sent from here.

        The wire has no way to delete a job's entry itself. Raises JobNotFinished for a job that runs or may run.
        """
        from tuneport_openai.removal import remove

        state = self.state()
        if state.status is Status.UNCONFIRMED or not (state.status.terminal or state.status.idle):
            verb = "settle" if state.status is Status.UNCONFIRMED else "cancel"
            raise JobNotFinished(
                f"{self.ref} is {state.status}: it must end before it can be deleted.",
                ref=str(self.ref),
                status=state.status,
                remedy=f"Run: tuneport {verb} {self.ref}",
            )
        facts = self._facts() if "job" in self.scratch else {}
        return remove(self.wire, self.scratch, facts, dry_run=dry_run)

    def prune(self, *, dry_run: bool = False) -> int:
        """Remove the copy of what was sent; how many bytes that frees."""
        from tuneport_openai.removal import remove_copies

        return sum(size for _, size in remove_copies(self.scratch, dry_run=dry_run))

    def tell_what_was_sent(self) -> None:
        """Keep an event of the files that were sent, and of rows that were left out because they were too long."""
        told = []
        for part, facts in self.scratch["request"]["files"].items():
            left_out = f"; {facts['dropped']:,} were too long and are left out" if facts["dropped"] else ""
            message = f"{part}: {facts['rows']:,} rows in {facts['bytes']:,} bytes, as {facts['name']}{left_out}"
            level: Literal["info", "warning"] = "warning" if facts["dropped"] else "info"
            event = Event(seq=0, time=utc_now(), kind="log", level=level, message=message)
            told.append((f"sent {part}", event))
        keep_events(self.ref, told)

    def _facts(self) -> dict[str, Any]:
        """The job as the server describes it; kept once it is over, so that it can be read without the server."""
        final: dict[str, Any] | None = self.scratch.get("final")
        if final is not None:
            return final
        try:
            with self.wire.speaking("asking for the job", JobNotFound):
                found: FineTuningJob = self.wire.patient.fine_tuning.jobs.retrieve(self.scratch["job"])
                facts = found.to_dict(mode="json", warnings=False)
                if facts.get("id") != self.scratch["job"]:
                    raise ValueError(f"it is about the job {facts.get('id')!r}, not {self.scratch['job']!r}")
        except NotFoundError as error:
            # Not JobNotFound, which would let the same run start anew: the key may be another account's.
            raise BackendError(
                f"{self.wire.profile.name} does not show the job {self.scratch['job']} of {self.ref}.",
                remedy=f"Is the key in {keys.place(self.wire.profile)} that of the account that started it?",
            ) from error
        if not isinstance(facts.get("status"), str):
            facts["status"] = ""
        if status_of(facts["status"]).terminal:
            self.scratch["final"] = facts
        return facts

    def _started(self, what: str) -> None:
        if "job" not in self.scratch:
            state = self.state()
            raise JobNotFinished(
                f"{self.ref} is {state.status} and not known to be started, so it cannot be {what}.",
                ref=str(self.ref),
                status=state.status,
                remedy=state.remedy,
            )

    def _act(self, verb: str) -> None:
        """Send one verb; a refusal of a job that has just ended is none, since there was nothing left to do."""
        try:
            with self.wire.speaking(f"asking to {verb} the job"):
                getattr(self.wire.once.fine_tuning.jobs, verb)(self.scratch["job"])
        except TuneportError:
            if verb == "cancel" and self._ended_soon():
                return
            raise

    def _ended_soon(self) -> bool:
        for pause in (0.0, 0.5, 1.0):
            time.sleep(pause)
            if self.status.terminal:
                return True
        return False

    def _last_step(self) -> tuple[int, int | None]:
        step, total = 0, None
        for event in kept_events(self.ref):
            if event.kind == "metric":
                step, total = max(step, int(event.data.get("step") or 0)), event.data.get("total_steps") or total
        return step, int(total) if total else None

    def _details(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        trained, price = whole(facts.get("trained_tokens")), request.get("usd_per_million_tokens")
        known = {
            "endpoint": request["endpoint"],
            "job": self.scratch.get("job"),
            "model": facts.get("fine_tuned_model") if isinstance(facts.get("fine_tuned_model"), str) else None,
            "sent": request["files"]["train"]["path"],
            "trained_tokens": trained,
            "usd": round(trained * price / 1e6, 4) if trained and price is not None else None,
        }
        resolved, reasons = _choices(request, facts)
        known |= {"resolved": resolved or None, "reasons": reasons or None}
        return {name: value for name, value in known.items() if value is not None}

    def _lineage(self) -> Lineage:
        request = self.scratch["request"]
        return Lineage(
            base=request["base"],
            job=str(self.ref),
            data_fingerprint=request["fingerprint"],
            created=request["created"],
            method=request["method"],
            system=request["system"],
            settings=request["settings"],
            versions=request["versions"],
        )


def _choices(request: dict[str, Any], facts: dict[str, Any]) -> tuple[dict[str, int | float], dict[str, str]]:
    """The hyperparameters that the server says it used, and whether it chose them itself."""
    asked, told = _hyperparameters(request.get("body")), _hyperparameters(facts)
    used = {
        "epochs" if name == "n_epochs" else name: (value, asked.get(name, "auto") != "auto")
        for name, value in told.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    named = {name: used[name] for name in _HYPERPARAMETERS if name in used}
    why = {name: "as asked" if is_asked else "auto: the server chose" for name, (_, is_asked) in named.items()}
    return {name: value for name, (value, _) in named.items()}, why


def _hyperparameters(body: Any) -> dict[str, Any]:
    """Those of the method, else the older field beside it; a server may send anything."""
    method = body.get("method") if isinstance(body, dict) else None
    kind = method.get("type") if isinstance(method, dict) else None
    chosen = method.get(kind) if isinstance(method, dict) and isinstance(kind, str) else None
    for place in (chosen, body):
        found = place.get("hyperparameters") if isinstance(place, dict) else None
        if isinstance(found, dict) and found:
            return found
    return {}


def _ignore(event: Event) -> None:
    del event
