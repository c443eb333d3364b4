"""A model's chat template, rendered in a child process with limits on time and memory."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tuneport.errors import BackendError, DataError
from tuneport_torch.text.child_process import ChildEnded, ChildProcess

if TYPE_CHECKING:
    import subprocess

SECONDS = 5.0
SECONDS_PER_ROW = 0.02
"""Limit on the processor time for a row; usual rows take under 0.1 ms."""
MEMORY_BYTES = 2**30
_BATCH_ROWS = 256
_SCRIPT = Path(__file__).with_name("sandbox") / "render_template.py"


class ChatTemplate:
    """A Jinja chat template with its variables (`bos_token` and the like). Thread-safe; the child starts when needed.

    No template is trusted. One that runs too long or uses too much memory ends its child and is an error; the next call
    starts another. A batch of rows may take `seconds` of processor time, plus SECONDS_PER_ROW for each row.
    """

    def __init__(self, source: str, variables: Mapping[str, Any], seconds: float = SECONDS) -> None:
        self.source = source
        self.variables = dict(variables)
        self.seconds = seconds
        self._worker = ChildProcess(_SCRIPT, self._opening, self._check_compiled)

    @property
    def sha256(self) -> str:
        """The hash of the template's text, as lineages and model folders store it."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def rows(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Render rows `{messages, tools, prompt, turns}`; see render_template.Renderer.row for the result.

        A row that the template refuses comes back as `{"error": why}`. Raises DataError if the template cannot be
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
        except ChildEnded as ended:
            raise self._explain(ended) from None
        return answers

    def _opening(self) -> list[bytes]:
        request = {
            "template": self.source,
            "variables": self.variables,
            "seconds": self.seconds,
            "seconds_per_row": SECONDS_PER_ROW,
            "memory_bytes": MEMORY_BYTES,
        }
        return [msgspec.json.encode(request)]

    def _check_compiled(self, answer: bytes) -> None:
        reply = msgspec.json.decode(answer)
        if "error" in reply:
            raise DataError(f"The model's chat template cannot be compiled: {reply['error']}.", remedy=_OTHER_BASE)

    def _explain(self, ended: ChildEnded) -> DataError | BackendError:
        if ended.code is None:
            return DataError("The model's chat template writes texts of more than 256 MB.", remedy=_OTHER_BASE)
        if ended.code > 0:
            return BackendError(
                "The process that renders chat templates could not start or failed.",
                remedy=f"Try: {sys.executable} -c 'import jinja2'",
            )
        took = f"it took over {self.seconds:g} s of processor time or too much memory"
        return DataError(f"The model's chat template was stopped: {took}.", remedy=_OTHER_BASE)


_OTHER_BASE = "Fix chat_template.jinja in a copy of the model's folder and use that folder, or choose another model."
