"""A submission that cannot start twice: written down first, sent once, and looked for, never repeated, on doubt.

What a job's scratch holds, in the order in which it is written: `request` (all that is needed to go on in another
process), `files` (ids at the server, by part), `create` (before the one request that starts the job is sent), `job`
(the id that it was given); or `cancelled` or `refused`, where it never will be.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tuneport.errors import ConfigError, JobNotFinished, JobNotFound, TuneportError
from tuneport.plugin import JobState, Ref, Status, home, utc_now
from tuneport_openai.wire.client import INTENT, Wire, never_sent
from tuneport_openai.wire.locks import open_lock
from tuneport_openai.wire.pages import Pages
from tuneport_openai.wire.refusals import answer_of, surely_refused
from tuneport_openai.wire.upload import ensure_file
from tuneport_openai.wire.words import time_of

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

Scratch = MutableMapping[str, Any]

_SETTLE_LOOKS = 3  # a person waits, and can ask again
CERTAIN_SECONDS = 900.0
"""How long after the sending a job that no list shows may still show up; after that `settle` says it is not there.

An assumption, and the only one: no vendor says how long a request may be under way, or how soon a list shows a new job.
The client gives up after two minutes; the rest is room for gateways that deliver late and for lists that lag, and as
long as somebody can be asked to wait.
"""
_CLOCK_SECONDS = 24 * 3600  # how far two clocks may be apart


@contextmanager
def alone(intent: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the intent against every other process; without `wait`, False where another holds it."""
    with open_lock(home("openai", "locks") / intent) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def finish(wire: Wire, ref: Ref, scratch: Scratch) -> None:
    """Do what is left of a submission: upload, wait until the files are processed, start the job; once, whoever calls.

    Raises JobNotFinished (unconfirmed) when it may have been started and could not be found, and the error of a refusal
    when it certainly was not.
    """
    request = scratch["request"]
    with alone(request["intent"]):
        if "job" in scratch or "cancelled" in scratch or "refused" in scratch:
            return
        if "create" in scratch:
            adopt(wire, ref, scratch)
            return
        for part, facts in request["files"].items():
            found = ensure_file(wire, facts, scratch)
            scratch["files"] = {**scratch.get("files", {}), part: found}
        _create(wire, ref, scratch)


def settle(wire: Wire, ref: Ref, scratch: Scratch) -> None:
    """Learn what became of a start. Returns when the job is found, or was never asked for.

    Raises JobNotFinished while the job may still show up, JobNotFound when it certainly was not started.
    """
    with alone(scratch["request"]["intent"]):
        if "job" in scratch or "create" not in scratch:
            return
        found, unread = _search(wire, scratch, wire.limits.looks[:_SETTLE_LOOKS])
        if found:
            scratch["job"] = found
            return
        sent = datetime.fromisoformat(scratch["create"]["at"])
        passed = (utc_now() - sent).total_seconds()
        if unread or passed < CERTAIN_SECONDS or scratch["create"].get("likely"):
            raise unconfirmed(wire, ref, scratch, unread)
        raise JobNotFound(
            f"{wire.profile.name} has no job of the start of {ref}, {passed / 60:.0f} minutes after it was asked.",
            remedy="It was not started. Run the same command again to start anew.",
        )


def standing(ref: Ref, scratch: Scratch) -> JobState:
    """Where a start stands that has not become a job."""
    created = datetime.fromisoformat(scratch["request"]["created"])
    if "create" in scratch:
        return JobState(
            status=Status.UNCONFIRMED,
            message="It may have been started, and could not be found yet.",
            remedy=f"Run: tuneport settle {ref}",
            created=created,
        )
    if "refused" in scratch:
        return JobState(status=Status.FAILED, message=str(scratch["refused"]), created=created)
    if "cancelled" in scratch:
        return JobState(status=Status.CANCELLED, message="Cancelled before it was started.", created=created)
    with alone(scratch["request"]["intent"], wait=False) as free:
        if not free:
            return JobState(status=Status.PREPARING, message="Its files are being uploaded.", created=created)
    return JobState(
        status=Status.INTERRUPTED,
        message="Its start was cut off before the job was created.",
        remedy=f"Run: tuneport resume {ref}",
        created=created,
    )


def withdraw(scratch: Scratch) -> bool:
    """See to it that a start never becomes a job; False where it may have become one meanwhile."""
    with alone(scratch["request"]["intent"]):
        if "refused" in scratch:
            return True
        if "job" in scratch or "create" in scratch:
            return False
        scratch["cancelled"] = utc_now().isoformat()
        return True


def adopt(wire: Wire, ref: Ref, scratch: Scratch) -> None:
    """Take the job that carries this intent as ours; raises JobNotFinished (unconfirmed) when no look finds it."""
    found, unread = _search(wire, scratch, wire.limits.looks)
    if not found:
        raise unconfirmed(wire, ref, scratch, unread)
    scratch["job"] = found


