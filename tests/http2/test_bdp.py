"""The estimator by itself: when it asks for PINGs, and what lets its target rise."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.http2.bdp import (
    BdpEstimator,
    Gate,
    Path,
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
    assert next_ping(bdp, now + 0.03) == pytest.approx(now + 0.1, abs=0.011)


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


# What growth has to bring.


def test_three_rounds_without_gain_close_the_gate() -> None:
    gate = Gate()
    assert gate.lets_through(NOW, 100.0)
    assert gate.lets_through(NOW + 1, 110.0)
    assert gate.lets_through(NOW + 2, 120.0)
    assert not gate.lets_through(NOW + 3, 124.0)
    assert not gate.lets_through(NOW + 4, 90.0)


def test_a_gain_of_a_quarter_opens_the_gate() -> None:
    gate = Gate()
    for n in range(9):
        gate.lets_through(NOW + n, 100.0)
    assert gate.lets_through(NOW + 9, 125.0)
    assert gate.lets_through(NOW + 10, 125.0)
    assert gate.lets_through(NOW + 11, 125.0)
    assert not gate.lets_through(NOW + 12, 125.0)


def test_a_closed_gate_lets_one_through_after_a_while() -> None:
    gate = Gate()
    for n in range(9):
        gate.lets_through(NOW + n, 100.0)
    assert not gate.lets_through(NOW + 20, 100.0)
    assert gate.lets_through(NOW + 22, 100.0)
    assert not gate.lets_through(NOW + 23, 100.0)


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


# What is known about the path.


def test_the_rate_is_the_largest_of_ten_samples() -> None:
    path = Path()
    path.add_rate(NOW, 900.0)
    for n in range(9):
        path.add_rate(NOW + n / 10, 100.0 + n)
    assert path.rate(NOW + 1) == 900.0
    path.add_rate(NOW + 1, 50.0)
    assert path.rate(NOW + 1) == 108.0


def test_no_rate_is_believed_for_longer_than_twenty_seconds() -> None:
    path = Path()
    path.add_rate(NOW, 900.0)
    path.add_rate(NOW + 10, 100.0)
    assert path.rate(NOW + 20) == 900.0
    assert path.rate(NOW + 20.01) == 100.0
    assert path.rate(NOW + 30.01) == 0.0


def test_the_round_trip_is_the_smallest_of_ten_seconds() -> None:
    path = Path()
    for at, rtt in ((0.0, 0.2), (1.0, 0.1), (2.0, 0.3)):
        path.add_rtt(NOW + at, rtt, queued=False)
    assert path.rtt == 0.1
    assert not path.add_rtt(NOW + 10.99, 0.3, queued=False)
    assert path.rtt == 0.1
    assert path.add_rtt(NOW + 11, 0.3, queued=False)
    assert path.rtt == 0.3


def test_a_round_trip_that_stood_in_line_is_believed_only_after_twice_the_time() -> None:
    path = Path()
    path.add_rtt(NOW, 0.1, queued=False)
    path.add_rtt(NOW + 10, 0.3, queued=True)
    assert (path.rtt, path.stale(NOW + 10)) == (0.1, True)
    path.add_rtt(NOW + 20, 0.3, queued=True)
    assert (path.rtt, path.stale(NOW + 20)) == (0.3, False)


def test_a_shorter_round_trip_is_believed_at_once_even_from_a_line() -> None:
    path = Path()
    path.add_rtt(NOW, 0.1, queued=False)
    path.add_rtt(NOW + 1, 0.05, queued=True)
    assert path.rtt == 0.05


def test_a_rack_is_as_long_as_the_loop_is_slow() -> None:
    path = Path()
    path.add_rtt(NOW, 0.00005, queued=False)
    assert path.product(1e9) == 1e9 * 0.001


def test_no_product_without_a_round_trip() -> None:
    assert Path().product(1e9) == 0.0


def test_an_ack_stands_in_line_behind_a_quarter_of_the_product() -> None:
    path = Path()
    path.add_rtt(NOW, 0.1, queued=False)
    assert not path.stood_in_line(10e6, 0.124)
    assert path.stood_in_line(10e6, 0.126)


def test_less_than_a_frame_is_no_line() -> None:
    path = Path()
    path.add_rtt(NOW, 0.01, queued=False)
    rate = 100_000.0
    assert not path.stood_in_line(rate, 0.01 + 0.99 * 16_384 / rate)
    assert path.stood_in_line(rate, 0.01 + 1.01 * 16_384 / rate)


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
