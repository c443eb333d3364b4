"""Servers of the OpenAI wire as Nebius and Amazon Bedrock document theirs: strict about what they take."""

from __future__ import annotations

import json
import re
from typing import Any

from wire_server import KEY, WireServer, missing, wrong

_HYPERPARAMETERS: dict[str, tuple[type, ...]] = {
    "n_epochs": (int,),
    "batch_size": (int,),
    "learning_rate": (float,),
    "warmup_ratio": (float, int),
    "weight_decay": (float, int),
    "packing": (bool,),
    "max_grad_norm": (float, int),
    "context_length": (int,),
    "lora": (bool,),
    "lora_r": (int,),
    "lora_alpha": (int,),
    "lora_dropout": (float, int),
}
_NEBIUS_FIELDS = frozenset({"model", "training_file", "validation_file", "method", "suffix", "seed", "tags"})
_SERVED = frozenset({"meta-llama/Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.3-70B-Instruct"})
_ARN = re.compile(r"arn:aws:lambda:[a-z0-9-]+:\d{12}:function:[\w-]+\Z")


def invalid(where: list[str], message: str) -> tuple[int, Any]:
    """A refusal in the format of a validation error."""
    return 422, {"error": {"message": f"{'.'.join(where)}: {message}", "type": "invalid_request", "param": where[-1]}}


class NebiusServer(WireServer):
    """Takes no metadata, no multiplier and no "auto"; a job's model is a checkpoint, registered below /v0/models."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = ("running", "running", "succeeded")
        self.custom: dict[str, dict[str, Any]] = {}
        self.shows_suffix = True
        self.spoil = self._other_routes

    def create(self, body: dict[str, Any]) -> tuple[int, Any]:
        if unknown := body.keys() - _NEBIUS_FIELDS:
            return invalid(["body", min(unknown)], "Extra inputs are not permitted")
        method = body.get("method") or {}
        if method.get("type") != "supervised":
            return invalid(["body", "method", "type"], "Input should be 'supervised'")
        values = method.get("supervised", {}).get("hyperparameters", {})
        for name, value in values.items():
            kinds = _HYPERPARAMETERS.get(name)
            if kinds is None:
                return invalid(["body", "hyperparameters", name], "Extra inputs are not permitted")
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                return invalid(["body", "hyperparameters", name], "Input has the wrong type")
        status, job = super().create(body)
        if status == 200:
            kept = self.jobs[job["id"]]
            kept.pop("metadata")
            kept |= {"suffix": body.get("suffix") if self.shows_suffix else None, "trained_steps": 0, "total_steps": 3}
            job = dict(kept)
        return status, job

    def succeed(self, job: dict[str, Any]) -> None:
        super().succeed(job)
        self.custom_rows = self.models.pop(job["fine_tuned_model"])
        job.update(fine_tuned_model=None, trained_steps=3)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            self.keep(f"ckpt-2/{name}", f"the bytes of {name}".encode(), "fine-tune-results")

    def _other_routes(self, handler: Any, command: str, path: str) -> bool:
        """The routes that only Nebius has, and its form of a list of checkpoints."""
        if handler.headers.get("Authorization") != f"Bearer {KEY}":
            return False
        if path.endswith("/checkpoints"):
            with self.lock:
                handler._send(
                    200, {"object": "list", "has_more": False, "data": self._checkpoints(path.split("/")[-2])}
                )
            return True
        if path.startswith("/v0/models"):
            with self.lock:
                handler._send(*self._custom_models(command, path.removeprefix("/v0/models").strip("/"), handler.body))
            return True
        return False

    def _checkpoints(self, job: str) -> list[dict[str, Any]]:
        weights = [one["id"] for one in self.files.values() if one["filename"].startswith("ckpt-2/")]
        return [
            {
                "id": f"ftckpt_{step}",
                "object": "fine_tuning.job.checkpoint",
                "created_at": self.jobs[job]["created_at"] + step,
                "fine_tuned_model_checkpoint": None,
                "fine_tuning_job_id": job,
                "step_number": step,
                "metrics": {"step": step, "train_loss": 3.5 - step},
                "result_files": weights if step == 2 else [],
            }
            for step in (2, 1)
        ]

    def _custom_models(self, command: str, name: str, body: bytes) -> tuple[int, Any]:
        if command == "POST":
            asked = json.loads(body)
            if asked.keys() != {"name", "base_model", "source"}:
                return invalid(["body"], "Extra inputs are not permitted")
            job, _, checkpoint = asked["source"].partition(":")
            if job not in self.jobs or checkpoint not in ("ftckpt_1", "ftckpt_2"):
                return wrong(f"{asked['source']} is not a checkpoint", "source")
            full = f"{asked['base_model']}-LoRa:{asked['name']}-udpd"
            self.custom[full] = {**asked, "name": full, "status": "validating", "looks": 0}
            return 200, self.custom[full]
        found = self.custom.get(name)
        if found is None:
            return missing(f"no custom model {name}")
        if command == "DELETE":
            self.models.pop(name, None)
            return 200, {**self.custom.pop(name), "status": "deleted"}
        found["looks"] += 1
        if found["looks"] > 1:
            is_served = found["base_model"] in _SERVED
            found |= {"status": "active"} if is_served else {"status": "error", "status_reason": "base is not served"}
            if is_served:
                self.models[name] = self.custom_rows
        return 200, found


class BedrockServer(WireServer):
    """Takes reinforcement with a Lambda function, and no suffix; it refuses everything that its pages do not show."""

    def create(self, body: dict[str, Any]) -> tuple[int, Any]:
        for name in body.keys() - {"model", "training_file", "validation_file", "method"}:
            return wrong(f"Unsupported parameter: {name}", name)
        method = body["method"]
        if method["type"] != "reinforcement":
            return wrong(f"Unsupported method: {method['type']}", "method.type")
        grader = method["reinforcement"].get("grader", {})
        function = grader.get("lambda", {}).get("function", "") if grader.get("type") == "lambda" else ""
        if not _ARN.match(function):
            return wrong("grader: a Lambda function is required", "method.reinforcement.grader")
        for name, value in method["reinforcement"].get("hyperparameters", {}).items():
            if isinstance(value, str):
                return wrong(f"{name}: not a number", name)
        return super().create(body)
