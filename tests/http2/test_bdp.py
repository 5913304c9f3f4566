"""The estimator by itself: when it asks for PINGs, and what lets its target rise."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.http2.bdp import (
    BdpEstimator,
)
from tests.http2.bdp_steps import MIB, NOW, PLENTY, estimator, grown, sample, use_up

FLOOR = 65_536

# Where it starts.


def test_the_initial_window_is_where_it_starts() -> None:
    bdp = estimator(4 * MIB)
    assert bdp.target == 4 * MIB
    assert bdp.squeeze is None
    assert bdp.next_timer() == inf


@given(st.integers(1, 128 * MIB), st.integers(1, 128 * MIB))
def test_an_initial_window_beyond_the_bounds_moves_the_bounds(initial: int, ceiling: int) -> None:
    bdp = estimator(initial, ceiling)
    assert bdp.target == initial
    use_up(bdp, NOW + 1)
    assert initial <= bdp.target <= max(initial, ceiling)


def test_a_slow_start_does_not_shrink_it() -> None:
    bdp = estimator(4 * MIB)
    for n in range(9):
        sample(bdp, NOW + n, 50_000, 0.5)
    assert bdp.target == 4 * MIB


# When a PING is written.


def test_no_ping_before_the_first_data() -> None:
    bdp = estimator()
    assert not bdp.wants_ping(NOW + 1, PLENTY)
    bdp.received(1)
    assert bdp.wants_ping(NOW + 1, PLENTY)


def test_no_ping_without_new_data_since_the_last_sample() -> None:
    bdp = estimator()
    sample(bdp, NOW, 1000, 0.05)
    assert not bdp.wants_ping(NOW + 3600, PLENTY)
    bdp.received(1)
    assert bdp.wants_ping(NOW + 3600, PLENTY)


def test_one_ping_is_in_flight_at_a_time() -> None:
    bdp = estimator()
    bdp.received(1000)
    bdp.ping_written(NOW, 0)
    bdp.received(1000)
    assert not bdp.wants_ping(NOW + 19.99, PLENTY)


def test_a_ping_without_an_ack_is_given_up() -> None:
    bdp = estimator()
    bdp.received(1000)
    bdp.ping_written(NOW, 0)
    assert bdp.wants_ping(NOW + 20, PLENTY)
    bdp.ping_written(NOW + 20, 0)
    bdp.received(MIB)
    assert not bdp.wants_ping(NOW + 21, PLENTY)
    assert not bdp.ping_acknowledged(NOW + 20.05, 0)
    bdp.received(1)
    assert bdp.wants_ping(NOW + 21, PLENTY)


def test_an_ack_that_comes_after_an_age_says_nothing() -> None:
    bdp = estimator(FLOOR, rtt=None)
    bdp.ping_written(NOW, 0)
    bdp.received(100 * MIB)
    assert not bdp.ping_acknowledged(NOW + 20, 0)
    assert bdp.target == FLOOR


def test_an_ack_without_a_ping_says_nothing() -> None:
    bdp = estimator()
    assert not bdp.ping_acknowledged(NOW + 1, 0)
    sample(bdp, NOW, 1000, 0.05)
    bdp.received(1)
    assert not bdp.ping_acknowledged(NOW + 5, 0)
    assert bdp.wants_ping(NOW + 5, PLENTY)


def next_ping(bdp: BdpEstimator, now: float) -> float:
    """The first moment after ``now``, in steps of 10 ms, at which new DATA brings a PING."""
    bdp.received(100)
    while not bdp.wants_ping(now, PLENTY):
        now += 0.01
    return now


@pytest.mark.parametrize("rtt", [0.001, 0.04, 0.3, 3.0])
def test_the_pause_doubles_up_to_ten_seconds(rtt: float) -> None:
    bdp = estimator()
    now, pauses = next_ping(bdp, NOW), []
    for _ in range(12):
        sample(bdp, now, 100, rtt)
        then, now = now, next_ping(bdp, now + rtt)
        pauses.append(now - then)
    expected = [max(rtt, min(0.1 * 2**n, 10.0)) for n in range(1, 13)]
    assert pauses == pytest.approx(expected, abs=0.011)


def test_growth_brings_pings_back_to_the_shortest_pause() -> None:
    bdp = estimator()
    now = next_ping(bdp, NOW)
    for _ in range(12):
        sample(bdp, now, 100, 0.02)
        now = next_ping(bdp, now + 0.02)
    sample(bdp, now, 100, 0.02)
    assert use_up(bdp, now + 0.03)
    then = next_ping(bdp, now + 0.03)
    assert then == pytest.approx(now + 0.1, abs=0.011)
    sample(bdp, then, 100, 0.02)
    assert next_ping(bdp, then + 0.02) == pytest.approx(then + 0.2, abs=0.011)


def test_a_ping_for_another_reason_is_a_sample_too() -> None:
    bdp = estimator(rtt=None)
    sample(bdp, NOW, 0, 0.05)
    assert bdp.round_until < inf
    assert use_up(bdp, NOW + 1)


# Growth.


def test_a_window_that_was_used_up_doubles() -> None:
    bdp = estimator()
    assert use_up(bdp, NOW + 1)
    assert bdp.target == 2 * MIB


def test_it_doubles_each_round() -> None:
    bdp = estimator(FLOOR)
    grown(bdp, 8)
    assert bdp.target == FLOOR << 8


def test_it_doubles_at_three_quarters_without_waiting_for_an_ack() -> None:
    bdp = estimator()
    assert use_up(bdp, NOW + 1, 0.75)
    assert bdp.target == 2 * MIB


def test_a_window_of_which_a_quarter_was_left_never_grows() -> None:
    bdp = estimator()
    for n in range(50):
        assert not use_up(bdp, NOW + n, 0.74)
        assert not sample(bdp, NOW + n + 0.1, int(0.74 * MIB), 0.05)
    assert bdp.target == MIB


def test_a_fast_sample_of_an_application_at_its_limit_does_not_grow() -> None:
    bdp = estimator(FLOOR)
    assert not sample(bdp, NOW, 10 * MIB, 0.05)
    assert bdp.target == FLOOR


def test_what_an_application_at_its_limit_raised_is_known_when_growth_comes() -> None:
    bdp = estimator(FLOOR, rtt=0.1)
    sample(bdp, NOW, 2_000_000, 0.1)
    bdp.ping_written(NOW + 1, 0)
    use_up(bdp, NOW + 1)
    assert bdp.target == 2 * FLOOR
    bdp.ping_acknowledged(NOW + 1.1, 0)
    assert bdp.target == pytest.approx(4_000_000, abs=2)


def test_credit_granted_within_the_round_is_not_the_peers_yet() -> None:
    """Half the window before each grant, but the second half was granted too late to count."""
    bdp = estimator()
    bdp.begin_round(NOW + 1, 0)
    half = MIB // 2
    bdp.received(half)
    assert not bdp.granted(NOW + 1, 1, size=MIB, left=half, increment=half, unread=0)
    bdp.received(half)
    assert bdp.granted(NOW + 1.01, 1, size=MIB, left=half, increment=half, unread=0)


def test_each_window_is_looked_at_by_itself() -> None:
    bdp = estimator()
    bdp.begin_round(NOW + 1, 0)
    half = MIB // 2
    for stream_id in range(1, 41, 2):
        bdp.received(half)
        assert not bdp.granted(NOW + 1, stream_id, size=MIB, left=half, increment=half, unread=0)
    assert bdp.target == MIB


def test_streams_that_use_up_their_windows_together_need_the_sum() -> None:
    bdp = estimator()
    bdp.begin_round(NOW + 1, 0)
    bdp.received(4 * MIB)
    assert bdp.granted(NOW + 1.01, 1, size=MIB, left=0, increment=MIB, unread=0)
    assert bdp.target == 8 * MIB


def test_a_connection_window_that_is_used_up_lets_the_target_grow_past_it() -> None:
    bdp = estimator()
    bdp.begin_round(NOW + 1, 0)
    bdp.received(4 * MIB)
    assert bdp.granted(NOW + 1.01, 0, size=4 * MIB, left=0, increment=4 * MIB, unread=0)
    assert bdp.target == 8 * MIB


def test_a_round_counts_no_longer_than_a_round_trip() -> None:
    bdp = estimator(rtt=0.1)
    bdp.begin_round(NOW + 1, 0)
    bdp.received(MIB)
    assert bdp.round_until <= NOW + 1.1
    assert not bdp.granted(NOW + 1.1, 1, size=MIB, left=0, increment=MIB, unread=0)


def test_a_pipe_that_the_window_just_fills_grows_to_twice_the_product() -> None:
    """Bytes come at an even pace, three quarters of the window in a round."""
    bdp = estimator(rtt=0.1)
    bdp.begin_round(NOW + 1, 0)
    for n in range(1, 9):
        bdp.received(MIB // 8)
        size, left = MIB, MIB - MIB // 8
        bdp.granted(NOW + 1 + n * 0.014, 1, size=size, left=left, increment=MIB // 8, unread=0)
    assert bdp.target == pytest.approx(2 * 0.1 * (MIB / 8) / 0.014, rel=0.01)


def test_growth_ends_at_the_ceiling() -> None:
    bdp = estimator(MIB, 3 * MIB)
    assert use_up(bdp, NOW + 1)
    assert use_up(bdp, NOW + 2)
    assert bdp.target == 3 * MIB
    assert not use_up(bdp, NOW + 3)


def test_bytes_that_the_application_has_not_taken_stop_growth() -> None:
    bdp = estimator()
    assert not use_up(bdp, NOW + 1, unread=MIB)
    assert bdp.target == MIB


def test_bytes_that_lay_unread_before_the_round_count_as_taken_when_they_are() -> None:
    bdp = estimator()
    bdp.begin_round(NOW + 1, 3 * MIB)
    bdp.received(MIB)
    assert bdp.granted(NOW + 1.01, 1, size=MIB, left=0, increment=MIB, unread=MIB)


def test_an_ack_does_not_raise_the_target_over_the_heads_of_slow_readers() -> None:
    bdp = estimator(rtt=0.1)
    for unread, rises in ((9 * MIB, False), (0, True)):
        bdp.ping_written(NOW + 1, 0)
        use_up(bdp, NOW + 1, unread=MIB)
        bdp.received(9 * MIB)
        assert bdp.ping_acknowledged(NOW + 1.1, unread) is rises


def test_of_a_long_sample_only_one_round_trip_of_reading_counts() -> None:
    """Nine megabytes were taken in four round trips, and three lie there."""
    for unread, rises in ((3 * MIB, False), (2 * MIB, True)):
        bdp = estimator(rtt=0.1)
        bdp.ping_written(NOW + 1, 0)
        use_up(bdp, NOW + 1, unread=MIB)
        bdp.received(11 * MIB)
        assert bdp.ping_acknowledged(NOW + 1.4, unread) is rises


def test_memory_that_is_short_stops_growth() -> None:
    bdp = estimator()
    bdp.pressed = True
    assert not use_up(bdp, NOW + 1)
    bdp.pressed = False
    assert use_up(bdp, NOW + 2)


def test_the_first_ack_grows_where_no_round_trip_was_known() -> None:
    bdp = estimator(FLOOR, rtt=None)
    bdp.ping_written(NOW, 0)
    bdp.received(FLOOR)
    assert not bdp.granted(NOW + 0.1, 1, size=FLOOR, left=0, increment=FLOOR, unread=0)
    assert bdp.ping_acknowledged(NOW + 0.2, 0)
    assert bdp.target == 2 * FLOOR


def slow_pace(bdp: BdpEstimator, now: float, size: int, used: int) -> None:
    """Let a window be used up in quarters, each in a round of its own."""
    left = size
    for n in range(4):
        bdp.begin_round(now + n * 0.06, 0)
        bdp.received(used // 4)
        left -= used // 4
        step = {"size": size, "left": left, "increment": used // 4, "unread": 0}
        assert not bdp.granted(now + n * 0.06, 1, **step)
        left += used // 4


def test_a_window_that_lasted_from_ping_to_ack_and_no_longer_was_limiting() -> None:
    """The way there and back took four of the shortest round trips, and brought one window."""
    bdp = estimator(rtt=0.05)
    sample(bdp, NOW, 4 * MIB, 0.1)
    bdp.ping_written(NOW + 1, 0)
    slow_pace(bdp, NOW + 1, MIB, MIB)
    assert bdp.ping_acknowledged(NOW + 1.2, 0)
    assert bdp.target == pytest.approx(4 * MIB, abs=2)


def test_a_window_of_which_enough_was_left_from_ping_to_ack_was_not() -> None:
    bdp = estimator(rtt=0.05)
    sample(bdp, NOW, 4 * MIB, 0.1)
    bdp.ping_written(NOW + 1, 0)
    slow_pace(bdp, NOW + 1, MIB, MIB * 7 // 10)
    assert not bdp.ping_acknowledged(NOW + 1.2, 0)


def test_what_came_before_the_ping_is_not_part_of_its_sample() -> None:
    bdp = estimator(rtt=0.05)
    sample(bdp, NOW, 4 * MIB, 0.1)
    for n in range(3):
        bdp.ping_written(NOW + 1 + n, 0)
        slow_pace(bdp, NOW + 1 + n, MIB, MIB * 7 // 10)
        assert not bdp.ping_acknowledged(NOW + 1.2 + n, 0)


def test_a_sample_that_wants_hardly_more_changes_nothing() -> None:
    bdp = estimator(rtt=0.1)
    sample(bdp, NOW, int(0.55 * MIB), 0.1)
    bdp.ping_written(NOW + 1, 0)
    slow_pace(bdp, NOW + 1, MIB, MIB)
    assert not bdp.ping_acknowledged(NOW + 1.2, 0)


# What growth has to bring.


def flat(bdp: BdpEstimator, now: float) -> bool:
    """Play a round in which the connection's window was used up, at a rate that stays the same."""
    bdp.begin_round(now, 0)
    bdp.received(MIB)
    return bdp.granted(now + 0.01, 0, size=bdp.target, left=0, increment=MIB, unread=0)


