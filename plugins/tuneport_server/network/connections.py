"""Which connections are open: limits in total and per address, and which one is closed for a new one."""

from __future__ import annotations

import resource
from collections import Counter, OrderedDict
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from itertools import chain
from typing import Protocol

from tuneport.errors import UsageError

_WANTED = 16_384  # file descriptors; more than this server can use
_OWN = 128  # descriptors for the store, job files, logs and pipes
_LEAST = 16
_MOST = 4096


class Closable(Protocol):
    """A connection, as this module needs it."""

    @property
    def is_busy(self) -> bool:
        """Is a request in progress?"""

    def give_up_place(self) -> None:
        """Close it, because another connection needs its place."""


class Connections:
    """The open connections. One whose latest request had a known access token is *known*; all others are *unknown*.

    At a limit, a new connection replaces an unknown one: one that was answered, else the oldest. An unknown connection
    is *expected* while its form arrives after the head, and *held* while the server works on a request that has arrived
    completely; expected ones are replaced only if there are no other unknown ones, and held ones only if there are no
    expected ones. Slow forms take no place from held connections. Without unknown connections, a new one replaces an
    idle known one. So unknown connections displace each other, a login gets its response, and a client with a token
    gets in.
    """

    def __init__(self, most: int, of_address: int) -> None:
        self._most = most
        self._share = max(1, most * 3 // 4)  # of one address, so that others always find a place
        self._of_address = min(of_address, self._share)
        self._all: dict[Closable, str] = {}
        self._count: Counter[str] = Counter()
        self._unknown, self._expected, self._held, self._known = _Line(), _Line(), _Line(), _Line()

    def admit(self, address: str) -> bool:
        """May one more connection from this address be opened? Closes another one for it if necessary."""
        key = _key(address)
        bound = self._share if key == "loopback" else self._of_address
        if self._count[key] >= bound:
            return self._displace(key)
        return len(self._all) < self._most or self.make_room()

    def make_room(self) -> bool:
        """Close one connection that is not in use, from any address. Returns False if there is none."""
        return self._displace(None)

    def add(self, one: Closable, address: str) -> None:
        """Add a connection. It is unknown until it shows a known token."""
        key = _key(address)
        self._all[one] = key
        self._count[key] += 1
        self._unknown.add(one, key)

    def remove(self, one: Closable) -> None:
        """Remove a connection that is closed. May be repeated."""
        key = self._all.pop(one, None)
        if key is None:
            return
        self._count[key] -= 1
        if not self._count[key]:
            del self._count[key]
        self._leave(one)

    def recognize(self, one: Closable, *, known: bool) -> None:
        """Record whether the request in progress has a known access token."""
        if one not in self._all:
            return
        if known:
            self._move(one, self._known)
        elif one in self._known:
            self._move(one, self._unknown)

    def expect(self, one: Closable) -> None:
        """Keep an unknown connection whose form has started to arrive, until it is held or released."""
        self._keep(one, self._expected)

    def hold(self, one: Closable) -> None:
        """Keep an unknown connection whose request has arrived completely, until it is answered."""
        self._keep(one, self._held)

    def release(self, one: Closable) -> None:
        """Record that the response begins: an unknown connection is from now on the first to be replaced."""
        if one in self._all and one not in self._known:
            self._move(one, self._unknown, first=True)

    def _keep(self, one: Closable, line: _Line) -> None:
        if one not in self._all or one in self._known:
            return
        if line.count(self._all[one]) < max(1, self._share // 4):
            self._move(one, line)

    def _displace(self, key: str | None) -> bool:
        unknown = (line.of(key) for line in (self._unknown, self._expected, self._held))
        lines = (*unknown, (one for one in self._known.of(key) if not one.is_busy))
        replaced = next(chain.from_iterable(lines), None)
        if replaced is None:
            return False
        self.remove(replaced)
        replaced.give_up_place()
        return True

    def _move(self, one: Closable, line: _Line, *, first: bool = False) -> None:
        self._leave(one)
        line.add(one, self._all[one], first=first)

    def _leave(self, one: Closable) -> None:
        for line in (self._unknown, self._expected, self._held, self._known):
            line.discard(one)


class _Line:
    """Connections in the order in which they are replaced, in total and per address."""

    def __init__(self) -> None:
        self._all: OrderedDict[Closable, str] = OrderedDict()
        self._of: dict[str, OrderedDict[Closable, None]] = {}

    def __contains__(self, one: Closable) -> bool:
        return one in self._all

    def of(self, key: str | None) -> Iterable[Closable]:
        return self._all if key is None else self._of.get(key, ())

    def count(self, key: str) -> int:
        return len(self._of.get(key, ()))

    def add(self, one: Closable, key: str, *, first: bool = False) -> None:
        of_address = self._of.setdefault(key, OrderedDict())
        self._all[one], of_address[one] = key, None
        if first:
            self._all.move_to_end(one, last=False)
            of_address.move_to_end(one, last=False)

    def discard(self, one: Closable) -> None:
        key = self._all.pop(one, None)
        if key is None:
            return
        del self._of[key][one]
        if not self._of[key]:
            del self._of[key]


def most_connections() -> int:
    """Raise the limit on open files as far as possible, and return how many connections it allows. Each connection may
    need a second descriptor, for a file that is read or written. Raises UsageError if too few are allowed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (ValueError, OSError):  # macOS: the system may allow fewer than it reports
            pass
    room = (soft - _OWN) // 2
    if room < _LEAST:
        raise UsageError(
            f"This process may open only {soft} files, too few for a server.",
            remedy="Raise the limit first: ulimit -n 1024",
        )
    return min(room, _MOST)


def _key(address: str) -> str:
    """Return what counts as one address: an IPv6 host has a /64 network to choose from."""
    try:
        host = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(host, IPv6Address):
        if host.ipv4_mapped is None:
            return "loopback" if host.is_loopback else str(int(host) >> 64)
        host = host.ipv4_mapped
    return "loopback" if host.is_loopback else str(host)
