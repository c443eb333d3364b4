"""Checks an adapter's folder: plain LoRA is loaded, any other adapter is refused. Needs no torch."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tuneport.errors import UnavailableError, UnsupportedError
from tuneport_torch.bases.files import check_inside, read_json
from tuneport_torch.bases.headers import BadHeader, Header, read_safetensors

WEIGHTS = "adapter_model.safetensors"

PREFIX = "base_model.model."
"""PEFT's prefix of layer names."""

PARTS = ("lora_A", "lora_B")

ANY = frozenset(
    {
        # Notes: which program wrote the file, over which base.
        "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version", "revision",
        "task_type",
        # Which layers have an adapter. The weights file says so too, and must fit the model.
        "exclude_modules", "layers_pattern", "layers_to_transform", "target_modules",
        # How the layer stores its weight. The layer's own type decides.
        "fan_in_fan_out",
        # Read separately.
        "init_lora_weights", "lora_alpha", "lora_dropout", "r", "use_rslora",
        # Options of a method that another key selects.
        "corda_config", "eva_config", "lora_ga_config", "loftq_config", "megatron_core", "qalora_group_size",
        "runtime_config",
    }
)  # fmt: skip
"""The keys of an adapter_config.json whose value does not change what plain LoRA computes."""

NEUTRAL = frozenset(
    {
        "alora_invocation_tokens", "alpha_pattern", "arrow_config", "bias", "ensure_weight_tying", "kasa_config",
        "layer_replication", "lora_bias", "megatron_config", "modules_to_save", "monteclora_config", "rank_pattern",
        "target_parameters", "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora", "velora_config",
    }
)  # fmt: skip
"""The keys that change the model as soon as they are set."""

_UNSET: tuple[Any, ...] = (None, False, "", "none", [], {})
_PLAIN_INITS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")
_PICKLE = "adapter_model.bin"
_MERGE = "Merge it into its base with peft (merge_and_unload), and use the merged folder."
_CONVERT = (
    "Convert it to plain LoRA with peft: save_pretrained(…, path_initial_model_for_weight_conversion=…) over the base "
    "that it was trained on. Or merge it with peft (merge_and_unload), and use the merged folder."
)


class Lora(msgspec.Struct):
    """The part of an adapter_config.json that is used."""

    r: Annotated[int, msgspec.Meta(ge=1, le=2**16)]
    lora_alpha: Annotated[float, msgspec.Meta(ge=-(2**32), le=2**32)]
    lora_dropout: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    use_rslora: bool | None = False

    @property
    def alpha(self) -> float:
        """The alpha for which alpha / r is the adapter's scale. Rank-stabilized LoRA scales by lora_alpha / sqrt(r)
        (Kalajdzievski 2023).
        """
        return self.lora_alpha * math.sqrt(self.r) if self.use_rslora else self.lora_alpha


def read_lora(folder: Path) -> Lora:
    """The settings of a plain LoRA adapter. Raises UnsupportedError for any other kind of adapter and for settings that
    this version does not know, UnavailableError for a damaged file.
    """
    config = read_json(folder / "adapter_config.json")
    kind = config.get("peft_type")
    if kind != "LORA":
        raise _kind_error(folder, f"its peft_type is {_format(kind)}", _MERGE)
    if config.get("init_lora_weights") not in _PLAIN_INITS:
        raise _kind_error(
            folder,
            f"init_lora_weights is {_format(config['init_lora_weights'])}, which may change the base's weights",
            _CONVERT,
        )
    if unusual := sorted(key for key, value in config.items() if key not in ANY and not _is_unset(value)):
        known = ", ".join(f"{key} is {_format(config[key])}" for key in unusual[:4])
        newer = [key for key in unusual if key not in NEUTRAL]
        which = f" (this version of tuneport does not know {newer[0][:80]})" if newer else ""
        raise _kind_error(folder, f"{known}{which}", _MERGE)
    try:
        return msgspec.convert(config, Lora)
    except msgspec.ValidationError as error:
        raise damaged_adapter(folder, str(error)) from error


def read_weights(folder: Path) -> Header:
    """The header of an adapter's weights, in which each tensor is half of a LoRA product. Raises UnsupportedError if
    the file contains more, UnavailableError if it is missing, damaged or a pickle.
    """
    path = folder / WEIGHTS
    try:
        check_inside(path, folder)
        header = read_safetensors(path)
    except (BadHeader, OSError, UnavailableError) as error:
        if not os.path.lexists(path):
            raise _no_weights(folder) from error
        raise damaged_adapter(folder, str(error)) from error
    endings = tuple(f".{part}.weight" for part in PARTS)
    if more := sorted({_layer(key) for key in header.shapes if not key.endswith(endings)}):
        names = ", ".join(more[:6]) + (" and more" if len(more) > 6 else "")
        raise UnsupportedError(f"The adapter in {folder} contains more than LoRA weights: {names}.", remedy=_MERGE)
    return header


def check_adapter(folder: Path) -> None:
    """Raise what `read_lora` or `read_weights` raises, without reading any weights."""
    read_lora(folder)
    read_weights(folder)


def damaged_adapter(folder: Path, why: str) -> UnavailableError:
    """The error for an adapter whose files do not fit each other or the model."""
    return UnavailableError(
        f"The adapter in {folder} cannot be loaded: {why}.",
        remedy="Copy it again, and name the base that it was trained over.",
    )


def find_relative_base(folder: Path, name: str, working: Path | None) -> Path | None:
    """The model that a relative base path means: next to the adapter, in the working folder, or next to a folder above
    the adapter. None if there is none.
    """
    if name.startswith(("/", "~")):
        return None
    folder = folder.absolute()
    for root in (folder.parent, *([working] if working else []), *folder.parent.parents):
        path = Path(os.path.normpath(root / name))
        if path != folder and _is_model(path):
            return path
    return None


def _is_model(path: Path) -> bool:
    try:
        if path.suffix == ".gguf" and path.is_file():
            return True
        return any((path / name).is_file() for name in ("config.json", "adapter_config.json"))
    except OSError:  # a name that is too long, or a folder that may not be read
        return False


def _is_unset(value: Any) -> bool:
    """Whether PEFT writes this value for a setting that is not in use. Zero is a number that may matter."""
    return any(type(value) is type(one) and value == one for one in _UNSET)


def _layer(key: str) -> str:
    """The last part of a layer's name, from the key of one of its tensors."""
    parts = key.removeprefix(PREFIX).removesuffix(".weight").split(".")
    named = [part for part in parts if part not in ("base_layer", "modules_to_save", "default", "weight", "bias")]
    named = [part for part in named if not part.startswith("lora_")] or parts
    return named[-1][:80] or "a tensor without a name"


def _no_weights(folder: Path) -> UnavailableError:
    if os.path.lexists(folder / _PICKLE):
        return UnavailableError(
            f"The weights in {folder} are a pickle, {_PICKLE}, which can run any code when it is read.",
            remedy="Only .safetensors weights are loaded. If you trust the file, convert it with peft: "
            "PeftModel.from_pretrained(base, folder).save_pretrained(…)",
        )
    return UnavailableError(f"{folder} has no {WEIGHTS}.", remedy="Download or copy it again.")


def _kind_error(folder: Path, why: str, remedy: str) -> UnsupportedError:
    return UnsupportedError(f"The adapter in {folder} is not plain LoRA: {why}.", remedy=remedy)


def _format(value: object) -> str:
    return f"{value!r:.60}"