def _search(wire: Wire, scratch: Scratch, looks: Sequence[float]) -> tuple[str | None, TuneportError | None]:
    """The id of the job that carries this intent; else why the last look could not be made, or None if it was."""
    unread: TuneportError | None = None
    for pause in looks:
        time.sleep(pause)
        try:
            found = _look(wire, scratch)
        except TuneportError as error:  # whatever keeps us from looking, a refusal of the start it is not
            unread = error
            if isinstance(error, ConfigError):
                break  # a key that is missing comes by no waiting
        else:
            if found is not None:
                return found.id, None
            unread = None
    return None, unread


def unconfirmed(wire: Wire, ref: Ref, scratch: Scratch, why: TuneportError | None = None) -> JobNotFinished:
    """The error of a start of which nobody could learn what became; `why` is what kept us from looking."""
    likely = scratch["create"].get("likely")
    sent = datetime.fromisoformat(scratch["create"]["at"])
    certain = sent + timedelta(seconds=CERTAIN_SECONDS)
    found = "and no list of its jobs shows it yet" if why is None else f"and could not be looked for ({why.message})"
    hint = f" It may be the job {likely}, which does not say whose it is." if likely else ""
    if answer := scratch["create"].get("answer"):
        hint = f" The answer was {answer.rstrip('.')}.{hint}"
    remedy = f"Run in a few minutes: tuneport settle {ref}"
    if why is not None and why.remedy and not why.passing:
        remedy = f"{why.remedy.rstrip('.')}. Then run: tuneport settle {ref}"
    elif why is None and utc_now() < certain:
        remedy = (
            f"From {certain:%H:%M} UTC on, a quarter of an hour after the sending, it is certain: tuneport settle {ref}"
        )
    return JobNotFinished(
        f"{ref} may have been started at {wire.profile.name} (it was sent at {sent:%H:%M} UTC), {found}. It is not "
        f"sent again, so that nothing is paid for twice.{hint}",
        ref=str(ref),
        status=Status.UNCONFIRMED,
        remedy=remedy,
    )


def _create(wire: Wire, ref: Ref, scratch: Scratch) -> None:
    request, ids = scratch["request"], scratch["files"]
    body = {**request["body"], "training_file": ids["train"]}
    if "validation" in ids:
        body["validation_file"] = ids["validation"]
    client = wire.once  # whatever is missing for it must be told before the note below says that something was sent
    scratch["create"] = {"at": utc_now().isoformat(), "training_file": ids["train"], "model": body["model"]}
    try:
        made = client.fine_tuning.jobs.create(**body)
        if not isinstance(getattr(made, "id", None), str) or not made.id:
            raise ValueError("the answer names no job")
        if _metadata_of(made).get(INTENT, request["intent"]) != request["intent"]:
            raise ValueError("the answer is another job's")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not a proof that nothing was started
        if surely_refused(error) or never_sent(error):
            del scratch["create"]
            wire.explain(error, "creating the job")
        if answer := answer_of(error):
            scratch["create"] = {**scratch["create"], "answer": wire.redact(answer)}
        try:
            adopt(wire, ref, scratch)
        except TuneportError as unfound:
            raise unfound from error
        return
    scratch["job"] = made.id


def _look(wire: Wire, scratch: Scratch) -> FineTuningJob | None:
    """The job whose metadata has this intent. Of jobs without metadata, one that fits is noted as likely."""
    request, sent = scratch["request"], scratch["create"]
    intent: str = request["intent"]
    oldest = datetime.fromisoformat(sent["at"]) - timedelta(seconds=_CLOCK_SECONDS)
    ours: list[FineTuningJob] = []
    with wire.speaking("looking for the job"):
        jobs = _listed(wire, intent)
        for job in jobs:
            if _metadata_of(job).get(INTENT) == intent:
                ours.append(job)
            elif not _metadata_of(job) and _fits(job, sent):
                scratch["create"] = sent = {**sent, "likely": job.id}
            if (time_of(job.created_at) or oldest) < oldest:
                break
        else:
            if not ours:
                jobs.require_whole("jobs")  # else nobody could ever be certain that the job is not there
    return min(ours, key=lambda job: time_of(job.created_at) or oldest, default=None)


def _listed(wire: Wire, intent: str) -> Pages:
    """Jobs by metadata; all of them, newest first, from a server that refuses or ignores the filter."""
    import openai

    jobs = wire.patient.fine_tuning.jobs
    try:
        return Pages(jobs.list(limit=100, metadata={INTENT: intent}))
    except (openai.BadRequestError, openai.UnprocessableEntityError):
        return Pages(jobs.list(limit=100))


def _metadata_of(job: FineTuningJob) -> dict[str, Any]:
    found = getattr(job, "metadata", None)
    return found if isinstance(found, dict) else {}


def _fits(job: FineTuningJob, sent: dict[str, Any]) -> bool:
    at, created = datetime.fromisoformat(sent["at"]), time_of(job.created_at)
    return job.training_file == sent["training_file"] and created is not None and created >= at - timedelta(seconds=120)
