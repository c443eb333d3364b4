"""What a job leaves at the server and here, and how to remove it."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from tuneport.errors import BackendError, NotFoundError, TuneportError
from tuneport.plugin import Removal
from tuneport_openai.wire.client import Wire
from tuneport_openai.wire.pages import Pages
from tuneport_openai.wire.upload import delete_file

_MOST_FILES = 100
_OVER = frozenset({"succeeded", "failed", "cancelled"})


def remove(wire: Wire, scratch: MutableMapping[str, Any], facts: dict[str, Any], *, dry_run: bool) -> Removal:
    """Remove the model, the result files and the data."""
    where = wire.profile.name
    lines: list[str] = []
    kept: list[str] = []
    if "deployment" in scratch:
        lines.append(_remove_deployment(wire, scratch["deployment"], dry_run=dry_run))
    if "registered" in scratch:
        lines.append(_remove_registered(wire, scratch["registered"], dry_run=dry_run))
    model = facts.get("fine_tuned_model")
    if isinstance(model, str) and model:
        was_there = dry_run or _delete_model(wire, model)
        lines.append(f"the model {model} at {where}{'' if was_there else ' was already gone'}")
    elif wire.profile.traits.serves_checkpoints and facts:
        kept.append(f"the checkpoints of {facts.get('id')} at {where}: this API has no way to delete them")
    lines += [
        f"the result file {file_id} at {where}"
        for file_id in result_files_of(facts)
        if dry_run or delete_file(wire, file_id)
    ]
    for part, file_id in scratch.get("files", {}).items():
        if _is_in_use(wire, file_id):
            kept.append(f"the {part} file {file_id} at {where}: another job that is not over uses it, or may use it")
        elif dry_run or delete_file(wire, file_id):
            lines.append(f"the {part} file {file_id} at {where}")
    lines += [f"{path} ({size:,} bytes)" for path, size in remove_copies(scratch, dry_run=dry_run)]
    return Removal(removed=lines, kept=kept)


def result_files_of(facts: dict[str, Any]) -> list[str]:
    """The ids of a job's result files; a server may send null, or anything, for them."""
    found = facts.get("result_files")
    return [one for one in found if isinstance(one, str) and one][:_MOST_FILES] if isinstance(found, list) else []


def remove_copies(scratch: MutableMapping[str, Any], *, dry_run: bool) -> list[tuple[Path, int]]:
    """Remove the copies of what was sent from this machine; returns their paths and sizes in bytes."""
    paths = [Path(one["path"]) for one in scratch["request"]["files"].values()]
    found = [(path, path.stat().st_size) for path in paths if path.is_file()]
    for path, _ in found if not dry_run else ():
        path.unlink(missing_ok=True)
    return found


def _remove_deployment(wire: Wire, name: str, *, dry_run: bool) -> str:
    """Remove a deployment of ours first: it costs money."""
    from tuneport_openai.azure import Deployment

    line = f"the deployment {name} at Azure, billed by the hour"
    return line if dry_run or Deployment(name, wire.profile).remove() else f"{line} (it was already gone)"


def _remove_registered(wire: Wire, name: str, *, dry_run: bool) -> str:
    from tuneport_openai.nebius import Registry

    line = f"the registered model {name} at {wire.profile.name}"
    return line if dry_run or Registry(wire).remove(name) else f"{line} (it was already gone)"


def _delete_model(wire: Wire, model: str) -> bool:
    try:
        with wire.translate_errors("deleting the model"):
            wire.patient.models.delete(model)
    except NotFoundError:
        return False
    except BackendError as error:
        raise BackendError(f"The model {model} may still exist: {error.message}", remedy=error.remedy) from error
    return True


def _is_in_use(wire: Wire, file_id: str) -> bool:
    """Whether a job that is not over uses the file: the same rows have the same file, no matter who uploaded it."""
    try:
        with wire.translate_errors("listing the jobs"):
            listed = Pages(wire.patient.fine_tuning.jobs.list(limit=100))
            jobs = list(listed)
            listed.require_complete("jobs")
    except TuneportError:
        return True
    return any(file_id in (job.training_file, job.validation_file) and job.status not in _OVER for job in jobs)
