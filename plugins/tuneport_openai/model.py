"""A model that answers over the wire: many questions at once, within what the server allows."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Generator, MutableMapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NoReturn

from tuneport import BackendError, GenerateOptions, Lineage, Message, Model, ModelNotFound, Ref, Reply, UnavailableError
from tuneport_openai.client import Wire, code_of
from tuneport_openai.options import TAKES, Collected, logprobs_of, more_of

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

TOGETHER = 8
"""How many questions are under way at once."""
_MOST_WAITS, _MOST_FAILURES, _MOST_TIMEOUTS = 8, 4, 1  # how often it is put again after a 429, no answer, a late one
_LONGEST_WAIT = 300.0
_ANSWER_SECONDS = 600.0  # a busy machine of one's own takes minutes, and asked anew it would begin from the start
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?\Z")
_THINKS = re.compile(r"(ft:)?(o\d|gpt-[5-9])")  # families that name the limit otherwise and take no temperature


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
        """One reply for each conversation, in order; several are under way at once, fewer when the server says so."""
        gate = Gate()
        _ = self._wire.once  # a missing key or package is told once, here
        if len(prompts) == 1:
            return [self._answer(prompts[0], options, gate)]
        with ThreadPoolExecutor(max_workers=min(TOGETHER, max(1, len(prompts)))) as pool:
            waiting = [pool.submit(self._answer, prompt, options, gate) for prompt in prompts]
            try:
                done, _ = wait(waiting, return_when=FIRST_EXCEPTION)
                for one in done:
                    one.result()  # raises what ended the waiting early
                return [one.result() for one in waiting]
            except BaseException:
                for one in waiting:
                    one.cancel()
                gate.close()
                raise

    def generate_stream(self, prompt: Sequence[Message], options: GenerateOptions) -> Generator[str, None, Reply]:
        """The pieces of one reply's text as they come, and at the end the whole reply, with its tool calls."""
        collected = Collected()
        with self._wire.speaking("answering", ModelNotFound):
            stream = self._wire.patient.chat.completions.create(**self._asked(prompt, options), stream=True)
            with stream:
                for chunk in stream:
                    if piece := collected.add(chunk):
                        yield piece
        return collected.reply(options)

    def close(self) -> None:
        """Give the connections back; the next question opens new ones."""
        self._wire = Wire(self._wire.profile)

    def _answer(self, prompt: Sequence[Message], options: GenerateOptions, gate: Gate) -> Reply:
        """Ask, and again after a 429, a 5xx or a lost connection, when the server wants to be asked again."""
        import openai

        attempt = 0
        while True:
            gate.wait()
            try:
                raw = self._wire.once.chat.completions.with_raw_response.create(**self._asked(prompt, options))
                gate.heed(raw.headers)
                return _reply(raw.parse(), self._wire)
            except openai.RateLimitError as error:
                if attempt == _MOST_WAITS or code_of(error) == "insufficient_quota":
                    self._explain(error)
                gate.pause(_retry_after(error.response.headers, attempt))
            except (openai.InternalServerError, openai.APIConnectionError) as error:
                most = _MOST_TIMEOUTS if isinstance(error, openai.APITimeoutError) else _MOST_FAILURES
                if attempt >= most:
                    self._explain(error)
                headers = error.response.headers if isinstance(error, openai.InternalServerError) else {}
                time.sleep(min(30.0, _retry_after(headers, attempt)))
            except Exception as error:  # noqa: BLE001 - the edge: every other foreign error becomes ours
                self._explain(error)
            attempt += 1

    def _explain(self, error: Exception) -> NoReturn:
        self._wire.explain(error, f"asking {self.name}", ModelNotFound)

    def _asked(self, prompt: Sequence[Message], options: GenerateOptions) -> dict[str, Any]:
        """What the client is called with."""
        turns = [{key: value for key, value in one.to_dict().items() if key != "weight"} for one in prompt]
        body: dict[str, Any] = {"model": self.name, "messages": turns, "timeout": _ANSWER_SECONDS}
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
        return body | more_of(options)


