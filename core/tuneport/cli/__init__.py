"""The command line: parse arguments, call a public function, print the result."""

from __future__ import annotations

import atexit
import gc
import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. It ends the process with one of the exit codes in `tuneport.cli.app`."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    atexit.register(gc.freeze)  # skip garbage collection at exit, which takes a second once torch is loaded
    try:
        from tuneport.terminal.outlet import guard

        guard()  # before anything prints, including a traceback
        from tuneport.cli.app import invoke

        code = invoke(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:  # during an import; `invoke` handles later ones
        code = 130
    sys.exit(code)


def _terminate(number: int, frame: object) -> None:
    """Exit through the same cleanup as Ctrl-C, so that incomplete files are removed."""
    del frame
    sys.exit(128 + number)
