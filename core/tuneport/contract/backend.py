"""What can train: the contract that a plugin fulfills."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from tuneport.contract import backend_returns, returns
from tuneport.contract.border import Call, guard
from tuneport.contract.capabilities import Availability, BaseInfo, Capabilities
from tuneport.contract.events import Status
from tuneport.contract.job import Job
from tuneport.contract.model import Model
from tuneport.contract.plan import Plan
from tuneport.contract.request import TrainRequest
from tuneport.contract.requirements import require, require_type
from tuneport.doors import public
from tuneport.errors import JobNotFinished, JobNotFound, ModelNotFound

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tuneport.contract.hosting import Hosting
    from tuneport.dataset import DataRules


def _check_job(call: Call, value: Any) -> Any:
    """A job of the name that was asked for."""
    require_type(value, Job, "the value")
    request = call.argument(0, "request")
    name = request.name if isinstance(request, TrainRequest) else call.argument(0, "name")
    ref = getattr(value, "ref", None)
    require(str(ref) == f"{call.backend}:{name}", f"the job's ref is {ref}, not {call.backend}:{name}")
    return value


def _check_model(call: Call, value: Any) -> Any:
    del call
    require_type(value, Model, "the value")
    return value


_CHECKS = {
    "capabilities": backend_returns.check_capabilities,
    "capabilities_of": backend_returns.check_capabilities,
    "settings_class": backend_returns.check_settings_class,
    "start": _check_job,
    "job": _check_job,
    "settle": _check_job,
    "model": _check_model,
    "plan": backend_returns.check_plan,
    "rules": backend_returns.check_rules,
    "check_base": returns.check_nothing,
    "bases": backend_returns.check_bases,
    "hostings": backend_returns.check_hostings,
    "missing": returns.check_text,
    "availability": backend_returns.check_availability,
}


@public()
class Backend(ABC):
    """Something that trains. One instance serves a process, from any of its threads, and keeps no state that another
    process would need.

    `name`: the word before the colon in a ref; small letters, digits, `-` and `_`. `capabilities`: what it can do; the
    core refuses the rest. `packages`: the import names that it needs beyond tuneport itself; `install`: the command
    that gets them. `listed`: False for a backend that is there only so that refs of old jobs can say what is missing.

    Settings of a config section reach `start` and `plan` alone. `job`, `model`, `bases` and `check_base` get a name and
    no settings, because an old job must open without its config: an address or a key belongs to the backend itself. A
    plugin for several addresses announces one instance for each, with a name of its own (a *profile*).

    All methods may raise any TuneportError. Any other exception becomes a BackendError that names the backend and the
    method; `TUNEPORT_STRICT=1` shows its traceback.
    """

    name: str
    listed: bool = True
    capabilities: Capabilities
    packages: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        guard(cls, "Backend", _CHECKS)

    @property
    @abstractmethod
    def settings_class(self) -> type[BaseModel]:
        """The settings of the backend's section: a subclass of `tuneport.plugin.Settings`.

        Called for each config that is read. Import it here, not when the plugin is imported: pydantic is slow to load.
        """

    @abstractmethod
    def start(self, request: TrainRequest) -> Job:
        """Start the job and return; called again with the same `request.intent`, return the same job.

        Called by `train` and `run` in the user's process, alone for its intent: the core holds a lock, across processes
        and threads. May upload and wait for that, but not for the training. A process may be killed at any point;
        the next call then has the same intent, and its notebook has what was kept. So write to `request.notebook`
        before each request that cannot be repeated.

        What it raises decides what the ledger says. Certainly not started, may be started again: UsageError, DataError,
        ConfigError, UnavailableError, UnsupportedError, BudgetError, NotFoundError. Perhaps started, nothing is sent
        again until `settle` knows: JobError (`JobNotFinished` with status "unconfirmed"). Open, the same command calls
        `start` again with the same intent: BackendError and every other exception, Ctrl-C included.
        """

    @abstractmethod
    def job(self, name: str) -> Job:
        """The job of that name. Raises JobNotFound where no start of that name was ever sent, for certain.

        Called by everything that opens a job, in any process; `tuneport jobs` calls it for each live job. Must be fast
        and should not use the network.
        """

    @abstractmethod
    def model(self, name: str) -> Model:
        """A base model, or the tuned model of the job of that name. Raises ModelNotFound, or a JobError for a job that
        has no model.

        Called by `open_model` and `compare`. Loads nothing: the model loads when it first answers.
        """

    @abstractmethod
    def plan(self, request: TrainRequest) -> Plan:
        """What `start` would do and cost. Starts, sends and spends nothing, uses no network.

        Called by `plan` and before each start; it may read the rows. A quantity that is left out is unknown.
        """

    def capabilities_of(self, base: str) -> Capabilities:
        """What it can do with this base model, where that differs from model to model; by default the same with all.

        Called before each check, plan and start. Must be fast and uses no network.
        """
        del base
        return self.capabilities

    def rules(self, base: str) -> DataRules:
        """The data that it takes for this base model: the capabilities' rules, with limits and tokenizer where known.

        Called once for each check, preview and start. Uses no network.
        """
        del base
        return self.capabilities.rules

    def check_base(self, base: str) -> None:
        """Raise ModelNotFound or UnavailableError when this base cannot be trained.

        Called before each check, plan and start, and to find out what a name on the command line means. Must be fast
        and uses no network.
        """
        if not base:
            raise ModelNotFound(f"{self.name}: the name of the model is empty.")

    def settle(self, name: str) -> Job:
        """Find out what became of an unconfirmed start, and return its job. Raises JobNotFound when nothing was
        started, for certain, and JobNotFinished (status "unconfirmed") while that is not known.

        Called by `tuneport settle` and, every 30 seconds, by the server plugin. May use the network. A backend over a
        network writes it, and looks for the job by the mark that its start left there. By default, a local backend's
        `job` is certain; another backend's JobNotFound is not, and the start stays unconfirmed.
        """
        try:
            return self.job(name)
        except JobNotFound as error:
            if self.capabilities.local:
                raise
            raise JobNotFinished(
                f"{self.name}:{name} may have been started: the backend {self.name!r} cannot look for it.",
                ref=f"{self.name}:{name}",
                status=Status.UNCONFIRMED,
                remedy="Look at the service's own list of jobs.",
            ) from error

    def bases(self) -> list[BaseInfo]:
        """The base models known by name, such as aliases; not a limit on what can be named.

        Called by `tuneport models` and to reserve names before each start, side by side with other backends, with a
        time limit. Should be fast and should not use the network.
        """
        return []

    def hostings(self) -> list[Hosting]:
        """Every deployment of the account that is used here, also those made elsewhere, as the service reports it now.

        Called by `tuneport hosting`, side by side with other backends, with a time limit. May use the network; raises
        where the complete list cannot be read, because what is missing there may cost money.
        """
        return []

    def missing(self, name: str) -> str:
        """What the tuned model of that name lacks to be used here, such as its base, in a sentence; empty where
        nothing is known to be missing.

        Called by `tuneport models` for each tuned model and for reports. Must be fast and uses no network.
        """
        del name
        return ""

    def availability(self) -> Availability:
        """Whether it can be used here and now. By default: whether `packages` are installed, without importing them. A
        backend adds keys, hardware and closing vendors.

        Called by `tuneport plugins` and `tuneport doctor`, side by side with other backends, with a time limit, and
        before each plan and start. Must be fast and uses no network.
        """
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if not missing:
            return Availability(ready=True)
        return Availability(
            ready=False,
            reason=f"needs {', '.join(missing)}",
            remedy=f"Run: {self.install}" if self.install else None,
        )
