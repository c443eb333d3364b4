"""A finished job whose profile now leads to another server: only what is kept here can be read."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from tuneport.plugin import Checkpoint, Event, Removal
from tuneport_openai.job import HostedJob
from tuneport_openai.removal import remove_copies


class KeptJob(HostedJob):
    """Reads what the notebook keeps. Its wire leads nowhere, so no server is asked."""

    @staticmethod
    def is_over(scratch: MutableMapping[str, Any]) -> bool:
        """Whether the scratch alone proves that the job is over."""
        if "job" in scratch:
            return "final" in scratch
        return "create" not in scratch and ("refused" in scratch or "cancelled" in scratch)

    def events(self, after: int = 0) -> Iterable[Event]:
        """The events that were fetched while the server could be asked."""
        return self.notebook.events(after)

    def checkpoints(self) -> list[Checkpoint]:
        """An empty list: only the server has them."""
        return []

    def delete(self, *, dry_run: bool = False) -> Removal:
        """Remove the copy of what was sent; what the server has stays there."""
        removed = [f"{path} ({size:,} bytes)" for path, size in remove_copies(self.scratch, dry_run=dry_run)]
        model = (self.scratch.get("final") or {}).get("fine_tuned_model")
        left = [f"the model {model}"] if model else []
        if deployment := self.scratch.get("deployment"):
            left.append(f"the deployment {deployment}, billed by the hour")
        left += [f"the {part} file {file_id}" for part, file_id in self.scratch.get("files", {}).items()]
        at, name = self.scratch["request"]["endpoint"], self.ref.backend
        cure = f"to remove it, run first: tuneport profiles add {name} {at}"
        return Removal(removed=removed, kept=[f"{one} may be at {at} ({cure})" for one in left])
