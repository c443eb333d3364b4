"""The `torch:` backend: what it can do, and where each part of it is done."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from tuneport.errors import ModelNotFound, UnavailableError
from tuneport.local import DevicePool, LocalBackend, count_threads
from tuneport.plugin import Availability, BaseInfo, Capabilities, Preference, Ref
from tuneport_torch.autos import slots
from tuneport_torch.devices import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pydantic import BaseModel

    from tuneport.local import Stop, Work
    from tuneport.plugin import DataRules, Diagnostic, Example, Lineage, Piece, Plan, TrainRequest
    from tuneport_torch.config import TorchSettings
    from tuneport_torch.model import TorchModel
    from tuneport_torch.text.codec import Codec
    from tuneport_torch.text.render import Renderer


class TorchBackend(LocalBackend):
    """Trains on this machine with PyTorch, in a separate process for each job."""

    name = "torch"
    packages = ("torch", "transformers", "peft", "safetensors", "tokenizers", "gguf", "huggingface_hub", "jinja2")
    install = "pip install 'tuneport[torch]'"
    versioned = ("torch", "transformers", "tokenizers", "safetensors", "peft")
    environment = ENVIRONMENT
    less_memory = (
        "train with less at once: --set backends.torch.tokens_per_batch=256, "
        "--set backends.torch.activation_checkpointing=true, a smaller adapter.rank or a smaller model"
    )

    def __init__(self) -> None:
        self.capabilities = Capabilities(
            methods=frozenset({"sft", "dpo", "orpo"}),
            verbs=frozenset({"cancel", "pause", "resume"}),
            learning_rate="absolute",
            local=True,
            export_kinds=("adapter", "merged", "gguf", "ollama"),
            auto_epochs="3; 4 to 10 for fewer than about 8,500 tokens; 2 above 5 million, 1 above 20 million",
        )

    @property
    def settings_class(self) -> type[TorchSettings]:
        """The settings under `backends.torch`."""
        from tuneport_torch.config import TorchSettings

        return TorchSettings

    def work(self, work: Work) -> Stop | None:
        """Train the job's model and save it, in the worker."""
        from tuneport_torch.training import train_job

        return train_job(work)

    def finish(self, work: Work) -> tuple[str, str | None]:
        """Export the model, if asked for."""
        from tuneport_torch.training import export_model

        return export_model(work)

    def load(self, ref: Ref, folder: Path | None, lineage: Lineage | None) -> TorchModel:
        """A tuned model from its folder, else a base by alias, hub id or path; loaded when it is first used."""
        from tuneport_torch.bases import TUNED, resolve
        from tuneport_torch.model import TorchModel

        del lineage  # the folder's own record has it
        if folder is None:
            return TorchModel(ref, resolve(ref.name))
        if not (folder / TUNED).is_file():
            raise ModelNotFound(f"{ref} has no model.", remedy=f"Check its folder: {folder}")
        return TorchModel(ref, folder)

    def check_request(self, request: TrainRequest) -> None:
        """Refuse settings that the method does not use, and a device or a package that is not here."""
        from tuneport_torch.config import check_method

        settings = cast("TorchSettings", request.settings)
        check_method(settings, request.options.method)
        pool = self.devices(settings)
        if not pool.devices:
            raise UnavailableError(
                f"There is no {pool.kind} device on this machine that PyTorch could use.",
                remedy="Check `tuneport doctor`, or train elsewhere: --set backends.torch.device=cpu",
            )
        if settings.quantize != "none" and find_spec("bitsandbytes") is None:
            raise UnavailableError(
                f"backends.torch.quantize: {settings.quantize} needs the package bitsandbytes.",
                remedy="Run: pip install 'tuneport[quantized]' — or leave out quantize.",
            )

    def describe_request(self, request: TrainRequest) -> Mapping[str, Any]:
        """The base's name from any working folder, and its fingerprint where it is on this machine."""
        from tuneport_torch.lookup import resolve_base, stable_name

        settings = cast("TorchSettings", request.settings)
        base = resolve_base(request.base.name, trust_remote_code=settings.trust_remote_code)
        return {
            "base_name": stable_name(request.base.name),
            "base_near": base.near,
            "base_fingerprint": base.fingerprint if base.is_present else None,
        }

    def devices(self, settings: BaseModel) -> DevicePool:
        """The devices of the kind that the settings choose."""
        from tuneport_torch.devices import device_kind, list_devices

        asked = cast("TorchSettings", settings)
        kind = device_kind(asked.device)
        return DevicePool(kind, list_devices(kind), slots(asked.slots))

    def keep_checkpoints(self, settings: BaseModel) -> int:
        """As the settings say."""
        return cast("TorchSettings", settings).keep_checkpoints

    def plan(self, request: TrainRequest) -> Plan:
        """What the training would do and need; counts tokens where the tokenizer is here, else estimates them."""
        from tuneport_torch.lookup import resolve_base
        from tuneport_torch.plan import make_plan

        name = request.base.name
        base = resolve_base(name)
        return make_plan(
            request, base, _Reading(name, base.facts.max_positions).rules(), lambda: _text(name).unreadable_added_token
        )

    def rules(self, base: str) -> DataRules:
        """What that base takes: its longest row, and its own tokenizer and template to count, show and prove rows."""
        from tuneport_torch.lookup import resolve_base

        return _Reading(base, resolve_base(base).facts.max_positions).rules()

    def check_base(self, base: str) -> None:
        """Raise ModelNotFound or UnavailableError when that base cannot be trained; asks no network."""
        from tuneport_torch.lookup import resolve_base

        resolve_base(base)

    def bases(self) -> list[BaseInfo]:
        """The aliases, and whether each is on this machine."""
        from tuneport_torch.bases import ALIASES, resolve

        infos = []
        for alias in ALIASES:
            try:
                base = resolve(alias)
            except (UnavailableError, ModelNotFound) as error:
                infos.append(BaseInfo(ref=Ref("torch", alias), description=error.message, present=False))
            else:
                infos.append(BaseInfo(ref=Ref("torch", alias), description=base.description, present=base.is_present))
        return infos

    def missing(self, name: str) -> str:
        """The base under a tuned model, where it is gone."""
        from tuneport.local import Folder
        from tuneport_torch.bases import missing_base

        lost = missing_base(Folder.named(self.name, name).model)
        return f"The base {lost} of this model was deleted or moved: it cannot be loaded." if lost else ""

    def availability(self) -> Availability:
        """Whether the packages are there; `details` say on what would be trained."""
        packages = super().availability()
        if not packages.ready:
            return packages
        from tuneport_torch.devices import device_kind, list_devices

        kind = device_kind("auto")
        found = list_devices(kind)
        return Availability(
            ready=True,
            details={
                "device": kind,
                "devices": [device.model for device in found],
                "memory_bytes": sum(device.memory for device in found),
                "threads": count_threads(),
                "torch": version("torch"),
            },
        )


