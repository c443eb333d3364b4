"""The command line: parse, call one public function, print."""

from __future__ import annotations

import atexit
import gc
import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; ends the process with 0 ok, 1 failed, 2 usage, 3 not finished, 130 interrupted or 143
    terminated.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    atexit.register(gc.freeze)  # so that Python's end does not look for garbage, a second's work where torch is loaded
    try:
        from tuneport.terminal.outlet import guard

        guard()  # before anything prints, a traceback included
        from tuneport.cli.app import invoke

        code = invoke(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:  # during an import; `invoke` answers to all later ones
        code = 130
    sys.exit(code)


def _end(number: int, frame: object) -> None:
    """End as after Ctrl-C, so that what is half written is removed."""
    del frame
    sys.exit(128 + number)
