"""A start that cannot happen twice: written down, sent once, and resolved by the service's proof when in doubt.

The notebook's scratch holds, in the order in which it is written: `request` (all that another process needs to
continue), `files` (ids at the service, by part), `quote` (the service's price), `create` (before the one request that
starts the job leaves), `job` (the job's id there); or `refused` or `cancelled`, where it never becomes a job.
"""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tuneport.contract.border import WrongReturn
from tuneport.contract.events import Status, utc_now
from tuneport.contract.state import JobState
from tuneport.errors import BudgetError, ConfigError, JobNotFinished, JobNotFound, TuneportError
from tuneport.files import try_lock
from tuneport.homefolder import home
from tuneport.hosted.files import ensure_file
from tuneport.hosted.refusals import Refused, Unsent
from tuneport.hosted.reports import DataFile, Start
from tuneport.printable import one_line

if TYPE_CHECKING:
    from tuneport.hosted.http import Http
    from tuneport.hosted.reports import Report
    from tuneport.hosted.service import Service
    from tuneport.refs import Ref

    Scratch = MutableMapping[str, Any]

_LOOKS = (0.0, 2.0, 6.0, 12.0)  # pauses before each try to resolve a doubt, in units of the endpoint's own pause
_OVER = ("job", "refused", "cancelled")


def alone(intent: str, *, wait: bool = True) -> AbstractContextManager[bool]:
    """Hold the intent against every other process and thread; without `wait`, yields False where another holds it."""
    return try_lock(home("hosted", "locks") / intent, wait=wait)


def start_of(scratch: Scratch) -> Start:
    """The start that a notebook keeps."""
    request = scratch["request"]
    names = ("ref", "intent", "mark", "method", "model", "is_tuned", "body", "usd_per_million_tokens")
    facts = {name: request[name] for name in names}
    return Start(**facts, account=scratch.get("account", ""), files=scratch.get("files", {}))


def require_account(service: Service, http: Http, scratch: Scratch, ref: str) -> None:
    """Raise ConfigError where the key is another account's, to which nothing that the job left would seem to exist."""
    started, now = scratch.get("account", ""), service.read_account(http) if scratch.get("account") else ""
    if started != now:
        raise ConfigError(
            f"{ref} was started in the account {started} of {service.title}; the key in {http.endpoint.key} is that of "
            f"{now}.",
            remedy=f"Set {http.endpoint.key} to a key of {started}.",
        )


def finish(service: Service, http: Http, ref: Ref, scratch: Scratch) -> None:
    """Do what is left of a start: upload the files, check the price, create the job. Once, however often it is called.

    Raises JobNotFinished (unconfirmed) where the job may have been started and was not found, and the error of a
    refusal where it certainly was not.
    """
    request = scratch["request"]
    with alone(request["intent"]):
        if any(name in scratch for name in _OVER):
            return
        if "create" in scratch:
            _adopt(service, http, ref, scratch)
            return
        if "account" not in scratch:
            scratch["account"] = service.read_account(http)
            service.check_model(http, start_of(scratch))
        for part, raw in request["files"].items():
            if part not in scratch.get("files", {}):
                found = ensure_file(service, http, start_of(scratch), DataFile.from_dict(raw))
                scratch["files"] = {**scratch.get("files", {}), part: found}
        _check_price(service, http, scratch)
        _create(service, http, ref, scratch)


def settle(service: Service, http: Http, ref: Ref, scratch: Scratch) -> None:
    """Learn what became of a start in doubt. A service that takes the same request twice without effect is sent it
    again. Returns once the job is found.

    Raises JobNotFinished while the job may still appear, JobNotFound when it certainly was not started.
    """
    with alone(scratch["request"]["intent"]):
        if "refused" in scratch:
            raise _not_started_error(ref, scratch)
        if any(name in scratch for name in _OVER) or "create" not in scratch:
            return
        found, unseen = _resolve(service, http, start_of(scratch))
        if found is not None:
            scratch["job"] = found.id
            return
        passed = (utc_now() - datetime.fromisoformat(scratch["create"]["at"])).total_seconds()
        if unseen is not None or passed < http.limits.certain:
            raise unconfirmed_error(service, ref, scratch, unseen)
        scratch["refused"] = f"{service.title} has no job for it, {passed / 60:.0f} minutes after it was requested."
        del scratch["create"]
        raise _not_started_error(ref, scratch)


def withdraw(scratch: Scratch) -> bool:
    """Make sure that a start never becomes a job; False where it may have become one."""
    with alone(scratch["request"]["intent"]):
        if "refused" in scratch or "cancelled" in scratch:
            return True
        if "job" in scratch or "create" in scratch:
            return False
        scratch["cancelled"] = utc_now().isoformat()
        return True


