"""The `torch:` backend: what it can do, and where each thing that it is asked for is done."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from tuneport.errors import JobNotFound, ModelNotFound, UnavailableError
from tuneport.plugin import Availability, Backend, BaseInfo, Capabilities, Preference, Ref

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tuneport.plugin import DataRules, Diagnostic, Example, Piece, Plan, TrainRequest
    from tuneport_torch.config import TorchSettings
    from tuneport_torch.job import TorchJob
    from tuneport_torch.model import TorchModel
    from tuneport_torch.text.codec import Codec
    from tuneport_torch.text.render import Renderer


class TorchBackend(Backend):
    """Trains on this machine with PyTorch, in a process of its own per job."""

    name = "torch"
    packages = ("torch", "transformers", "peft", "safetensors", "tokenizers", "gguf", "huggingface_hub", "jinja2")
    install = "pip install 'tuneport[torch]'"

    def __init__(self) -> None:
        self.capabilities = Capabilities(
            methods=frozenset({"sft", "dpo", "orpo"}),
            verbs=frozenset({"cancel", "pause", "resume"}),
            learning_rate="absolute",
            local=True,
            auto_epochs="3; 4 to 10 for fewer than about 8,500 tokens; 2 above 5 million, 1 above 20 million",
        )

    @property
    def settings_class(self) -> type[TorchSettings]:
        """The settings under `backends.torch`."""
        from tuneport_torch.config import TorchSettings

        return TorchSettings

    def start(self, request: TrainRequest) -> TorchJob:
        """Write the job's folder, hand it to a detached worker, return. Asked again with the same intent, by whichever
        process, it returns the same job, and finishes a start that was cut off.
        """
        from tuneport_torch.starting import start

        return start(request)

    def job(self, name: str) -> TorchJob:
        """The job of that name, from any process; raises JobNotFound."""
        from tuneport_torch.job import TorchJob
        from tuneport_torch.jobs.folder import Folder

        folder = Folder.named(name)
        if not folder.exists:
            raise JobNotFound(f"torch has no job {name!r}.", remedy="`tuneport jobs` lists the jobs.")
        return TorchJob(folder)

    def model(self, name: str) -> TorchModel:
        """A tuned model by its job's name, else a base by alias, hub id or path; loaded when it is first used."""
        from tuneport_torch.bases import resolve
        from tuneport_torch.lookup import is_job
        from tuneport_torch.model import TorchModel

        if is_job(name):
            return self.job(name).result()
        return TorchModel(Ref("torch", name), resolve(name))

    def plan(self, request: TrainRequest) -> Plan:
        """What the training would do and need; counts tokens where the tokenizer is here, else estimates them."""
        from tuneport_torch.lookup import resolve_base
        from tuneport_torch.plan import make_plan

        name = request.base.name
        return make_plan(request, resolve_base(name), self.rules(name), lambda: _text(name).unreadable_added_token)

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
                infos.append(BaseInfo(ref=Ref("torch", alias), description=base.description, present=base.present))
        return infos

    def missing(self, name: str) -> str:
        """The base under a tuned model, where it is gone."""
        from tuneport_torch.bases import missing_base
        from tuneport_torch.jobs.folder import Folder

        lost = missing_base(Folder.named(name).model)
        return f"The base {lost} of this model was deleted or moved: it cannot be loaded." if lost else ""

    def availability(self) -> Availability:
        """Whether the packages are there; `details` say on what would be trained."""
        packages = super().availability()
        if not packages.ready:
            return packages
        from tuneport_torch.jobs import devices

        kind = devices.pool("auto")
        found = devices.devices(kind)
        return Availability(
            ready=True,
            details={
                "device": kind,
                "devices": [device.model for device in found],
                "memory_bytes": sum(device.memory for device in found),
                "threads": devices.threads(),
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
