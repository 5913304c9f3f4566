"""Which address of a host is tried next, told in plain numbers."""

from __future__ import annotations

import socket
from math import inf

import pytest

from dynamo_h2.transport.addresses import FIRST_PAUSE, LONGEST_PAUSE, Addresses
from dynamo_h2.transport.sockets import Address


def v4(number: int) -> Address:
    return Address(socket.AF_INET, (f"10.0.0.{number}", 80))


def v6(number: int) -> Address:
    return Address(socket.AF_INET6, (f"fd00::{number}", 80, 0, 0))


def knowing(*known: Address, draw: float = 1.0) -> Addresses:
    """Addresses that are known, with pauses that are always the same part of the longest."""
    addresses = Addresses(lambda: draw)
    addresses.learn(known)
    return addresses


def connect(addresses: Addresses, **options: bool) -> Address:
    """Dial the best address."""
    best = addresses.order(0.0, **options)[0]
    addresses.dialled(best)
    addresses.connected(best)
    return best


def test_the_first_dial_leaves_the_order_of_the_families_as_it_is() -> None:
    known = [v6(1), v4(1), v6(2), v4(2)]
    assert knowing(*known).order(0.0) == known


def test_addresses_are_taken_in_turn() -> None:
    addresses = knowing(v4(1), v4(2), v4(3))
    assert [connect(addresses) for _ in range(6)] == [v4(n) for n in (1, 2, 3, 1, 2, 3)]


def test_the_turn_goes_on_when_connections_have_gone() -> None:
    addresses = knowing(v4(1), v4(2), v4(3))
    for number in (1, 2, 3, 1):
        assert connect(addresses) == v4(number)
        addresses.left(v4(number))


def test_the_address_with_the_fewest_connections_is_next() -> None:
    addresses = knowing(v4(1), v4(2), v4(3))
    for _ in range(6):
        connect(addresses)
    addresses.left(v4(2))
    assert connect(addresses) == v4(2)


def test_the_family_that_has_connected_goes_first() -> None:
    addresses = knowing(v6(1), v4(1), v6(2), v4(2))
    addresses.connected(v4(1))
    assert addresses.order(0.0) == [v4(2), v4(1), v6(1), v6(2)]
    assert addresses.order(0.0, unused_only=True) == [v4(2)]


@pytest.mark.parametrize(
    ("known", "several"),
    [([], False), ([v4(1)], False), ([v4(1), v6(1)], False), ([v6(1), v4(1), v6(2)], True)],
)
def test_the_families_are_two_ways_to_the_same_places(known: list[Address], several: bool) -> None:
    assert knowing(*known).several is several


def test_a_family_that_is_no_more_does_not_count() -> None:
    addresses = knowing(v6(1), v4(1))
    addresses.connected(v6(1))
    addresses.learn([v4(1), v4(2)])
    assert addresses.several
    assert addresses.order(0.0, unused_only=True) == [v4(1), v4(2)]


def test_pauses_double_up_to_the_longest() -> None:
    addresses = knowing(v4(1))
    now, pauses = 100.0, []
    for _ in range(12):
        addresses.failed([v4(1)], now)
        pauses.append(addresses.next_try() - now)
    assert pauses[:4] == pytest.approx([FIRST_PAUSE, 2 * FIRST_PAUSE, 0.2, 0.4])
    assert pauses[7:] == pytest.approx([LONGEST_PAUSE] * 5)


@pytest.mark.parametrize("draw", [0.0, 0.25, 0.999])
def test_a_pause_is_a_random_part_of_what_it_may_be(draw: float) -> None:
    addresses = knowing(v4(1), draw=draw)
    addresses.failed([v4(1)], 100.0)
    assert addresses.next_try() - 100 == pytest.approx(draw * FIRST_PAUSE)


def test_an_address_that_failed_is_left_alone_while_others_are_tried() -> None:
    addresses = knowing(v4(1), v4(2))
    addresses.failed([v4(1)], 0.0)
    assert addresses.order(0.0) == [v4(2)]
    assert addresses.next_try() == 0.0
    assert addresses.order(FIRST_PAUSE) == [v4(1), v4(2)]


def test_settings_make_failures_good() -> None:
    addresses = knowing(v4(1))
    for _ in range(5):
        addresses.failed([v4(1)], 0.0)
    addresses.succeeded(v4(1))
    assert addresses.next_try() == 0.0
    addresses.failed([v4(1)], 0.0)
    assert addresses.next_try() == FIRST_PAUSE


def test_an_address_without_a_connection_is_vacant_until_it_has_one() -> None:
    addresses = knowing(v4(1), v4(2))
    addresses.connected(v4(1))
    assert addresses.vacant_at() == 0.0
    addresses.failed([v4(2)], 0.0)
    assert addresses.vacant_at() == FIRST_PAUSE
    addresses.connected(v4(2))
    assert addresses.vacant_at() == inf


def test_a_new_answer_keeps_what_is_known_of_those_in_it() -> None:
    addresses = knowing(v4(1), v4(2))
    addresses.failed([v4(1), v4(2)], 0.0)
    addresses.learn([v4(2), v4(3)])
    assert (v4(1) in addresses, v4(2) in addresses) == (False, True)
    assert addresses.order(0.0) == [v4(3)]
    addresses.learn([v4(1)])
    assert addresses.order(0.0) == [v4(1)]


def test_an_empty_answer_changes_nothing() -> None:
    addresses = knowing(v4(1))
    addresses.learn([])
    assert addresses.order(0.0) == [v4(1)]


def test_a_name_without_an_answer_is_left_alone_too() -> None:
    addresses = knowing()
    addresses.unresolved(0.0)
    assert addresses.next_try() == FIRST_PAUSE
    addresses.learn([v4(1)])
    assert addresses.any_known
    assert addresses.next_try() == 0.0


def test_what_happens_to_addresses_that_are_no_more_does_not_matter() -> None:
    addresses = knowing(v4(1))
    for forget in (addresses.dialled, addresses.connected, addresses.left, addresses.succeeded):
        forget(v4(9))
    addresses.failed([v4(9)], 0.0)
    assert addresses.order(0.0) == [v4(1)]
