"""What was started from this machine, written down before the act."""

from __future__ import annotations

from tuneport.ledger.ledger import Ledger
from tuneport.ledger.records import STAGES, IntentState, JobRecord, RunRecord, Stage
from tuneport.ledger.scratch import Scratch

__all__ = ["STAGES", "IntentState", "JobRecord", "Ledger", "RunRecord", "Scratch", "Stage"]
