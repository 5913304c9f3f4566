"""The estimator on a simulated link: what its windows do to the rate, and the rate to them."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest

from dynamo_h2.http2.bdp import FLOOR, LOST
from tests.http2.bdp_rig import GIGABIT, KIB, MIB, Link, Reader, World

SLOW = 20e6


def changes(world: World, since: float) -> list[int]:
    """The targets that were set after a moment."""
    return [target for at, target in world.receiver.targets if at > since]


# Growth.


@pytest.mark.parametrize("initial", [64 * KIB, 4 * MIB])
@pytest.mark.parametrize("rtt", [0.001, 0.02, 0.1, 0.2])
def test_a_gigabit_is_filled_within_ten_round_trips(rtt: float, initial: int) -> None:
    world = World(Link(GIGABIT, rtt / 2), initial=initial)
    first_byte = world.clock.now + rtt / 2
    world.sender.supply(inf)
    world.run(rtt / 2 + 14 * rtt)
    assert world.rate(first_byte + 10 * rtt, first_byte + 14 * rtt) >= 0.9 * GIGABIT
    assert world.bdp.target <= max(initial, 2.5 * world.link.product)


@pytest.mark.parametrize("rtt", [0.02, 0.2])
def test_without_a_known_round_trip_it_takes_three_more(rtt: float) -> None:
    world = World(Link(GIGABIT, rtt / 2), initial=64 * KIB, known_rtt=False)
    first_byte = world.clock.now + rtt / 2
    world.sender.supply(inf)
    world.run(rtt / 2 + 16 * rtt)
    assert world.rate(first_byte + 13 * rtt, first_byte + 16 * rtt) >= 0.9 * GIGABIT


@pytest.mark.parametrize("connection", [64 * KIB, 16 * MIB])
@pytest.mark.parametrize("streams", [2, 32])
def test_many_streams_grow_as_fast_as_one(streams: int, connection: int) -> None:
    """Whether their own windows are limiting or the connection's."""
    link = Link(GIGABIT, 0.05)
    world = World(link, streams=streams, initial=64 * KIB, connection=connection, frame=8 * KIB)
    first_byte = world.clock.now + link.delay
    world.sender.supply(inf)
    world.run(link.delay + 12 * link.rtt)
    assert world.rate(first_byte + 10 * link.rtt, world.clock.now) >= 0.9 * GIGABIT
    assert world.bdp.target <= 2.5 * link.product


def test_a_window_in_one_frame_grows_too() -> None:
    world = World(Link(GIGABIT, 0.05), initial=64 * KIB, frame=MIB)
    world.sender.supply(inf)
    world.run(1.5)
    assert world.rate(1.2, 1.5) >= 0.9 * GIGABIT


@pytest.mark.parametrize("turn", [0.0005, 0.005])
def test_a_loop_slower_than_the_path_finds_the_window_that_it_needs(turn: float) -> None:
    """What lies in the socket while the loop is busy is under way as well."""
    world = World(Link(GIGABIT, 0.0005), initial=64 * KIB, turn=turn)
    world.sender.supply(inf)
    world.run(0.5)
    assert world.rate(0.3, 0.5) >= 0.9 * GIGABIT
    assert world.bdp.target <= 8 * GIGABIT * (turn + world.link.rtt)


@pytest.mark.parametrize("jitter", [0.2, 1.0, 2.0])
def test_a_link_with_jitter_is_filled(jitter: float) -> None:
    """Its round trip is longer than the shortest, and the windows follow."""
    link = Link(SLOW, 0.025, 0.025 * jitter, seed=5)
    world = World(link, initial=64 * KIB)
    world.sender.supply(inf)
    world.run(40)
    assert world.rate(20, 40) >= 0.85 * SLOW
    assert world.bdp.target <= 6 * SLOW * 2 * (link.delay + link.jitter)


# A steady transfer.


@pytest.fixture(scope="module")
def steady() -> World:
    """Two minutes at 20 MB/s over 100 ms, with a peer whose socket takes whatever it is given."""
    world = World(Link(SLOW, 0.05, buffer=64 * MIB), frame=32 * KIB)
    world.sender.supply(inf)
    world.run(120)
    return world


def test_a_steady_transfer_keeps_its_rate(steady: World) -> None:
    assert steady.rate(2, 120) >= 0.98 * SLOW


def test_a_steady_transfer_has_twice_the_product_and_does_not_swing(steady: World) -> None:
    after = [steady.target_at(2), *changes(steady, 2)]
    assert all(1.5 <= target / steady.link.product <= 3 for target in after)
    assert len(after) <= 3


def test_a_steady_transfer_costs_a_dozen_pings_a_minute(steady: World) -> None:
    late = [at for at in steady.receiver.pings if at > 60]
    assert 6 <= len(late) <= 13


def test_our_own_queue_does_not_count_as_a_longer_path(steady: World) -> None:
    """Half of the window stands in line in the peer's socket, and has done so for two minutes."""
    assert steady.bdp._path.rtt <= 1.1 * steady.link.rtt


def test_a_path_without_a_queue_is_never_squeezed() -> None:
    world = World(Link(SLOW, 0.05, buffer=64 * KIB), frame=16 * KIB)
    world.sender.supply(inf)
    world.run(40)
    assert not world.receiver.squeezes
    assert world.rate(2, 40) >= 0.99 * SLOW


def test_an_initial_window_that_is_too_large_shrinks_when_that_is_sure_and_not_before() -> None:
    """4 MiB where 400 KB would do: the rest stands in line before every other stream."""
    world = World(Link(SLOW, 0.005), frame=32 * KIB)
    world.sender.supply(inf)
    world.run(10)
    assert world.bdp.target == 4 * MIB
    world.run(15)
    assert 0.99 <= world.bdp.target / (2 * world.link.product) <= 2
    assert world.rate(2, 25) >= 0.98 * SLOW


