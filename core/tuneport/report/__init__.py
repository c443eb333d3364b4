"""The page of a run: one HTML file that needs nothing else."""

from tuneport.report.data import ReportData, Sample

__all__ = ["ReportData", "Sample"]
