"""The report of a run: one HTML file that needs nothing else."""

from tuneport.reports.data import RecordedTraining, ReportData, Sample
from tuneport.reports.lineage import lineage_facts
from tuneport.reports.page import page, write_report
from tuneport.reports.paths import without_paths
from tuneport.reports.times import Times, times_of

__all__ = [
    "RecordedTraining",
    "ReportData",
    "Sample",
    "Times",
    "lineage_facts",
    "page",
    "times_of",
    "without_paths",
    "write_report",
]
