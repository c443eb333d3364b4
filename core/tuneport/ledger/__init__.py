"""What was started from this machine, written down before the act."""

from __future__ import annotations

from tuneport.ledger.ledger import Ledger, Scratch
from tuneport.ledger.records import STAGES, IntentState, JobRecord, ModelRecord, RunRecord, Stage

__all__ = ["STAGES", "IntentState", "JobRecord", "Ledger", "ModelRecord", "RunRecord", "Scratch", "Stage"]