class DeployedModel(HostedModel):
    """A tuned model at Azure, which answers under the name of its deployment and only while it is deployed."""

    def __init__(
        self, ref: Ref, wire: Wire, name: str, lineage: Lineage | None, scratch: MutableMapping[str, Any]
    ) -> None:
        super().__init__(ref, wire, scratch.get("deployment", name), lineage)
        self._model = name
        self._scratch = scratch

    def ensure_ready(self) -> str | None:
        """Deploy the model where it is not, and wait until it answers. Says what that costs from now on."""
        from tuneport_openai.azure import Deployment
        from tuneport_openai.catalogue import cost_of_hosting

        deployment = Deployment(self.ref.name)
        self._scratch["deployment"] = self.ref.name  # before it is asked for, so that `delete` never forgets it
        deployment.ensure(self._model)
        self.name = self.ref.name
        return (
            f"{self.ref} is deployed, at {cost_of_hosting()}, whether it is asked or not. "
            f"It ends with: tuneport delete {self.ref}"
        )

    def generate(self, prompts: Sequence[Sequence[Message]], options: GenerateOptions) -> list[Reply]:
        """As any hosted model's; deploys the model first where the settings of its training said so."""
        self._deploy_if_asked()
        return super().generate(prompts, options)

    def generate_stream(self, prompt: Sequence[Message], options: GenerateOptions) -> Generator[str, None, Reply]:
        """As any hosted model's; deploys the model first where the settings of its training said so."""
        self._deploy_if_asked()
        return super().generate_stream(prompt, options)

    def _deploy_if_asked(self) -> None:
        if self._scratch["request"]["settings"].get("deploy") and "deployment" not in self._scratch:
            self.ensure_ready()


class Gate:
    """Where all questions of one call wait while the server wants none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._opens = 0.0

    def wait(self) -> None:
        """Return when a question may be sent."""
        while (left := self._left()) > 0:
            if self._closed.wait(min(left, 1.0)):
                break
        if self._closed.is_set():
            raise UnavailableError("Another question of the same call failed.")

    def pause(self, seconds: float) -> None:
        """Let no question through for that long."""
        with self._lock:
            self._opens = max(self._opens, self._clock() + min(seconds, _LONGEST_WAIT))

    def heed(self, headers: Any) -> None:
        """Pause as an answer's rate-limit headers say: when nothing is left, until it is again."""
        for what in ("requests", "tokens"):
            left, reset = headers.get(f"x-ratelimit-remaining-{what}"), headers.get(f"x-ratelimit-reset-{what}")
            if left is not None and left.strip() == "0" and reset:
                self.pause(duration(reset) or 0.0)

    def close(self) -> None:
        """Let no further question through: the call has failed."""
        self._closed.set()

    def _left(self) -> float:
        with self._lock:
            return self._opens - self._clock()


def duration(text: str) -> float | None:
    """Seconds of `12`, `0.5`, `20ms`, `6m0s` or `1h2m3s`; None for anything else."""
    text = text.strip()
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    found = _DURATION.match(text)
    if not text or found is None:
        return None
    try:
        hours, minutes, seconds, thousandths = (float(one or 0) for one in found.groups())
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds + thousandths / 1000


def _retry_after(headers: Any, attempt: int) -> float:
    """What the server asks for, else a pause that doubles."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        found = duration(headers.get(name) or "")
        if found is not None:
            return float(found * scale)
    return float(min(30.0, 0.5 * 2**attempt))


def _reply(answer: ChatCompletion, wire: Wire) -> Reply:
    if not getattr(answer, "choices", None):
        raise BackendError(f"{wire.profile.name} answered without a choice.", remedy="Ask again.")
    choice = answer.choices[0]
    calls = tuple(call.to_dict(mode="json", warnings=False) for call in choice.message.tool_calls or ())
    usage = answer.usage
    reason = choice.finish_reason or "stop"
    return Reply(
        text=choice.message.content or "",
        finish_reason=reason if reason in ("stop", "length", "tool_calls") else "stop",
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        tool_calls=calls,
        logprobs=logprobs_of(choice.logprobs),
    )
