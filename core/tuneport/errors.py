"""Every error that tuneport raises, under one root.

```
TuneportError
├── UsageError (ValueError)         the call or the command is wrong
│   ├── RefError                    not `backend:name`
│   ├── OptionError                 an option of an answer is wrong; knows which
│   └── ConfigError                 a config file or setting is wrong; knows file, line and key
├── DataError (ValueError)          the data has errors; carries the diagnostics
├── NotFoundError (LookupError)     nothing is there by that name
│   ├── BackendNotFound             no plugin announces that backend
│   ├── JobNotFound
│   └── ModelNotFound
├── UnsupportedError                the backend declares that it cannot do this
├── UnavailableError                it could, but not here and now: a package, key or device is missing
├── BudgetError                     the plan costs more than the budget allows
├── JobError                        a job did not end with a model
│   ├── JobFailed
│   ├── JobCancelled
│   └── JobNotFinished              paused, interrupted or unconfirmed: not over, and nobody is running it
├── WaitTimeout (TimeoutError)      the job goes on; only the waiting ended
├── BackendError                    a backend or its service broke a promise; foreign exceptions are its cause
└── HomeError                       the ledger or the home folder cannot be used
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BackendError",
    "BackendNotFound",
    "BudgetError",
    "ConfigError",
    "DataError",
    "HomeError",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobNotFinished",
    "JobNotFound",
    "ModelNotFound",
    "NotFoundError",
    "OptionError",
    "RefError",
    "TuneportError",
    "UnavailableError",
    "UnsupportedError",
    "UsageError",
    "WaitTimeout",
]


class TuneportError(Exception):
    """What happened and to what; `remedy` says what to do or type next.

    `passing`: the same question may be answered by itself later (no connection, a busy service), in `retry_after`
    seconds where the service says so.
    """

    passing: bool = False
    retry_after: float | None = None

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message


class UsageError(TuneportError, ValueError):
    """The call or the command is wrong."""


class RefError(UsageError):
    """A reference is not of the form `backend:name`."""


class OptionError(UsageError):
    """An option of an answer is wrong or cannot be used; `option` is its name in GenerateOptions."""

    def __init__(self, message: str, *, option: str, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.option = option


class ConfigError(UsageError):
    """A configuration file or setting is wrong; `file`, `line` (from 1) and `key` say where, where known."""

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.file = file
        self.line = line
        self.key = key


class DataError(TuneportError, ValueError):
    """The data has errors that stop the run; `diagnostics` are the first of them."""

    def __init__(self, message: str, *, remedy: str | None = None, diagnostics: Sequence[object] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.diagnostics = tuple(diagnostics)


class NotFoundError(TuneportError, LookupError):
    """Nothing is there by that name."""


class BackendNotFound(NotFoundError):  # noqa: N818 - reads as what happened, like the builtin FileNotFoundError's first half
    """No working plugin announces that backend."""


class JobNotFound(NotFoundError):  # noqa: N818 - see BackendNotFound
    """No job has that name."""


class ModelNotFound(NotFoundError):  # noqa: N818 - see BackendNotFound
    """No base or tuned model has that name."""


class UnsupportedError(TuneportError):
    """The backend declares that it cannot do this; `option` names the option of an answer that it does not take."""

    def __init__(self, message: str, *, remedy: str | None = None, option: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.option = option


class UnavailableError(TuneportError):
    """The backend could do this, but not here and now: a package, a key, a device or a file is missing."""

    def __init__(
        self, message: str, *, remedy: str | None = None, passing: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.passing = passing
        self.retry_after = retry_after


class BudgetError(TuneportError):
    """The plan costs more than the budget allows, or cannot say that it does not."""


class JobError(TuneportError):
    """A job did not end with a model; `ref` names it."""

    def __init__(self, message: str, *, ref: str, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.ref = ref


class JobFailed(JobError):  # noqa: N818 - see BackendNotFound
    """The job failed; the message says why."""


class JobCancelled(JobError):  # noqa: N818 - see BackendNotFound
    """The job was cancelled."""


class JobNotFinished(JobError):  # noqa: N818 - see BackendNotFound
    """The job is paused, interrupted or unconfirmed (`status`): it is not over, and nobody is running it."""

    def __init__(self, message: str, *, ref: str, status: str, remedy: str | None = None) -> None:
        super().__init__(message, ref=ref, remedy=remedy)
        self.status = status


class WaitTimeout(TuneportError, TimeoutError):  # noqa: N818 - see BackendNotFound
    """The time given to `wait` is over; the job itself goes on."""


class BackendError(TuneportError):
    """A backend or its service did what it should not; the foreign exception is the cause."""

    def __init__(self, message: str, *, remedy: str | None = None, passing: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.passing = passing


class HomeError(TuneportError):
    """The home folder or the ledger in it cannot be used."""
