"""Several jobs, one device: a queue in home, first come first served."""

from __future__ import annotations

from collections.abc import Sequence

from tuneport.plugin import home
from tuneport_torch.jobs import waiting


def places() -> tuple[str, str]:
    """The folders of the queue and of the jobs in it."""
    return str(home("slots", "torch")), str(home("jobs", "torch"))


def join(job: str, pool: str) -> None:
    """Stand at the end of the queue for a kind of device: "cpu", "cuda" or "mps"."""
    with waiting.Queue(*places()) as tickets:
        tickets[:] = [ticket for ticket in tickets if ticket.job != job]
        tickets.append(waiting.Ticket(job, pool))


def claim(job: str, pool: str, devices: Sequence[str], per_device: int) -> str | None:
    """The device for a job whose turn it is, or None; one that has a device keeps it. `devices` are the names within
    the pool, of which each takes `per_device` jobs.
    """
    with waiting.Queue(*places()) as tickets:
        return waiting.claim(tickets, job, pool, devices, per_device)


def position(job: str) -> int | None:
    """How many jobs are before this one, those on the device included; 0: it has its device; None: not in the queue.
    Jobs that died less than a second ago may be counted.
    """
    tickets = waiting.read(places()[0])
    mine = next((place for place, ticket in enumerate(tickets) if ticket.job == job), None)
    if mine is None:
        return None
    return 0 if tickets[mine].device else sum(ticket.pool == tickets[mine].pool for ticket in tickets[:mine])


def told(pool: str, place: int) -> str:
    """What a job that waits says."""
    return f"Waiting for the {pool} device: {'1 job' if place == 1 else f'{place} jobs'} before it."


def leave(job: str) -> None:
    """Give the device or the place in the queue back."""
    with waiting.Queue(*places()) as tickets:
        tickets[:] = [ticket for ticket in tickets if ticket.job != job]
