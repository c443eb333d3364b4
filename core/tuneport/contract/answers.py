"""How a model is asked, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Generic, TypedDict

from typing_extensions import TypeVar

from tuneport.contract.schemas import parse_answer, read_schema
from tuneport.doors import AUTHORS, public
from tuneport.errors import DataError, OptionError, UsageError
from tuneport.spelling import did_you_mean

if TYPE_CHECKING:
    from tuneport.contract.schemas import Shape

T = TypeVar("T", default=Any)

MOST_ALTERNATIVES = 20
EVERYWHERE = frozenset({"max_tokens", "temperature", "top_p", "stop", "seed", "tools", "raw"})
"""The options that every model takes; a model names the others that it takes in `Model.takes`."""


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions:
    """How to answer.

    `temperature` 0 is greedy; `stop` are texts that end the answer and are not part of it. `raw`: the only message's
    text is continued as it is, without chat template or system prompt (for models that `can_continue`).

    The following only for models whose `takes` names them. `schema`: the answer is JSON that this JSON Schema allows,
    or, with True, any JSON object; a pydantic class is turned into its schema. `tool_choice`: "auto", "none",
    "required" (at least one call of a tool), or `{"name": …}` (one call of that tool). `parallel_tool_calls` False: one
    call at most. `logprobs`: log-probabilities of the answer's tokens, with so many of the likeliest alternatives, 0 to
    20; None is off. `frequency_penalty` and `presence_penalty`, from -2 to 2: the logit of a token that the answer
    already holds n times falls by `n * frequency_penalty + presence_penalty`.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    raw: bool = False
    schema: Mapping[str, Any] | bool | None = None
    tool_choice: str | Mapping[str, str] = "auto"
    parallel_tool_calls: bool = True
    logprobs: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0

    @property
    def must_call(self) -> bool:
        """Whether the answer has to be a call of a tool."""
        return self.tool_choice == "required" or isinstance(self.tool_choice, Mapping)


class FreeOptions(TypedDict, total=False):
    """The fields of GenerateOptions but `schema`, as a call takes them: for type checkers and editors."""

    max_tokens: int
    temperature: float
    top_p: float
    stop: str | Sequence[str] | None
    seed: int | None
    tools: Sequence[Mapping[str, Any]]
    raw: bool
    tool_choice: str | Mapping[str, str]
    parallel_tool_calls: bool
    logprobs: int | None
    frequency_penalty: float
    presence_penalty: float


