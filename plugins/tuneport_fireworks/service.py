"""Fireworks' API: what a start sends, and what its answers mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from tuneport.errors import DataError, ModelNotFound, UnsupportedError, UsageError
from tuneport.hosted import (
    Belonging,
    ClientId,
    DataFile,
    Endpoint,
    Entry,
    Http,
    Limits,
    Refused,
    Report,
    Service,
    Start,
    fetch_adapter,
    fetch_metrics,
    parse_time,
)
from tuneport.plugin import Quantity, Status
from tuneport_fireworks.hosting import FireworksDeployments, read_account
from tuneport_fireworks.rules import MOST_ROWS, make_capabilities

if TYPE_CHECKING:
    from tuneport.plugin import TrainRequest
    from tuneport_fireworks.settings import FireworksSettings

ENDPOINT = Endpoint(
    name="fireworks",
    title="Fireworks",
    url="https://api.fireworks.ai",
    key="FIREWORKS_API_KEY",
    address="FIREWORKS_BASE_URL",
    help="Create a key in the settings of your Fireworks account.",
    limits=Limits(poll=10.0),
)
KINDS = {"sft": "supervisedFineTuningJobs", "dpo": "dpoJobs", "orpo": "dpoJobs"}
_FIELDS = {
    "learning_rate": "learningRate",
    "rank": "loraRank",
    "max_tokens": "maxContextLength",
    "batch_tokens": "batchSize",
    "batch_rows": "batchSizeSamples",
    "gradient_accumulation": "gradientAccumulationSteps",
    "warmup_steps": "learningRateWarmupSteps",
    "weight_decay": "optimizerWeightDecay",
}
_OWN_WORDS = ("beta", "suffix", "idleSeconds")  # of the body, and not of the training's configuration
_HUB = "https://huggingface.co/"


class Fireworks(Service):
    """Fireworks: the client chooses the id of each job, so a repeated request can never start a second one."""

    endpoint: Endpoint = ENDPOINT
    capabilities = make_capabilities()
    proof = ClientId()
    chat_path = "/inference/v1/chat/completions"
    deployments = FireworksDeployments()
    largest_request: ClassVar[int] = 150 * 2**20  # bytes of a file; a larger one goes to a signed address
    words: ClassVar[Mapping[str, Status]] = {
        f"JOB_STATE_{word}": status
        for status, words in {
            Status.PREPARING: ("CREATING", "VALIDATING", "CREATING_INPUT_DATASET"),
            Status.QUEUED: ("PENDING", "RE_QUEUEING"),
            Status.RUNNING: ("RUNNING", "WRITING_RESULTS", "IDLE"),
            Status.CANCELLING: ("CANCELLING",),
            Status.PAUSED: ("PAUSED",),
            Status.SUCCEEDED: ("COMPLETED", "EARLY_STOPPED"),
            Status.FAILED: ("FAILED", "EXPIRED"),
            Status.CANCELLED: ("CANCELLED",),
        }.items()
        for word in words
    }

    @property
    def settings_class(self) -> type[FireworksSettings]:
        """The settings of `backends.fireworks`."""
        from tuneport_fireworks.settings import FireworksSettings

        return FireworksSettings

    def model_name(self, name: str) -> str:
        """`accounts/…` as it is; a bare name is one of Fireworks' own models."""
        if not name or name.startswith((".", "~", "/")) or ("/" in name and not name.startswith("accounts/")):
            raise ModelNotFound(
                f"{self.name}:{name} is not a model of Fireworks.",
                remedy=f"Write for example {self.name}:llama-v3p1-8b-instruct, or accounts/ACCOUNT/models/MODEL.",
            )
        return name if name.startswith("accounts/") else f"accounts/fireworks/models/{name}"

    def write_body(self, request: TrainRequest, model: str) -> dict[str, Any]:
        """The training's configuration; what is "auto" is left out, and Fireworks chooses."""
        del model
        settings, options = cast("FireworksSettings", request.settings), request.options
        if len(request.train) > MOST_ROWS:
            raise UsageError(f"{len(request.train):,} rows; Fireworks takes {MOST_ROWS:,}.", remedy="Use fewer rows.")
        if request.validation is not None and options.method != "sft":
            raise UnsupportedError(
                f"Fireworks takes no validation rows for {options.method}.", remedy="Remove data.validation."
            )
        body: dict[str, Any] = {"epochs": options.epochs} if options.epochs != "auto" else {}
        chosen = {field: getattr(settings, name) for name, field in _FIELDS.items()}
        body |= {field: value for field, value in chosen.items() if value != "auto"}
        if options.method == "sft" and settings.early_stop:
            body["earlyStop"] = True
        if options.method == "dpo" and settings.beta != "auto":
            body["beta"] = settings.beta
        if options.suffix:
            body["suffix"] = options.suffix
        return {**body, "idleSeconds": settings.idle_seconds}

    def read_account(self, http: Http) -> str:
        """The account that the key belongs to."""
        return read_account(http)

    def check_model(self, http: Http, start: Start) -> None:
        """A job for a model that is not tunable is accepted, and then never runs."""
        found = http.again("GET", f"/v1/{start.model}")
        if not start.is_tuned and not found.get("tunable"):
            raise UnsupportedError(f"Fireworks does not tune {start.model}.", remedy="Choose a model that is tunable.")

    def find_file(self, http: Http, start: Start, file: DataFile) -> str | None:
        """A dataset is named by the SHA-256 of its bytes."""
        name = _dataset(start, file)
        return name if (http.find(f"/v1/{name}") or {}).get("state") == "READY" else None

    def send_file(self, http: Http, start: Start, file: DataFile) -> str:
        """Create the dataset where it is not there, and upload its file."""
        name = _dataset(start, file)
        dataset: dict[str, Any] = {"userUploaded": {}, "exampleCount": str(file.rows), "displayName": file.name[:60]}
        if start.method == "sft":
            dataset["format"] = "CHAT"
        body = {"datasetId": name.rpartition("/")[2], "dataset": dataset}
        try:
            http.again("POST", f"/v1/accounts/{start.account}/datasets", body)
        except Refused as error:
            if not self.is_duplicate(error):
                raise
        if file.bytes <= self.largest_request:
            http.once("POST", f"/v1/{name}:upload", file=("file", file.name, file.path))
            return name
        size = str(file.bytes)
        found = http.again("POST", f"/v1/{name}:getUploadEndpoint", {"filenameToSize": {file.name: size}})
        headers = {"Content-Type": "application/octet-stream", "X-Goog-Content-Length-Range": f"{size},{size}"}
        http.put_signed(found["filenameToSignedUrls"][file.name], file.path, headers)
        http.again("POST", f"/v1/{name}:validateUpload", {})
        return name

    def is_file_ready(self, http: Http, start: Start, file_id: str) -> bool:
        """Raises DataError where Fireworks finds the dataset bad."""
        del start
        found = http.again("GET", f"/v1/{file_id}")
        status = found.get("status") or {}
        if status.get("code") not in (None, "OK"):
            raise DataError(
                f"Fireworks rejected the data: {status.get('message') or status['code']}.",
                remedy="Fix the data, then run the same command again.",
            )
        return bool(found.get("state") == "READY")

    def quote(self, http: Http, start: Start) -> Quantity | None:
        """Fireworks' count of the tokens, at the price of the plan."""
        price, epochs = start.usd_per_million_tokens, start.body.get("epochs")
        if price is None or epochs is None:
            return Quantity(value=None, unit="USD", source="Fireworks shows the cost only once the job exists")
        tokens = int(http.again("GET", f"/v1/{start.files['train']}").get("estimatedTokenCount") or 0)
        if not tokens:
            return Quantity(value=None, unit="USD", source="Fireworks did not count the tokens")
        source = f"{tokens:,} tokens by Fireworks' count, {epochs} epochs, ${price:g} a million"
        return Quantity(value=round(tokens * epochs * price / 1e6, 4), unit="USD", source=source)

    def job_id(self, start: Start) -> str:
        """The resource name that follows from the mark."""
        return f"accounts/{start.account}/{KINDS[start.method]}/{start.mark}"

    def create(self, http: Http, start: Start) -> Report:
        """The one creating request, under the id that follows from the intent."""
        kind = KINDS[start.method]
        training = {name: value for name, value in start.body.items() if name not in _OWN_WORDS}
        training["warmStartFrom" if start.is_tuned else "baseModel"] = start.model
        if suffix := re.sub("[^a-z0-9]+", "-", start.body.get("suffix", "").lower()).strip("-"):
            training["outputModel"] = f"accounts/{start.account}/models/{suffix[:40]}-{start.mark[-12:]}"
        body: dict[str, Any] = {"dataset": start.files["train"], "displayName": start.ref[:60]}
        if start.method == "sft":
            body |= training
            if "validation" in start.files:
                body["evaluationDataset"] = start.files["validation"]
        else:
            # Without a method Fireworks may train by GRPO: its two descriptions of the default differ.
            loss: dict[str, Any] = {"method": start.method.upper()}
            if "beta" in start.body:
                loss["dpo"] = {"beta": start.body["beta"]}
            body |= {"trainingConfig": training, "lossConfig": loss}
        path = f"/v1/accounts/{start.account}/{kind}"
        seconds = http.limits.create
        return _report(http.once("POST", path, body, query={f"{kind[:-1]}Id": start.mark}, seconds=seconds))

    def look(self, http: Http, job_id: str) -> Report:
        """The job as Fireworks shows it."""
        return _report(http.again("GET", f"/v1/{job_id}"))

    def read_entries(self, http: Http, report: Report, after: str | None) -> Iterable[Entry]:
        """The rows of the metrics file, which is at another host."""
        address = report.raw.get("metricsFileSignedUrl")
        if "/dpoJobs/" in report.id:
            address = (http.find(f"/v1/{report.id}:getMetricsFileEndpoint") or {}).get("signedUrl")
        if not address:
            return
        yield from fetch_metrics(http, address, after)

    def cancel(self, http: Http, job_id: str) -> None:
        """End the job."""
        http.again("POST", f"/v1/{job_id}:cancel", {})

    def resume(self, http: Http, job_id: str) -> None:
        """Continue a job that Fireworks has paused."""
        http.once("POST", f"/v1/{job_id}:resume", {})

    def paused_remedy(self, ref: str) -> str:
        """Nobody pauses a job at Fireworks but Fireworks."""
        return (
            f"Fireworks pauses the jobs of a suspended account: see its billing page. Then run: tuneport resume {ref}"
        )

    def belongings(self, http: Http, start: Start, report: Report | None) -> Iterator[Belonging]:
        """The deployment first, because it is what costs."""
        if report is not None and report.model:
            name = self.deployments.name_for(report.model, start.mark)
            if http.find(f"/v1/{name}") is not None:
                yield Belonging(what=name, remove=lambda: self.deployments.remove(http, name))
            yield from _find_belonging(http, report.model)
        if report is not None:
            yield from _find_belonging(http, report.id)
        in_use = {
            one.get(part) for one in self._list_unfinished(http, start) for part in ("dataset", "evaluationDataset")
        }
        for name in start.files.values():
            if name in in_use:
                yield Belonging(what=name, keep="another job uses it")
            else:
                yield from _find_belonging(http, name)

    def download(self, http: Http, model: str, folder: Path, kind: str) -> None:
        """The files of a PEFT adapter, which names its base as the hub does, so that `torch:` finds it."""
        del kind
        found = http.again("GET", f"/v1/{model}:getDownloadEndpoint")
        details = (http.find(f"/v1/{model}") or {}).get("peftDetails") or {}
        base = http.find(f"/v1/{details['baseModel']}") if "baseModel" in details else None
        page = str((base or {}).get("huggingFaceUrl") or "")
        fetch_adapter(http, found["filenameToSignedUrls"], folder, page.removeprefix(_HUB) if _HUB in page else "")

    def _list_unfinished(self, http: Http, start: Start) -> Iterator[Mapping[str, Any]]:
        for kind in sorted(set(KINDS.values())):
            for one in http.pages(f"/v1/accounts/{start.account}/{kind}", kind, pageSize=200):
                status = self.words.get(str(one.get("state")), Status.UNKNOWN)
                if not status.terminal and one.get("name") != self.job_id(start):
                    yield one


def _dataset(start: Start, file: DataFile) -> str:
    return f"accounts/{start.account}/datasets/tp-{file.sha256[:40]}"


def _report(job: Mapping[str, Any]) -> Report:
    status, progress, cost = (job.get(name) or {} for name in ("status", "jobProgress", "estimatedCost"))
    usd = None
    if cost.get("currencyCode") == "USD":
        usd = int(cost.get("units") or 0) + int(cost.get("nanos") or 0) / 1e9
    return Report(
        id=str(job["name"]),
        word=str(job["state"]),
        message=str(status.get("message") or "") if status.get("code") != "OK" else "",
        model=str(job.get("outputModel") or (job.get("trainingConfig") or {}).get("outputModel") or ""),
        percent=progress.get("percent"),
        usd=usd,
        created=parse_time(job.get("createTime")),
        finished=parse_time(job.get("completedTime")),
        raw=job,
    )


def _find_belonging(http: Http, name: str) -> Iterator[Belonging]:
    """Something at Fireworks, if it is there."""
    if http.find(f"/v1/{name}") is not None:
        yield Belonging(what=name, remove=lambda: http.delete(f"/v1/{name}"))
