"""A model that answers at a service, and the deployment under it where it needs one."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, MutableMapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tuneport.contract.facts import Lineage
from tuneport.contract.model import Model
from tuneport.doors import HOSTED, public
from tuneport.errors import BackendError, TuneportError, UnavailableError
from tuneport.files import sync
from tuneport.hosted.refusals import InDoubt, RefusedName
from tuneport.hosted.start import require_account, start_of

if TYPE_CHECKING:
    from tuneport.contract.answers import GenerateOptions, Reply
    from tuneport.contract.hosting import Hosting
    from tuneport.dataset import Message
    from tuneport.hosted.http import Http
    from tuneport.hosted.service import Service
    from tuneport.refs import Ref

_Answer = TypeVar("_Answer")
_LONGEST_PAUSE = 60.0
_STOPPED = "hosting stopped"  # in the notebook: you took the deployment down


@public(HOSTED)
class HostedModel(Model):
    """A base or tuned model, by the service's own name. `scratch` is the notebook's, for a tuned model of ours."""

    def __init__(
        self,
        ref: Ref,
        service: Service,
        http: Http,
        name: str,
        lineage: Lineage | None = None,
        scratch: MutableMapping[str, Any] | None = None,
    ) -> None:
        self.ref = ref
        self.name = name
        self.lineage = lineage
        self.author = type(service).__module__  # whom an error names
        self._service = service
        self._http = http
        self._scratch = scratch
        self._deployments = service.deployments if scratch is not None else None
        self.can_stream = bool(service.chat_path)  # type: ignore[misc]  # of one service
        self.takes = service.takes  # type: ignore[misc]  # of one service
        self.export_kinds = service.capabilities.export_kinds if scratch is not None else ()  # type: ignore[misc]  # as above

    def generate(self, prompts: Sequence[Sequence[Message]], options: GenerateOptions) -> list[Reply]:
        """One reply for each conversation, in order; several are asked at once. Deploys the model first where the
        settings of its training say so. Raises UnavailableError for a model that is not deployed.
        """
        name = self._ready_name()
        if len(prompts) == 1:
            return [self._answer(name, prompts[0], options)]
        with ThreadPoolExecutor(min(self._http.limits.at_once, max(1, len(prompts)))) as pool:
            asked = [pool.submit(self._answer, name, prompt, options) for prompt in prompts]
            try:
                done, _ = wait(asked, return_when=FIRST_EXCEPTION)
                for one in done:
                    one.result()
                return [one.result() for one in asked]
            except BaseException:
                for one in asked:
                    one.cancel()
                raise

    def generate_stream(self, prompt: Sequence[Message], options: GenerateOptions) -> Generator[str, None, Reply]:
        """The pieces of one reply's text as they come, and at the end the reply. Raises InDoubt where the answer breaks
        off; what came before has been yielded.
        """
        name = self._ready_name()
        if not self.can_stream:
            reply = self._answer(name, prompt, options)
            yield reply.text
            return reply

        def ask() -> tuple[str, Generator[str, None, Reply]]:
            pieces = self._service.stream(self._http, name, prompt, options)
            return next(pieces, ""), pieces

        first, pieces = self._repeat(ask)
        if first:
            yield first
        return (yield from pieces)

    def hosting(self) -> Hosting | None:
        """The deployment as the service reports it now; None for a model that has or needs none."""
        if self._deployments is None:
            return None
        return self._deployments.read(self._http, self._deployment_name(), str(self.ref))

    def ensure_ready(self) -> str | None:
        """Deploy the model where it is not, wait until it answers, and return what that costs from now on."""
        if self._deployments is None or self._scratch is None:
            return None
        self._require_account()
        self._scratch["hosting"] = self._deployment_name()  # before it is requested, so that `delete` never forgets it
        self._scratch.pop(_STOPPED, None)
        found = self._wait_until_deployed()
        return f"{self.ref} is deployed at {found.describe_cost()}. To stop it now: tuneport hosting stop {self.ref}"

    def stop_hosting(self) -> bool:
        """Take the deployment down, which ends its cost; whether it was there."""
        if self._deployments is None or self._scratch is None:
            return False
        self._require_account()
        was_there = self._deployments.remove(self._http, self._deployment_name())
        self._scratch.pop("hosting", None)
        self._scratch[_STOPPED] = True  # the setting `deploy` does not undo what you asked for
        return was_there

    def write_export(self, path: Path, kind: str, dtype: str | None) -> Path:
        """Download the weights into a new folder, which appears when it is complete."""
        if dtype is not None:
            raise UnavailableError(f"{self._service.title} provides the weights as they are, not as {dtype}.")
        path = path.absolute()
        with _new_folder(path) as folder:
            self._service.download(self._http, self.name, folder, kind)
        return path

    def _deployment_name(self) -> str:
        assert self._deployments is not None and self._scratch is not None
        return self._deployments.name_for(self.name, self._scratch["request"]["mark"])

    def _require_account(self) -> None:
        assert self._scratch is not None
        require_account(self._service, self._http, self._scratch, str(self.ref))

    def _create_deployment(self) -> None:
        assert self._deployments is not None and self._scratch is not None
        create, start, name = self._deployments.create, start_of(self._scratch), self._deployment_name()
        self._http.retry(lambda: create(self._http, start, self.name, name))

    def _wait_until_deployed(self) -> Hosting:
        assert self._scratch is not None
        limits = self._http.limits
        deadline = time.monotonic() + limits.ready
        must_create = True
        while (found := self.hosting()) is None or found.state not in ("ready", "asleep"):
            if _STOPPED in self._scratch:
                raise UnavailableError(f"{self.ref} was taken down while it was being deployed.")
            if found is None and must_create:
                self._create_deployment()
            must_create = found is not None and found.state == "stopping"  # an earlier one, which goes first
            if found is not None and found.state == "failed":
                raise BackendError(
                    f"{self._service.title} could not deploy {self.ref}: {found.message or 'it gives no reason'}.",
                    remedy=found.remedy,
                )
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"{self._service.title} is still deploying {self.ref} after {limits.ready / 60:.0f} minutes.",
                    remedy=f"It is billed once it runs. To stop it: tuneport hosting stop {self.ref}",
                )
            time.sleep(limits.poll)
        return found

    def _ready_name(self) -> str:
        """The name that is asked now."""
        if self._deployments is None or self._scratch is None:
            return self.name
        if "hosting" not in self._scratch:
            if _STOPPED in self._scratch or not self._scratch["request"]["settings"].get("deploy"):
                raise UnavailableError(
                    f"{self.ref} is not deployed, and {self._service.title} answers only from a deployment.",
                    remedy=f"Run: tuneport hosting start {self.ref} (it is billed while it runs)",
                )
            self.ensure_ready()
        return self._deployments.address_for(self.name, self._deployment_name())

    def _answer(self, name: str, prompt: Sequence[Message], options: GenerateOptions) -> Reply:
        return self._repeat(lambda: self._service.generate(self._http, name, prompt, options))

    def _repeat(self, ask: Callable[[], _Answer]) -> _Answer:
        """Ask, and again after a 429, a 5xx or a lost connection; for as long as a deployment may take to wake."""
        limits = self._http.limits
        deadline = time.monotonic() + limits.ready
        attempt = 0
        while True:
            try:
                return ask()
            except RefusedName as error:
                remedy = f"Run: tuneport hosting start {self.ref}"
                if self._deployments is None:
                    remedy = "Is the model served there? To compare without the base, set compare.base: false"
                raise UnavailableError(error.message, remedy=remedy) from error
            except TuneportError as error:
                is_waking = self._deployments is not None and isinstance(error, InDoubt) and error.status == 503
                tries_left = attempt < limits.retries or (is_waking and time.monotonic() < deadline)
                asked_for = getattr(error, "retry_after", None)
                pause = limits.pause * 2 ** min(attempt, 5) if asked_for is None else asked_for
                if not error.passing or not tries_left or pause > _LONGEST_PAUSE:
                    raise
                time.sleep(min(pause, limits.poll) if is_waking else pause)
                attempt += 1


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder that takes the name `path` when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield place
        for one in [*place.iterdir(), place]:
            sync(one)
        place.chmod(0o755)
        place.rename(path)
    finally:
        shutil.rmtree(place, ignore_errors=True)