def test_growth_that_does_not_pay_ends() -> None:
    bdp = estimator(FLOOR)
    for _ in range(9):
        flat(bdp, NOW + 1)
    stuck = bdp.target
    bdp.begin_round(NOW + 2, 0)
    bdp.received(MIB)
    size = bdp.target
    assert not bdp.granted(NOW + 2.01, 1, size=size, left=0, increment=MIB, unread=0)
    assert bdp.target == stuck


def test_a_longer_path_opens_the_gate() -> None:
    bdp = estimator(FLOOR)
    for _ in range(9):
        flat(bdp, NOW + 1)
    stuck = bdp.target
    sample(bdp, NOW + 10, 0, 0.5)
    flat(bdp, NOW + 11)
    assert bdp.target > stuck


# Odd clocks.


def test_an_ack_in_the_same_instant_does_no_harm() -> None:
    bdp = estimator(rtt=None)
    assert not sample(bdp, NOW, 1000, 0.0)
    bdp.begin_round(NOW, 0)
    assert bdp.round_until == pytest.approx(NOW + 0.001, rel=0.2)


def test_a_long_sleep_does_not_leave_a_round_behind() -> None:
    bdp = estimator(rtt=None)
    sample(bdp, NOW, 0, 19.0)
    bdp.begin_round(NOW + 20, 0)
    sample(bdp, NOW + 21, 0, 0.05)
    assert bdp.round_until <= NOW + 21.1
