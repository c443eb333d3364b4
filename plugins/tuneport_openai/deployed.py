"""Tuned models that must be set up before they can answer: Azure's deployments, Nebius' registrations."""

from __future__ import annotations

from collections.abc import Generator, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tuneport.errors import BackendError, ModelNotFound
from tuneport.plugin import GenerateOptions, Lineage, Message, Ref, Reply, replace_file
from tuneport_openai.model import HostedModel
from tuneport_openai.nebius import Registry
from tuneport_openai.wire.client import Wire

if TYPE_CHECKING:
    from tuneport import Hosting
    from tuneport_openai.azure import Deployment

_LARGEST = 512 * 2**30  # bytes of a file of weights
_SECONDS = 3600.0


class DeployedModel(HostedModel):
    """A tuned model at Azure, which answers under the name of its deployment and only while it is deployed."""

    def __init__(
        self, ref: Ref, wire: Wire, name: str, lineage: Lineage | None, scratch: MutableMapping[str, Any]
    ) -> None:
        super().__init__(ref, wire, scratch.get("deployment", name), lineage)
        self._model = name
        self._scratch = scratch

    def ensure_ready(self) -> str | None:
        """Deploy the model if it is not deployed, and wait until it answers. Returns what that costs from now on."""
        deployment = self._deployment()
        self._scratch["deployment"] = self.ref.name  # before the request, so that `delete` never misses it
        found = deployment.ensure(self._model)
        self.name = self.ref.name
        return f"{self.ref} is deployed at {found.describe_cost()}. To stop it now: tuneport hosting stop {self.ref}"

    def hosting(self) -> Hosting | None:
        """The deployment as Azure reports it now; None where there is none."""
        return self._deployment().hosting() if "deployment" in self._scratch else None

    def stop_hosting(self) -> bool:
        """Delete the deployment, which ends its cost; returns whether it was there."""
        if "deployment" not in self._scratch:
            return False
        was_there = self._deployment().remove()
        del self._scratch["deployment"]
        self.name = self._model
        return was_there

    def _deployment(self) -> Deployment:
        from tuneport_openai.azure import Deployment

        return Deployment(self.ref.name, self._wire.profile, str(self.ref))

    def generate(self, prompts: Sequence[Sequence[Message]], options: GenerateOptions) -> list[Reply]:
        """Like any hosted model's; deploys the model first where the settings of its training say so."""
        self._deploy_if_asked()
        return super().generate(prompts, options)

    def generate_stream(self, prompt: Sequence[Message], options: GenerateOptions) -> Generator[str, None, Reply]:
        """Like any hosted model's; deploys the model first where the settings of its training say so."""
        self._deploy_if_asked()
        return super().generate_stream(prompt, options)

    def _deploy_if_asked(self) -> None:
        if self._scratch["request"]["settings"].get("deploy") and "deployment" not in self._scratch:
            self.ensure_ready()


class RegisteredModel(HostedModel):
    """A checkpoint at Nebius, which answers per token once it is registered; its weights can be downloaded."""

    export_kinds = ("weights",)

    def __init__(
        self, ref: Ref, wire: Wire, checkpoint: str, lineage: Lineage | None, scratch: MutableMapping[str, Any]
    ) -> None:
        super().__init__(ref, wire, scratch.get("registered", checkpoint), lineage)
        self._checkpoint = checkpoint
        self._scratch = scratch

    def ensure_ready(self) -> str | None:
        """Register the checkpoint if it is not registered, and wait until it answers. That costs nothing."""
        if not self._scratch.get("active"):
            registry = Registry(self._wire)
            if "registered" not in self._scratch:
                base = str(self._scratch["request"]["body"]["model"])
                self._scratch["registered"] = registry.register(self.ref.name, base, self._checkpoint)
            registry.wait(self._scratch["registered"])
            self._scratch["active"] = True
        self.name = self._scratch["registered"]
        return None

    def generate(self, prompts: Sequence[Sequence[Message]], options: GenerateOptions) -> list[Reply]:
        """Like any hosted model's; registers the checkpoint first."""
        self.ensure_ready()
        with self._forget_when_missing():
            return super().generate(prompts, options)

    def generate_stream(self, prompt: Sequence[Message], options: GenerateOptions) -> Generator[str, None, Reply]:
        """Like any hosted model's; registers the checkpoint first."""
        self.ensure_ready()
        with self._forget_when_missing():
            return (yield from super().generate_stream(prompt, options))

    @contextmanager
    def _forget_when_missing(self) -> Iterator[None]:
        """When the registration was removed elsewhere, let the next request register the checkpoint again."""
        try:
            yield
        except ModelNotFound:
            for key in ("active", "registered"):
                self._scratch.pop(key, None)
            raise

    def write_export(self, path: Path, kind: str, dtype: str | None) -> Path:
        """Download the checkpoint's files as they are; `dtype` has no effect."""
        del kind, dtype
        wire = Wire(self._wire.profile, largest_file=_LARGEST)
        path.mkdir(parents=True, exist_ok=True)
        for file_id in self._files():
            with wire.translate_errors(f"downloading {file_id}"):
                name = PurePosixPath(wire.patient.files.retrieve(file_id).filename).name
                if not name:
                    raise ValueError(f"the file {file_id} has no name")
                content = wire.patient.files.with_streaming_response.content(file_id, timeout=_SECONDS)
                with content as answer, replace_file(path / name) as out:
                    for piece in answer.iter_bytes():
                        out.write(piece)
        return path

    def _files(self) -> list[str]:
        """The ids of the checkpoint's files."""
        job, _, checkpoint = self._checkpoint.partition(":")
        with self._wire.translate_errors("listing checkpoints"):
            found = list(self._wire.patient.fine_tuning.jobs.checkpoints.list(job, limit=100))
        raw = next((one.to_dict(mode="json", warnings=False) for one in found if one.id == checkpoint), {})
        files = raw.get("result_files")
        names = [one for one in files if isinstance(one, str)] if isinstance(files, list) else []
        if not names:
            raise BackendError(
                f"{self._wire.profile.name} lists no files of {self._checkpoint}.",
                remedy="Look at the job on the server's own page.",
            )
        return names
