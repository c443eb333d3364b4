"""A model's chat template, rendered at arm's length: in a child process that has limits on time and memory."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tuneport.errors import BackendError, DataError
from tuneport_torch.text.child import Child, Ended

if TYPE_CHECKING:
    import subprocess

SECONDS = 5.0
SECONDS_PER_ROW = 0.02
"""Processor time that a row may take; usual ones take under 0.1 ms."""
MEMORY_BYTES = 2**30
_BATCH_ROWS = 256
_CHILD = Path(__file__).with_name("template_child.py")


class ChatTemplate:
    """A Jinja chat template with its variables (`bos_token` and the like). Thread-safe; the child starts when needed.

    Every template is treated as a stranger's. One that runs too long or wants too much memory ends its child and is an
    error; the next call starts another. `seconds` of processor time may pass for a batch of rows, beside
    SECONDS_PER_ROW for each.
    """

    def __init__(self, source: str, variables: Mapping[str, Any], seconds: float = SECONDS) -> None:
        self.source = source
        self.variables = dict(variables)
        self.seconds = seconds
        self._worker = Child(_CHILD, self._first, self._compiled)

    @property
    def sha256(self) -> str:
        """The name of the template's text in lineages and model folders."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def rows(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Render rows `{messages, tools, prompt, turns}`; see template_child.Renderer.row for what comes back.

        A row that the template refuses comes back as `{"error": why}`. Raises DataError when the template cannot be
        compiled or breaks its limits.
        """
        pending, answers = list(rows), []
        with self._worker.turn():
            for start in range(0, len(pending), _BATCH_ROWS):
                answers += self._answers(pending[start : start + _BATCH_ROWS])
        return answers

    def close(self) -> None:
        """End the child; the next call starts another."""
        self._worker.close()

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The child, while there is one."""
        return self._worker.process

    def _answers(self, rows: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        try:
            answers: list[dict[str, Any]] = msgspec.json.decode(self._worker.ask(msgspec.json.encode(rows)))
        except Ended as ended:
            raise self._why(ended) from None
        return answers

    def _first(self) -> list[bytes]:
        asked = {
            "template": self.source,
            "variables": self.variables,
            "seconds": self.seconds,
            "seconds_per_row": SECONDS_PER_ROW,
            "memory_bytes": MEMORY_BYTES,
        }
        return [msgspec.json.encode(asked)]

    def _compiled(self, answer: bytes) -> None:
        reply = msgspec.json.decode(answer)
        if "error" in reply:
            raise DataError(f"The model's chat template cannot be compiled: {reply['error']}.", remedy=_OTHER_BASE)

    def _why(self, ended: Ended) -> DataError | BackendError:
        if ended.code is None:
            return DataError("The model's chat template writes texts of more than 256 MB.", remedy=_OTHER_BASE)
        if ended.code > 0:
            return BackendError(
                "The process that renders chat templates could not start or failed.",
                remedy=f"Try: {sys.executable} -c 'import jinja2'",
            )
        took = f"it took over {self.seconds:g} s of processor time or too much memory"
        return DataError(f"The model's chat template was ended: {took}.", remedy=_OTHER_BASE)


_OTHER_BASE = "Mend chat_template.jinja in a copy of the model's folder and name that folder, or choose another model."
