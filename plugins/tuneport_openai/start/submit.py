"""A submission that cannot start twice: recorded first, sent once, and in doubt searched for, never repeated.

What a job's scratch holds, in the order in which it is written: `request` (everything that another process needs to
continue), `files` (ids at the server, by part), `create` (before the one request that starts the job is sent), `job`
(the id that the server gave it); or `cancelled` or `refused`, where there will never be one.
"""

from __future__ import annotations

import re
import time
from collections.abc import MutableMapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tuneport.errors import ConfigError, JobNotFinished, JobNotFound, TuneportError
from tuneport.plugin import JobState, Ref, Status, home, try_lock, utc_now
from tuneport_openai.wire.client import INTENT, Wire, was_never_sent
from tuneport_openai.wire.pages import Pages
from tuneport_openai.wire.refusals import answer_of, is_refusal
from tuneport_openai.wire.upload import ensure_file
from tuneport_openai.wire.words import time_of

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

Scratch = MutableMapping[str, Any]

_SETTLE_LOOKS = 3  # the user waits, and can ask again
CERTAIN_SECONDS = 900.0
"""How long after the request a job that no list shows may still appear; after that `settle` says that there is none.

This is an assumption, and the only one: no vendor says how long a request may take, or how soon a list shows a new job.
The client gives up after two minutes; the rest is a margin for gateways that deliver late and lists that lag, and is as
long as a user can be expected to wait.
"""
_CLOCK_SECONDS = 24 * 3600  # how far apart two clocks may be
_MARK = re.compile(r"[0-9a-f]{32}")  # see suffix_mark
_EARLY_SECONDS = 120  # how much older than its request a job may seem


def hold(intent: str, *, wait: bool = True) -> AbstractContextManager[bool]:
    """Keep every other process from this intent; without `wait`, yields False when another one holds it."""
    return try_lock(home("openai", "locks") / intent, wait=wait)


def finish(wire: Wire, ref: Ref, scratch: Scratch) -> None:
    """Do what is left of a submission: upload, wait until the files are processed, start the job. May be repeated.

    Raises JobNotFinished (unconfirmed) when the job may have been started and was not found, and the refusal's error
    when it certainly was not started.
    """
    request = scratch["request"]
    with hold(request["intent"]):
        if "job" in scratch or "cancelled" in scratch or "refused" in scratch:
            return
        if "create" in scratch:
            adopt(wire, ref, scratch)
            return
        for part, facts in request["files"].items():
            found = ensure_file(wire, facts, scratch)
            scratch["files"] = {**scratch.get("files", {}), part: found}
        _create(wire, ref, scratch)


def conclude(wire: Wire, ref: Ref, scratch: Scratch) -> None:
    """Find out whether a start made a job. Returns when the job is found, or was never submitted.

    Raises JobNotFinished while the job may still appear, JobNotFound when it certainly was not started.
    """
    with hold(scratch["request"]["intent"]):
        if "job" in scratch or "create" not in scratch:
            return
        found, unread = _search(wire, scratch, wire.limits.looks[:_SETTLE_LOOKS])
        if found:
            scratch["job"] = found
            return
        sent = datetime.fromisoformat(scratch["create"]["at"])
        passed = (utc_now() - sent).total_seconds()
        if unread or passed < CERTAIN_SECONDS or scratch["create"].get("likely"):
            raise unconfirmed_error(wire, ref, scratch, unread)
        raise JobNotFound(
            f"{wire.profile.name} has no job for {ref}, {passed / 60:.0f} minutes after it was submitted.",
            remedy="It was not started. Run the same command again to start it.",
        )


def start_state(ref: Ref, scratch: Scratch) -> JobState:
    """The state of a start that has not become a job."""
    created = datetime.fromisoformat(scratch["request"]["created"])
    if "create" in scratch:
        return JobState(
            status=Status.UNCONFIRMED,
            message="It may have been started, and was not found yet.",
            remedy=f"Run: tuneport settle {ref}",
            created=created,
        )
    if "refused" in scratch:
        return JobState(status=Status.FAILED, message=str(scratch["refused"]), created=created)
    if "cancelled" in scratch:
        return JobState(status=Status.CANCELLED, message="Cancelled before it was started.", created=created)
    with hold(scratch["request"]["intent"], wait=False) as free:
        if not free:
            return JobState(status=Status.PREPARING, message="Its files are being uploaded.", created=created)
    return JobState(
        status=Status.INTERRUPTED,
        message="Its start was interrupted before the job was created.",
        remedy=f"Run: tuneport resume {ref}",
        created=created,
    )


def withdraw(scratch: Scratch) -> bool:
    """Make sure that a start never becomes a job. Returns False where it may have become one."""
    with hold(scratch["request"]["intent"]):
        if "refused" in scratch:
            return True
        if "job" in scratch or "create" in scratch:
            return False
        scratch["cancelled"] = utc_now().isoformat()
        return True


def adopt(wire: Wire, ref: Ref, scratch: Scratch) -> None:
    """Take over the job that carries this intent; raises JobNotFinished (unconfirmed) when no search finds it."""
    found, unread = _search(wire, scratch, wire.limits.looks)
    if not found:
        raise unconfirmed_error(wire, ref, scratch, unread)
    scratch["job"] = found


