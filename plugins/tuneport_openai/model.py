"""A model that answers over the wire: many requests at once, within the server's limits."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NoReturn

from tuneport.errors import BackendError, ModelNotFound, TuneportError, UnavailableError
from tuneport.plugin import GenerateOptions, Lineage, Message, Model, Ref, Reply
from tuneport_openai.wire.client import Wire
from tuneport_openai.wire.options import TAKES, Collected, extra_fields, logprobs_of
from tuneport_openai.wire.refusals import code_of
from tuneport_openai.wire.thinking import Splitter, reasoning_of
from tuneport_openai.wire.words import count_of, duration, retry_after

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

TOGETHER = 8
"""How many requests are in flight at once."""
_MOST_WAITS, _MOST_TIMEOUTS = 8, 1  # how often a request is repeated after a 429 and after a timeout
_LONGEST_WAIT = 300.0
_THINKS = re.compile(r"(ft:)?(o\d|gpt-[5-9])")  # families that name the limit differently and take no temperature


class HostedModel(Model):
    """A base or tuned model of a server, by the server's own `name`."""

    can_stream = True
    takes = TAKES

    def __init__(self, ref: Ref, wire: Wire, name: str, lineage: Lineage | None) -> None:
        self.ref = ref
        self.name = name
        self.lineage = lineage
        self._wire = wire

    def generate(self, prompts: Sequence[Sequence[Message]], options: GenerateOptions) -> list[Reply]:
        """One reply for each conversation, in order; several requests are in flight at once, as the server allows."""
        gate = Gate()
        _ = self._wire.once  # reports a missing key or package once, here
        if len(prompts) == 1:
            return [self._answer(prompts[0], options, gate)]
        with ThreadPoolExecutor(max_workers=min(TOGETHER, max(1, len(prompts)))) as pool:
            waiting = [pool.submit(self._answer_or_close, prompt, options, gate) for prompt in prompts]
            try:
                wait(waiting, return_when=FIRST_EXCEPTION)
                if gate.why is not None:
                    raise gate.why
                return [one.result() for one in waiting]
            except BaseException as error:
                gate.close(error)
                for one in waiting:
                    one.cancel()
                raise

    def generate_stream(self, prompt: Sequence[Message], options: GenerateOptions) -> Generator[str, None, Reply]:
        """The pieces of one reply's text as they arrive, and at the end the complete reply, with its tool calls. Raises
        BackendError where the answer breaks off before its end; the pieces before that have been yielded.
        """
        shown = self._wire.redact.pieces()  # a model may repeat the key over several pieces
        collected = Collected(self._splitter())
        with self._wire.translate_errors("answering", ModelNotFound):
            stream = self._wire.patient.chat.completions.create(**self._arguments(prompt, options), stream=True)
            with stream:
                for chunk in stream:
                    if piece := shown.feed(collected.add(chunk)):
                        yield piece
                ended = collected.ended or bool(stream.response.extensions["ended"])
        if rest := shown.feed(collected.rest()) + shown.end():
            yield rest
        if not (collected.started and ended):
            what = "ended its response too early" if collected.started else "returned a response without a choice"
            raise BackendError(f"{self._wire.profile.name} {what}.", remedy="Ask again.")
        return collected.reply(options, self._wire.redact)

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        self._wire = Wire(self._wire.profile)

    def _answer_or_close(self, prompt: Sequence[Message], options: GenerateOptions, gate: Gate) -> Reply:
        """One of several answers; the first that fails ends the call before more requests are sent."""
        try:
            return self._answer(prompt, options, gate)
        except BaseException as error:
            gate.close(error)
            raise

    def _answer(self, prompt: Sequence[Message], options: GenerateOptions, gate: Gate) -> Reply:
        """Send the request, and repeat it after a 429, a 5xx or a lost connection, when the server allows."""
        import openai

        attempt = 0
        while True:
            gate.wait()
            try:
                raw = self._wire.once.chat.completions.with_raw_response.create(**self._arguments(prompt, options))
                gate.read_headers(raw.headers)
                return _reply(raw.parse(), self._wire, self._splitter())
            except openai.RateLimitError as error:
                pause = _pause(error.response.headers, attempt, self._wire)
                if attempt == _MOST_WAITS or code_of(error) == "insufficient_quota" or pause > _LONGEST_WAIT:
                    self._explain(error)
                gate.pause(pause)
            except (openai.InternalServerError, openai.APIConnectionError) as error:
                most = self._wire.limits.answer_retries
                if isinstance(error, openai.APITimeoutError):
                    most = min(most, _MOST_TIMEOUTS)
                headers = error.response.headers if isinstance(error, openai.InternalServerError) else {}
                pause = _pause(headers, attempt, self._wire)
                if attempt >= most or pause > _LONGEST_WAIT or isinstance(error.__cause__, TuneportError):
                    self._explain(error)
                time.sleep(min(30.0, pause))
            except Exception as error:  # noqa: BLE001 - every other foreign error becomes ours here
                self._explain(error)
            attempt += 1

    def _splitter(self) -> Splitter:
        return Splitter(inline=not self._wire.profile.traits.openai_models)

    def _explain(self, error: Exception) -> NoReturn:
        self._wire.explain(error, f"asking {self.name}", ModelNotFound)

    def _arguments(self, prompt: Sequence[Message], options: GenerateOptions) -> dict[str, Any]:
        """The arguments of the client's call."""
        # Reasoning belongs to an answer that is complete; servers read it only between calls of tools.
        is_open = not self._wire.profile.traits.openai_models
        left_out = [{"weight"} | (set() if is_open and one.tool_calls else {"reasoning_content"}) for one in prompt]
        turns = [
            {key: value for key, value in one.to_dict().items() if key not in out}
            for one, out in zip(prompt, left_out, strict=True)
        ]
        body: dict[str, Any] = {"model": self.name, "messages": turns, "timeout": self._wire.limits.answer_seconds}
        if _THINKS.match(self.name):
            body["max_completion_tokens"] = options.max_tokens
        else:
            body |= {"max_tokens": options.max_tokens, "temperature": options.temperature, "top_p": options.top_p}
        if options.stop:
            body["stop"] = list(options.stop)
        if options.seed is not None:
            body["seed"] = options.seed
        if options.tools:
            body["tools"] = [dict(tool) for tool in options.tools]
        return body | extra_fields(options)


