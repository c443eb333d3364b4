"""Several jobs on one device: a queue in home for each backend, first come, first served."""

from __future__ import annotations

from collections.abc import Sequence

from tuneport.homefolder import home
from tuneport.local import waiting


class Slots:
    """The queue of one backend's jobs for its devices."""

    def __init__(self, backend: str) -> None:
        self.folder = str(home("slots", backend))
        self.jobs = str(home("jobs", backend))

    def join(self, job: str, pool: str) -> None:
        """Put a job at the end of the queue for a kind of device, such as "cpu" or "cuda"."""
        with waiting.Queue(self.folder, self.jobs) as tickets:
            tickets[:] = [ticket for ticket in tickets if ticket.job != job]
            tickets.append(waiting.Ticket(job, pool))

    def claim(self, job: str, pool: str, devices: Sequence[str], per_device: int) -> str | None:
        """The device for a job whose turn it is, or None; a job that has a device keeps it. `devices` are the names
        within the pool; each takes `per_device` jobs.
        """
        with waiting.Queue(self.folder, self.jobs) as tickets:
            return waiting.claim(tickets, job, pool, devices, per_device)

    def position(self, job: str) -> int | None:
        """How many jobs are ahead of this one, including those on the device; 0: it has its device; None: not in the
        queue. Jobs that died less than a second ago may be counted.
        """
        found = self.place(job)
        return found[1] if found else None

    def place(self, job: str) -> tuple[str, int] | None:
        """The kind of device that a job waits for, and its position."""
        tickets = waiting.read(self.folder)
        mine = next((place for place, ticket in enumerate(tickets) if ticket.job == job), None)
        if mine is None:
            return None
        pool = tickets[mine].pool
        return pool, 0 if tickets[mine].device else sum(ticket.pool == pool for ticket in tickets[:mine])

    def leave(self, job: str) -> None:
        """Give up the device or the place in the queue."""
        with waiting.Queue(self.folder, self.jobs) as tickets:
            tickets[:] = [ticket for ticket in tickets if ticket.job != job]


def describe_place(pool: str, place: int) -> str:
    """The message of a job that waits in the queue."""
    return f"Waiting for the {pool} device: {'1 job' if place == 1 else f'{place} jobs'} ahead of it."
