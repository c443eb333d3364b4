"""Fireworks' API on loopback, as strict as its types: datasets, jobs, models, deployments and chat, with faults."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from datetime import UTC, datetime
from typing import Any

import fireworks_schemas as schemas
from fireworks_http import Fault, QuietServer, make_handler, make_store_handler
from fireworks_schemas import ACCOUNT, RefusedError

BASE = "accounts/fireworks/models/tiny-chat"
FLOW = ("CREATING", "VALIDATING", "PENDING", "RUNNING", "RUNNING", "WRITING_RESULTS", "COMPLETED")
_OVER = ("COMPLETED", "EARLY_STOPPED", "FAILED", "CANCELLED", "EXPIRED")
_FILTER = re.compile(r'(\w+)\s*=\s*"([^"]*)"\Z')


class FireworksServer:
    """State and faults of the server. Jobs go one step along `flow` each time somebody reads them, unless `held`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.datasets: dict[str, dict[str, Any]] = {}
        self.content: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.models: dict[str, dict[str, Any]] = {
            BASE: {
                "name": BASE,
                "kind": "HF_BASE_MODEL",
                "state": "READY",
                "tunable": True,
                "huggingFaceUrl": "https://huggingface.co/tuneport/tiny-chat",
                "contextLength": 4096,
            }
        }
        self.deployments: dict[str, dict[str, Any]] = {}
        self.adapter: dict[str, bytes] = {}  # the files of every tuned model
        self.metrics = b""
        self.flow: tuple[str, ...] = FLOW
        self.held = False
        self.failure = ""  # why jobs fail, where the flow says so
        self.cost: dict[str, Any] | None = {"currencyCode": "USD", "units": "1", "nanos": 250_000_000}
        self.ends_before_cancel = False
        self.more_accounts: list[str] = []
        self.tokens_factor = 1.0  # of what it counts
        self.complaint = ""  # what is wrong with every dataset
        self.cold = 0  # how many questions a deployment answers with 503 before it is awake
        self.faults: list[Fault] = []
        self.slow_seconds = 0.4
        self.victim = 0  # the process that the faults `kill` and `kill after` end
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answers: dict[str, str] = {}
        self.signed: dict[str, tuple[str, str]] = {}  # token: (verb, what)
        self._http = QuietServer(("127.0.0.1", 0), make_handler(self))
        self._store = QuietServer(("127.0.0.1", 0), make_store_handler(self))
        for one in (self._http, self._store):
            threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def store_url(self) -> str:
        return f"http://127.0.0.1:{self._store.server_address[1]}"

    def close(self) -> None:
        for one in (self._http, self._store):
            one.shutdown()
            one.server_close()

    def break_next(self, method: str, part: str, kind: str, times: int = 1, **headers: str) -> None:
        """Let the next such requests fail: see fireworks_http for the kinds."""
        self.faults.append(Fault(method, part, kind, times, headers))

    def calls(self, method: str, part: str) -> int:
        with self.lock:
            return sum(one[0] == method and part in one[1] for one in self.asked)

    # Routes: each returns the body of a 200, or raises RefusedError.

    def accounts(self) -> dict[str, Any]:
        names = [f"accounts/{ACCOUNT}", *self.more_accounts]
        return {"accounts": [{"name": name, "email": "a@example.com", "state": "READY"} for name in names]}

    def create_dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        name = f"accounts/{ACCOUNT}/datasets/{body['datasetId']}"
        if name in self.datasets:
            raise RefusedError(409, f"dataset {name} already exists")
        made = {**body["dataset"], "name": name, "state": "UPLOADING", "createTime": now(), "looks": 0}
        self.datasets[name] = made
        return shown(made)

    def read_dataset(self, name: str) -> dict[str, Any]:
        return shown(self._of(self.datasets, name))

    def upload(self, name: str, data: bytes) -> dict[str, Any]:
        self._of(self.datasets, name)
        if len(data) > 150 * 2**20:
            raise RefusedError(400, "the file is larger than 150MB")
        self.content[name] = data
        self._ready(name)
        return {}

    def upload_endpoint(self, name: str, sizes: dict[str, str]) -> dict[str, Any]:
        self._of(self.datasets, name)
        return {"filenameToSignedUrls": {file: self._sign("PUT", name) for file in sizes}}

    def validate_upload(self, name: str) -> dict[str, Any]:
        self._of(self.datasets, name)
        if name not in self.content:
            raise RefusedError(400, "no file was uploaded", code=9)
        self._ready(name)
        return {}

    def _ready(self, name: str) -> None:
        dataset = self.datasets[name]
        lines = [json.loads(line) for line in self.content[name].splitlines() if line.strip()]
        wanted = int(dataset.get("exampleCount", len(lines)))
        if self.complaint or len(lines) < 3 or len(lines) != wanted:
            message = self.complaint or f"{len(lines)} examples, not {wanted}"
            dataset["status"] = {"code": "INVALID_ARGUMENT", "message": message}
            return
        dataset |= {"state": "READY", "estimatedTokenCount": str(int(len(self.content[name]) / 4 * self.tokens_factor))}

    def create_job(self, kind: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        job_id = query.pop(f"{kind[:-1]}Id", "") or f"job-{secrets.token_hex(4)}"
        if query:
            raise RefusedError(400, f"unknown parameter {next(iter(query))!r}")
        if why := schemas.identifier(job_id):
            raise RefusedError(400, f"the id {why}")
        name = f"accounts/{ACCOUNT}/{kind}/{job_id}"
        if name in self.jobs:
            raise RefusedError(409, f"{name} already exists")
        config = body if kind == "supervisedFineTuningJobs" else body.get("trainingConfig", {})
        self._check_training(config, body)
        made = {"name": name, "createTime": now(), "updateTime": now(), "stage": 0, **body}
        made |= {"outputModel": config.get("outputModel") or f"accounts/{ACCOUNT}/models/{job_id}"}
        self.jobs[name] = made
        return self._view(made)

    def _check_training(self, config: dict[str, Any], body: dict[str, Any]) -> None:
        if ("baseModel" in config) == ("warmStartFrom" in config):
            raise RefusedError(400, "give one of baseModel and warmStartFrom")
        base = self._of(self.models, config.get("baseModel") or config["warmStartFrom"])
        if not base.get("tunable") and base["kind"] != "HF_PEFT_ADDON":
            raise RefusedError(400, f"{base['name']} is not tunable")
        rank = config.get("loraRank", 8)
        if rank > 32 or rank & (rank - 1):
            raise RefusedError(400, "loraRank must be a power of two, at most 32")
        beta = body.get("lossConfig", {}).get("dpo", {}).get("beta", 0.1)
        if not 0 < beta < 0.5:
            raise RefusedError(400, "beta must be between 0 and 0.5")
        for part in ("dataset", "evaluationDataset"):
            if part in body and self._of(self.datasets, body[part])["state"] != "READY":
                raise RefusedError(400, f"{body[part]} is not READY", code=9)
        if config.get("outputModel") in self.models:
            raise RefusedError(409, f"model {config['outputModel']} already exists")

    def read_job(self, name: str) -> dict[str, Any]:
        job = self._of(self.jobs, name)
        if not self.held:
            job["stage"] += 1
        return self._view(job)

    def list_jobs(self, kind: str, query: dict[str, str]) -> dict[str, Any]:
        found = [job for name, job in self.jobs.items() if f"/{kind}/" in name]
        return self._page([self._view(job) for job in found], kind, query)

    def cancel_job(self, name: str) -> dict[str, Any]:
        job = self._of(self.jobs, name)
        if self.ends_before_cancel:
            job["stage"] = len(self.flow)
        if self._state(job) in _OVER:
            raise RefusedError(400, f"{name} is {self._state(job)}", code=9)
        job |= {"flow": ("CANCELLING", "CANCELLED"), "stage": 0}
        return {}

    def resume_job(self, name: str) -> dict[str, Any]:
        job = self._of(self.jobs, name)
        if self._state(job) != "PAUSED":
            raise RefusedError(400, f"{name} is {self._state(job)}", code=9)
        job |= {"flow": ("RUNNING", "COMPLETED"), "stage": 0}
        return self._view(job)

    def delete(self, kept: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
        self._of(kept, name)
        del kept[name]
        return {}

    def metrics_endpoint(self, name: str) -> dict[str, Any]:
        self._of(self.jobs, name)
        if not self.metrics:
            raise RefusedError(404, "there are no metrics yet")
        return {"signedUrl": self._sign("GET", "metrics")}

    def download_endpoint(self, name: str) -> dict[str, Any]:
        if self._of(self.models, name)["kind"] != "HF_PEFT_ADDON":
            raise RefusedError(400, f"{name} cannot be downloaded", code=9)
        return {"filenameToSignedUrls": {file: self._sign("GET", f"adapter/{file}") for file in self.adapter}}

    def create_deployment(self, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        name = f"accounts/{ACCOUNT}/deployments/{query.pop('deploymentId', '') or secrets.token_hex(4)}"
        only = query.pop("validateOnly", "false") == "true"
        if query:
            raise RefusedError(400, f"unknown parameter {next(iter(query))!r}")
        if name in self.deployments:
            raise RefusedError(409, f"deployment {name} already exists")
        self._of(self.models, body["baseModel"])
        if not body.get("deploymentShape"):
            raise RefusedError(400, "give a deploymentShape")
        window = body.get("autoscalingPolicy", {}).get("scaleToZeroWindow", "3600s")
        if float(window[:-1]) < 300:
            raise RefusedError(400, "scaleToZeroWindow must be at least 5 minutes")
        made = {"minReplicaCount": 0, "maxReplicaCount": 1, **body, "name": name, "createTime": now(), "looks": 0}
        made |= {"acceleratorType": "NVIDIA_H100_80GB", "acceleratorCount": 1, "state": "CREATING"}
        if not only:
            self.deployments[name] = made
        return shown(made)

    def read_deployment(self, name: str) -> dict[str, Any]:
        found = self._of(self.deployments, name)
        found["looks"] += 1
        if found["looks"] > 1 and found["state"] == "CREATING":
            found |= {"state": "READY", "replicaStats": {"readyReplicaCount": 1}}
        return shown(found)

    def list_deployments(self, query: dict[str, str]) -> dict[str, Any]:
        return self._page([shown(one) for one in self.deployments.values()], "deployments", query)

    def read_model(self, name: str) -> dict[str, Any]:
        return shown(self._of(self.models, name))

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        model, _, deployment = body["model"].partition("#")
        if deployment:
            found = self._of(self.deployments, deployment)
            if found["baseModel"] != model or found["state"] != "READY":
                raise RefusedError(404, f"{model} is not deployed at {deployment}")
        elif not self.models.get(model, {}).get("supportsServerless"):
            raise RefusedError(404, f"Model not found, inaccessible, and/or not deployed: {model}")
        if self.cold > 0:
            self.cold -= 1
            raise RefusedError(503, "DEPLOYMENT_SCALING_UP")
        last = body["messages"][-1]["content"]
        answer = self.answers.get(last, f"echo: {last}")
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [choice],
            "usage": usage,
        }

    # Helpers

    def _of(self, kept: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
        if name not in kept:
            raise RefusedError(404, f"{name} was not found")
        return kept[name]

    def _sign(self, verb: str, what: str) -> str:
        token = secrets.token_urlsafe(12)
        self.signed[token] = (verb, what)
        return f"{self.store_url}/bucket/{token}?X-Goog-Signature={token}"

    def _state(self, job: dict[str, Any]) -> str:
        flow = job.get("flow", self.flow)
        return str(flow[min(job["stage"], len(flow) - 1)])

    def _view(self, job: dict[str, Any]) -> dict[str, Any]:
        state = self._state(job)
        view = shown(job) | {"state": f"JOB_STATE_{state}", "status": {"code": "OK", "message": ""}}
        if self.cost is not None:
            view["estimatedCost"] = self.cost
        if state == "RUNNING":
            view["jobProgress"] = {"percent": min(90, 30 * job["stage"]), "epoch": 0}
        if state == "FAILED":
            view["status"] = {"code": "INTERNAL", "message": self.failure}
        if state in _OVER:
            view["completedTime"] = job.setdefault("completedTime", now())
        if state in ("COMPLETED", "EARLY_STOPPED"):
            view["jobProgress"] = {"percent": 100, "epoch": 1}
            self._make_model(job)
        if self.metrics and "/supervised" in job["name"] and state in ("RUNNING", *_OVER):
            view["metricsFileSignedUrl"] = self._sign("GET", "metrics")
        return view

    def _make_model(self, job: dict[str, Any]) -> None:
        config = job.get("trainingConfig", job)
        base = config.get("baseModel") or config["warmStartFrom"]
        if job.setdefault("has_model", False):
            return
        job["has_model"] = True
        details = {"baseModel": base, "r": config.get("loraRank", 8), "targetModules": ["q_proj"]}
        name = job["outputModel"]
        made = {"name": name, "kind": "HF_PEFT_ADDON", "state": "READY", "peftDetails": details}
        self.models.setdefault(name, made | {"fineTuningJob": job["name"], "createTime": now()})

    def _page(self, found: list[dict[str, Any]], key: str, query: dict[str, str]) -> dict[str, Any]:
        size, start = int(query.pop("pageSize", "50")), int(query.pop("pageToken", "") or 0)
        asked = query.pop("filter", "")
        query.pop("orderBy", None)
        if query or not 0 < size <= 200:
            raise RefusedError(400, f"bad parameters: {query or size}")
        if asked:
            match = _FILTER.match(asked)
            if match is None:
                raise RefusedError(400, f"bad filter: {asked}")
            field_name = re.sub(r"_(\w)", lambda one: one[1].upper(), match[1])
            found = [one for one in found if one.get(field_name) == match[2]]
        page = found[start : start + size]
        after = str(start + size) if start + size < len(found) else ""
        return {key: page, "nextPageToken": after, "totalSize": len(found)}


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def shown(kept: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kept.items() if name not in ("looks", "stage", "flow", "has_model")}