# A path that changes.


@pytest.mark.parametrize("at", [5.0, 8.0, 13.1, 13.5, 24.5, 24.92])
@pytest.mark.parametrize("buffer", [512 * KIB, 64 * MIB])
@pytest.mark.parametrize("rtt", [0.02, 0.2])
def test_a_rate_that_drops_to_a_tenth_is_followed_and_so_is_its_return(
    rtt: float, buffer: int, at: float
) -> None:
    link = Link(SLOW, rtt / 2, buffer=buffer)
    world = World(link, frame=int(min(32 * KIB, link.product / 32)))
    world.sender.supply(inf)
    world.run(at)

    link.rate /= 10
    world.run(25)
    wanted = max(2 * link.product, FLOOR)
    assert 0.9 <= world.bdp.target / wanted <= 1.6
    world.run(5)
    assert world.rate(at + 25, at + 30) >= 0.9 * link.rate

    link.rate *= 10
    back = world.clock.now
    world.run(16 * rtt)
    assert world.rate(back + 10.5 * rtt, back + 16 * rtt) >= 0.9 * link.rate


@pytest.mark.parametrize("at", [3.0, 14.0])
def test_a_path_that_becomes_longer_is_filled_again(at: float) -> None:
    link = Link(SLOW, 0.01, buffer=4 * MIB)
    world = World(link, frame=32 * KIB, initial=512 * KIB)
    world.sender.supply(inf)
    world.run(at)
    link.delay = 0.1
    world.run(20)
    assert world.rate(at + 15, at + 20) >= 0.9 * SLOW
    assert world.bdp.target <= 3 * link.product


def test_a_path_that_becomes_longer_never_starves() -> None:
    """Less comes in a round trip than was known, which is no reason to ask for less still."""
    link = Link(SLOW, 0.01, buffer=4 * MIB)
    world = World(link, frame=32 * KIB, initial=512 * KIB)
    world.sender.supply(inf)
    world.run(14)
    before = world.bdp.target
    link.delay = 0.1
    world.run(20)
    assert min(changes(world, 14)) >= before / 2


# Pauses.


def test_after_a_big_transfer_the_windows_return() -> None:
    world = World(Link(SLOW, 0.2), initial=256 * KIB)
    world.sender.supply(inf)
    world.run(5)
    assert world.bdp.target > 8 * MIB
    world.sender.stop()
    world.run(9)
    assert world.bdp.target > 8 * MIB
    world.run(30)
    assert world.bdp.target == 256 * KIB
    assert world.bdp.next_timer() == inf


def test_an_idle_connection_gives_its_credit_back_when_memory_is_short() -> None:
    world = World(Link(SLOW, 0.02))
    world.sender.supply(10 * MIB)
    world.run(5)
    world.bdp.pressed = True
    world.receiver.arm()
    world.run(60)
    assert world.bdp.target == FLOOR
    world.bdp.pressed = False
    since = world.clock.now
    world.sender.supply(inf)
    world.run(1)
    assert world.rate(since + 0.5, since + 1) >= 0.9 * SLOW


def test_bursts_that_need_the_window_keep_it() -> None:
    world = World(Link(SLOW, 0.1), initial=64 * KIB, frame=32 * KIB)
    world.trickle(500e3, 4.0)
    world.run(20)
    grown = world.bdp.target
    assert grown >= 2e6
    world.run(40)
    assert changes(world, 20) == []


def test_unary_responses_cost_a_ping_every_ten_seconds() -> None:
    world = World(Link(GIGABIT, 0.01))
    world.trickle(200e3, 0.1)
    world.run(80)
    late = [at for at in world.receiver.pings if at > 20]
    assert 5 <= len(late) <= 7
    assert world.receiver.targets == [(0.0, 4 * MIB)]


def test_a_silent_connection_costs_no_ping() -> None:
    world = World(Link(GIGABIT, 0.01))
    world.sender.supply(MIB)
    world.run(60)
    sent = len(world.receiver.pings)
    world.run(3600)
    assert len(world.receiver.pings) == sent


# Peers and readers that do not answer.


def test_a_peer_that_answers_no_ping_holds_up_nothing_but_the_samples() -> None:
    world = World(Link(SLOW, 0.05), initial=64 * KIB)
    world.sender.answers = False
    world.sender.supply(inf)
    world.run(50)
    assert world.rate(5, 50) >= 0.9 * SLOW
    pings = world.receiver.pings
    assert len(pings) == 3
    assert all(later - earlier >= LOST for earlier, later in pairwise(pings))
    world.sender.answers = True
    world.run(40)
    assert len(world.receiver.pings) >= 10


def test_a_peer_that_answers_after_five_seconds_is_waited_for() -> None:
    """And its windows stay within the bounds, however long it makes the path look."""
    link = Link(2e6, 2.5)
    world = World(link, initial=256 * KIB, ceiling=8 * MIB)
    world.sender.supply(inf)
    world.run(300)
    assert world.bdp.target == 8 * MIB
    assert all(later - earlier >= link.rtt for earlier, later in pairwise(world.receiver.pings))


def test_a_reader_that_stalls_and_goes_on_gets_its_rate_back() -> None:
    world = World(Link(SLOW, 0.05), initial=256 * KIB)
    world.sender.supply(inf)
    world.run(3)
    world.reader = Reader(0)
    world.run(10)
    assert world.receiver.backlog <= world.bdp.target
    stalled = world.bdp.target
    world.run(30)
    assert world.bdp.target <= stalled
    world.reader = Reader()
    world.receiver.go_on()
    since = world.clock.now
    world.run(2)
    assert world.rate(since + 1, since + 2) >= 0.9 * SLOW
