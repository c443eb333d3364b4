"""Something that answers: a base model or a tuned one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from typing_extensions import Unpack

from tuneport.contract import backend_returns, returns
from tuneport.contract.answers import EVERYWHERE, AskOptions, FreeOptions, GenerateOptions, Reply, read_options
from tuneport.contract.batches import LiveBatch
from tuneport.contract.border import Call, guard
from tuneport.contract.conversations import read_conversation
from tuneport.contract.facts import Lineage, Publication, PushRequest, Score
from tuneport.contract.requirements import require_number, require_type
from tuneport.contract.schemas import read_schema
from tuneport.contract.streams import number_pieces, stream_by_options, stream_in_one_piece
from tuneport.doors import public
from tuneport.errors import TuneportError, UnsupportedError, UsageError
from tuneport.homefolder import local_path

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tuneport.contract.conversations import Conversational
    from tuneport.contract.hosting import Hosting
    from tuneport.contract.schemas import Shape
    from tuneport.dataset import Dataset, Message
    from tuneport.refs import Ref

    M = TypeVar("M", bound=BaseModel)


def _check_batch(call: Call, value: Any) -> Any:
    del call
    require_type(value, LiveBatch, "the batch")
    return value


def _check_score(call: Call, value: Any) -> Any:
    del call
    require_type(value, Score, "the score")
    for name in ("loss", "token_accuracy", "tokens", "examples"):
        require_number(getattr(value, name), name)
    return value


def _check_publication(call: Call, value: Any) -> Any:
    del call
    require_type(value, Publication, "the publication")
    return value


_CHECKS = {
    "memory": returns.check_optional_size,
    "generate": returns.check_replies,
    "check_schema": returns.check_nothing,
    "generate_stream": returns.check_stream,
    "generate_streams": returns.check_stream,
    "generate_each": returns.check_stream,
    "open_batch": _check_batch,
    "ensure_ready": returns.check_optional_text,
    "hosting": backend_returns.check_hosting,
    "stop_hosting": returns.check_answer,
    "close": returns.check_nothing,
    "compute_score": _check_score,
    "write_export": returns.check_export,
    "write_push": _check_publication,
}


@public()
class Model(ABC):
    """A model that answers. A plugin writes `generate`; everything else has a default.

    `can_score`, `can_stream`, `can_continue` (plain text, without a chat template), `export_kinds` and `push_kinds`
    declare what else it can do, and `takes` the options beyond the usual ones (see GenerateOptions); the core refuses
    the rest with UnsupportedError. `can_mix`: one batch may have different options. `can_join`: conversations may join
    a batch that is being answered.

    A model is used by one thread at a time, which need not be the one that opened it. All methods may raise any
    TuneportError; any other exception becomes a BackendError that names the backend and the method.
    """

    ref: Ref
    lineage: Lineage | None = None
    can_score: ClassVar[bool] = False
    can_stream: ClassVar[bool] = False
    can_continue: ClassVar[bool] = False
    can_mix: ClassVar[bool] = False
    can_join: ClassVar[bool] = False
    takes: ClassVar[frozenset[str]] = frozenset()
    export_kinds: ClassVar[tuple[str, ...]] = ()
    push_kinds: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        guard(cls, "Model", _CHECKS)

    @property
    def memory(self) -> int | None:
        """Bytes of this machine's memory that the model takes once it is ready: its weights, not what answering adds.
        None where it is not known. Read by the server plugin before it loads the model; must be fast.
        """
        return None

    @abstractmethod
    def generate(self, prompts: Sequence[Sequence[Message]], options: GenerateOptions) -> list[Reply]:
        """One reply for each conversation, in order.

        Called by `ask` with one conversation and by `compare` and `serve` with many (`compare` passes 64 at a time).
        The first call loads the model; each may take as long as answering takes, and may use the network. An exception
        means that none of them was answered.
        """

    def check_schema(self, schema: Mapping[str, Any]) -> None:
        """Raise OptionError if answers cannot follow this schema, UnavailableError if a package for it is missing.

        Called by `plan` and `run` before a training, so it must not load the model. The default checks the size, the
        depth and the references; a backend with further rules extends it.
        """
        read_schema(schema)

    def generate_stream(self, prompt: Sequence[Message], options: GenerateOptions) -> Iterator[str]:
        """The pieces of one reply's text as they are made; all of it at once where `can_stream` is false.

        Called by `ask`, `chat` and `serve`. A generator may return the complete Reply at its end, for callers that need
        its finish reason and length. It is closed when the caller stops reading.
        """
        return stream_in_one_piece(self.generate, prompt, options)

    def generate_streams(
        self, prompts: Sequence[Sequence[Message]], options: GenerateOptions
    ) -> Iterator[tuple[int, str | Reply]]:
        """The pieces of several replies as they are made: each with the number of its prompt, and after a prompt's last
        piece its complete Reply. By default, a single prompt is streamed, and several are answered together, each reply
        in one piece. Called by `serve`.
        """
        if len(prompts) == 1:
            return number_pieces(self.generate_stream(prompts[0], options))
        replies = enumerate(self.generate(prompts, options))
        return ((number, piece) for number, reply in replies for piece in (reply.text, reply))

    def generate_each(
        self, asked: Sequence[tuple[Sequence[Message], GenerateOptions]]
    ) -> Iterator[tuple[int, str | Reply | TuneportError]]:
        """As `generate_streams`, for prompts that each have options, with an error in place of the reply of a prompt
        that cannot be answered. By default, prompts of equal options are answered together, one such group after
        another; a plugin whose models set `can_mix` answers all of them together. Called by `serve`.
        """
        return stream_by_options(self.generate_streams, asked)

    def open_batch(self) -> LiveBatch:
        """An empty batch of answers, which the caller closes; `join` adds conversations to it. Written by a plugin
        whose models set `can_join`. Called by `serve`, in the model's thread.
        """
        raise UnsupportedError(f"{self.ref} has no batches that conversations may join.")

    def ensure_ready(self) -> str | None:
        """Make the model ready to answer. Returns what that costs from now on, as a sentence, or None for nothing.

        Called by `tuneport hosting start`. May create a deployment and wait for it; may be repeated.
        """
        return None

    def hosting(self) -> Hosting | None:
        """The deployment that this model answers from, as its service reports it now; None for a model that needs none
        or has none. Called by `tuneport hosting`. May use the network.
        """
        return None

    def stop_hosting(self) -> bool:
        """Take the deployment down, which ends its cost, and return whether it was there. May be repeated. Called by
        `tuneport hosting stop`. May use the network.
        """
        return False

    def close(self) -> None:  # noqa: B027 - nothing to give back is a fine answer
        """Release memory and connections. The model may be used again, and then loads again. Called by `compare`
        between two models and by `serve`; may be repeated.
        """

    @overload
    def reply(self, messages: Conversational, *, schema: type[M], **options: Unpack[FreeOptions]) -> Reply[M]: ...

    @overload
    def reply(self, messages: Conversational, **options: Unpack[AskOptions]) -> Reply: ...

    def reply(self, messages: Conversational, **options: Unpack[AskOptions]) -> Reply:
        """Answer a conversation, or a text as its only user turn. The system prompt of training is put first when the
        messages bring none of their own. `options` are the fields of GenerateOptions.

        With `schema`, a pydantic class or a JSON Schema, the answer is JSON of that form, and `Reply.parsed` reads it.
        """
        return self._replies([messages], options, "reply")[0]

    @overload
    def reply_many(
        self, conversations: Iterable[Conversational], *, schema: type[M], **options: Unpack[FreeOptions]
    ) -> list[Reply[M]]: ...

    @overload
    def reply_many(self, conversations: Iterable[Conversational], **options: Unpack[AskOptions]) -> list[Reply]: ...

    def reply_many(self, conversations: Iterable[Conversational], **options: Unpack[AskOptions]) -> list[Reply]:
        """Answer many conversations, in order; see `reply`."""
        return self._replies(conversations, options, "reply_many")

    def _replies(self, conversations: Iterable[Conversational], options: Mapping[str, Any], call: str) -> list[Reply]:
        asked, shape = self._options(options, call)
        replies = self.generate([self._read(one, asked) for one in conversations], asked)
        return [_with_shape(one, shape) for one in replies]

    def ask(self, text: str, **options: Unpack[AskOptions]) -> str:
        """The text of the answer to one user turn."""
        return self._replies([text], options, "ask")[0].text

    def ask_many(self, texts: Iterable[str], **options: Unpack[AskOptions]) -> list[str]:
        """The texts of the answers to many separate user turns, in order."""
        return [reply.text for reply in self._replies(texts, options, "ask_many")]

    def stream(self, messages: Conversational, **options: Unpack[AskOptions]) -> Iterator[str]:
        """The answer's text, piece by piece."""
        asked, _ = self._options(options, "stream")
        return self.generate_stream(self._read(messages, asked), asked)

    def stream_many(
        self, conversations: Iterable[Conversational], **options: Unpack[AskOptions]
    ) -> Iterator[tuple[int, str | Reply]]:
        """The answers to many conversations, piece by piece as they come: `(number of the conversation, piece)`, and
        after each conversation's last piece `(number, Reply)`. See `reply`.
        """
        asked, shape = self._options(options, "stream_many")
        prompts = [self._read(one, asked) for one in conversations]
        streamed = self.generate_streams(prompts, asked)
        return (
            (number, _with_shape(piece, shape) if isinstance(piece, Reply) else piece) for number, piece in streamed
        )

    def stream_each(
        self, asked: Iterable[tuple[Conversational, Mapping[str, Any]]]
    ) -> Iterator[tuple[int, str | Reply | TuneportError]]:
        """The answers to many conversations, each with options of its own, piece by piece as they come, together where
        the backend can. Last comes each conversation's Reply, or the error that says why there is none: the others are
        answered all the same. A seed is that conversation's alone.
        """
        ready: dict[int, tuple[Sequence[Message], GenerateOptions]] = {}
        shapes: dict[int, Shape | None] = {}
        for number, (messages, options) in enumerate(asked):
            try:
                one, shapes[number] = self._options(dict(options), "stream_each")
                ready[number] = self._read(messages, one), one
            except TuneportError as error:
                yield number, error
        numbers = list(ready)
        for place, piece in self.generate_each(list(ready.values())) if ready else ():
            number = numbers[place]
            yield number, _with_shape(piece, shapes[number]) if isinstance(piece, Reply) else piece

    def join(self, batch: LiveBatch, number: int, messages: Conversational, **options: Any) -> None:
        """Let a batch of `open_batch` answer a conversation too; see `reply`. `batch.step` returns the pieces under
        that number. Raises TuneportError for a conversation that cannot be answered.
        """
        asked, _ = self._options(options, "join")
        batch.add(number, self._read(messages, asked), asked)

    def score(self, dataset: Dataset) -> Score:
        """Loss and next-token accuracy on a dataset, weighted by token; raises UnsupportedError where not declared."""
        if not self.can_score:
            raise UnsupportedError(f"{self.ref} cannot score a dataset: its backend does not show probabilities.")
        return self.compute_score(dataset)

    def compute_score(self, dataset: Dataset) -> Score:
        """Written by a plugin whose models set `can_score`. Called by `score`; may take as long as it needs."""
        raise UnsupportedError(f"The backend of {self.ref} declares can_score and does not compute it: {dataset!r}.")

    def export(self, path: str | Path, kind: str, *, dtype: str | None = None) -> Path:
        """Write the model to a new folder or file and return its path; `kind` is one of `export_kinds`. `dtype` is the
        numbers that the weights are stored in, for kinds that leave a choice; the model's own by default.
        """
        self._require(kind, self.export_kinds, "exported")
        target = local_path(path)
        if target.exists() and (target.is_file() or any(target.iterdir())):
            raise UsageError(f"{target} already exists.", remedy="Name a new one, or remove the old one first.")
        return self.write_export(target, kind, dtype)

    def write_export(self, path: Path, kind: str, dtype: str | None) -> Path:
        """Written by a plugin whose models have `export_kinds`. Called by `export` and after a training whose config
        asks for it. At `path` is nothing, or an empty folder. Write all or nothing, and return the path.
        """
        raise UnsupportedError(f"The backend of {self.ref} declares {kind!r} and does not write {dtype} to {path}.")

    def push(self, repository: str, kind: str, request: PushRequest | None = None) -> Publication:
        """Export the model and upload it to `repository` (owner/name) on a hub; `kind` is one of `push_kinds`."""
        self._require(kind, self.push_kinds, "pushed")
        return self.write_push(repository, kind, request or PushRequest())

    def write_push(self, repository: str, kind: str, request: PushRequest) -> Publication:
        """Written by a plugin whose models have `push_kinds`. Called by `push`. Uses the network; a `request.dry_run`
        uploads nothing.
        """
        del request
        raise UnsupportedError(f"The backend of {self.ref} declares {kind!r} and does not push it to {repository}.")

    def _require(self, kind: str, kinds: tuple[str, ...], done: str) -> None:
        if not kinds:
            raise UnsupportedError(
                f"{self.ref} cannot be {done}: its backend does not give access to the weights.",
                remedy="Models that a local backend trained can be. `tuneport plugins` lists the backends.",
            )
        if kind not in kinds:
            raise UnsupportedError(f"{self.ref} cannot be {done} as {kind!r}; it can be {done} as: {', '.join(kinds)}.")

    def _options(self, options: Mapping[str, Any], call: str) -> tuple[GenerateOptions, Shape | None]:
        asked, shape = read_options(options, call)
        if asked.raw and not self.can_continue:
            raise UnsupportedError(f"{self.ref} answers conversations only: it cannot continue plain text (raw=True).")
        for name, one in GenerateOptions.__dataclass_fields__.items():
            if name not in EVERYWHERE and name not in self.takes and getattr(asked, name) != one.default:
                raise UnsupportedError(
                    f"{self.ref} takes no {name}: its backend does not declare it.",
                    option=name,
                    remedy=f"Leave out {name}, or ask a model of a backend that takes it, such as torch:.",
                )
        return asked, shape

    def _read(self, messages: Conversational, options: GenerateOptions) -> list[Message]:
        system = self.lineage.system if self.lineage and not options.raw else None
        return read_conversation(messages, system)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ref}>"

    def _repr_html_(self) -> str:
        """For a notebook: the ref and, of a tuned model, where it comes from."""
        from tuneport.html import card

        lineage, names = self.lineage, ("base", "job", "method", "system", "created")
        facts = [(name, getattr(lineage, name)) for name in names] if lineage else []
        return card(f"Model {self.ref}", facts)


def _with_shape(reply: Reply, shape: Shape | None) -> Reply:
    return reply if shape is None else replace(reply, shape=shape)
