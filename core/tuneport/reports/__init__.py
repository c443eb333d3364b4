"""The page of a run: one HTML file that needs nothing else."""

from tuneport.reports.data import Beside, ReportData, Sample
from tuneport.reports.page import page, write_report
from tuneport.reports.paths import without_paths

__all__ = ["Beside", "ReportData", "Sample", "page", "without_paths", "write_report"]
