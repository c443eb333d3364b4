"""What Fireworks' API takes: the fields and types of each body, as its SDK (1.2.30) declares them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], str]
"""Checks one value and returns what is wrong with it, or an empty text."""

KEY = "fw-key-of-the-loopback-server"
ACCOUNT = "acme"
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 503: 14}
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")


class RefusedError(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code or _CODES[status], "message": message, "details": []}


def text(value: Any) -> str:
    return "" if isinstance(value, str) else "must be a string"


def integer(value: Any) -> str:
    return "" if isinstance(value, int) and not isinstance(value, bool) else "must be an integer"


def positive(value: Any) -> str:
    return integer(value) or ("" if value > 0 else "must be positive")


def number(value: Any) -> str:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return "" if fits else "must be a number"


def flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def count(value: Any) -> str:
    """A 64-bit integer, which the JSON form of a protocol buffer writes as a string."""
    return "" if isinstance(value, str) and value.isdigit() else "must be a string of digits"


def duration(value: Any) -> str:
    return "" if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?s", value) else "must be a duration such as 300s"


def identifier(value: Any) -> str:
    return "" if isinstance(value, str) and _ID.match(value) else "must be 1 to 63 of a-z, 0-9 and -"


def one_of(*words: str) -> Check:
    return lambda value: "" if value in words else f"must be one of {', '.join(words)}"


def resource(kind: str) -> Check:
    pattern = re.compile(rf"accounts/[\w-]+/{kind}/[\w.-]+\Z")
    return lambda value: "" if isinstance(value, str) and pattern.match(value) else f"must name one of {kind}"


def mapping(inner: Check) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, dict):
            return "must be an object"
        return next((f"{key}: {why}" for key, one in value.items() if (why := inner(one))), "")

    return check


def listing(inner: Check) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, list):
            return "must be a list"
        return next((f"{place}: {why}" for place, one in enumerate(value) if (why := inner(one))), "")

    return check


def record(fields: Mapping[str, Check], *required: str) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, dict):
            return "must be an object"
        unknown = next((key for key in value if key not in fields), None)
        if unknown is not None:
            return f"unknown field {unknown!r}"
        missing = next((key for key in required if key not in value), None)
        if missing is not None:
            return f"{missing} is required"
        return next((f"{key} {why}" for key, one in value.items() if (why := fields[key](one))), "")

    return check


EMPTY = record({})

DATASET = record(
    {
        "datasetId": identifier,
        "sourceDatasetId": text,
        "dataset": record(
            {
                "displayName": text,
                "exampleCount": count,
                "format": one_of("FORMAT_UNSPECIFIED", "CHAT", "COMPLETION", "RL"),
                "userUploaded": EMPTY,
                "externalUrl": text,
            }
        ),
    },
    "datasetId",
    "dataset",
)

UPLOAD_ENDPOINT = record({"filenameToSize": mapping(count), "readMask": text}, "filenameToSize")

_TRAINING: dict[str, Check] = {
    "baseModel": resource("models"),
    "warmStartFrom": resource("models"),
    "outputModel": resource("models"),
    "epochs": positive,
    "learningRate": number,
    "loraRank": positive,
    "maxContextLength": positive,
    "batchSize": positive,
    "batchSizeSamples": positive,
    "gradientAccumulationSteps": positive,
    "learningRateWarmupSteps": integer,
    "optimizerWeightDecay": number,
    "samplerCheckpointSaveIntervalSteps": integer,
    "jinjaTemplate": text,
}

_WANDB = record({"enabled": flag, "apiKey": text, "project": text, "entity": text, "runId": text})

SFT = record(
    {
        **_TRAINING,
        "dataset": resource("datasets"),
        "evaluationDataset": resource("datasets"),
        "displayName": text,
        "evalAutoCarveout": flag,
        "earlyStop": flag,
        "rendererHuggingFaceRepoId": text,
        "wandbConfig": _WANDB,
    },
    "dataset",
)

DPO = record(
    {
        "dataset": resource("datasets"),
        "displayName": text,
        "trainingConfig": record(_TRAINING),
        "lossConfig": record(
            {
                "method": one_of("METHOD_UNSPECIFIED", "GRPO", "DAPO", "DPO", "ORPO", "GSPO_TOKEN"),
                "dpo": record({"beta": number, "refCacheConcurrency": positive, "refCacheBatchSize": positive}),
                "klBeta": number,
            }
        ),
        "rendererHuggingFaceRepoId": text,
        "wandbConfig": _WANDB,
    },
    "dataset",
)

DEPLOYMENT = record(
    {
        "baseModel": resource("models"),
        "deploymentShape": text,
        "displayName": text,
        "description": text,
        "minReplicaCount": integer,
        "maxReplicaCount": integer,
        "acceleratorType": text,
        "acceleratorCount": positive,
        "autoscalingPolicy": record(
            {"scaleUpWindow": duration, "scaleDownWindow": duration, "scaleToZeroWindow": duration}
        ),
    },
    "baseModel",
)

KINDS = {"supervisedFineTuningJobs": SFT, "dpoJobs": DPO}

_MESSAGE = record(
    {
        "role": one_of("system", "user", "assistant", "tool"),
        "content": lambda value: "" if value is None or isinstance(value, str | list) else "must be a string",
        "name": text,
        "reasoning_content": text,
        "tool_calls": lambda value: "" if isinstance(value, list) else "must be a list",
        "tool_call_id": text,
    },
    "role",
)

CHAT = record(
    {
        "model": text,
        "messages": listing(_MESSAGE),
        "max_tokens": positive,
        "temperature": number,
        "top_p": number,
        "stop": listing(text),
        "seed": integer,
        "tools": lambda value: "" if isinstance(value, list) else "must be a list",
        "stream": flag,
        "n": positive,
    },
    "model",
    "messages",
)
