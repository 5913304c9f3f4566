"""What holds for the estimator over any link, any application and any reader."""

from __future__ import annotations

from itertools import pairwise
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_h2.http2.bdp import FLOOR, PAUSE
from tests.http2.bdp_rig import KIB, MIB, Link, Reader, World

CEILING = 64 * MIB


@st.composite
def links(draw: st.DrawFn, jitter: float = 0.0) -> Link:
    """A link between a rack and another continent, with anything from a small to a vast buffer."""
    rate = 10 ** draw(st.floats(6, 8.1))
    delay = 10 ** draw(st.floats(-3.3, -0.9))
    buffer = int(draw(st.floats(0.1, 8)) * max(2 * rate * delay, FLOOR))
    extra = draw(st.floats(0, jitter)) * delay
    return Link(rate, delay, extra, buffer, seed=draw(st.integers(0, 99)))


@st.composite
def worlds(draw: st.DrawFn, jitter: float = 0.0) -> World:
    """A link, and windows to begin with; frames such that some dozens fill it."""
    link = draw(links(jitter))
    frame = int(min(max(link.product / 24, KIB), 128 * KIB))
    initial = int(min(draw(st.sampled_from([64 * KIB, 512 * KIB, 4 * MIB])), 64 * frame))
    connection = initial * draw(st.sampled_from([1, 4]))
    streams = draw(st.integers(1, 4))
    return World(link, initial=initial, connection=connection, streams=streams, frame=frame)


def check_bounds(world: World) -> None:
    """What holds always."""
    floor = min(FLOOR, world.initial)
    assert all(floor <= target <= CEILING for _, target in world.receiver.targets)
    pings = world.receiver.pings
    apart = min((later - earlier for earlier, later in pairwise(pings)), default=inf)
    assert apart >= PAUSE - 1e-9


def check_credit(world: World) -> None:
    """At rest, what the sender may send is what the receiver granted, and none is lost."""
    sender, receiver = world.sender, world.receiver
    assert not receiver.backlog
    assert sender.credit == receiver.connection.current_window_size
    windows = [receiver.connection]
    for stream_id, window in receiver.streams.items():
        assert sender.streams[stream_id].credit == window.current_window_size
        windows.append(window)
    for window in windows:
        assert window.current_window_size + window.owed >= window.max_window_size


@given(worlds())
def test_any_link_is_filled_within_twelve_round_trips(world: World) -> None:
    link = world.link
    start = world.clock.now + link.delay
    world.sender.supply(inf)
    world.run(link.delay + 20 * link.rtt)
    assert world.rate(start + 12 * link.rtt, start + 20 * link.rtt) >= 0.9 * link.rate
    check_bounds(world)
    assert world.bdp.target <= max(world.initial, FLOOR, 2.5 * link.product + 4 * world.frame)
    world.sender.stop()
    world.run(60)
    assert world.bdp.target == world.initial
    check_credit(world)


@given(worlds(jitter=1.0))
def test_jitter_neither_starves_nor_bloats(world: World) -> None:
    """At no time does less come than the initial window alone would bring."""
    link = world.link
    start = world.clock.now
    longest = 2 * (link.delay + link.jitter)
    world.sender.supply(inf)
    world.run(30 * link.rtt)
    least = min(link.rate, min(world.initial, world.connection) / longest)
    assert world.rate(start + 15 * link.rtt, start + 30 * link.rtt) >= 0.6 * least
    check_bounds(world)
    assert world.bdp.target <= max(world.initial, FLOOR, 4 * link.rate * longest)


@given(worlds(), st.floats(0.01, 0.2), st.booleans())
def test_a_slow_reader_lets_the_target_grow_no_further_than_it_reads(
    world: World, share: float, in_lumps: bool
) -> None:
    link = world.link
    rate = share * link.rate
    world.reader = Reader(rate, world.initial // 4 if in_lumps else 0)
    world.sender.supply(inf)
    world.run(40 * link.rtt)
    check_bounds(world)
    enough = 5.5 * rate * link.rtt + 4 * world.frame
    assert world.bdp.target <= max(world.initial, enough)
    world.sender.stop()
    world.run(2 + world.receiver.backlog / rate + 60)
    check_credit(world)


@given(worlds(jitter=0.5), st.integers(1, 8))
def test_a_reader_that_stalls_never_lets_the_target_grow(world: World, streams: int) -> None:
    world.reader = Reader(0)
    world.sender.supply(inf)
    world.run(1 + 40 * world.link.rtt)
    assert world.receiver.targets == [(0.0, world.initial)]
    assert world.receiver.backlog <= world.initial * world.streams


@given(worlds(), st.floats(0.05, 0.24), st.integers(1, 20))
def test_an_application_at_its_limit_never_lets_the_target_grow(
    world: World, share: float, portions: int
) -> None:
    """On each stream it supplies less than a quarter of a window in any round trip."""
    rtt = world.link.rtt
    fits = min(world.initial, world.connection / world.streams, 0.4 * world.link.product)
    every = max(rtt / portions, fits / world.link.rate)
    world.trickle(share * fits / rtt, min(rtt, every))
    world.run(40 * rtt)
    assert world.receiver.targets == [(0.0, world.initial)]
    check_bounds(world)


CHANGES = st.one_of(
    st.tuples(st.just("rate"), st.floats(0.2, 5)),
    st.tuples(st.just("delay"), st.floats(0.2, 5)),
    st.tuples(st.just("supply"), st.sampled_from([0.0, 500e3, inf])),
    st.tuples(st.just("reader"), st.sampled_from([0.0, 100e3, 1e6, inf])),
    st.tuples(st.just("pressed"), st.sampled_from([0.0, 1.0])),
    st.tuples(st.just("answers"), st.sampled_from([0.0, 1.0])),
)


def change(world: World, what: str, value: float) -> None:
    """Let something happen to the path, the peer, the application or the memory."""
    if what == "rate":
        world.link.rate = min(max(world.link.rate * value, 200e3), 3e6)
    elif what == "delay":
        world.link.delay = min(max(world.link.delay * value, 0.01), 0.25)
    elif what == "supply":
        world.sender.stop()
        world.sender.supply(value)
    elif what == "reader":
        world.reader = Reader(value)
        world.receiver.go_on()
    elif what == "pressed":
        world.bdp.pressed = bool(value)
        world.receiver.arm()
    else:
        world.sender.answers = bool(value)


@settings(max_examples=40)
@given(
    st.floats(0.01, 0.25),
    st.sampled_from([64 * KIB, MIB]),
    st.lists(st.tuples(st.floats(0.1, 8), CHANGES), max_size=12),
)
def test_whatever_happens_the_link_is_filled_in_the_end_and_no_credit_is_lost(
    delay: float, initial: int, story: list[tuple[float, tuple[str, float]]]
) -> None:
    world = World(Link(1e6, delay, buffer=MIB), initial=initial, streams=2)
    world.sender.supply(inf)
    for seconds, (what, value) in story:
        world.run(seconds)
        change(world, what, value)
    for what, value in (("answers", 1.0), ("pressed", 0.0), ("reader", inf), ("supply", inf)):
        change(world, what, value)
    world.run(40)
    now = world.clock.now
    assert world.rate(now - 10, now) >= 0.85 * world.link.rate
    check_bounds(world)
    world.sender.stop()
    world.run(90)
    check_credit(world)
    assert world.bdp.target == initial
