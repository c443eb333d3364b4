"""Who is connected: how many at most in all and from one address, and who makes way for a newcomer."""

from __future__ import annotations

import resource
from collections import Counter, OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from tuneport import UsageError

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

    At a bound, a newcomer takes the place of a stranger: of one whose request had no known token, else of the one that
    came first. Without strangers it takes that of a known connection at rest. So crowds of strangers displace each
    other, and a client with a token gets in.
    """

    def __init__(self, most: int, of_address: int) -> None:
        self._most = most
        self._share = max(1, most * 3 // 4)  # of one address, so that others always find a place
        self._of_address = min(of_address, self._share)
        self._all: dict[Visitor, str] = {}
        self._count: Counter[str] = Counter()
        self._known: OrderedDict[Visitor, None] = OrderedDict()
        self._strangers: OrderedDict[Visitor, None] = OrderedDict()
        self._strangers_of: dict[str, OrderedDict[Visitor, None]] = {}

    def admit(self, address: str) -> bool:
        """Whether one more may come from there; what has to make way for it is closed."""
        key = _key(address)
        bound = self._share if key == "loopback" else self._of_address
        if self._count[key] >= bound:
            return self._displace(self._strangers_of.get(key), key)
        return len(self._all) < self._most or self.make_room()

    def make_room(self) -> bool:
        """Close one connection that nobody would miss, wherever it comes from; False if there is none."""
        return self._displace(self._strangers, None)

    def add(self, visitor: Visitor, address: str) -> None:
        """A new one; a stranger until it shows a token."""
        key = _key(address)
        self._all[visitor] = key
        self._count[key] += 1
        self._strangers[visitor] = None
        self._strangers_of.setdefault(key, OrderedDict())[visitor] = None

    def remove(self, visitor: Visitor) -> None:
        """It is closed. May be repeated."""
        key = self._all.pop(visitor, None)
        if key is None:
            return
        self._count[key] -= 1
        if not self._count[key]:
            del self._count[key]
        self._known.pop(visitor, None)
        self._no_stranger(visitor, key)

    def recognize(self, visitor: Visitor, *, known: bool) -> None:
        """Whether its latest request brought a known token. One that did not is the first to make way."""
        key = self._all.get(visitor)
        if key is None:
            return
        if known:
            self._no_stranger(visitor, key)
            self._known[visitor] = None
            self._known.move_to_end(visitor)
            return
        self._known.pop(visitor, None)
        for strangers in (self._strangers, self._strangers_of.setdefault(key, OrderedDict())):
            strangers[visitor] = None
            strangers.move_to_end(visitor, last=False)  # before those of whom nothing is known yet

    def _displace(self, strangers: OrderedDict[Visitor, None] | None, key: str | None) -> bool:
        oldest = next(iter(strangers or ()), None)
        if oldest is None:
            resting = (one for one in self._known if not one.busy and (key is None or self._all[one] == key))
            oldest = next(resting, None)
        if oldest is None:
            return False
        self.remove(oldest)
        oldest.make_way()
        return True

    def _no_stranger(self, visitor: Visitor, key: str) -> None:
        self._strangers.pop(visitor, None)
        of_address = self._strangers_of.get(key)
        if of_address is not None:
            of_address.pop(visitor, None)
            if not of_address:
                del self._strangers_of[key]


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