class Gate:
    """Where all requests of one call wait while the server accepts none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._opens = 0.0
        self.why: BaseException | None = None

    def wait(self) -> None:
        """Return when a request may be sent."""
        while (left := self._seconds_left()) > 0:
            if self._closed.wait(min(left, 1.0)):
                break
        if self._closed.is_set():
            raise UnavailableError("Another request of the same call failed.")

    def pause(self, seconds: float) -> None:
        """Let no request through for that long."""
        with self._lock:
            self._opens = max(self._opens, self._clock() + min(seconds, _LONGEST_WAIT))

    def read_headers(self, headers: Any) -> None:
        """Pause as an answer's rate-limit headers say: when nothing is left, until the limit is reset."""
        for what in ("requests", "tokens"):
            left, reset = headers.get(f"x-ratelimit-remaining-{what}"), headers.get(f"x-ratelimit-reset-{what}")
            if left is not None and left.strip() == "0" and reset:
                self.pause(duration(reset) or 0.0)

    def close(self, why: BaseException) -> None:
        """Let no more requests through: the call has failed."""
        with self._lock:
            self.why = self.why or why
        self._closed.set()

    def _seconds_left(self) -> float:
        with self._lock:
            return self._opens - self._clock()


def _pause(headers: Any, attempt: int, wire: Wire) -> float:
    """The pause that the server requests, else one that doubles."""
    asked = retry_after(headers)
    return asked if asked is not None else min(30.0, wire.limits.retry_seconds / 2 * 2**attempt)


def _reply(answer: ChatCompletion, wire: Wire, splitter: Splitter) -> Reply:
    """The reply in an answer; raises ValueError or TypeError for one that has another shape."""
    choices = getattr(answer, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise BackendError(f"{wire.profile.name} returned a response without a choice.", remedy="Ask again.")
    choice = choices[0]
    text = choice.message.content
    if not isinstance(text, str | None):
        raise TypeError("the content of the answer is not text")
    calls = tuple(call.to_dict(mode="json", warnings=False) for call in choice.message.tool_calls or ())
    usage = answer.usage
    reason = choice.finish_reason
    answer_text = splitter.feed(text or "") + splitter.end(cut=reason == "length")
    return Reply(
        text=answer_text,
        thinking=reasoning_of(choice.message) or splitter.thinking,
        finish_reason=reason if reason in ("stop", "length", "tool_calls") else "stop",
        prompt_tokens=count_of(getattr(usage, "prompt_tokens", None)),
        completion_tokens=count_of(getattr(usage, "completion_tokens", None)),
        tool_calls=calls,
        logprobs=logprobs_of(choice.logprobs),
    )
