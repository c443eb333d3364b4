"""Constrains answers token by token to a JSON Schema or a tool call, by a grammar over a model's tokens.

The grammar library is llguidance. It compiles a schema lazily and within limits, so that a hostile one costs little.
What it does at once, such as intersecting patterns, is tried first in a process with limits on time and memory.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.errors import BackendError, OptionError, UnavailableError, UnsupportedError
from tuneport.plugin import GenerateOptions, read_schema
from tuneport_torch.text.grammar import Block, allow_block, grammar_of, json_rule

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

    from tuneport_torch.text.codec import Codec

CHILD_SECONDS = 2
_WALL_SECONDS = 60.0  # on a busy machine the child gets little processor time
_CHILD = Path(__file__).with_name("sandbox") / "check_grammar.py"
_KEPT = 16  # grammars of at most 100 MB each
_COSTLY = re.compile(r'"(pattern|patternProperties|allOf|format|multipleOf)"')
_COSTLY_BYTES = 16_384
_CHILD_BYTES = 2**27  # about 30 MB of it for the process itself
# Beyond these limits the library gives up. More items allow objects with many optional properties; fewer states take
# less memory (1 to 2 kB each).
_LIMITS: dict[str, Any] = {
    "max_items_in_row": 20_000,
    "step_max_items": 200_000,
    "max_lexer_states": 20_000,
    "verbose_errors": False,
}


class Constraint:
    """The tokens that may come next in one answer. `over` is set when nothing may follow."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self.over = False

    def bits(self) -> bytes:
        """A bit for each token of the tokenizer, lowest first: whether it may come next. Raises OptionError."""
        mask = self._matcher.compute_bitmask()
        if self._matcher.is_error() or not any(mask):
            raise _too_costly(self._matcher.get_error())
        return mask

    def add(self, token: int) -> None:
        """Advance by the chosen token. Raises OptionError."""
        if not self._matcher.consume_token(token):
            raise _too_costly(self._matcher.get_error())
        self.over = self._matcher.is_stopped()


class Constraints:
    """Makes constraints for one codec. Thread-safe. Compiled grammars are kept for the next answer of the same form."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._lock = threading.Lock()
        self._made: OrderedDict[str, LLMatcher | OptionError] = OrderedDict()
        self._tokenizer: LLTokenizer | None = None

    def of(self, options: GenerateOptions, block: Block = "none") -> Constraint | None:
        """The constraint of an answer with these options; None if it is free. It applies to what follows a thinking
        block; `block` says whether there may be one.

        Raises OptionError for a schema that cannot be enforced, UnavailableError if llguidance is not installed and the
        answer must be JSON or a call.
        """
        grammar = grammar_of(options, self._codec.template.source if self._codec.template else "", self._codec)
        if grammar is None or (options.schema is None and not options.must_call and not is_installed()):
            return None
        if block != "none" and self._codec.thinking is not None:
            calls = options.schema is None and options.must_call
            grammar = allow_block(grammar, self._codec, self._codec.thinking, block, calls=calls)
        with self._lock:
            made = self._made.get(grammar)
            if made is None:
                try:
                    made = self._compile(grammar, "schema" if options.schema is not None else "tools")
                except OptionError as error:
                    made = error  # kept too, so that the same request costs nothing again
                self._made[grammar] = made
                if len(self._made) > _KEPT:
                    self._made.popitem(last=False)
            self._made.move_to_end(grammar)
            if isinstance(made, OptionError):
                raise OptionError(made.message, option=made.option, remedy=made.remedy)
            return Constraint(made.deep_copy())

    def _compile(self, grammar: str, option: str) -> LLMatcher:
        limits = parser_limits()
        if _COSTLY.search(grammar) or len(grammar) > _COSTLY_BYTES:
            _try_in_child(grammar, option)
        from llguidance import LLMatcher

        if self._tokenizer is None:
            self._tokenizer = _library_tokenizer(self._codec)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)
        if not matcher.is_error():
            first = matcher.deep_copy()
            if any(first.compute_bitmask()) and not first.is_error():
                return matcher
            raise OptionError("The schema allows no answer.", option=option, remedy="Check what it requires.")
        raise _refusal(matcher.get_error(), option)


class _Vocabulary:
    """A codec in the shape that llguidance's wrapper asks for."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.tokens = codec.vocabulary
        self.special_token_ids = sorted(codec.control_ids)
        self.eos_token_id = next(iter(codec.stop_ids), 0)
        self.bos_token_id = None

    def __call__(self, text: bytes) -> list[int]:
        return self._codec.encode(text.decode("utf-8", "replace")).ids