def _search(wire: Wire, scratch: Scratch, looks: Sequence[float]) -> tuple[str | None, TuneportError | None]:
    """The id of the job that carries this intent, or the reason why the last search failed, if it did."""
    unread: TuneportError | None = None
    for pause in looks:
        time.sleep(pause)
        try:
            found = _look(wire, scratch)
        except TuneportError as error:  # the search failed, which says nothing about the start
            unread = error
            if isinstance(error, ConfigError):
                break  # waiting brings no key
        else:
            if found is not None:
                return found.id, None
            unread = None
    return None, unread


def unconfirmed_error(wire: Wire, ref: Ref, scratch: Scratch, why: TuneportError | None = None) -> JobNotFinished:
    """The error for a start whose outcome is unknown; `why` is the reason why the search failed."""
    likely = scratch["create"].get("likely")
    sent = datetime.fromisoformat(scratch["create"]["at"])
    certain = sent + timedelta(seconds=CERTAIN_SECONDS)
    found = "and no list of its jobs shows it yet" if why is None else f"and the search for it failed ({why.message})"
    hint = f" It may be the job {likely}, which has no mark of tuneport." if likely else ""
    if answer := scratch["create"].get("answer"):
        hint = f" The answer was {answer.rstrip('.')}.{hint}"
    remedy = f"Run in a few minutes: tuneport settle {ref}"
    if why is not None and why.remedy and not why.passing:
        remedy = f"{why.remedy.rstrip('.')}. Then run: tuneport settle {ref}"
    elif why is None and utc_now() < certain:
        remedy = (
            f"From {certain:%H:%M} UTC on, 15 minutes after it was sent, this can be decided: tuneport settle {ref}"
        )
    return JobNotFinished(
        f"{ref} may have been started at {wire.profile.name} (it was sent at {sent:%H:%M} UTC), {found}. It is not "
        f"sent again, so that you do not pay twice.{hint}",
        ref=str(ref),
        status=Status.UNCONFIRMED,
        remedy=remedy,
    )


def _create(wire: Wire, ref: Ref, scratch: Scratch) -> None:
    request, ids = scratch["request"], scratch["files"]
    body = {**request["body"], "training_file": ids["train"]}
    if "validation" in ids:
        body["validation_file"] = ids["validation"]
    client = wire.once  # a missing key must be reported before the note below says that something was sent
    scratch["create"] = {"at": utc_now().isoformat(), "training_file": ids["train"], "model": body["model"]}
    try:
        made = client.fine_tuning.jobs.create(**body)
        if not isinstance(getattr(made, "id", None), str) or not made.id:
            raise ValueError("the answer names no job")
        if _metadata_of(made).get(INTENT, request["intent"]) != request["intent"]:
            raise ValueError("the answer is another job's")
    except Exception as error:  # noqa: BLE001 - no exception proves that nothing was started
        if is_refusal(error) or was_never_sent(error):
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
    """The job that carries this intent. A job without any mark that fits is noted as likely."""
    sent = scratch["create"]
    oldest = datetime.fromisoformat(sent["at"]) - timedelta(seconds=_CLOCK_SECONDS)
    ours: list[FineTuningJob] = []
    with wire.translate_errors("searching for the job"):
        jobs = _list_jobs(wire, scratch["request"]["intent"])
        for job in jobs:
            is_ours = _is_ours(wire, job, scratch)
            if is_ours:
                ours.append(job)
            elif is_ours is None and _fits(job, sent):
                scratch["create"] = sent = {**sent, "likely": job.id}
            if (time_of(job.created_at) or oldest) < oldest:
                break
        else:
            if not ours:
                jobs.require_complete("jobs")  # otherwise it could never be certain that the job does not exist
    return min(ours, key=lambda job: time_of(job.created_at) or oldest, default=None)


def _is_ours(wire: Wire, job: FineTuningJob, scratch: Scratch) -> bool | None:
    """Whether a job carries this intent, where its vendor lets us leave it; None for a job that carries no mark."""
    intent, mark = scratch["request"]["intent"], wire.profile.traits.mark
    if mark == "file":  # uploaded for this intent alone
        return _fits(job, scratch["create"])
    if mark == "suffix":
        marks = _MARK.findall(suffix_of(job) or "")
        return suffix_mark(intent) in marks if marks else None
    metadata = _metadata_of(job)
    return None if not metadata else metadata.get(INTENT) == intent


def suffix_mark(intent: str) -> str:
    """What a suffix holds of an intent: its 32 hexadecimal digits."""
    return intent.replace("-", "")


def suffix_of(job: FineTuningJob) -> str | None:
    """The suffix of a job, under any of the names that servers use for it."""
    for name in ("suffix", "user_provided_suffix"):
        found = getattr(job, name, None)
        if isinstance(found, str) and found:
            return found
    return None


def _list_jobs(wire: Wire, intent: str) -> Pages:
    """Jobs by metadata; all of them, newest first, from a server that refuses or ignores the filter."""
    import openai

    jobs = wire.patient.fine_tuning.jobs
    if wire.profile.traits.mark != "metadata":
        return Pages(jobs.list(limit=100))
    try:
        return Pages(jobs.list(limit=100, metadata={INTENT: intent}))
    except (openai.BadRequestError, openai.UnprocessableEntityError):
        return Pages(jobs.list(limit=100))


def _metadata_of(job: FineTuningJob) -> dict[str, Any]:
    found = getattr(job, "metadata", None)
    return found if isinstance(found, dict) else {}


def _fits(job: FineTuningJob, sent: dict[str, Any]) -> bool:
    earliest = datetime.fromisoformat(sent["at"]) - timedelta(seconds=_EARLY_SECONDS)
    created = time_of(job.created_at)
    return job.training_file == sent["training_file"] and created is not None and created >= earliest
