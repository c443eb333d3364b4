"""What reading rows, training and measuring need from the worker that runs a job, so that none of them imports it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from tuneport.plugin import Example, Status
    from tuneport_torch.jobs.devices import Device
    from tuneport_torch.jobs.folder import Folder
    from tuneport_torch.jobs.owner import Owner

Stop = Literal["pause", "cancel"]
"""Why training stops before its last step because somebody asked for it."""


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


class TrainingWorker(RowSource, Control, Protocol):
    """The worker, as `training.train_job` needs it."""

    folder: Folder
    owner: Owner
    tokens_trained: int
    """Tokens trained on by this process."""

    def stage(self, status: Status, message: str, **changes: Any) -> None:
        """Report that a stage begins."""

    def device(self, setting: str, per_device: int) -> Device:
        """Wait in the queue for a device. Raises UnavailableError if this machine has none of that kind."""
