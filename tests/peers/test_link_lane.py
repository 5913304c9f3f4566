from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peers.link_lane import CATCH_UP, PACKET, Chunk, Conditions, Lane

Arrivals = list[tuple[float, int]]

# Seconds since the one before, and bytes.
arrivals = st.lists(st.tuples(st.floats(0, 2), st.integers(1, 500)), min_size=1, max_size=50)
rates = st.floats(10, 10_000)


def admitted(lane: Lane, now: float, size: int) -> Chunk:
    chunk = Chunk(bytes(size))
    lane.admit(chunk, now)
    return chunk


def feed(lane: Lane, arrivals: Arrivals) -> list[tuple[float, Chunk]]:
    """Give a lane chunks as fast as they come and it has room; return each with its entry."""
    now, fed = 0.0, []
    for pause, size in arrivals:
        now = max(now + pause, lane.opens(size))
        fed.append((now, admitted(lane, now, size)))
    return fed


@given(arrivals, rates)
def test_the_wire_is_busy_whenever_something_waits_and_never_faster_than_its_rate(
    arrivals: Arrivals, rate: float
) -> None:
    lane = Lane(Conditions(rate=rate, queue=1000))
    free = 0.0
    for entered, chunk in feed(lane, arrivals):
        free = max(free, entered) + chunk.size / rate
        assert chunk.departs == pytest.approx(free)


@given(arrivals, rates, st.integers(500, 5000))
def test_what_waits_never_exceeds_the_queue_if_its_room_is_asked_for(
    arrivals: Arrivals, rate: float, queue: int
) -> None:
    lane = Lane(Conditions(rate=rate, queue=queue))
    now = 0.0
    for pause, size in arrivals:
        now = max(now + pause, lane.opens(size))
        admitted(lane, now, size)
        assert lane.backlog(now) <= queue * (1 + 1e-9)


@given(arrivals, rates)
def test_a_thousand_late_wakes_do_not_add_up(arrivals: Arrivals, rate: float) -> None:
    lane = Lane(Conditions(rate=rate, queue=1000))
    first = admitted(lane, 0.0, 500)
    late = (pause % CATCH_UP for pause, _ in arrivals)
    for delay, (_, size) in zip(late, arrivals, strict=True):
        last = Chunk(bytes(size))
        lane.admit(last, max(0.0, lane.opens(size)) + delay, was_ready=True)
    total = sum(size for _, size in arrivals)
    assert last.departs == pytest.approx(first.departs + total / rate)


def test_no_more_than_the_agreed_time_is_caught_up() -> None:
    lane = Lane(Conditions(rate=1000))
    admitted(lane, 0.0, 100)
    chunk = Chunk(bytes(100))
    lane.admit(chunk, 10.0, was_ready=True)
    assert chunk.departs == pytest.approx(10.0 - CATCH_UP + 0.1)


def test_a_sender_that_was_not_ready_catches_nothing_up() -> None:
    lane = Lane(Conditions(rate=1000))
    admitted(lane, 0.0, 100)
    assert admitted(lane, 0.2, 100).departs == pytest.approx(0.3)


@given(arrivals, rates, st.floats(0, 5), st.floats(0, 5))
def test_a_chunk_is_due_its_delay_and_at_most_the_jitter_after_it_departs(
    arrivals: Arrivals, rate: float, delay: float, jitter: float
) -> None:
    lane = Lane(Conditions(rate=rate, delay=delay, jitter=jitter))
    for _, chunk in feed(lane, arrivals):
        assert chunk.departs + delay <= chunk.due <= chunk.departs + delay + jitter


def test_the_same_seed_draws_the_same_jitter() -> None:
    lanes = [Lane(Conditions(jitter=1.0), seed) for seed in (1, 1, 2)]
    first, same, other = ([admitted(lane, 0.0, 1).due for _ in range(5)] for lane in lanes)
    assert first == same != other


def test_jitter_is_spread_over_its_whole_range() -> None:
    lane = Lane(Conditions(jitter=1.0))
    tenths = {math.floor(admitted(lane, 0.0, 1).due * 10) for _ in range(1000)}
    assert tenths == set(range(10))


def test_without_a_rate_everything_departs_at_once_and_there_is_always_room() -> None:
    lane = Lane(Conditions(delay=2.0))
    chunks = [admitted(lane, 1.0, 1_000_000) for _ in range(5)]
    assert {(chunk.departs, chunk.due) for chunk in chunks} == {(1.0, 3.0)}
    assert (lane.backlog(1.0), lane.opens(1_000_000)) == (0.0, -math.inf)


