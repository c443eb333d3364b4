"""What reading rows, training and measuring need of the work that a worker gives them; tests give simpler objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tuneport.local import Stop
    from tuneport.plugin import Example


class Emit(Protocol):
    """Reports an event of the job. `data` holds numbers and texts only."""

    def __call__(self, kind: str, message: str, *, level: str = "info", **data: Any) -> None: ...


class Control(Protocol):
    """What a long computation needs: a way to report, and to know when to stop."""

    @property
    def emit(self) -> Emit:
        """Report an event."""

    @property
    def should_stop(self) -> Callable[[], Stop | None]:
        """What to stop for, if anything. Called at every micro-batch, so it answers at once."""


class RowSource(Protocol):
    """A job's snapshot of its data."""

    @property
    def emit(self) -> Emit:
        """Report an event."""

    def examples(self, part: str) -> Iterator[Example]:
        """The examples of one part: "train" or "validation". Raises DataError at the end if the file was changed."""

    def note(self, activity: str) -> None:
        """Show what the job is doing now, such as "rendered 512 rows". Not an event: the next note replaces it."""
