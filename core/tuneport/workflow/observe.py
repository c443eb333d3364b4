"""Events on their way to the plugins that observe them."""

from __future__ import annotations

from tuneport.contract.job import Job
from tuneport.doors import AUTHORS, public
from tuneport.ledger import Ledger
from tuneport.loader import load


@public(AUTHORS)
def deliver_events(job: Job) -> dict[str, str]:
    """Hand every observer the events of a job that it has not seen yet, in order; whoever owns the job calls this.

    A cursor per observer in the ledger makes it at least once. An observer that raises keeps its cursor, so that the
    event comes to it again, and starves no other; the reasons come back by observer.
    """
    plugins = load()
    broken: dict[str, str] = {}
    names = plugins.observers()
    if not names:
        return broken
    with Ledger.open() as ledger:
        for name in names:
            for event in job.events(ledger.history.cursor(name, job.ref)):
                reason = plugins.notify(name, job, event)
                if reason is not None:
                    broken[name] = reason
                    break
                ledger.history.set_cursor(name, job.ref, event.seq)
    return broken
