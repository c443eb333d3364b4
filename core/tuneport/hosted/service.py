"""What an author writes about a service: a description, and the calls. `HostedBackend` does the rest."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tuneport.contract.plan import Quantity
from tuneport.dataset import Completion, Conversation, Preference
from tuneport.doors import HOSTED, public
from tuneport.errors import UnsupportedError
from tuneport.hosted.answers import error_in
from tuneport.hosted.chat import ask_openai_wire, stream_openai_wire
from tuneport.hosted.returns import guard_calls

if TYPE_CHECKING:
    from datetime import datetime

    from tuneport.contract.answers import GenerateOptions, Reply
    from tuneport.contract.capabilities import BaseInfo, Capabilities
    from tuneport.contract.events import Status
    from tuneport.contract.request import TrainRequest
    from tuneport.contract.state import Checkpoint
    from tuneport.dataset import DataRules, Example, Message
    from tuneport.hosted.endpoint import Endpoint
    from tuneport.hosted.hosting import Deployments
    from tuneport.hosted.http import Http
    from tuneport.hosted.proof import Proof
    from tuneport.hosted.refusals import Refused
    from tuneport.hosted.reports import Belonging, DataFile, Entry, Report, Start
    from tuneport.hosted.settings import HostedSettings


@public(HOSTED)
class Service(ABC):
    """A service that trains over HTTP. Subclass it, and announce `HostedBackend(YourService())`.

    Calls that take an `Http` may use the network and block; they are made in the process and thread that asked, several
    at a time. They may raise Refused, Unsent and InDoubt, as the client does, and any of tuneport's errors; another
    exception becomes a BackendError that names the call. The others use no network. What each call returns is checked:
    a value of the wrong type is a BackendError that names the call and what is wrong.
    """

    endpoint: Endpoint
    capabilities: Capabilities
    proof: ClassVar[Proof]
    words: ClassVar[Mapping[str, Status]]
    """The service's words for a job's status. A word that is not here is `unknown`, which does not end a job."""
    auto_epochs: ClassVar[int | None] = None
    """What the service does where `epochs: auto` is sent as nothing; None where it does not say."""
    chat_path: ClassVar[str] = ""
    """Where models answer over the OpenAI API, such as `/v1/chat/completions`."""
    takes: ClassVar[frozenset[str]] = frozenset()
    """The options of an answer that `generate` takes beyond `max_tokens`, `temperature`, `top_p`, `stop`, `seed` and
    `tools`, by their names in GenerateOptions. Raise UnsupportedError in `generate` for one of those six that the
    service does not have."""
    deployments: ClassVar[Deployments | None] = None
    """For a service whose tuned models answer only while they are deployed."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        guard_calls(cls)

    @property
    def name(self) -> str:
        """The backend's name: the first part of its refs."""
        return self.endpoint.name

    @property
    def title(self) -> str:
        """The service's name in messages."""
        return self.endpoint.title

    # ---- Before a start: no network

    @property
    def settings_class(self) -> type[HostedSettings]:
        """The settings of the backend's section: a subclass of HostedSettings, imported when it is read."""
        from tuneport.hosted.settings import HostedSettings

        return HostedSettings

    def rules(self, model: str) -> DataRules:
        """The rules for rows; `model` is the base by the service's own name."""
        del model
        return self.capabilities.rules

    def model_name(self, name: str) -> str:
        """The service's own name of what follows `backend:` in a ref; raises ModelNotFound for what cannot be one."""
        return name

    def bases(self) -> list[BaseInfo]:
        """The base models that are known by name."""
        return []

    @abstractmethod
    def write_body(self, request: TrainRequest, model: str) -> dict[str, Any]:
        """The settings of the request that creates the job, as JSON values. Raises UsageError for what the service
        would refuse; a plan calls it too.
        """

    def write_row(self, example: Example) -> dict[str, Any]:
        """A row as it is written to the uploaded JSON Lines file: OpenAI's form, unless overridden."""
        return openai_row(example)

    def read_price(self, request: TrainRequest, model: str) -> Quantity:
        """US dollars for a million training tokens, where a dated table knows them."""
        del request, model
        return Quantity(value=None, unit="USD", source=f"{self.title} publishes no price that is known here")

    def plan_notes(self, request: TrainRequest, model: str) -> list[str]:
        """What else a person should know before the start."""
        del request, model
        return []

    def details(self) -> dict[str, Any]:
        """Facts for `tuneport doctor`."""
        return {}

    # ---- Start

    def read_account(self, http: Http) -> str:
        """The account that the key belongs to, where paths need one. Kept with the job, so that a repeated request
        cannot reach another account.
        """
        del http
        return ""

    def check_model(self, http: Http, start: Start) -> None:
        """Raise UnsupportedError for a base that the service does not tune. Called before anything is uploaded."""
        del http, start

    def find_file(self, http: Http, start: Start, file: DataFile) -> str | None:
        """The id of that file where it is at the service already. May be repeated."""
        del http, start, file
        return None

    @abstractmethod
    def send_file(self, http: Http, start: Start, file: DataFile) -> str:
        """Upload a file and return its id. Called again after a failure, with `find_file` before each call."""

    def is_file_ready(self, http: Http, start: Start, file_id: str) -> bool:
        """Whether the service has processed the file. Raises DataError if the service rejects it."""
        del http, start, file_id
        return True

    def quote(self, http: Http, start: Start) -> Quantity | None:
        """The price of the training, for a service that knows it only once the files are there; None where it gives
        none. `create` follows only within the budget.
        """
        del http, start
        return None

    @abstractmethod
    def create(self, http: Http, start: Start) -> Report:
        """Send the one request that starts the job, by `http.once`, with `start.mark` where the proof needs it, and
        `seconds=http.limits.create` where the service takes long to answer it.
        """

    def is_duplicate(self, error: Refused) -> bool:
        """Whether a refusal says that the id is taken (for `ClientId`)."""
        return error.status == 409

    def job_id(self, start: Start) -> str:
        """The id under which `look` finds the job of that mark (for `ClientId`)."""
        return start.mark

    def find(self, http: Http, start: Start) -> Iterable[Report]:
        """Jobs with their marks (for `Label` and `Scan`). Raises where the complete list could not be read: a list that
        is cut off would prove that a job is not there.
        """
        del http, start
        return ()

    # ---- Follow

    @abstractmethod
    def look(self, http: Http, job_id: str) -> Report:
        """What the service says about the job now. Raises RefusedName where it does not know it."""

    def read_entries(self, http: Http, report: Report, after: str | None) -> Iterable[Entry]:
        """The service's log and metrics, in order, from the entry that follows the id `after`. One that comes again is
        kept once. A service without a log needs no such call: events are made from what `look` returns. RefusedName
        means that there is no log yet.
        """
        del http, report, after
        return ()

    def cancel(self, http: Http, job_id: str) -> None:
        """End the job for good. May be repeated, and may come too late."""
        del http
        raise UnsupportedError(f"{self.title} cannot cancel {job_id}.")

    def pause(self, http: Http, job_id: str) -> None:
        """Stop at the next checkpoint, for a service whose capabilities have the verb."""
        del http
        raise UnsupportedError(f"{self.title} cannot pause {job_id}.")

    def resume(self, http: Http, job_id: str) -> None:
        """Continue a paused job, for a service whose capabilities have the verb."""
        del http
        raise UnsupportedError(f"{self.title} cannot resume {job_id}.")

    def checkpoints(self, http: Http, job_id: str) -> list[Checkpoint]:
        """The checkpoints that the service keeps, with what each can be used for and when it expires."""
        del http, job_id
        return []

    def paused_remedy(self, ref: str) -> str:
        """What to do about a job that the service has paused."""
        return f"Run: tuneport resume {ref}"

    def belongings(self, http: Http, start: Start, report: Report | None) -> Iterable[Belonging]:
        """What the job left at the service, in the order in which it should go. `report` is None before the start."""
        del http, start, report
        return ()

    # ---- Use

    def generate(self, http: Http, model: str, prompt: Sequence[Message], options: GenerateOptions) -> Reply:
        """One answer. Over the OpenAI API at `chat_path`, unless overridden."""
        if not self.chat_path:
            raise UnsupportedError(f"{self.title} does not answer questions.")
        return ask_openai_wire(http, self.chat_path, model, prompt, options)

    def stream(
        self, http: Http, model: str, prompt: Sequence[Message], options: GenerateOptions
    ) -> Generator[str, None, Reply]:
        """One answer in pieces, the first of which comes when the service has accepted the question, and at the end the
        reply. Only called where there is a `chat_path`.
        """
        return stream_openai_wire(http, self.chat_path, model, prompt, options)

    def download(self, http: Http, model: str, folder: Path, kind: str) -> None:
        """Write the model's weights into an empty folder, for a service whose capabilities have `export_kinds`. The
        folder appears under its own name when this returns.
        """
        del http, folder, kind
        raise UnsupportedError(f"{self.title} does not give out the weights of {model}.")

    def read_error(self, body: Any) -> tuple[str, str] | None:
        """(code, message) in the JSON of an error, or None where it is not of the service's own form."""
        return error_in(body)


@public(HOSTED)
def openai_row(example: Example) -> dict[str, Any]:
    """A row in OpenAI's form for chat and preferences; a completion becomes `prompt` and `completion`."""
    if isinstance(example, Conversation):
        row: dict[str, Any] = {"messages": [one.to_dict() for one in example.messages]}
    elif isinstance(example, Preference):
        row = {
            "input": {"messages": [one.to_dict() for one in example.prompt]},
            "preferred_output": [one.to_dict() for one in example.chosen],
            "non_preferred_output": [one.to_dict() for one in example.rejected],
        }
    else:
        assert isinstance(example, Completion)
        return {"prompt": example.prompt, "completion": example.completion}
    if example.tools:
        row.get("input", row)["tools"] = [dict(one) for one in example.tools]
    return row


def encode_row(row: Mapping[str, Any]) -> bytes:
    """A row as one line of JSON."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@public(HOSTED)
def parse_time(text: object) -> datetime | None:
    """A time such as `2026-11-29T09:30:00Z`, in UTC; None for anything else."""
    from datetime import UTC, datetime

    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
