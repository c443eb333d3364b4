"""Who is connected: how many at most in all and from one address, and who makes way for a newcomer."""

from __future__ import annotations

import resource
from collections import Counter, OrderedDict
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from itertools import chain
from typing import Protocol

from tuneport.errors import UsageError

_WANTED = 16_384  # descriptors; more than this server can use
_OWN = 128  # descriptors for the store, job files, logs and pipes
_LEAST = 16
_MOST = 4096


class Visitor(Protocol):
    """A connection, as this room needs it."""

    @property
    def busy(self) -> bool:
        """Whether a request is under way on it."""

    def make_way(self) -> None:
        """Close it, because another one needs its place."""


class Connections:
    """The open connections. One whose latest request brought a known token is *known*; all others are *strangers*.

    At a bound, a newcomer takes the place of a stranger: of one that was answered, else of the one that came first. A
    stranger is *expected* while its form follows the head, and *held* while the server works on a request that has
    arrived in full: each of them makes way only when none of the kind before is left. Slow forms take no place of those
    that have arrived. Without strangers, a newcomer takes the place of a known connection at rest. So crowds of
    strangers displace each other, a login gets its answer, and a client with a token gets in.
    """

    def __init__(self, most: int, of_address: int) -> None:
        self._most = most
        self._share = max(1, most * 3 // 4)  # of one address, so that others always find a place
        self._of_address = min(of_address, self._share)
        self._all: dict[Visitor, str] = {}
        self._count: Counter[str] = Counter()
        self._strangers, self._expected, self._held, self._known = _Line(), _Line(), _Line(), _Line()

    def admit(self, address: str) -> bool:
        """Whether one more may come from there; what has to make way for it is closed."""
        key = _key(address)
        bound = self._share if key == "loopback" else self._of_address
        if self._count[key] >= bound:
            return self._displace(key)
        return len(self._all) < self._most or self.make_room()

    def make_room(self) -> bool:
        """Close one connection that nobody would miss, wherever it comes from; False if there is none."""
        return self._displace(None)

    def add(self, visitor: Visitor, address: str) -> None:
        """A new one; a stranger until it shows a token."""
        key = _key(address)
        self._all[visitor] = key
        self._count[key] += 1
        self._strangers.add(visitor, key)

    def remove(self, visitor: Visitor) -> None:
        """It is closed. May be repeated."""
        key = self._all.pop(visitor, None)
        if key is None:
            return
        self._count[key] -= 1
        if not self._count[key]:
            del self._count[key]
        self._leave(visitor)

    def recognize(self, visitor: Visitor, *, known: bool) -> None:
        """Whether the request that is under way brought a known token."""
        if visitor not in self._all:
            return
        if known:
            self._move(visitor, self._known)
        elif visitor in self._known:
            self._move(visitor, self._strangers)

    def expect(self, visitor: Visitor) -> None:
        """Keep a stranger whose form has begun, until it is held or released."""
        self._keep(visitor, self._expected)

    def hold(self, visitor: Visitor) -> None:
        """Keep a stranger whose request has arrived in full, until it is answered."""
        self._keep(visitor, self._held)

    def release(self, visitor: Visitor) -> None:
        """Its answer begins: a stranger is from now on the first to make way."""
        if visitor in self._all and visitor not in self._known:
            self._move(visitor, self._strangers, first=True)

    def _keep(self, visitor: Visitor, line: _Line) -> None:
        if visitor not in self._all or visitor in self._known:
            return
        if line.count(self._all[visitor]) < max(1, self._share // 4):
            self._move(visitor, line)

    def _displace(self, key: str | None) -> bool:
        strangers = (line.of(key) for line in (self._strangers, self._expected, self._held))
        lines = (*strangers, (one for one in self._known.of(key) if not one.busy))
        unwanted = next(chain.from_iterable(lines), None)
        if unwanted is None:
            return False
        self.remove(unwanted)
        unwanted.make_way()
        return True

    def _move(self, visitor: Visitor, line: _Line, *, first: bool = False) -> None:
        self._leave(visitor)
        line.add(visitor, self._all[visitor], first=first)

    def _leave(self, visitor: Visitor) -> None:
        for line in (self._strangers, self._expected, self._held, self._known):
            line.discard(visitor)


class _Line:
    """Connections in the order in which they make way, in all and of each address."""

    def __init__(self) -> None:
        self._all: OrderedDict[Visitor, str] = OrderedDict()
        self._of: dict[str, OrderedDict[Visitor, None]] = {}

    def __contains__(self, visitor: Visitor) -> bool:
        return visitor in self._all

    def of(self, key: str | None) -> Iterable[Visitor]:
        return self._all if key is None else self._of.get(key, ())

    def count(self, key: str) -> int:
        return len(self._of.get(key, ()))

    def add(self, visitor: Visitor, key: str, *, first: bool = False) -> None:
        of_address = self._of.setdefault(key, OrderedDict())
        self._all[visitor], of_address[visitor] = key, None
        if first:
            self._all.move_to_end(visitor, last=False)
            of_address.move_to_end(visitor, last=False)

    def discard(self, visitor: Visitor) -> None:
        key = self._all.pop(visitor, None)
        if key is None:
            return
        del self._of[key][visitor]
        if not self._of[key]:
            del self._of[key]


def most_connections() -> int:
    """How many connections the limit of open files has room for, after raising it as far as it may be raised. Each
    may need a second descriptor, for a file that is read or written. Raises UsageError when there is room for few.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (ValueError, OSError):  # macOS: the system may allow fewer than it says
            pass
    room = (soft - _OWN) // 2
    if room < _LEAST:
        raise UsageError(
            f"This process may open {soft} files, too few to serve.", remedy="Raise the limit first: ulimit -n 1024"
        )
    return min(room, _MOST)


def _key(address: str) -> str:
    """What counts as one address: an IPv6 host has a /64 network to choose from."""
    try:
        host = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(host, IPv6Address):
        if host.ipv4_mapped is None:
            return "loopback" if host.is_loopback else str(int(host) >> 64)
        host = host.ipv4_mapped
    return "loopback" if host.is_loopback else str(host)
