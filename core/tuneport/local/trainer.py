"""What an author writes for a backend whose jobs run in processes on this machine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tuneport.contract.backend import Backend
from tuneport.doors import LOCAL, public
from tuneport.errors import BackendError
from tuneport.local.devices import DevicePool, cpu

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

    from tuneport.contract.facts import Lineage
    from tuneport.contract.model import Model
    from tuneport.contract.request import TrainRequest
    from tuneport.local.control import Stop
    from tuneport.local.work import Work
    from tuneport.refs import Ref


@public(LOCAL)
class Trainer(Backend):
    """The part of `LocalBackend` that an author writes or may change. `name`, `capabilities`, `settings_class`, `plan`
    and the rest of `Backend` belong to it too.

    `less_memory` says what to change when memory is short; it completes "start a new run and …". `environment` are
    variables of the worker's process, unless the user has set them. The versions of the distributions in `versioned`
    are kept with each job and its model.
    """

    less_memory: ClassVar[str] = "train on fewer rows at once, or train a smaller model"
    environment: ClassVar[Mapping[str, str]] = {}
    versioned: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def work(self, work: Work) -> Stop | None:
        """Train, and save the model with `work.save_model`. Returns why it stopped early, if it did.

        Called once in the worker, a process of its own, on its main thread; it may take days. It is called again, in a
        new process, when the job is resumed: then `work.checkpoint` is the last complete checkpoint. What it prints
        goes to the job's log.txt alone; `work.metric`, `work.log` and `work.emit` report. Any exception ends the job:
        a full disk pauses it, an error that may pass (a network, a device, a missing package) interrupts it so that it
        can be resumed, every other one fails it.
        """

    @abstractmethod
    def load(self, ref: Ref, folder: Path | None, lineage: Lineage | None) -> Model:
        """The model in `folder`, which `work` saved; without a folder, the base model that `ref` names.

        Called in the user's process, at most once per model that is opened. Importing libraries and reading weights
        can wait until the model is first used. Raises ModelNotFound for a base that does not exist; where
        `base_models` lists the bases, it is called for those alone.
        """

    def finish(self, work: Work) -> tuple[str, str | None]:
        """Do what follows the saved model, such as an export. Returns a sentence for the job's last message (it may be
        empty) and a remedy.

        Called in the worker after `work`, and again when the worker was killed meanwhile. An exception ends the job as
        one of `work` does.
        """
        del work
        return "", None

    def check_request(self, request: TrainRequest) -> None:
        """Raise UsageError, UnavailableError or another TuneportError for what cannot be trained here.

        Called in the user's process before anything is written; it asks no network.
        """

    def describe_request(self, request: TrainRequest) -> Mapping[str, Any]:
        """JSON-ready facts to keep with the job as `work.request`, such as the base's fingerprint.

        Called in the user's process while the job is written. Raises TuneportError for a base that cannot be read;
        nothing is then left of the job.
        """
        del request
        return {}

    def devices(self, settings: BaseModel) -> DevicePool:
        """The devices that a job with these settings may use; jobs wait in a queue for them. By default the processor.

        Called in the user's process at a start and a resume, and in the worker. It must import no large library.
        """
        del settings
        return DevicePool("cpu", [cpu()])

    def keep_checkpoints(self, settings: BaseModel) -> int:
        """How many of the newest checkpoints a job keeps, at least 1."""
        del settings
        return 2


def read_settings(trainer: Trainer, request: Mapping[str, Any]) -> BaseModel:
    """The settings of a job that is written. Raises BackendError where another version of the backend wrote them."""
    try:
        return trainer.settings_class.model_validate(request["settings"])
    except ValueError as error:
        raise BackendError(
            f"The job's settings are not valid for this version of {trainer.name}: {error}",
            remedy="Resume it with the version that started it, or start the run again: tuneport run … --again",
        ) from error
