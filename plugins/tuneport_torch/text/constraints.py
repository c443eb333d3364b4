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
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuneport.errors import BackendError, OptionError, UnavailableError, UnsupportedError
from tuneport.plugin import GenerateOptions, read_schema
from tuneport_torch.text.callform import ANY_NAME, HERMES, CallForm
from tuneport_torch.text.callgrammar import calls_rules, can_write

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

    from tuneport_torch.text.codec import Codec
    from tuneport_torch.text.thinking import Thinking

Block = Literal["none", "allowed", "opened"]
"""Whether a thinking block may come before the answer, or the prompt has opened one."""

OPENS = "<tool_call>"
"""The text before a call in the form of Hermes and Qwen."""

CHILD_SECONDS = 2
_WALL_SECONDS = 60.0  # on a busy machine the child gets little processor time
_CHILD = Path(__file__).with_name("sandbox") / "check_grammar.py"
_KEPT = 16  # grammars of at most 100 MB each
# One line break with indentation between two tokens of JSON allows pretty output, but no endless whitespace.
_STYLE = {"whitespace_pattern": r"\n? {0,16}"}
_ANY_ARGUMENTS = {"type": "object"}
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
        raise _refused(matcher.get_error(), option)


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
    _try_in_child(f"start: {_json(answer)}\n", "schema")


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


def grammar_of(options: GenerateOptions, template: str, codec: Codec | None = None) -> str | None:
    """The grammar, in llguidance's dialect of Lark, that an answer with these options must follow; None if it is free.

    Tools are called in the form of the model's chat template if such calls can be constrained, otherwise as JSON.
    """
    answer = None if options.schema is None else _json(options.schema)
    free = answer is None and not options.must_call  # except within a call, once the model starts one
    tools = [tool.get("function", tool) for tool in options.tools]
    form = _form(template, codec)
    if free and not (any(tool.get("strict") for tool in tools) and _is_recognizable(form, codec)):
        return None
    if not tools:
        return f"start: {answer}\n"
    if isinstance(options.tool_choice, Mapping):
        tools = [tool for tool in tools if tool["name"] == options.tool_choice["name"]]
    many = options.parallel_tool_calls and not isinstance(options.tool_choice, Mapping)
    bound = [_parameters(tool) if tool.get("strict") or not free else _ANY_ARGUMENTS for tool in tools]
    opens = form.first
    start = "calls" if options.must_call or answer is None else f"calls | {answer}"
    if free:
        start, form = "FREE | before calls", replace(form, head=form.head.lstrip().removeprefix(opens))
    literal = _text if codec is None else partial(_tags, codec=codec)
    given = [(tool["name"], schema) for tool, schema in zip(tools, bound, strict=True)]
    rules = calls_rules(form, given, many=many, literal=literal, any_json=_json)
    return "\n".join([f"start: {start}", *rules, *(_free_text_rules(opens) if free else ()), ""])


def _form(template: str, codec: Codec | None) -> CallForm:
    """The form of calls: the template's own, or JSON with the keys that the template's instructions name."""
    form = codec.calls if codec is not None else None
    if form is not None and can_write(form):
        return form
    if form is None and OPENS in template:
        return HERMES
    key = "parameters" if '"parameters": ' in template and '"arguments": ' not in template else "arguments"
    return CallForm("object", "", arguments=(key,))


def _is_recognizable(form: CallForm, codec: Codec | None) -> bool:
    """Whether the start of a call is a text without control tokens, so that it can be recognized."""
    if form.bare or ANY_NAME in form.head:
        return False
    thinking = codec.thinking if codec is not None else None
    return codec is None or not (codec.find_control(form.first) or (thinking is not None and thinking.before_call))


def allow_block(grammar: str, codec: Codec, thinking: Thinking, block: Block, *, calls: bool = False) -> str:
    """The grammar for an answer that may follow a thinking block. The block is free text up to its closing tag, or with
    `calls` up to what the template writes between thinking and a call.
    """
    if not thinking.closes:
        return grammar
    first = codec.calls.first if codec.calls is not None else ""
    closes = thinking.closes
    if calls and thinking.before_call and first and can_write(codec.calls):  # type: ignore[arg-type]  # it has a first
        closes = thinking.before_call[: thinking.before_call.rindex(first)].rstrip()
    opens = " | ".join(_tags(f"{lead}{thinking.opens}", codec) for lead in ("", " ", "\n"))  # as templates write them
    begins = "" if block == "opened" else f"({opens}) "
    if codec.find_control(closes):
        inside = f"thought: {begins}THOUGHT {_tags(closes, codec)}\nTHOUGHT: /(.|\\n)*/"
    else:
        inside = f"thought[stop={_text(closes)}]: {begins}/(.|\\n)*/"
    whole = grammar.replace("start: ", "wanted: ", 1)
    start = "thought SPACE wanted" if block == "opened" else "thought SPACE wanted | wanted"
    return f"start: {start}\n{inside}\nSPACE: /[ \\n]{{0,4}}/\n{whole}"


def _free_text_rules(opens: str) -> tuple[str, str]:
    """Rules for any text without a call, and for any text up to the start of the first call."""
    literal = re.escape(opens).replace("/", "\\/").replace("\n", "n")
    return f"FREE: /(.|\\n)*/ & ~/(.|\\n)*{literal}(.|\\n)*/", f"before[suffix={_text(opens)}]: /(.|\\n)*/"


def _tags(tag: str, codec: Codec) -> str:
    """A tag in the grammar's notation: control tokens by id, and the text between them."""
    parts, at = [], 0
    for start, end, number in codec.find_control(tag):
        parts += [_text(tag[at:start])] if start > at else []
        parts.append(f"<[{number}]>")
        at = end
    return " ".join([*parts, *([_text(tag[at:])] if at < len(tag) else [])])


def _parameters(tool: Mapping[str, Any]) -> dict[str, Any]:
    try:
        schema = read_schema({"type": "object", **(tool.get("parameters") or {})})
    except OptionError as error:
        message = f"The parameters of the tool {tool['name'][:64]!r}: {error.message}"
        raise OptionError(message, option="tools", remedy=error.remedy) from error
    assert isinstance(schema, dict)
    return schema


def _text(text: str) -> str:
    """A literal of the grammar."""
    return json.dumps(text)


def _json(schema: Mapping[str, Any] | bool) -> str:
    full = {"type": "object"} if schema is True else dict(schema)  # type: ignore[arg-type]  # False is not an option
    return f"%json {json.dumps({**full, 'x-guidance': _STYLE})}"


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
        raise _refused(refusal, option)


def _refused(error: str, option: str) -> OptionError:
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
