"""The backend of one profile: what it can do, and how a request becomes a job at the server."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import tuneport
import tuneport.plugin
from tuneport.errors import (
    BackendError,
    ConfigError,
    JobError,
    JobNotFound,
    ModelNotFound,
    TuneportError,
    UnavailableError,
)
from tuneport.plugin import Availability, Backend, BaseInfo, Capabilities, Ref
from tuneport_openai.catalogue import table
from tuneport_openai.wire import keys, profiles, closing
from tuneport_openai.wire.client import INSTALL, Wire
from tuneport_openai.wire.profiles import Profile, address_remedy

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from tuneport.plugin import DataRules, Plan, TrainRequest
    from tuneport_openai.config import OpenAISettings
    from tuneport_openai.job import HostedJob
    from tuneport_openai.model import HostedModel


class OpenAIBackend(Backend):
    """Trains over the OpenAI wire, at the endpoint of one profile."""

    packages = ("openai",)
    install = INSTALL

    def __init__(self, profile: Profile) -> None:
        self.name = profile.name
        self.listed = not profile.removed
        self.endpoint = profile
        self._wire = Wire(profile)

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]  # made when asked for: it imports the rules
        """What the wire has; a server may still refuse a part of it, in its own words."""
        from tuneport_openai.start.rules import data_rules

        return Capabilities(
            methods=frozenset({"sft", "dpo", "reinforcement"}),
            verbs=frozenset({"cancel", "pause", "resume"}),
            learning_rate="multiplier",
            rules=data_rules(self.endpoint, ""),
            auto_epochs="the server's choice; OpenAI's published rule: 3, up to 25 so that at least 100 rows are seen, "
            "fewer so that at most 25,000 are",
            local=False,
        )

    @property
    def settings_class(self) -> type[OpenAISettings]:
        """The settings of the profile's section."""
        from tuneport_openai.config import OpenAISettings

        return OpenAISettings

    @property
    def is_set_up(self) -> bool:
        """Whether package, address and key are there."""
        return not self._missing()

    def start(self, request: TrainRequest) -> HostedJob:
        """Write the files, upload them, create the job; once for each intent, whoever asks how often.

        Raises JobNotFinished (unconfirmed) when nobody could learn whether the job was started.
        """
        from tuneport_openai.start.submit import alone, finish, unconfirmed

        scratch = request.scratch
        try:
            if self._missing():
                raise UnavailableError(
                    f"{self.name} cannot be used: {self._missing()}.", remedy=self.availability().remedy
                )
            profiles.note_use(self.endpoint)
            with alone(request.intent):
                if "request" not in scratch:
                    scratch["request"] = self._written(request)
            job = self._job(request.name, scratch)
            finish(job.wire, job.ref, scratch)
            job.tell_what_was_sent()
        except JobError:
            raise
        except TuneportError as error:
            if "create" in scratch and "job" not in scratch:
                # An earlier call has asked for the job: what stops this one does not prove that there is none.
                ref = Ref(self.name, request.name)
                raise unconfirmed(self._wire, ref, scratch, error) from error
            if isinstance(error, UnavailableError) and error.passing:
                # No refusal: the same intent goes on, with the parts that have been uploaded.
                raise BackendError(
                    error.message, remedy="Run the same command again: it goes on from here.", passing=True
                ) from error
            if "request" in scratch and not isinstance(error, BackendError):
                scratch["refused"] = error.message
            raise
        return job

    def job(self, name: str) -> HostedJob:
        """The job of that name, from any process; raises JobNotFound, and ConfigError for one that is not over, and to
        whose server this profile does not lead any more.
        """
        scratch = self._scratch(name)
        if self._leads_elsewhere(scratch):
            from tuneport_openai.kept import KeptJob

            if KeptJob.is_over(scratch):
                nowhere = replace(self.endpoint, base_url="", removed=True)
                return KeptJob(Ref(self.name, name), Wire(nowhere), scratch)
        return self._job(name, scratch)

    def settle(self, name: str) -> HostedJob:
        """Learn what became of an unconfirmed start; raises JobNotFound when it certainly was not started."""
        from tuneport_openai.start.submit import settle

        job = self._job(name, self._scratch(name))
        settle(job.wire, job.ref, job.scratch)
        return job

    def model(self, name: str) -> HostedModel:
        """A tuned model by its job's name, else a model by the server's own name (a base, `ft:…`, a deployment)."""
        from tuneport_openai.model import HostedModel

        try:
            job = self._job(name, self._scratch(name))
        except JobNotFound:
            if not name:
                raise ModelNotFound(f"{self.name}: names no model.") from None
            return HostedModel(Ref(self.name, name), self._wire, name, None)
        return job.result()

    def plan(self, request: TrainRequest) -> Plan:
        """What the training would be and cost, where that is known. Asks no network."""
        from tuneport_openai.plan import make_plan

        missing = self._missing()
        lacks = f"It cannot be started here yet: {missing}. {self._how_to_get()}" if missing else ""
        return make_plan(self.endpoint, request, self._base_model(request.base.name), lacks)

    def rules(self, base: str) -> DataRules:
        """The vendor's rules for that model, checked offline."""
        from tuneport_openai.start.rules import data_rules

        return data_rules(self.endpoint, self._base_model(base))

    def check_base(self, base: str) -> None:
        """Raise ModelNotFound for no name, a path, or a job of ours that has no model, and UnavailableError for a model
        that the vendor has shut down. Whether it tunes any other, the vendor says: `plan` notes what is known.
        """
        if not base or base.startswith((".", "~", "/")):
            raise ModelNotFound(
                f"{self.name}:{base} is no model of a server.",
                remedy="Write for example openai:gpt-4.1-mini-2025-04-14",
            )
        facts = table.known(self.endpoint, self._base_model(base))
        if facts is not None and facts.has_ended():
            raise UnavailableError(
                table.end_of(facts),
                remedy=f"Choose another model. {closing.elsewhere(self.endpoint)}".rstrip(),
            )

    def bases(self) -> list[BaseInfo]:
        """The tunable models of the dated table, where this account can be asked at all."""
        if self.endpoint.vendor == "other" or not self.is_set_up:
            return []
        return [
            BaseInfo(ref=Ref(self.name, one.model), description=f"hosted; {', '.join(one.methods)}{_until(one)}")
            for one in table.models(self.endpoint)
            if not one.has_ended()
        ]

    def availability(self) -> Availability:
        """Whether package, address and key are there; tells of a closing vendor either way. Asks no network."""
        packages = super().availability()
        if not packages.ready:
            return packages
        missing, said = self._missing(), closing.note(self.endpoint)
        if missing:
            remedy = f"{said} {self._how_to_get()}".lstrip()
            return Availability(ready=False, reason=missing, remedy=remedy, plans=not self.endpoint.removed)
        details = {"at": self.endpoint.base_url, "key": keys.place(self.endpoint), "openai": version("openai")}
        return Availability(ready=True, details={**details, **({"note": said} if said else {})})

    def _missing(self) -> str:
        if not super().availability().ready:
            return "needs the package openai"
        if not self.endpoint.base_url:
            return "its profile was removed" if self.endpoint.removed else "its address is not known"
        if keys.source(self.endpoint):
            return keys.meant_elsewhere(self.endpoint)
        return f"the variable {self.endpoint.key} is not set"

    def _how_to_get(self) -> str:
        """What to type about what is missing."""
        return (keys.how_to_set if self.endpoint.base_url else address_remedy)(self.endpoint)

    def _scratch(self, name: str) -> MutableMapping[str, Any]:
        scratch = tuneport.plugin.job_scratch(Ref(self.name, name))
        if "request" not in scratch:
            raise JobNotFound(f"{self.name}:{name} was never asked for.", remedy="Run the same command again.")
        return scratch

    def _leads_elsewhere(self, scratch: MutableMapping[str, Any]) -> bool:
        return bool(scratch["request"]["endpoint"] != self.endpoint.base_url)

    def _job(self, name: str, scratch: MutableMapping[str, Any]) -> HostedJob:
        from tuneport_openai.job import HostedJob

        if self._leads_elsewhere(scratch):
            started_at = scratch["request"]["endpoint"]
            # Another host must not get this job's questions, nor the old one this profile's key.
            now = "was removed" if self.endpoint.removed else f"is {self.endpoint.base_url or 'without an address'} now"
            raise ConfigError(
                f"{self.name}:{name} was started at {started_at}, and the profile {self.name} {now}.",
                remedy=f"Run: tuneport profiles add {self.name} {started_at}",
            )
        return HostedJob(Ref(self.name, name), self._wire, scratch)

    def _base_model(self, name: str) -> str:
        """The server's own name of a base; raises ModelNotFound for a job of ours that has no model."""
        try:
            job = self._job(name, self._scratch(name))
        except JobNotFound:
            return name
        if "model" not in job.scratch:
            try:
                job.result()  # leaves the name there
            except JobError as error:
                raise ModelNotFound(error.message, remedy=error.remedy) from error
        return str(job.scratch["model"])

    def _written(self, request: TrainRequest) -> dict[str, Any]:
        from tuneport_openai.start.request import written

        drop = self.rules(request.base.name) if request.options.too_long == "drop" else None
        return written(self.endpoint, request, self._base_model(request.base.name), drop)


def _until(model: table.Known) -> str:
    return f", until {closing.day(model.ends)}" if model.ends is not None else ""
