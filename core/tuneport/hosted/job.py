"""A handle on a job at a service: its state is what the service reports, its events are numbered here once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.contract.events import Event, Status, utc_now
from tuneport.contract.facts import Lineage
from tuneport.contract.job import Job
from tuneport.contract.state import Checkpoint, JobState, Removal
from tuneport.doors import HOSTED, public
from tuneport.errors import BackendError, JobNotFinished, NotFoundError, TuneportError, UsageError
from tuneport.hosted.events import keep_entries, look_and_keep, status_of
from tuneport.hosted.http import bound_to
from tuneport.hosted.model import HostedModel
from tuneport.hosted.reports import DataFile, Report
from tuneport.hosted.start import finish, require_account, start_of, state_before, withdraw

if TYPE_CHECKING:
    from tuneport.contract.notebook import Notebook
    from tuneport.hosted.http import Http
    from tuneport.hosted.reports import Belonging
    from tuneport.hosted.service import Service
    from tuneport.refs import Ref


@public(HOSTED)
class HostedJob(Job):
    """A training at a service. What its start left is in the notebook; see `start`."""

    notebook: Notebook

    def __init__(self, ref: Ref, service: Service, http: Http, notebook: Notebook) -> None:
        self.ref = ref
        self.service = service
        self.author = type(service).__module__  # whom an error names
        self.http = http
        self.notebook = notebook
        self.scratch = notebook.scratch
        self.poll_seconds = http.limits.poll
        self.outage_seconds = http.limits.outage

    def state(self) -> JobState:
        """What the service reports; from the notebook, without asking, before the job exists and once it is over."""
        if "job" not in self.scratch:
            state = state_before(self.service, self.ref, self.scratch)
            return replace(state, details=self._details(None))
        report = self._report()
        status = status_of(self.service, report)
        step, total = self._last_step(report)
        remedy = None
        if status is Status.PAUSED:
            remedy = self.service.paused_remedy(str(self.ref))
        elif status is Status.FAILED:
            remedy = f"To see the file that was sent, run: tuneport show {self.ref}"
        return JobState(
            status=status,
            native=report.word,
            message=report.message,
            remedy=remedy,
            step=step,
            total_steps=total,
            tokens=report.tokens or 0,
            queue_position=report.queue_position,
            seconds_left=report.seconds_left,
            created=datetime.fromisoformat(self.scratch["request"]["created"]),
            started=report.started,
            finished=report.finished,
            details=self._details(report),
        )

    def events(self, after: int = 0) -> Iterable[Event]:
        """What has happened so far, from the notebook, from number `after` on; asks the service for what is new."""
        if "job" in self.scratch and "final" not in self.scratch:
            self._report()
        return self.notebook.events(after)

    def cancel(self) -> None:
        """End the job for good; before it was created, it never will be."""
        if "job" not in self.scratch:
            if withdraw(self.scratch):
                return
            self._require_job("cancelled")
        if self.status.terminal:
            return
        try:
            self.service.cancel(self.http, self.scratch["job"])
        except TuneportError:
            if not self._ends_soon():  # a job that has just ended refuses to be cancelled
                raise
        with suppress(TuneportError):
            self.state()  # what became of it is kept here

    def pause(self) -> None:
        """Ask the service to stop at its next checkpoint."""
        if "pause" not in self.service.capabilities.verbs:
            return super().pause()
        self._require_job("paused")
        if self._refuse_ended("paused") not in (Status.PAUSED, Status.PAUSING):
            self.service.pause(self.http, self.scratch["job"])
        return None

    def resume(self) -> None:
        """Continue a start that was interrupted before the job was created, or a paused job."""
        if "job" not in self.scratch:
            if "create" in self.scratch:
                self._require_job("resumed")
            self._refuse_ended("resumed")
            finish(self.service, self.http, self.ref, self.scratch)
        elif self._refuse_ended("resumed") in (Status.PAUSED, Status.PAUSING):
            if "resume" not in self.service.capabilities.verbs:
                return super().resume()
            self.service.resume(self.http, self.scratch["job"])
        return None

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that the service keeps, oldest first."""
        return self.service.checkpoints(self.http, self.scratch["job"]) if "job" in self.scratch else []

    def result(self) -> HostedModel:
        """The tuned model; raises JobFailed, JobCancelled or JobNotFinished where there is none."""
        self.require_success()
        self._require_address()
        return HostedModel(self.ref, self.service, self.http, self.model_name(), self.lineage(), self.scratch)

    def model_name(self) -> str:
        """The service's name of the tuned model of a job that succeeded."""
        name = self._report().model
        if not name:
            raise BackendError(
                f"{self.service.title} reports that {self.ref} succeeded, but names no model.",
                remedy=f"Look at the job {self.scratch['job']} on the service's own page.",
            )
        return name

    def delete(self, *, dry_run: bool = False) -> Removal:
        """Remove the deployment, then what the service lets us remove of the job, then the copies of what was sent."""
        state = self.state()
        if state.status is Status.UNCONFIRMED or not (state.status.terminal or state.status.idle):
            verb = "settle" if state.status is Status.UNCONFIRMED else "cancel"
            raise JobNotFinished(
                f"{self.ref} is {state.status}: it must end before it can be deleted.",
                ref=str(self.ref),
                status=state.status,
                remedy=f"Run: tuneport {verb} {self.ref}",
            )
        self._require_address()
        require_account(self.service, self.http, self.scratch, str(self.ref))
        removal = Removal()
        for one in self._belongings():
            line = f"{one.what} at {self.service.title}"
            if one.keep or one.remove is None:
                removal.kept.append(f"{line}: {one.keep or 'it cannot be removed from here'}")
            elif dry_run or one.remove():
                removal.removed.append(line)
        removal.removed.extend(f"{path} ({size:,} bytes)" for path, size in self._copies())
        if not dry_run:
            self._remove_copies()
        return removal

    def prune(self, *, dry_run: bool = False) -> int:
        """Remove the copies of what was sent; how many bytes that frees."""
        freed = sum(size for _, size in self._copies())
        if not dry_run:
            self._remove_copies()
        return freed

    def keep_what_was_sent(self) -> None:
        """Keep an event about the files that were sent, and about rows that were left out as too long."""
        kept = []
        for raw in self.scratch["request"]["files"].values():
            file = DataFile.from_dict(raw)
            left_out = f"; {file.dropped:,} rows were too long and are left out" if file.dropped else ""
            message = f"{file.part}: {file.rows:,} rows in {file.bytes:,} bytes, as {file.name}{left_out}"
            level: Any = "warning" if file.dropped else "info"
            event = Event(seq=0, time=utc_now(), kind="log", level=level, message=message)
            kept.append((f"sent {file.part}", event))
        self.notebook.append(kept)

    def lineage(self) -> Lineage:
        """Where the tuned model comes from."""
        request = self.scratch["request"]
        names = ("base", "method", "system", "settings", "versions", "created")
        facts = {name: request[name] for name in names}
        return Lineage(job=str(self.ref), data_fingerprint=request["fingerprint"], **facts)

    def _report(self) -> Report:
        """What the service says; kept once the job is over, so that it can be read without the service."""
        if "final" in self.scratch:
            return Report.from_dict(self.scratch["final"])
        job_id = self.scratch["job"]
        try:
            report = look_and_keep(self.service, self.http, self.notebook, job_id)
        except NotFoundError as error:
            # Not JobNotFound, after which the same run would start again: the key may be another account's.
            raise BackendError(
                f"{self.service.title} does not show the job {job_id} of {self.ref}.",
                remedy=f"Is the key in {self.http.endpoint.key} that of the account that started it?",
            ) from error
        if status_of(self.service, report).terminal:
            with suppress(TuneportError):
                keep_entries(self.service, self.http, self.notebook, report)  # what came between the two requests
            self.scratch["final"] = report.to_dict()
        return report

    def _require_address(self) -> None:
        """Raise ConfigError where the endpoint is another one now: a job that is over can be opened all the same."""
        bound_to(self.service.endpoint, self.scratch["request"]["endpoint"], str(self.ref))

    def _require_job(self, what: str) -> None:
        if "job" not in self.scratch:
            state = self.state()
            raise JobNotFinished(
                f"{self.ref} is {state.status} and not known to be started, so it cannot be {what}.",
                ref=str(self.ref),
                status=state.status,
                remedy=state.remedy,
            )

    def _refuse_ended(self, what: str) -> Status:
        status = self.status
        if status.terminal:
            raise UsageError(f"{self.ref} is {status}: it is over and cannot be {what}.")
        return status

    def _ends_soon(self) -> bool:
        for pause in (0.0, 1.0, 2.0):
            time.sleep(pause * self.http.limits.pause)
            if self.status.terminal:
                return True
        return False

    def _last_step(self, report: Report) -> tuple[int, int | None]:
        if report.step is not None:
            return report.step, report.total_steps
        steps = [int(one.data["step"]) for one in self.notebook.events() if one.kind == "metric" and "step" in one.data]
        return max(steps, default=0), report.total_steps

    def _details(self, report: Report | None) -> dict[str, Any]:
        request = self.scratch["request"]
        facts: dict[str, Any] = {
            "endpoint": request["endpoint"],
            "job": self.scratch.get("job"),
            "sent": request["files"]["train"]["path"],
            "quote": self.scratch.get("quote"),
        }
        if report is not None:
            facts |= {"model": report.model or None, "usd": report.usd, "percent": report.percent, **report.details}
        return {name: value for name, value in facts.items() if value is not None}

    def _belongings(self) -> Iterable[Belonging]:
        report = self._report() if "job" in self.scratch else None
        yield from self.service.belongings(self.http, start_of(self.scratch), report)

    def _copies(self) -> list[tuple[Path, int]]:
        paths = [Path(one["path"]) for one in self.scratch["request"]["files"].values()]
        return [(path, path.stat().st_size) for path in paths if path.is_file()]

    def _remove_copies(self) -> None:
        for path, _ in self._copies():
            path.unlink(missing_ok=True)
