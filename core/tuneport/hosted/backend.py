"""The backend of a service: starts, jobs, models and hosting, over what the author wrote."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tuneport.contract.backend import Backend
from tuneport.contract.border import WrongReturn, place_of, report_to
from tuneport.contract.capabilities import Availability
from tuneport.contract.events import utc_now
from tuneport.doors import HOSTED, public
from tuneport.errors import (
    BackendError,
    JobError,
    JobNotFound,
    ModelNotFound,
    TuneportError,
    UnavailableError,
    UsageError,
)
from tuneport.homefolder import home
from tuneport.hosted.client import PACKAGE
from tuneport.hosted.files import write_rows
from tuneport.hosted.http import Http, bound_to
from tuneport.hosted.job import HostedJob
from tuneport.hosted.model import HostedModel
from tuneport.hosted.plan import make_plan, price_of
from tuneport.hosted.returns import check_description
from tuneport.hosted.start import alone, finish, settle, unconfirmed_error
from tuneport.notebook import open_notebook
from tuneport.printable import one_line
from tuneport.refs import Ref
from tuneport.versions import installed_versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuneport.contract.capabilities import BaseInfo, Capabilities
    from tuneport.contract.hosting import Hosting
    from tuneport.contract.plan import Plan
    from tuneport.contract.request import TrainRequest
    from tuneport.dataset import DataRules
    from tuneport.hosted.reports import DataFile
    from tuneport.hosted.service import Service
    from tuneport.hosted.settings import HostedSettings


@public(HOSTED)
class HostedBackend(Backend):
    """A backend over one service."""

    packages = (PACKAGE,)

    def __init__(self, service: Service, install: str = "pip install httpx2") -> None:
        check_description(service)
        self.service = service
        self.author = type(service).__module__  # whom an error names
        self.name = service.name
        self.install = install  # type: ignore[misc]  # of one service
        self._http = Http(service.endpoint, service.read_error)

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]  # the service's
        """What the service has."""
        return self.service.capabilities

    @property
    def settings_class(self) -> type[HostedSettings]:
        """The service's settings."""
        return self.service.settings_class

    def start(self, request: TrainRequest) -> HostedJob:
        """Write the files, upload them, create the job; once for each intent.

        Raises JobNotFinished (unconfirmed) where nobody could learn whether the job was started.
        """
        scratch = request.notebook.scratch
        ref = Ref(self.name, request.name)
        try:
            self._require_ready()
            with self._translating(), alone(request.intent):
                if "request" not in scratch:
                    scratch["request"] = self._write_request(request)
                elif "job" not in scratch:
                    self._write_files(request)  # a copy may have been removed since
            bound_to(self.service.endpoint, scratch["request"]["endpoint"], str(ref))
            job = HostedJob(ref, self.service, self._http, request.notebook)
            with self._translating():
                finish(self.service, self._http, ref, scratch)
            job.keep_what_was_sent()
        except JobError:
            raise
        except TuneportError as error:
            if "create" in scratch and "job" not in scratch:
                # An earlier call has requested the job: what stops this one does not prove that there is none.
                raise unconfirmed_error(self.service, ref, scratch, error) from error
            if isinstance(error, UnavailableError) and error.passing:
                # Not a refusal: the same intent continues, with the files that were uploaded.
                raise BackendError(
                    error.message, remedy="Run the same command again: it continues.", passing=True
                ) from error
            if "request" in scratch and not isinstance(error, BackendError):
                scratch["refused"] = error.message
            raise
        return job

    def job(self, name: str) -> HostedJob:
        """The job of that name, from any process. Raises JobNotFound, and ConfigError for a job that is not over and
        was started at another address.
        """
        ref = Ref(self.name, name)
        notebook = open_notebook(ref)
        if "request" not in notebook.scratch:
            raise JobNotFound(f"{ref} was never submitted.", remedy="Run the same command again.")
        if "final" not in notebook.scratch:
            bound_to(self.service.endpoint, notebook.scratch["request"]["endpoint"], str(ref))
        return HostedJob(ref, self.service, self._http, notebook)

    def settle(self, name: str) -> HostedJob:
        """Learn what became of an unconfirmed start. Raises JobNotFound when it certainly was not started."""
        job = self.job(name)
        with self._translating():
            settle(self.service, self._http, job.ref, job.scratch)
        return job

    def model(self, name: str) -> HostedModel:
        """A tuned model by its job's name, else a model by the service's own name."""
        try:
            return self.job(name).result()
        except JobNotFound:
            model = self.service.model_name(name)
            return HostedModel(Ref(self.name, name), self.service, self._http, model)

    def plan(self, request: TrainRequest) -> Plan:
        """What the training would be and cost, where that is known. Asks no network."""
        model, _ = self._base_model(request.base.name)
        body = self.service.write_body(request, model)
        missing = self.service.endpoint.missing()
        lacks = f"It cannot be started here yet: {missing}. {self.service.endpoint.how_to_set()}" if missing else ""
        return make_plan(self.service, request, model, body, lacks)

    def rules(self, base: str) -> DataRules:
        """The service's rules for that base, checked without the network."""
        return self.service.rules(self._base_model(base)[0])

    def check_base(self, base: str) -> None:
        """Raise ModelNotFound for what cannot be a model's name there, or a job that has no model."""
        self._base_model(base)

    def bases(self) -> list[BaseInfo]:
        """The base models that are known by name, where the service can be asked at all."""
        return [] if self.service.endpoint.missing() else self.service.bases()

    def missing(self, name: str) -> str:
        """Whether a tuned model needs a deployment first. Asks no network."""
        try:
            scratch = self.job(name).scratch
        except (TuneportError, OSError):
            return ""
        deploys = "hosting" in scratch or scratch["request"]["settings"].get("deploy")
        if self.service.deployments is None or deploys:
            return ""
        return f"It is not deployed. Run: tuneport hosting start {self.name}:{name}"

    def hostings(self) -> list[Hosting]:
        """Every deployment of the account, as the service reports it now."""
        if self.service.endpoint.missing() or self.service.deployments is None:
            return []
        with self._translating():
            return list(self.service.deployments.list(self._http))

    def availability(self) -> Availability:
        """Whether the package, the address and the key are there. Asks no network."""
        found = super().availability()
        if not found.ready:
            return found
        endpoint = self.service.endpoint
        if missing := endpoint.missing():
            return Availability(ready=False, reason=missing, remedy=endpoint.how_to_set(), plans=True)
        details = {"at": endpoint.base_url, "key": f"the variable {endpoint.key}", **self.service.details()}
        return Availability(ready=True, details=details)

    def _require_ready(self) -> None:
        found = self.availability()
        if not found.ready:
            raise UnavailableError(f"{self.name} cannot be used here: {found.reason}.", remedy=found.remedy)

    def _base_model(self, name: str) -> tuple[str, bool]:
        """The service's own name of a base, and whether it is a tuned model of ours."""
        try:
            job = self.job(name)
        except JobNotFound:
            return self.service.model_name(name), False
        try:
            job.require_success()
        except JobError as error:
            raise ModelNotFound(error.message, remedy=error.remedy) from error
        return job.model_name(), True

    def _write_request(self, request: TrainRequest) -> dict[str, Any]:
        """Write the files, and return all that any process needs to continue the start."""
        service, options = self.service, request.options
        model, is_tuned = self._base_model(request.base.name)
        body = service.write_body(request, model)
        written = self._write_files(request)
        return {
            "version": 1,
            "ref": str(Ref(self.name, request.name)),
            "intent": request.intent,
            "mark": service.proof.mark(request.intent),
            "endpoint": service.endpoint.base_url,
            "base": str(request.base),
            "model": model,
            "is_tuned": is_tuned,
            "method": options.method,
            "body": body,
            "fingerprint": request.train.fingerprint,
            "system": written["train"][1],
            "settings": request.settings.model_dump(mode="json", exclude_defaults=True),
            "versions": installed_versions(PACKAGE),
            "created": utc_now().isoformat(),
            "usd_per_million_tokens": price_of(service, request, model).value,
            "budget_usd": request.budget_usd,
            "files": {part: file.to_dict() for part, (file, _) in written.items()},
        }

    def _write_files(self, request: TrainRequest) -> dict[str, tuple[DataFile, str | None]]:
        """Write the file of each part, with the system prompt that its rows share."""
        rules, asked = self.rules(request.base.name), request.options.too_long
        if asked == "truncate" and rules.max_tokens is not None:
            raise UsageError(f"{self.service.title} cannot truncate rows.", remedy="Set data.too_long: drop.")
        parts = {"train": request.train, "validation": request.validation}
        return {
            part: write_rows(self.service, part, rows, home("hosted", "files"), rules if asked == "drop" else None)
            for part, rows in parts.items()
            if rows is not None and len(rows)
        }

    @contextmanager
    def _translating(self) -> Iterator[None]:
        """Turn an exception of the author's calls into one that names the service."""
        try:
            yield
        except (TuneportError, OSError):
            raise
        except WrongReturn as error:
            raise BackendError(
                f"The backend {self.name!r} returned a wrong value from {error}.", remedy=report_to(self.author)
            ) from None
        except Exception as error:
            why = one_line(self._http.redact(f"{type(error).__name__}: {error}"))[:200]
            place = place_of(error, self.author)
            raise BackendError(
                f"The answer of {self.service.title} could not be read ({why}{', in ' if place else ''}{place}).",
                remedy=report_to(self.author),
            ) from error
