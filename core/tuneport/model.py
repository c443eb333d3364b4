"""Something that answers: a base model or a tuned one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tuneport.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from tuneport.dataset import Dataset, Message
    from tuneport.refs import Ref

    Conversational = str | Sequence[Mapping[str, Any] | Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions:
    """How to answer. `temperature` 0 is greedy; `stop` are texts that end the answer and are not part of it. `raw`: the
    only message's text is continued as it is, without chat template or system prompt (for models that `can_continue`).
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    raw: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer: its text, why it ended (`stop`, `length` or `tool_calls`) and its size in tokens, where known."""

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Loss (mean negative log-likelihood, nats) and accuracy of the next token, over the `tokens` that carry weight."""

    loss: float
    token_accuracy: float
    tokens: int
    examples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a tuned model comes from. Refs are texts; `data_fingerprint` is of the rows that were trained on."""

    base: str
    job: str
    data_fingerprint: str
    created: str
    method: str = "sft"
    system: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    template_sha256: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The lineage that `to_dict` wrote."""
        return cls(**raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """How a model is pushed. `comparison` is what `Comparison.to_dict` gave, for the model card. With `dry_run` nothing
    is made or uploaded: it is only looked whether it could be.
    """

    private: bool = False
    dtype: str | None = None
    comparison: Mapping[str, Any] | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A model on a hub, or (`commit` None) what would be there. `new`: there is no repository of that name yet."""

    url: str
    kind: str
    private: bool
    new: bool
    account: str
    commit: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


class Model(ABC):
    """A model that answers. A plugin writes `generate`; everything else has a default here.

    `can_score`, `can_stream`, `can_continue` (plain text, without a chat template), `export_kinds` and `push_kinds`
    declare what is there beyond that: asking for what is not raises UnsupportedError.
    """

    ref: Ref
    lineage: Lineage | None = None
    can_score: ClassVar[bool] = False
    can_stream: ClassVar[bool] = False
    can_continue: ClassVar[bool] = False
    export_kinds: ClassVar[tuple[str, ...]] = ()
    push_kinds: ClassVar[tuple[str, ...]] = ()

    @property
    def memory(self) -> int | None:
        """Bytes of this machine's memory that the model takes once it is ready: its weights, not what answering adds.
        None where nobody knows.
        """
        return None

    @abstractmethod
    def generate(self, prompts: Sequence[Sequence[Message]], options: GenerateOptions) -> list[Reply]:
        """One reply for each conversation, in order, as fast as the backend can answer them together."""

    def generate_stream(self, prompt: Sequence[Message], options: GenerateOptions) -> Iterator[str]:
        """The pieces of one reply's text as they come; the whole at once where `can_stream` is false.

        A generator may return the whole Reply at its end, for who wants to know why it ended and how long it is.
        """
        return _in_one_piece(self, prompt, options)

    def generate_streams(
        self, prompts: Sequence[Sequence[Message]], options: GenerateOptions
    ) -> Iterator[tuple[int, str | Reply]]:
        """The pieces of several replies as they come, answered together: each with the number of its prompt, and after
        a prompt's last piece its whole Reply. Here a single prompt is streamed, and of several each reply comes in one
        piece once all are there.
        """
        if len(prompts) == 1:
            return _numbered(self.generate_stream(prompts[0], options))
        replies = enumerate(self.generate(prompts, options))
        return ((number, told) for number, reply in replies for told in (reply.text, reply))

    def ensure_ready(self) -> str | None:
        """Make the model ready to answer; what that costs from now on, or None when nothing."""
        return None

    def close(self) -> None:  # noqa: B027 - nothing to give back is a fine answer
        """Give back memory and connections; the model may be used again and comes back by itself."""

    def reply(self, messages: Conversational, **options: Any) -> Reply:
        """Answer a conversation, or a text as its only user turn. The system prompt of training is put first when the
        messages bring none of their own. `options` are the fields of GenerateOptions.
        """
        return self.reply_many([messages], **options)[0]

    def reply_many(self, conversations: Iterable[Conversational], **options: Any) -> list[Reply]:
        """Answer many conversations, in order; see `reply`."""
        asked = self._options(options)
        return self.generate([self._prepared(one, asked) for one in conversations], asked)

    def ask(self, text: str, **options: Any) -> str:
        """The text of the answer to one user turn."""
        return self.reply(text, **options).text

    def ask_many(self, texts: Iterable[str], **options: Any) -> list[str]:
        """The texts of the answers to many separate user turns, in order."""
        return [reply.text for reply in self.reply_many(texts, **options)]

    def stream(self, messages: Conversational, **options: Any) -> Iterator[str]:
        """The answer's text, piece by piece."""
        asked = self._options(options)
        return self.generate_stream(self._prepared(messages, asked), asked)

    def stream_many(self, conversations: Iterable[Conversational], **options: Any) -> Iterator[tuple[int, str | Reply]]:
        """The answers to many conversations, piece by piece as they come: `(number of the conversation, piece)`, and
        after each conversation's last piece `(number, Reply)`. See `reply`.
        """
        asked = self._options(options)
        return self.generate_streams([self._prepared(one, asked) for one in conversations], asked)

    def score(self, dataset: Dataset) -> Score:
        """Loss and next-token accuracy on a dataset, weighted by token; raises UnsupportedError where not declared."""
        if not self.can_score:
            raise UnsupportedError(f"{self.ref} cannot score a dataset: its backend does not show probabilities.")
        return self.compute_score(dataset)

    def compute_score(self, dataset: Dataset) -> Score:
        """Written by a plugin whose models set `can_score`."""
        raise UnsupportedError(f"The backend of {self.ref} declares can_score and does not compute it: {dataset!r}.")

    def export(self, path: str | Path, kind: str, *, dtype: str | None = None) -> Path:
        """Write the model to a new folder or file and return its path; `kind` is one of `export_kinds`. `dtype` is the
        numbers that the weights are stored in, for kinds that leave a choice; the model's own by default.
        """
        self._require(kind, self.export_kinds, "exported")
        target = Path(path).expanduser()
        if target.exists() and (target.is_file() or any(target.iterdir())):
            raise UsageError(f"{target} already exists.", remedy="Name a new one, or remove the old one first.")
        return self.write_export(target, kind, dtype)

    def write_export(self, path: Path, kind: str, dtype: str | None) -> Path:
        """Written by a plugin whose models have `export_kinds`; nothing is at `path` but perhaps an empty folder."""
        raise UnsupportedError(f"The backend of {self.ref} declares {kind!r} and does not write {dtype} to {path}.")

    def push(self, repository: str, kind: str, request: PushRequest | None = None) -> Publication:
        """Export the model and upload it to `repository` (owner/name) on a hub; `kind` is one of `push_kinds`."""
        self._require(kind, self.push_kinds, "pushed")
        return self.write_push(repository, kind, request or PushRequest())

    def write_push(self, repository: str, kind: str, request: PushRequest) -> Publication:
        """Written by a plugin whose models have `push_kinds`; with `request.dry_run` it uploads nothing."""
        del request
        raise UnsupportedError(f"The backend of {self.ref} declares {kind!r} and does not push it to {repository}.")

    def _require(self, kind: str, kinds: tuple[str, ...], done: str) -> None:
        if not kinds:
            raise UnsupportedError(
                f"{self.ref} cannot be {done}: its backend does not hand out its weights.",
                remedy="A model that a local backend trained can be. `tuneport plugins` lists the backends.",
            )
        if kind not in kinds:
            raise UnsupportedError(f"{self.ref} cannot be {done} as {kind!r}; it can be {done} as: {', '.join(kinds)}.")

    def _options(self, options: dict[str, Any]) -> GenerateOptions:
        asked = _options(options)
        if asked.raw and not self.can_continue:
            raise UnsupportedError(f"{self.ref} answers conversations only: it cannot continue plain text (raw=True).")
        return asked

    def _prepared(self, messages: Conversational, options: GenerateOptions) -> list[Message]:
        import msgspec

        from tuneport.dataset import Message

        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        try:
            turns = [one if isinstance(one, Message) else msgspec.convert(one, Message) for one in messages]
        except msgspec.ValidationError as error:
            raise UsageError(
                f"A message is not of the form {{'role': …, 'content': …}}: {error}.",
                remedy="Pass a text, or a list of messages such as [{'role': 'user', 'content': 'Hello'}].",
            ) from error
        if not turns:
            raise UsageError("There is no message to answer.", remedy="Pass a text or at least one message.")
        system = self.lineage.system if self.lineage and not options.raw else None
        if system and turns[0].role not in ("system", "developer"):
            turns.insert(0, Message(role="system", content=system))
        return turns

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ref}>"


def _in_one_piece(model: Model, prompt: Sequence[Message], options: GenerateOptions) -> Generator[str, None, Reply]:
    reply = model.generate([prompt], options)[0]
    yield reply.text
    return reply


def _numbered(pieces: Iterator[str]) -> Iterator[tuple[int, str | Reply]]:
    text = ""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            yield 0, end.value if isinstance(end.value, Reply) else Reply(text=text)
            return
        text += piece
        yield 0, piece


def _options(options: dict[str, Any]) -> GenerateOptions:
    if "stop" in options:
        stop = options["stop"]
        options["stop"] = (stop,) if isinstance(stop, str) else tuple(stop or ())
    try:
        return GenerateOptions(**options)
    except TypeError as error:
        known = ", ".join(GenerateOptions.__dataclass_fields__)
        raise UsageError(f"Unknown option: {error}.", remedy=f"Options of an answer are {known}.") from error
