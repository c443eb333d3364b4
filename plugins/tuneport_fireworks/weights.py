"""A tuned model's adapter, brought home as a folder that `torch:` opens."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tuneport.errors import BackendError
from tuneport.hosted import Http, RefusedName

_MOST_BYTES = 64 * 2**30
_NAME = re.compile(r"[\w-][\w.-]{0,127}\Z")
_NEEDED = ("adapter_config.json", "adapter_model.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".pkl")
_HUB = "https://huggingface.co/"


def download(http: Http, model: str, folder: Path) -> None:
    """Write the files of a PEFT adapter into a folder. Raises BackendError where what comes is not one."""
    found = http.again("GET", f"/v1/{model}:getDownloadEndpoint").get("filenameToSignedUrls") or {}
    names = {str(name).rpartition("/")[2]: address for name, address in found.items()}
    if any(name not in names for name in _NEEDED):
        raise BackendError(f"Fireworks has no adapter files for {model}.", remedy="Try again in a while.")
    for name, address in names.items():
        if _NAME.match(name) and not name.endswith(_PICKLES):
            with (folder / name).open("wb") as into:
                http.fetch_signed(str(address), into, most_bytes=_MOST_BYTES)
    if base := _hub_name(http, model):
        _rename_base(folder / _NEEDED[0], base)


def _hub_name(http: Http, model: str) -> str:
    """The base's name on the Hugging Face hub, or nothing where Fireworks does not name it."""
    try:
        details = http.again("GET", f"/v1/{model}").get("peftDetails") or {}
        base = http.again("GET", f"/v1/{details['baseModel']}")
    except (RefusedName, KeyError):
        return ""
    address = str(base.get("huggingFaceUrl") or "")
    return address.removeprefix(_HUB).strip("/") if address.startswith(_HUB) else ""


def _rename_base(path: Path, base: str) -> None:
    try:
        config: dict[str, Any] = json.loads(path.read_bytes())
        config["base_model_name_or_path"] = base
    except (ValueError, TypeError) as error:
        raise BackendError("Fireworks sent an adapter_config.json that is not JSON.", remedy="Try again.") from error
    path.write_text(json.dumps(config, indent=2) + "\n")
