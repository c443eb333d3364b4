"""Remedies for findings: a new file, and a record of each change."""
