"""The HTML report of a job, from what its run left in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.contract.events import Status, utc_now
from tuneport.doors import public
from tuneport.errors import DataError, NotFoundError
from tuneport.ledger import Ledger
from tuneport.refs import Ref
from tuneport.units import finite
from tuneport.workflow.opening import default_report, open_backend, open_job

if TYPE_CHECKING:
    from tuneport.evaluate import Comparison
    from tuneport.reports import RecordedTraining


@public()
def report(ref: str | Ref, path: str | Path | None = None, *, paths: bool = False) -> Path:
    """Write the HTML report of a job and return its path: `path`, or by default a file in tuneport's home.

    The page shows the names of files without their folders, so that you can send it to others; `paths` keeps the
    folders. Raises JobNotFound, and OSError if the file cannot be written.
    """
    from tuneport.reports import ReportData, Sample, without_paths, write_report

    job = open_job(ref)
    state = job.state()
    results = run_results(job.ref)
    trained = results.get("trained", {})
    lineage = job.result().lineage if state.status is Status.SUCCEEDED else None
    missing = open_backend(job.ref.backend).missing(job.ref.name) if lineage else ""
    with Ledger.open() as ledger:
        record = ledger.keep_state(job.ref, state)
    page = ReportData(
        ref=str(job.ref),
        base=str(record.base),
        created=utc_now(),
        state={**state.to_dict(), "missing": missing},
        events=tuple(job.events()),
        config={
            **(record.config or {"model": str(record.base)}),
            "backends": {record.ref.backend: dict(record.settings)},
        },
        lineage=lineage.to_dict() if lineage else {},
        plan=results.get("planned"),
        check=results.get("checked"),
        comparison=found_comparison(job.ref),
        recorded=_recorded_training(record.config),
        samples=tuple(Sample(**one) for one in trained.get("samples", ()) if trained.get("job") == str(job.ref)),
        usd=finite(state.details.get("usd")),
        machine={name: value for name, value in state.details.items() if isinstance(value, str)},
    )
    return write_report(Path(path) if path else default_report(job.ref), page if paths else without_paths(page))


def found_comparison(ref: Ref) -> Comparison | None:
    """The comparison that the job's run made of its model, if it made one."""
    from tuneport.evaluate import Comparison

    compared = run_results(ref).get("compared", {})
    return Comparison.from_dict(compared["comparison"]) if compared.get("job") == str(ref) else None


def run_results(ref: Ref) -> dict[str, Any]:
    """What the stages of the job's run left in the ledger; empty if no run started the job."""
    with Ledger.open() as ledger:
        try:
            record = ledger.job(ref)
        except NotFoundError:
            return {}
        return dict(ledger.run(record.run).results) if record.run else {}


def _recorded_training(config: Mapping[str, Any] | None) -> RecordedTraining | None:
    """The training of the recorded model that the run's config names, if the record can be read."""
    from tuneport.evaluate import Record
    from tuneport.reports import RecordedTraining

    folder = ((config or {}).get("compare") or {}).get("record")
    if not folder:
        return None
    with suppress(DataError):  # the folder may be gone; the report does not need it
        kept = Record.open(folder)
        return RecordedTraining(model=kept.model, events=tuple(kept.events()))
    return None
