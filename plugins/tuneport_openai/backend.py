"""The backend of one profile: what it can do, and how a request becomes a job at the server."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tuneport.errors import (
    BackendError,
    ConfigError,
    JobError,
    JobNotFound,
    ModelNotFound,
    RefError,
    TuneportError,
    UnavailableError,
)
from tuneport.plugin import Availability, Backend, BaseInfo, Capabilities, Ref, open_notebook
from tuneport_openai.catalog import table
from tuneport_openai.wire import closing, keys, profiles
from tuneport_openai.wire.client import INSTALL, Wire
from tuneport_openai.wire.profiles import Profile, address_remedy

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tuneport import Hosting
    from tuneport.plugin import DataRules, Notebook, Plan, TrainRequest
    from tuneport_openai.job import HostedJob
    from tuneport_openai.model import HostedModel

_AUTO_EPOCHS = (
    "the server's choice; OpenAI's published rule: 3, up to 25 so that at least 100 rows are seen, fewer so that at "
    "most 25,000 are"
)


class OpenAIBackend(Backend):
    """Trains over the OpenAI API, at the endpoint of one profile."""

    packages = ("openai",)
    install = INSTALL

    def __init__(self, profile: Profile) -> None:
        self.name = profile.name
        self.listed = not profile.removed
        self.endpoint = profile
        self._wire = Wire(profile)

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]  # made when it is read: it imports the rules
        """What the vendor is known to do; a server may still refuse a part of it, with its own message."""
        from tuneport_openai.start.request import MOST_EPOCHS
        from tuneport_openai.start.rules import data_rules

        traits = self.endpoint.traits
        auto = _AUTO_EPOCHS if traits.auto_epochs is None else f"the server's default, {traits.auto_epochs}"
        rules = data_rules(self.endpoint, "")
        return Capabilities(
            methods=traits.methods,
            verbs=traits.verbs,
            learning_rate=traits.learning_rate,
            rules=rules,
            auto_epochs=auto,
            local=False,
            seed=traits.takes_seed,
            max_epochs=MOST_EPOCHS,
            export_kinds=("weights",) if traits.serves_checkpoints else (),
        )

    @property
    def settings_class(self) -> type[BaseModel]:
        """The settings of the profile's section."""
        from tuneport_openai.config import NebiusSettings, OpenAISettings

        return NebiusSettings if self.endpoint.vendor == "nebius" else OpenAISettings

    @property
    def is_set_up(self) -> bool:
        """Whether the package, the address and the key are there."""
        return not self._missing()

    def start(self, request: TrainRequest) -> HostedJob:
        """Write the files, upload them and create the job, once for each intent however often this is called.

        Raises JobNotFinished (unconfirmed) when it is not known whether the job was started.
        """
        from tuneport_openai.start.submit import finish, hold, unconfirmed_error

        scratch = request.notebook.scratch
        try:
            if missing := self._missing():
                remedy = f"{closing.note(self.endpoint, request.options.method)} {self._setup_remedy()}".lstrip()
                raise UnavailableError(f"{self.name} cannot be used: {missing}.", remedy=remedy)
            profiles.note_use(self.endpoint)
            with hold(request.intent):
                if "request" not in scratch:
                    scratch["request"] = self._write_request(request)
            job = self._open(request.name, request.notebook)
            finish(job.wire, job.ref, scratch)
            job.record_files()
        except JobError:
            raise
        except TuneportError as error:
            if "create" in scratch and "job" not in scratch:
                # An earlier call has sent the request: what stops this one does not prove that there is no job.
                ref = Ref(self.name, request.name)
                raise unconfirmed_error(self._wire, ref, scratch, error) from error
            if isinstance(error, UnavailableError) and error.passing:
                # Not a refusal: the same intent continues, with the parts that have been uploaded.
                raise BackendError(
                    error.message, remedy="Run the same command again: it continues from here.", passing=True
                ) from error
            if "request" in scratch and not isinstance(error, BackendError):
                scratch["refused"] = error.message
            raise
        return job

    def job(self, name: str) -> HostedJob:
        """The job of that name, from any process. Raises JobNotFound, and ConfigError for a job that is not over while
        this profile leads to another server.
        """
        notebook = self._notebook(name)
        if self._leads_elsewhere(notebook):
            from tuneport_openai.kept_job import KeptJob

            if KeptJob.is_over(notebook.scratch):
                nowhere = replace(self.endpoint, base_url="", removed=True)
                return KeptJob(Ref(self.name, name), Wire(nowhere), notebook)
        return self._open(name, notebook)

    def settle(self, name: str) -> HostedJob:
        """Find out what became of an unconfirmed start; raises JobNotFound when it certainly was not started."""
        from tuneport_openai.start.submit import conclude

        job = self._open(name, self._notebook(name))
        conclude(job.wire, job.ref, job.scratch)
        return job

    def model(self, name: str) -> HostedModel:
        """A tuned model by its job's name, else a model by the server's own name (a base, `ft:…`, a deployment)."""
        from tuneport_openai.model import HostedModel

        try:
            job = self._open(name, self._notebook(name))
        except JobNotFound:
            if not name:
                raise ModelNotFound(f"{self.name}: the name of the model is empty.") from None
            return HostedModel(Ref(self.name, name), self._wire, name, None)
        return job.result()

    def plan(self, request: TrainRequest) -> Plan:
        """What the training would do and cost, as far as that is known. Uses no network."""
        from tuneport_openai.plan import make_plan

        missing = self._missing()
        obstacle = f"It cannot be started here yet: {missing}. {self._setup_remedy()}" if missing else ""
        return make_plan(self.endpoint, request, self._base_model(request.base.name), obstacle)

    def rules(self, base: str) -> DataRules:
        """The vendor's rules for that model, checked offline."""
        from tuneport_openai.start.rules import data_rules

        return data_rules(self.endpoint, self._base_model(base))

    def check_base(self, base: str) -> None:
        """Raise ModelNotFound for an empty name, a path, or a job of ours without a model, and UnavailableError for a
        model that the vendor has shut down. Whether it tunes any other is for the vendor to say: `plan` notes what is
        known.
        """
        if not base or base.startswith((".", "~", "/")):
            raise ModelNotFound(
                f"{self.name}:{base} is not the name of a model at a server.",
                remedy="Write for example openai:gpt-4.1-mini-2025-04-14",
            )
        facts = table.find_model(self.endpoint, self._base_model(base))
        if facts is not None and facts.has_ended():
            raise UnavailableError(
                table.end_of(facts),
                remedy=f"Choose another model. {closing.elsewhere(self.endpoint)}".rstrip(),
            )

    def bases(self) -> list[BaseInfo]:
        """The tunable models of the dated table, where this account can be used at all."""
        if not self.is_set_up:
            return []
        return [
            BaseInfo(ref=Ref(self.name, one.model), description=f"hosted; {', '.join(one.methods)}{_until(one)}")
            for one in table.models(self.endpoint)
            if not one.has_ended()
        ]

    def hostings(self) -> list[Hosting]:
        """The tuned models that are deployed at Azure; nothing at other vendors, which have no deployments."""
        if self.endpoint.vendor != "azure" or not self.is_set_up:
            return []
        from tuneport_openai import azure

        found = azure.Resource(self.endpoint).list()
        return [azure.describe(one, self._deployed_ref(one["name"])) for one in found if azure.is_tuned(one)]

    def availability(self) -> Availability:
        """Whether package, address and key are there, and what the vendor has announced. Uses no network."""
        packages = super().availability()
        if not packages.ready:
            return packages
        missing, announced = self._missing(), closing.announcement(self.endpoint)
        if missing:
            return Availability(
                ready=False,
                reason=missing,
                remedy=self._setup_remedy(),
                plans=not self.endpoint.removed,
                closing=announced,
            )
        details = {"at": self.endpoint.base_url, "key": keys.place(self.endpoint), "openai": version("openai")}
        return Availability(ready=True, details=details, closing=announced)

    def _missing(self) -> str:
        if not super().availability().ready:
            return "needs the package openai"
        if not self.endpoint.base_url:
            return "its profile was removed" if self.endpoint.removed else "its address is not known"
        if keys.source(self.endpoint):
            return keys.key_conflict(self.endpoint)
        return f"the variable {self.endpoint.key} is not set"

    def _setup_remedy(self) -> str:
        """What to type about what is missing."""
        packages = super().availability()
        if not packages.ready:
            return packages.remedy or ""
        return (keys.key_remedy if self.endpoint.base_url else address_remedy)(self.endpoint)

    def _notebook(self, name: str) -> Notebook:
        notebook = open_notebook(Ref(self.name, name))
        if "request" not in notebook.scratch:
            raise JobNotFound(f"{self.name}:{name} was never submitted.", remedy="Run the same command again.")
        return notebook

    def _deployed_ref(self, deployment: str) -> str:
        """The ref of the job that made a deployment; empty for one that was made elsewhere."""
        try:
            notebook = self._notebook(deployment)
        except (JobNotFound, RefError):
            return ""
        return str(Ref(self.name, deployment)) if notebook.scratch.get("deployment") == deployment else ""

    def _leads_elsewhere(self, notebook: Notebook) -> bool:
        return bool(notebook.scratch["request"]["endpoint"] != self.endpoint.base_url)

    def _open(self, name: str, notebook: Notebook) -> HostedJob:
        from tuneport_openai.job import HostedJob

        if self._leads_elsewhere(notebook):
            started_at = notebook.scratch["request"]["endpoint"]
            # Another host must not get this job's requests, nor the old one this profile's key.
            now = "was removed" if self.endpoint.removed else f"is {self.endpoint.base_url or 'without an address'} now"
            raise ConfigError(
                f"{self.name}:{name} was started at {started_at}, and the profile {self.name} {now}.",
                remedy=f"Run: tuneport profiles add {self.name} {started_at}",
            )
        return HostedJob(Ref(self.name, name), self._wire, notebook)

    def _base_model(self, name: str) -> str:
        """The server's own name of a base. Raises ModelNotFound for a job of ours that has no model, or whose model
        cannot be trained further.
        """
        try:
            job = self._open(name, self._notebook(name))
        except JobNotFound:
            return name
        if self.endpoint.traits.serves_checkpoints:
            raise ModelNotFound(
                f"{self.endpoint.traits.title} cannot train {self.name}:{name} further.", remedy="Name its base model."
            )
        if "model" not in job.scratch:
            try:
                job.result()  # keeps the name in the scratch
            except JobError as error:
                raise ModelNotFound(error.message, remedy=error.remedy) from error
        return str(job.scratch["model"])

    def _write_request(self, request: TrainRequest) -> dict[str, Any]:
        from tuneport_openai.start.request import write_request

        drop = self.rules(request.base.name) if request.options.too_long == "drop" else None
        return write_request(self.endpoint, request, self._base_model(request.base.name), drop)


def _until(model: table.Known) -> str:
    return f", until {closing.day(model.ends)}" if model.ends is not None else ""
