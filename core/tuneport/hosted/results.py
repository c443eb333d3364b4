"""What comes home from a service: the rows of a metrics file, and the files of an adapter."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.doors import HOSTED, public
from tuneport.errors import BackendError
from tuneport.files import write_json
from tuneport.hosted.reports import Entry

if TYPE_CHECKING:
    from tuneport.hosted.http import Http

_NAMES = {
    "loss": "train_loss",
    "train_loss": "train_loss",
    "train/loss": "train_loss",
    "eval_loss": "valid_loss",
    "eval/loss": "valid_loss",
    "valid_loss": "valid_loss",
    "learning_rate": "learning_rate",
    "train/learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "train/grad_norm": "grad_norm",
    "epoch": "epoch",
}
_STEPS = ("step", "global_step", "train/global_step")
_FILE = re.compile(r"[\w-][\w.-]{0,127}\Z")
_NEEDED = ("adapter_config.json", "adapter_model.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_MOST_METRICS, _MOST_WEIGHTS = 64 * 2**20, 64 * 2**30


@public(HOSTED)
def read_metrics(row: Mapping[str, Any]) -> dict[str, Any]:
    """The step and the numbers of a row by tuneport's names; empty for a row without a step or without numbers."""
    step = next((row[name] for name in _STEPS if isinstance(row.get(name), int)), None)
    named = {_NAMES[name]: value for name, value in row.items() if name in _NAMES}
    numbers = {name: value for name, value in named.items() if isinstance(value, int | float) and math.isfinite(value)}
    return {"step": step, **numbers} if step is not None and numbers else {}


@public(HOSTED)
def fetch_metrics(http: Http, address: str, after: str | None) -> Iterator[Entry]:
    """The rows of a file of JSON lines at a signed address, as entries whose ids are line numbers, after that id.

    A file that cannot be fetched now has no rows: signed addresses expire, and the next look has a new one.
    """
    into = io.BytesIO()
    try:
        http.fetch_signed(address, into, most_bytes=_MOST_METRICS)
    except BackendError:
        return
    for number, line in enumerate(into.getvalue().splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError:  # cut off while it is written
            continue
        data = read_metrics(row) if isinstance(row, dict) else {}
        if data and number > int(after or 0):
            yield Entry(id=str(number), message=f"step {data['step']}", kind="metric", data=data)


@public(HOSTED)
def fetch_adapter(http: Http, addresses: Mapping[str, str], folder: Path, base: str) -> None:
    """Write the files of a PEFT adapter from their signed addresses into a folder that `torch:` opens.

    `base` is the base model's name on the Hugging Face hub or its path, which the adapter then names; empty leaves
    what the service wrote. Pickles are not fetched. Raises BackendError where what comes is not an adapter.
    """
    files = {str(name).rpartition("/")[2]: address for name, address in addresses.items()}
    if any(name not in files for name in _NEEDED):
        raise BackendError(
            f"{http.endpoint.title} has no adapter files for this model.", remedy="Try again in a while."
        )
    for name, address in files.items():
        if _FILE.match(name) and not name.endswith(_PICKLES):
            with (folder / name).open("wb") as into:
                http.fetch_signed(str(address), into, most_bytes=_MOST_WEIGHTS)
    path = folder / _NEEDED[0]
    try:
        config = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise BackendError(
            f"{http.endpoint.title} sent an {path.name} that is not a JSON object.", remedy="Try again."
        ) from error
    if base:
        write_json(path, {**config, "base_model_name_or_path": base})
