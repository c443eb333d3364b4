"""Reads a grammar in a process of its own, within limits: what takes too long there is not tried in the caller's."""

from __future__ import annotations

import json
import resource
import sys


def main() -> None:
    """Read `{"grammar", "seconds", "memory_bytes", "limits"}` from standard input; write `{"error"}`, a text."""
    asked = json.loads(sys.stdin.buffer.read())
    resource.setrlimit(resource.RLIMIT_CPU, (asked["seconds"], asked["seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (asked["memory_bytes"], asked["memory_bytes"]))
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

    limits = LLParserLimits(**asked["limits"])
    failed, messages = LLMatcher.validate_grammar_with_warnings(asked["grammar"], None, limits=limits)
    error = messages[0] if failed else ""
    if not failed:  # validation builds no automaton, and a divisor with many digits has one state for each remainder
        error = LLMatcher(LLTokenizer("byte"), asked["grammar"], log_level=0, limits=limits).get_error()
    sys.stdout.write(json.dumps({"error": error}))


if __name__ == "__main__":
    main()