@given(arrivals, rates, rates, st.floats(0, 20))
def test_after_a_change_all_that_waits_goes_on_at_the_new_rate(
    arrivals: Arrivals, before: float, after: float, change: float
) -> None:
    lane = Lane(Conditions(rate=before))
    chunks = [admitted(lane, 0.0, size) for _, size in arrivals]
    total = sum(chunk.size for chunk in chunks)
    sent = min(total, change * before)
    lane.change(Conditions(rate=after), change)
    if sent < total:
        assert chunks[-1].departs == pytest.approx(change + (total - sent) / after)
    assert lane.backlog(change) == pytest.approx(total - sent, abs=1e-6)
    assert all(a.departs <= b.departs for a, b in itertools.pairwise(chunks))


def test_what_is_on_the_wire_keeps_its_times_when_rate_and_delay_change() -> None:
    lane = Lane(Conditions(rate=100, delay=5.0))
    early, middle, late = (admitted(lane, 0.0, 100) for _ in range(3))
    lane.change(Conditions(rate=200, delay=1.0), 1.5)
    assert early.due == 6.0
    assert (middle.departs, middle.due) == (1.75, 2.75)
    assert (late.departs, late.due) == (2.25, 3.25)


def test_when_the_rate_goes_all_that_waits_departs() -> None:
    lane = Lane(Conditions(rate=100))
    chunks = [admitted(lane, 0.0, 100) for _ in range(3)]
    lane.change(Conditions(), 0.5)
    assert [chunk.departs for chunk in chunks] == [0.5, 0.5, 0.5]


def test_when_a_rate_comes_what_departed_before_does_not_count() -> None:
    lane = Lane(Conditions())
    admitted(lane, 0.0, 1_000_000)
    lane.change(Conditions(rate=100), 1.0)
    assert admitted(lane, 1.0, 100).departs == 2.0


def test_a_pause_moves_what_is_to_come_and_nothing_else() -> None:
    lane = Lane(Conditions(rate=100, delay=1.0))
    gone, travelling, waiting = (admitted(lane, 0.0, 100) for _ in range(3))
    for chunk in (gone, travelling, waiting):
        chunk.stand_still(2.5, 10.0)
    lane.stand_still(2.5, 10.0)
    assert (gone.departs, gone.due) == (1.0, 2.0)
    assert (travelling.departs, travelling.due) == (2.0, 13.0)
    assert (waiting.departs, waiting.due) == (13.0, 14.0)
    assert lane.backlog(12.5) == pytest.approx(50)


def test_bytes_inside_are_counted_with_their_peak() -> None:
    lane = Lane(Conditions())
    admitted(lane, 0.0, 300)
    admitted(lane, 0.0, 200)
    lane.hold(-400)
    assert (lane.held, lane.held_peak) == (100, 500)


@pytest.mark.parametrize(
    ("conditions", "capacity"),
    [
        (Conditions(), 1 << 20),
        (Conditions(rate=125e6), 2_500_000),
        (Conditions(rate=1000), 32_768),
        (Conditions(rate=125e6, queue=7), 7),
    ],
    ids=["no rate", "fast", "slow", "told"],
)
def test_a_queue_follows_the_rate_unless_told(conditions: Conditions, capacity: int) -> None:
    assert conditions.capacity == capacity


@given(st.one_of(st.none(), rates, st.floats(1e4, 1e10)), st.one_of(st.none(), st.integers(1)))
def test_what_is_read_at_once_fits_the_queue(rate: float | None, queue: int | None) -> None:
    conditions = Conditions(rate=rate, queue=queue)
    assert 1 <= conditions.grain <= conditions.batch <= conditions.capacity


def test_slow_links_are_cut_into_packets_and_fast_ones_into_half_milliseconds() -> None:
    assert Conditions(rate=1000).grain == PACKET
    assert Conditions(rate=100e6).grain == 50_000


def test_the_wire_holds_what_travels_for_the_longest_time() -> None:
    assert Conditions(rate=1000, delay=2.0, jitter=1.0).wire == pytest.approx(3000, abs=1)
    assert Conditions().wire == 0


@pytest.mark.parametrize(
    "change",
    [
        {"delay": -0.1},
        {"delay": math.inf},
        {"delay": math.nan},
        {"jitter": -1.0},
        {"jitter": math.inf},
        {"rate": 0.0},
        {"rate": -1.0},
        {"rate": math.inf},
        {"queue": 0},
    ],
    ids=str,
)
def test_a_value_that_no_link_can_have_is_named(change: dict[str, float]) -> None:
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=rf"^{name} is {value!r}, allowed are"):
        replace(Conditions(), **change)  # type: ignore[arg-type]
