"""A backend whose jobs run in processes on this machine: what an author gets by writing a `Trainer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from tuneport.contract.capabilities import BaseInfo
from tuneport.doors import LOCAL, public
from tuneport.errors import JobNotFound, ModelNotFound
from tuneport.local.folder import Folder
from tuneport.local.trainer import Trainer
from tuneport.refs import Ref

if TYPE_CHECKING:
    from tuneport.contract.model import Model
    from tuneport.contract.request import TrainRequest
    from tuneport.local.job import LocalJob


@public(LOCAL)
class LocalBackend(Trainer):
    """A backend that trains on this machine, in a separate process for each job.

    Write `work`, `load` and `plan` (see `Trainer`), and set `name`, `capabilities` and `settings_class`. You get jobs
    that survive the program that started them and can be watched, paused, resumed, cancelled and deleted from any
    process; a queue for the devices; numbered events, delivered to observers; and checkpoints that are complete or
    absent. `base_models` are the base models by name, each with a description; every other name is refused. A backend
    that takes others too, such as folders, leaves it empty and writes `check_base` and `bases`.
    """

    base_models: ClassVar[Mapping[str, str]] = {}

    def start(self, request: TrainRequest) -> LocalJob:
        """Write the job's folder and pass it to a detached worker. Called again with the same intent, by any process,
        it returns the same job, and finishes a start that was interrupted.
        """
        from tuneport.local.starting import start

        return start(self, request)

    def job(self, name: str) -> LocalJob:
        """The job of that name, from any process. Raises JobNotFound."""
        from tuneport.local.job import LocalJob

        folder = Folder.named(self.name, name)
        if not folder.exists:
            raise JobNotFound(f"{self.name} has no job {name!r}.", remedy="`tuneport jobs` lists the jobs.")
        return LocalJob(self, folder)

    def model(self, name: str) -> Model:
        """A tuned model by its job's name, else a base model. Raises ModelNotFound."""
        if self.has_job(name):
            return self.job(name).result()
        if self.base_models:
            self._check_listed(name)
        return self.load(Ref(self.name, name), None, None)

    def check_base(self, base: str) -> None:
        """Raise ModelNotFound for a base that is neither in `base_models` nor a tuned model of this backend."""
        if self.has_job(base):
            if not Folder.named(self.name, base).model.exists():
                raise ModelNotFound(
                    f"{self.name}:{base} has no model yet.",
                    remedy=f"Check its status: tuneport show {self.name}:{base}",
                )
        else:
            self._check_listed(base)

    def bases(self) -> list[BaseInfo]:
        """The base models that `base_models` names."""
        return [
            BaseInfo(ref=Ref(self.name, name), description=description, present=True)
            for name, description in self.base_models.items()
        ]

    def _check_listed(self, base: str) -> None:
        if base not in self.base_models:
            known = f"Choose one of: {', '.join(self.base_models)}." if self.base_models else None
            raise ModelNotFound(f"{self.name} has no model {base!r}.", remedy=known)

    def has_job(self, name: str) -> bool:
        """Whether a name is that of one of this backend's jobs."""
        return name not in self.base_models and Folder.can_have(name) and Folder.named(self.name, name).exists
