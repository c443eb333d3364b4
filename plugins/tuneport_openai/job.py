"""A handle on a job at a server: its state is what the server says, its events are numbered here once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from tuneport.errors import BackendError, JobNotFinished, JobNotFound, NotFoundError, TuneportError, UsageError
from tuneport.plugin import Checkpoint, Event, Job, JobState, Lineage, Notebook, Ref, Removal, Status, utc_now
from tuneport_openai.events import fetch
from tuneport_openai.hyperparameters import explain_settings
from tuneport_openai.wire import keys
from tuneport_openai.wire.client import Wire
from tuneport_openai.wire.pages import Pages
from tuneport_openai.wire.refusals import printable
from tuneport_openai.wire.words import count_of, failure_of, numbers, remedy_for, seconds_left, status_of, time_of

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

    from tuneport_openai.model import HostedModel

_MOST_CHECKPOINTS = 1_000
_COMPLETE = "told"  # codespell:ignore told - the key in the ledgers of jobs: no more events can come


class HostedJob(Job):
    """A training at a server. `notebook.scratch` is what its start left there; see `start.submit`."""

    notebook: Notebook

    def __init__(self, ref: Ref, wire: Wire, notebook: Notebook) -> None:
        self.ref = ref
        self.wire = wire
        self.notebook = notebook
        self.scratch = notebook.scratch
        self.poll_seconds = wire.profile.poll_seconds
        self.outage_seconds = wire.profile.limits.outage_seconds

    def state(self) -> JobState:
        """The job's state at the server, or that of its start. Once the job is over, the server is not asked."""
        request = self.scratch["request"]
        if "job" not in self.scratch:
            from tuneport_openai.start.submit import start_state

            return replace(start_state(self.ref, self.scratch), details=self._details(request, {}))
        facts = self._facts()
        status = status_of(facts.get("status"))
        failure = failure_of(facts)
        step, total = self._last_step(facts)
        return JobState(
            status=status,
            native=str(facts.get("status") or ""),
            message=printable(str(failure.get("message") or "")) if status is Status.FAILED else "",
            remedy=remedy_for(status, self.ref, failure),
            step=step,
            total_steps=total,
            tokens=count_of(facts.get("trained_tokens")) or 0,
            seconds_left=seconds_left(facts) if status is Status.RUNNING else None,
            created=datetime.fromisoformat(request["created"]),
            started=time_of(facts.get("created_at")),
            finished=time_of(facts.get("finished_at")),
            details=self._details(request, facts),
        )

    def events(self, after: int = 0) -> Iterable[Event]:
        """What the server has reported so far, fetched and numbered, from the event after number `after`."""
        if "job" in self.scratch and not self.scratch.get(_COMPLETE):
            is_complete = fetch(self.wire, self.notebook, self.state())
            if is_complete:
                self.scratch[_COMPLETE] = True
        return self.notebook.events(after)

    def cancel(self) -> None:
        """End the job for good. A job that was not started yet will never be."""
        if "job" not in self.scratch:
            from tuneport_openai.start.submit import withdraw

            if withdraw(self.scratch):
                return
            self._require_job("cancelled")
        if not self.status.terminal:
            self._send("cancel")
            with suppress(TuneportError):
                self.state()  # keeps the result here, in case nobody can ask later

    def pause(self) -> None:
        """Ask the server to stop at its next checkpoint; not every server can."""
        state = self.state()
        if state.status.terminal:
            raise UsageError(f"{self.ref} is {state.status}: there is nothing to pause.")
        if state.status in (Status.PAUSED, Status.PAUSING):
            return
        self._require_job("paused")
        self._send("pause")

    def resume(self) -> None:
        """Continue a start that was interrupted before the job was created, or a paused job."""
        state = self.state()
        if state.status.terminal:
            raise UsageError(f"{self.ref} is {state.status}: it is over and cannot be resumed.")
        if state.status is Status.UNCONFIRMED:
            self._require_job("resumed")
        elif "job" not in self.scratch:
            from tuneport_openai.start.submit import finish

            finish(self.wire, self.ref, self.scratch)
        elif state.status in (Status.PAUSED, Status.PAUSING):
            self._send("resume")

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that the server keeps; each name is a model, as `openai:NAME`."""
        if "job" not in self.scratch:
            return []
        traits = self.wire.profile.traits
        uses: frozenset[Literal["answer", "download"]]
        uses = frozenset({"answer", "download"}) if traits.serves_checkpoints else frozenset({"answer"})
        kept = [
            Checkpoint(
                name=name,
                step=one.step_number,
                created=time_of(one.created_at) or utc_now(),
                metrics=numbers(one.metrics.to_dict(warnings=False) if hasattr(one.metrics, "to_dict") else {}),
                uses=uses if traits.openai_models or traits.serves_checkpoints else frozenset(),
            )
            for one in self._list_checkpoints()
            if (name := self._checkpoint_name(one))
            and count_of(one.step_number) is not None
            and one.fine_tuning_job_id in (None, self.scratch["job"])
        ]
        return sorted(kept, key=lambda one: one.step)

    def result(self) -> HostedModel:
        """The tuned model; raises JobFailed, JobCancelled or JobNotFinished where there is none."""
        self.require_success()
        name = self.scratch["model"] = self._model_name()
        profile = self.wire.profile
        if profile.vendor == "azure":
            from tuneport_openai.deployed import DeployedModel

            return DeployedModel(self.ref, self.wire, name, self._lineage(), self.scratch)
        if profile.traits.serves_checkpoints:
            from tuneport_openai.deployed import RegisteredModel

            return RegisteredModel(self.ref, self.wire, name, self._lineage(), self.scratch)
        from tuneport_openai.model import HostedModel

        return HostedModel(self.ref, self.wire, name, self._lineage())

    def delete(self, *, dry_run: bool = False) -> Removal:
        """Remove the model, the result files and the data from the server, and the copy of the data from here.

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
        """Remove the copy of what was sent; returns how many bytes that frees."""
        from tuneport_openai.removal import remove_copies

        return sum(size for _, size in remove_copies(self.scratch, dry_run=dry_run))

    def record_files(self) -> None:
        """Keep an event for each file that was sent, which says how many rows were left out as too long."""
        events = []
        for part, facts in self.scratch["request"]["files"].items():
            left_out = f"; {facts['dropped']:,} were too long and are left out" if facts["dropped"] else ""
            message = f"{part}: {facts['rows']:,} rows in {facts['bytes']:,} bytes, as {facts['name']}{left_out}"
            level: Literal["info", "warning"] = "warning" if facts["dropped"] else "info"
            event = Event(seq=0, time=utc_now(), kind="log", level=level, message=message)
            events.append((f"sent {part}", event))
        self.notebook.append(events)

    def _facts(self) -> dict[str, Any]:
        """The job as the server describes it; kept once it is over, so that it can be read without the server."""
        final: dict[str, Any] | None = self.scratch.get("final")
        if final is not None:
            return final
        try:
            with self.wire.translate_errors("asking for the job", JobNotFound):
                found: FineTuningJob = self.wire.patient.fine_tuning.jobs.retrieve(self.scratch["job"])
                facts = found.to_dict(mode="json", warnings=False)
                if facts.get("id") != self.scratch["job"]:
                    raise ValueError(f"it is about the job {facts.get('id')!r}, not {self.scratch['job']!r}")
        except NotFoundError as error:
            # Not JobNotFound, which would let the same run start again: the key may be another account's.
            raise BackendError(
                f"{self.wire.profile.name} does not show the job {self.scratch['job']} of {self.ref}.",
                remedy=f"Check that the key in {keys.place(self.wire.profile)} is of the account that started it.",
            ) from error
        if not isinstance(facts.get("status"), str):
            facts["status"] = ""
        if status_of(facts["status"]).terminal:
            self.scratch["final"] = facts
        return facts

    def _require_job(self, participle: str) -> None:
        if "job" not in self.scratch:
            state = self.state()
            raise JobNotFinished(
                f"{self.ref} is {state.status}: it may not have been started, so it cannot be {participle}.",
                ref=str(self.ref),
                status=state.status,
                remedy=state.remedy,
            )

    def _send(self, verb: str) -> None:
        """Send one verb. A refusal to cancel a job that has just ended is no error: there was nothing left to do."""
        try:
            with self.wire.translate_errors(f"asking to {verb} the job"):
                getattr(self.wire.once.fine_tuning.jobs, verb)(self.scratch["job"])
        except TuneportError:
            if verb == "cancel" and self._ends_soon():
                return
            raise

    def _ends_soon(self) -> bool:
        for pause in (0.0, 0.5, 1.0):
            time.sleep(pause)
            if self.status.terminal:
                return True
        return False

    def _list_checkpoints(self) -> list[Any]:
        try:
            with self.wire.translate_errors("listing checkpoints"):
                first = self.wire.patient.fine_tuning.jobs.checkpoints.list(self.scratch["job"], limit=100)
                return list(Pages(first, most_items=_MOST_CHECKPOINTS))
        except NotFoundError:
            return []  # not every server keeps them

    def _checkpoint_name(self, checkpoint: Any) -> str:
        """A checkpoint's name as a model; empty for one that has none."""
        if self.wire.profile.traits.serves_checkpoints:  # the form in which it can be registered
            found = checkpoint.id
            return f"{self.scratch['job']}:{found}" if isinstance(found, str) and found else ""
        found = checkpoint.fine_tuned_model_checkpoint
        return found if isinstance(found, str) else ""

    def _model_name(self) -> str:
        """The server's name of the tuned model."""
        if self.wire.profile.traits.serves_checkpoints:
            known: str | None = self.scratch.get("model")
            if known is not None:
                return known
            if checkpoints := self.checkpoints():
                return checkpoints[-1].name
        name = self._facts().get("fine_tuned_model")
        if isinstance(name, str) and name:
            return name
        raise BackendError(
            f"{self.wire.profile.name} reports that {self.ref} succeeded, but names no model.",
            remedy=f"Look at the job {self.scratch['job']} on the server's own page.",
        )

    def _last_step(self, facts: dict[str, Any]) -> tuple[int, int | None]:
        step, total = count_of(facts.get("trained_steps")) or 0, count_of(facts.get("total_steps"))
        for event in self.notebook.events():
            if event.kind == "metric":
                step, total = max(step, int(event.data.get("step") or 0)), event.data.get("total_steps") or total
        return step, int(total) if total else None

    def _details(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        trained, price = count_of(facts.get("trained_tokens")), request.get("usd_per_million_tokens")
        resolved, reasons = explain_settings(request, facts)
        known = {
            "endpoint": request["endpoint"],
            "job": self.scratch.get("job"),
            "model": facts.get("fine_tuned_model") if isinstance(facts.get("fine_tuned_model"), str) else None,
            "sent": request["files"]["train"]["path"],
            "trained_tokens": trained,
            "usd": round(trained * price / 1e6, 4) if trained and price is not None else None,
            "resolved": resolved or None,
            "reasons": reasons or None,
        }
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
