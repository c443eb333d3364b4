"""Compile a grammar in a process with limits: one that takes too long is never compiled in the caller's process."""

from __future__ import annotations

import json
import resource
import sys


def main() -> None:
    """Read `{"grammar", "seconds", "memory_bytes", "limits"}` from standard input; write `{"error"}`, a text."""
    request = json.loads(sys.stdin.buffer.read())
    resource.setrlimit(resource.RLIMIT_CPU, (request["seconds"], request["seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (request["memory_bytes"], request["memory_bytes"]))
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

    limits = LLParserLimits(**request["limits"])
    failed, messages = LLMatcher.validate_grammar_with_warnings(request["grammar"], None, limits=limits)
    error = messages[0] if failed else ""
    if not failed:  # validation builds no automaton; a divisor with many digits has one state per remainder
        error = LLMatcher(LLTokenizer("byte"), request["grammar"], log_level=0, limits=limits).get_error()
    sys.stdout.write(json.dumps({"error": error}))


if __name__ == "__main__":
    main()