def _library_tokenizer(codec: Codec) -> LLTokenizer:
    """The codec's tokens as llguidance reads them, with every one that ends an answer. Raises UnsupportedError.

    llguidance gets the bytes of the tokens and asks the codec to encode texts, because a third-party tokenizer.json
    is only run in the tokenizer's own process.
    """
    from llguidance import LLTokenizer, TokenizerWrapper

    try:
        return LLTokenizer(TokenizerWrapper(_Vocabulary(codec)), eos_token=codec.stop_ids)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        raise UnsupportedError(
            f"This model's tokenizer cannot be used for constrained answers: {str(error)[:200]}",
            remedy="Leave out schema and tool_choice, or use another model.",
        ) from error


def is_installed() -> bool:
    """Whether llguidance is installed."""
    return find_spec("llguidance") is not None


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise OptionError for a schema that cannot be enforced, UnavailableError if llguidance is missing."""
    parser_limits()
    answer = read_schema(schema)
    _try_in_child(f"start: {json_rule(answer)}\n", "schema")


def parser_limits() -> LLParserLimits:
    """The limits for compiling and following a grammar. Raises UnavailableError if llguidance is missing."""
    try:
        from llguidance import LLParserLimits
    except ImportError as error:
        raise UnavailableError(
            "Answers that must follow a schema or call a tool need the extra tuneport[structured].",
            remedy="Run: pip install 'tuneport[structured]'",
        ) from error
    return LLParserLimits(**_LIMITS)


def _try_in_child(grammar: str, option: str) -> None:
    """Compile a grammar in a process limited to CHILD_SECONDS. Raises OptionError if that is not enough."""
    request = {"grammar": grammar, "seconds": CHILD_SECONDS, "memory_bytes": _CHILD_BYTES, "limits": _LIMITS}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(_CHILD)],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=_WALL_SECONDS,
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # without secrets
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _too_costly("") from error
    if done.returncode < 0:  # the kernel ended it at its time limit
        raise _too_costly("")
    if done.returncode > 0:
        raise BackendError(
            f"The process that reads schemas failed: {done.stderr.decode(errors='replace')[-300:]}",
            remedy=f"Try: {sys.executable} -c 'import llguidance'",
        )
    refusal = json.loads(done.stdout)["error"]
    if refusal:
        raise _refusal(refusal, option)


def _refusal(error: str, option: str) -> OptionError:
    """The library's error without its position and its copy of the grammar, which mean nothing to users."""
    reason = error.partition("failed to compile JSON schema: ")[2] or error
    reason = reason.partition("\n   1 | ")[0].strip()[:300]
    keys = re.match(r"Unimplemented keys: \[(.*)\]", reason)
    if keys:
        names = keys[1].replace('"', "")
        return OptionError(
            f"The schema uses {names}, which cannot be enforced in an answer.",
            option=option,
            remedy=f"Remove {names} from the schema, and check the answer for it yourself.",
        )
    return OptionError(
        f"The schema cannot be enforced: {reason}", option=option, remedy="Change that part of the schema."
    )


def _too_costly(detail: str) -> OptionError:
    reason = f": {detail.strip()[:200]}" if detail else ""
    return OptionError(
        f"The schema takes too much time or memory to enforce{reason}.",
        option="schema",
        remedy="Use simpler patterns, or leave them out.",
    )
