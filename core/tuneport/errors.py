"""Every error that tuneport raises, under one root.

```
TuneportError
├── UsageError (ValueError)         the call or the command is wrong
│   ├── RefError                    not `backend:name`
│   ├── OptionError                 an option for an answer is wrong; has its name
│   └── ConfigError                 a config file or setting is wrong; has file, line and key
├── DataError (ValueError)          the data has errors; carries the diagnostics
├── NotFoundError (LookupError)     there is nothing with that name
│   ├── BackendNotFound             no plugin provides that backend
│   ├── JobNotFound
│   └── ModelNotFound
├── UnsupportedError                the backend declares that it cannot do this
├── UnavailableError                it could, but not now: a package, key or device is missing
├── BudgetError                     the plan costs more than the budget allows
├── JobError                        a job did not end with a model
│   ├── JobFailed
│   ├── JobCancelled
│   └── JobNotFinished              paused, interrupted or unconfirmed: not over, and not running
├── WaitTimeout (TimeoutError)      the wait is over; the job keeps running
├── BackendError                    a backend or its service misbehaved; its cause is the original exception
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
    """The base of all errors. The message says what happened, and to what; `remedy` says what to do or type next.

    `passing` is whether the cause may pass by itself (no connection, a busy service), after `retry_after` seconds if
    the service says so.
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
    """An option for an answer is wrong or cannot be used. `option` is its name in GenerateOptions."""

    def __init__(self, message: str, *, option: str, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.option = option


class ConfigError(UsageError):
    """A config file or setting is wrong. `file`, `line` (from 1) and `key` say where, if known. `problems` are the
    lines of the message if there are several.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
        problems: Sequence[str] = (),
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.problems = tuple(problems)
        self.file = file
        self.line = line
        self.key = key


class DataError(TuneportError, ValueError):
    """The data has errors that stop the run. `diagnostics` are the first of them."""

    def __init__(self, message: str, *, remedy: str | None = None, diagnostics: Sequence[object] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.diagnostics = tuple(diagnostics)


class NotFoundError(TuneportError, LookupError):
    """There is nothing with that name."""


class BackendNotFound(NotFoundError):  # noqa: N818 - reads as what happened, like the builtin FileNotFoundError's first half
    """No working plugin provides that backend."""


class JobNotFound(NotFoundError):  # noqa: N818 - see BackendNotFound
    """No job has that name."""


class ModelNotFound(NotFoundError):  # noqa: N818 - see BackendNotFound
    """No base or tuned model has that name."""


class UnsupportedError(TuneportError):
    """The backend declares that it cannot do this. `option` is the option for an answer that it does not support."""

    def __init__(self, message: str, *, remedy: str | None = None, option: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.option = option


class UnavailableError(TuneportError):
    """The backend could do this, but not now: a package, a key, a device or a file is missing."""

    def __init__(
        self, message: str, *, remedy: str | None = None, passing: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.passing = passing
        self.retry_after = retry_after


class BudgetError(TuneportError):
    """The plan costs more than the budget allows, or its cost is unknown."""


class JobError(TuneportError):
    """A job did not end with a model. `ref` is its reference."""

    def __init__(self, message: str, *, ref: str, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.ref = ref


class JobFailed(JobError):  # noqa: N818 - see BackendNotFound
    """The job failed. The message says why."""


class JobCancelled(JobError):  # noqa: N818 - see BackendNotFound
    """The job was cancelled."""


class JobNotFinished(JobError):  # noqa: N818 - see BackendNotFound
    """The job is paused, interrupted or unconfirmed (`status`): it is not over, and it is not running."""

    def __init__(self, message: str, *, ref: str, status: str, remedy: str | None = None) -> None:
        super().__init__(message, ref=ref, remedy=remedy)
        self.status = status


class WaitTimeout(TuneportError, TimeoutError):  # noqa: N818 - see BackendNotFound
    """The time limit of `wait` is over. The job keeps running."""


class BackendError(TuneportError):
    """A backend or its service misbehaved. The cause is the original exception.

    `unexpected` is set when the backend raised something other than an error of tuneport: the message then contains
    that exception's text.
    """

    def __init__(
        self, message: str, *, remedy: str | None = None, passing: bool = False, unexpected: bool = False
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.passing = passing
        self.unexpected = unexpected


class HomeError(TuneportError):
    """The home folder or the ledger in it cannot be used."""