class _Reading:
    """How a base reads rows; its tokenizer is loaded when first needed. Can be sent to other processes."""

    def __init__(self, base: str, max_tokens: int | None, mode: str = "rows") -> None:
        self._base, self._max_tokens, self._mode = base, max_tokens, mode

    def rules(self) -> DataRules:
        from tuneport.plugin import DataRules

        return DataRules(
            shapes={
                "sft": frozenset({"conversation", "completion"}),
                "dpo": frozenset({"preference"}),
                "orpo": frozenset({"preference"}),
            },
            max_tokens=self._max_tokens,
            count_tokens=self.count_tokens,
            preview=self.preview,
            check_row=self.check_row,
            has_template=self.has_template,
            together=self.together,
        )

    def together(self, examples: Iterable[Example]) -> DataRules:
        from tuneport_torch.text.thinking_mode import mode_for

        mode = mode_for(_text(self._base), examples)
        return _Reading(self._base, self._max_tokens, mode).rules()

    def count_tokens(self, examples: Sequence[Example]) -> list[int]:
        from tuneport_torch.text import pairs

        return pairs.longest(self._renderer, examples)

    def preview(self, example: Example) -> list[Piece]:
        from tuneport_torch.text import pairs

        renderer = self._renderer
        return pairs.pieces(renderer, example) if isinstance(example, Preference) else renderer.pieces(example)

    def check_row(self, example: Example) -> list[Diagnostic]:
        from tuneport.plugin import Completion
        from tuneport_torch.text import pairs
        from tuneport_torch.text.row_warnings import find_warnings

        renderer = self._renderer
        found = pairs.diagnose(renderer, example) if isinstance(example, Preference) else renderer.diagnose(example)
        failed = any(one.severity == "error" for one in found)
        return found if failed or isinstance(example, Completion) else [*found, *find_warnings(example, renderer.codec)]

    @property
    def _renderer(self) -> Renderer:
        return _renderer(self._base, self._mode)

    def has_template(self) -> bool:
        return _text(self._base).template is not None


@lru_cache(maxsize=4)
def _text(name: str) -> Codec:
    from tuneport_torch.lookup import resolve_base
    from tuneport_torch.text.load import load_codec

    return load_codec(resolve_base(name))


@lru_cache(maxsize=4)
def _renderer(name: str, mode: str) -> Renderer:
    from tuneport_torch.text.render import Renderer

    return Renderer(_text(name), mode)
