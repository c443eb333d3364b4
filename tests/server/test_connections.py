"""Which connection is closed for a new one."""

from __future__ import annotations

from dataclasses import dataclass, field

from tuneport_server.network.connections import Connections


@dataclass(eq=False)
class Guest:
    name: str
    left: list[str] = field(default_factory=list)
    is_busy: bool = False

    def give_up_place(self) -> None:
        self.left.append(self.name)


def test_unknown_connections_are_replaced_first_and_no_address_takes_every_place() -> None:
    connections, left = Connections(most=8, of_address=4), []

    def come(name: str, address: str, *, known: bool = False, busy: bool = False) -> bool:
        if not connections.admit(address):
            return False
        guest = Guest(name, left, busy)
        connections.add(guest, address)
        if known:
            connections.recognize(guest, known=True)
        return True

    assert come("known", "10.0.0.1", known=True, busy=True)
    assert all(come(f"unknown {number}", "10.0.0.1") for number in range(10))
    assert left == [f"unknown {number}" for number in range(7)]  # three and the known one
    left.clear()
    assert all(come(f"neighbor {number}", f"2001:db8::{number:x}") for number in range(5))  # one network
    assert left == ["neighbor 0"]
    assert come("far", "2001:db8:1::1")
    assert left == ["neighbor 0", "unknown 7"]  # all eight places are taken: the oldest unknown goes
    left.clear()
    assert all(come(f"user {number}", f"10.0.1.{number}", known=True, busy=True) for number in range(7))
    assert len(left) == 7
    assert not come("nobody", "10.0.2.1")  # eight requests of known tokens are in progress


def test_an_answered_unknown_connection_is_replaced_first_and_one_that_waits_last() -> None:
    connections, left = Connections(most=8, of_address=5), []
    guests = {name: Guest(name, left, is_busy=True) for name in ("waiting", "first", "answered", "known")}
    for guest in guests.values():
        connections.add(guest, "10.0.0.1")
    connections.hold(guests["waiting"])
    connections.release(guests["answered"])
    connections.recognize(guests["known"], known=True)
    connections.release(guests["known"])  # which changes nothing: it is known already

    def come(*names: str) -> None:
        for name in names:
            assert connections.admit("10.0.0.1")
            connections.add(Guest(name, left), "10.0.0.1")

    come("second", "third", "fourth", "fifth")
    assert left == ["answered", "first", "second"]
    connections.release(guests["waiting"])
    come("sixth")
    assert left[3:] == ["waiting"]


def test_connections_that_wait_for_an_answer_leave_room_for_new_ones() -> None:
    connections, left = Connections(most=8, of_address=6), []
    for number in range(6):
        assert connections.admit("10.0.0.1")
        connections.add(guest := Guest(str(number), left), "10.0.0.1")
        connections.hold(guest)
    assert connections.admit("10.0.0.1")
    assert left == ["1"]  # a quarter of the places are held


def test_arriving_forms_take_no_place_from_those_that_have_arrived() -> None:
    connections, left = Connections(most=8, of_address=6), []
    guests = [Guest(str(number), left) for number in range(6)]
    for guest in guests:
        assert connections.admit("10.0.0.1")
        connections.add(guest, "10.0.0.1")
        connections.expect(guest)
    connections.hold(guests[3])
    for _ in range(5):
        assert connections.admit("10.0.0.1")
        connections.add(late := Guest("late", left), "10.0.0.1")
        connections.expect(late)
    assert "3" not in left  # its form has arrived
    assert left[:5] == ["1", "2", "4", "5", "late"]  # a place is kept for one form on its way, too
    assert "0" not in left


def test_an_idle_known_connection_is_replaced_if_there_is_no_unknown_one() -> None:
    connections, left = Connections(most=4, of_address=4), []
    guests = [Guest(str(number), left) for number in range(3)]
    for guest in guests:
        assert connections.admit("::ffff:127.0.0.1")
        connections.add(guest, "::ffff:127.0.0.1")
        connections.recognize(guest, known=True)
    guests[0].is_busy = True
    assert connections.admit("::1")
    assert left == ["1"]
    connections.recognize(guests[2], known=False)
    assert connections.admit("127.0.0.9") and left == ["1"]
