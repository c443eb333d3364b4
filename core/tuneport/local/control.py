"""What a training and its worker share: the job's events and status, and requests to stop."""

from __future__ import annotations

import threading
from typing import Any, Literal, get_args

from tuneport.contract.events import EventLevel, Status, utc_now
from tuneport.local.owner import Owner

Stop = Literal["pause", "cancel"]
"""Why a training stops early: on request."""

_KINDS = ("log", "metric", "checkpoint")  # a status has a method of its own
_NUMBERS = ("step", "total_steps", "tokens", "seconds_left")


class Control:
    """Reports to the folder and reads requests from it; used by the training's thread and the worker's others."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.folder = owner.folder
        self.tokens_trained = 0  # in this process, since its first report of tokens
        self.is_training = False  # then the training stops by itself, after a checkpoint
        self.signal = ""  # the name of one that asked the process to end
        self.is_pausing = False
        self.news = threading.Event()
        self._first_tokens: int | None = None

    def stage(self, status: Status, message: str, *, level: str = "info", **changes: Any) -> None:
        """Report that a stage begins."""
        with self.owner.mutex:
            self.is_training = status is Status.RUNNING
            if status in (Status.PREPARING, Status.RUNNING) and self.owner.now.started is None:
                changes.setdefault("started", utc_now())
            self.owner.status(status, message, level=level, **changes)
        self.news.set()

    def emit(self, kind: str, message: str, *, level: str = "info", **data: Any) -> None:
        """Report an event of the training. Raises ValueError or TypeError for one that no reader would take."""
        if kind not in _KINDS:
            raise ValueError(f"an event's kind is {kind!r}, not one of {', '.join(_KINDS)}")
        if level not in get_args(EventLevel):
            raise ValueError(f"an event's level is {level!r}, not one of {', '.join(get_args(EventLevel))}")
        if not isinstance(message, str):
            raise TypeError(f"an event's message is {message!r}, not a text")
        self.owner.event(kind, message, level=level, **data)
        changes = {name: data[name] for name in _NUMBERS if name in data}
        late = kind == "checkpoint" and data["step"] < self.owner.now.step  # it took some steps to reach the disk
        if changes and not late:
            self.owner.progress(**changes)
        if "tokens" in data:
            self._first_tokens = data["tokens"] if self._first_tokens is None else self._first_tokens
            self.tokens_trained = data["tokens"] - self._first_tokens
        self.news.set()

    def should_stop(self) -> Stop | None:
        """What to stop for, if anything; cheap enough to ask at every step."""
        if self.folder.has_request("cancel"):
            return "cancel"
        if not (self.is_pausing or self.signal or self.take_pause()):
            return None
        self.owner.status(Status.PAUSING, "Saving a checkpoint, then stopping.")
        return "pause"

    def take_pause(self) -> bool:
        """Accept a request to pause, unless it is withdrawn first."""
        try:
            (self.folder.path / "pause").rename(self.folder.path / "pausing")
        except FileNotFoundError:
            return False
        self.is_pausing = True
        return True