def state_before(service: Service, ref: Ref, scratch: Scratch) -> JobState:
    """The state of a start that is not a job yet. Asks no network."""
    created = datetime.fromisoformat(scratch["request"]["created"])

    def state(status: Status, message: str, remedy: str | None = None) -> JobState:
        return JobState(status=status, message=message, remedy=remedy, created=created)

    if "refused" in scratch:
        return state(Status.FAILED, str(scratch["refused"]))
    if "cancelled" in scratch:
        return state(Status.CANCELLED, "Cancelled before it was started.")
    with alone(scratch["request"]["intent"], wait=False) as is_free:
        if not is_free:
            return state(Status.PREPARING, "Its files are being uploaded.")
    if "create" in scratch:
        message = f"{service.title} did not confirm that it started the job."
        return state(Status.UNCONFIRMED, message, f"Run: tuneport settle {ref}")
    message = "The start was interrupted before the job was created."
    return state(Status.INTERRUPTED, message, f"Run: tuneport resume {ref}")


def unconfirmed_error(service: Service, ref: Ref, scratch: Scratch, why: TuneportError | None = None) -> JobNotFinished:
    """The error for a start of unknown outcome; `why` is what kept the service from being asked."""
    sent = datetime.fromisoformat(scratch["create"]["at"])
    found = "the service does not show it yet" if why is None else why.message.rstrip(".")
    remedy = f"Run in a few minutes: tuneport settle {ref}"
    if why is not None and why.remedy and not why.passing:
        remedy = f"{why.remedy.rstrip('.')}. Then run: tuneport settle {ref}"
    elif why is None:
        certain = sent + timedelta(seconds=service.endpoint.limits.certain)
        remedy = f"From {certain:%H:%M} UTC on, this gives a final answer: tuneport settle {ref}"
    return JobNotFinished(
        f"{ref} may have been started at {service.title} (requested at {sent:%H:%M} UTC): {found}. "
        "No second job is requested, so that you do not pay twice.",
        ref=str(ref),
        status=Status.UNCONFIRMED,
        remedy=remedy,
    )


def _not_started_error(ref: Ref, scratch: Scratch) -> JobNotFound:
    return JobNotFound(f"{ref} was not started: {scratch['refused']}", remedy="Run the same command again to start it.")


def _create(service: Service, http: Http, ref: Ref, scratch: Scratch) -> None:
    start = start_of(scratch)
    http.endpoint.read_key()  # what is missing must be reported before the note says that something was sent
    scratch["create"] = {"at": utc_now().isoformat()}
    try:
        report = service.proof.create(service, http, start)
    except (Refused, Unsent):
        del scratch["create"]
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it does not prove that nothing was started
        try:
            _adopt(service, http, ref, scratch)
        except TuneportError as unseen:
            if not isinstance(error, TuneportError):  # the author wants to know
                unseen.message = f"{unseen.message} The request ended with {_describe(http, error)}."
                unseen.args = (unseen.message, *unseen.args[1:])
            raise unseen from error
    else:
        scratch["job"] = report.id


def _describe(http: Http, error: Exception) -> str:
    if isinstance(error, WrongReturn):
        return f"a wrong value, {error}"
    return one_line(http.redact(f"{type(error).__name__}: {error}"))[:200]


def _adopt(service: Service, http: Http, ref: Ref, scratch: Scratch) -> None:
    found, unseen = _resolve(service, http, start_of(scratch))
    if found is None:
        raise unconfirmed_error(service, ref, scratch, unseen)
    scratch["job"] = found.id


def _resolve(service: Service, http: Http, start: Start) -> tuple[Report | None, TuneportError | None]:
    """The job, or why the last try could not be made; neither where the service shows no such job."""
    unseen: TuneportError | None = None
    for pause in _LOOKS:
        time.sleep(pause * http.limits.pause)
        try:
            found = service.proof.resolve(service, http, start)
        except TuneportError as error:
            unseen = error
            if isinstance(error, ConfigError):
                break  # a missing key does not come back by waiting
        else:
            if found is not None:
                return found, None
            unseen = None
    return None, unseen


def _check_price(service: Service, http: Http, scratch: Scratch) -> None:
    """Ask for the price where the service knows it now, and refuse it over the budget."""
    price = service.quote(http, start_of(scratch))
    if price is not None:
        scratch["quote"] = {"usd": price.value, "source": price.source}
    budget = scratch["request"].get("budget_usd")
    if budget is None or price is None:
        return
    if price.value is None or price.value > budget:
        cost = "an unknown amount" if price.value is None else f"{price.value:,.2f} US dollars"
        raise BudgetError(
            f"The training would cost {cost} ({price.source}); budget.usd allows {budget:g}.",
            remedy="Nothing was started; the files are uploaded. Raise budget.usd, or train on fewer rows or epochs.",
        )