class AskOptions(FreeOptions, total=False):
    """All of them; `schema` as JSON, or a pydantic class where the text alone is wanted."""

    schema: Mapping[str, Any] | type | bool | None


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token of an answer and the natural logarithm of its probability, by the model's own distribution: before
    temperature, penalties and constraints. `top` are the likeliest tokens at its place, the likeliest first.
    """

    token: str
    bytes: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class CallPiece:
    """A part of a tool call while it is written: `index` is its place among the answer's calls. `name` comes with the
    first part; the `arguments` of all parts are one JSON text.
    """

    index: int
    name: str | None = None
    arguments: str = ""


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPiece:
    """What an answer has gained: text, parts of tool calls, and the log-probabilities of the tokens they consist of.
    `thinking` is a part of the block before the answer.
    """

    text: str = ""
    calls: tuple[CallPiece, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    thinking: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.calls or self.logprobs or self.thinking)


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Generic[T]):
    """An answer: its text, why it ended (`stop`, `length` or `tool_calls`) and its size in tokens, where known.

    `thinking` is what the model wrote in a thinking block before the answer, without the block's tags; empty for an
    empty block, None where there was none. It is no part of `text`. The size counts it.
    `logprobs` are those of the answer's tokens, in order, where they were asked for. `shape` is the schema that was
    asked for; `parsed` reads the text by it.
    """

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    shape: Shape | None = field(default=None, repr=False, compare=False)
    thinking: str | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def parsed(self) -> T:
        """The answer as an instance of the pydantic class that was asked for, else as plain JSON.

        Raises DataError for an answer that was cut at its limit or called a tool instead.
        """
        if self.finish_reason == "length" or self.tool_calls:
            how = "calls a tool" if self.tool_calls else "was cut at its limit"
            raise DataError(
                f"The answer {how}: there is no JSON to read.", remedy="Raise max_tokens, or read tool_calls."
            )
        value: T = parse_answer(self.text, True if self.shape is None else self.shape)
        return value

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        built = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("shape", "logprobs")}
        if self.logprobs is not None:
            built["logprobs"] = [_logprob_dict(one) for one in self.logprobs]
        return built


def read_options(given: Mapping[str, Any], call: str = "reply") -> tuple[GenerateOptions, Shape | None]:
    """The options of a call, checked, and the schema as the caller gave it. `call` is the method that was called, for
    messages. Raises OptionError or UsageError.
    """
    options = dict(given)
    known = list(GenerateOptions.__dataclass_fields__)
    if unknown := [name for name in options if name not in known]:
        raise UsageError(
            f"{call}() takes no option {unknown[0]!r}.",
            remedy=f"{did_you_mean(unknown[0], known)}Its options are {', '.join(known)}.",
        )
    if "stop" in options:
        stop = options["stop"]
        options["stop"] = (stop,) if isinstance(stop, str) else tuple(stop or ())
    shape = options.get("schema")
    if shape is False:
        shape = None
    options["schema"] = None if shape is None else read_schema(shape)
    asked = GenerateOptions(**options)
    _check_numbers(asked)
    return _check_tools(asked), shape


def _check_numbers(asked: GenerateOptions) -> None:
    for name, least in (("max_tokens", 1), ("temperature", 0), ("top_p", 0)):
        value = getattr(asked, name)
        kind = int if name == "max_tokens" else int | float
        if not isinstance(value, kind) or isinstance(value, bool) or not math.isfinite(value) or value < least:
            number = "a whole number" if kind is int else "a number"
            raise OptionError(f"{name} is {value!r}.", option=name, remedy=f"Pass {number} from {least} on.")
    for name in ("frequency_penalty", "presence_penalty"):
        value = getattr(asked, name)
        if not (isinstance(value, int | float) and math.isfinite(value) and -2 <= value <= 2):
            raise OptionError(f"{name} is {value!r}.", option=name, remedy="Pass a number from -2 to 2.")
    most = asked.logprobs
    if most is not None and (isinstance(most, bool) or not 0 <= most <= MOST_ALTERNATIVES):
        raise OptionError(
            f"logprobs is {most!r}.",
            option="logprobs",
            remedy=f"Pass the number of alternatives, from 0 to {MOST_ALTERNATIVES}, or None.",
        )
    if asked.stop and (asked.schema is not None or asked.must_call):
        raise OptionError(
            "A stop text would cut the JSON of the answer.",
            option="stop",
            remedy="Leave out stop: the answer ends where its JSON does.",
        )


def _check_tools(asked: GenerateOptions) -> GenerateOptions:
    choice = asked.tool_choice
    if choice == "none":  # the model does not see the tools, and no plugin needs to know
        return replace(asked, tools=(), tool_choice="auto")
    names = [tool.get("function", tool).get("name") for tool in asked.tools]
    if isinstance(choice, Mapping):
        if choice.get("name") not in names:
            raise OptionError(
                f"tool_choice names {str(choice.get('name'))[:100]!r}, which is not among the tools.",
                option="tool_choice",
                remedy=f"Name one of: {', '.join(map(str, names)) or '(no tools were passed)'}.",
            )
    elif choice not in ("auto", "required"):
        raise OptionError(
            f"tool_choice is {str(choice)[:100]!r}.",
            option="tool_choice",
            remedy="Pass auto, none, required, or {'name': …}.",
        )
    if asked.must_call and not names:
        raise OptionError(
            "tool_choice asks for a call, and there are no tools.", option="tool_choice", remedy="Pass tools."
        )
    if asked.must_call and asked.raw:
        raise OptionError(
            "A model cannot call tools with raw=True.", option="tool_choice", remedy="Leave out raw or tool_choice."
        )
    return asked


def _logprob_dict(one: TokenLogprob) -> dict[str, Any]:
    found = {"token": one.token, "bytes": list(one.bytes), "logprob": one.logprob}
    return {**found, "top": [_logprob_dict(other) for other in one.top]} if one.top else found
