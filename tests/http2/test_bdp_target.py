"""What lets the estimator's target fall: quiet spells, and a full pipe that is squeezed."""

from __future__ import annotations

from math import inf

import pytest

from dynamo_h2.http2.bdp import BdpEstimator
from tests.http2.bdp_steps import MIB, NOW, estimator, grown, sample, use_up

FLOOR = 65_536

# Quiet spells.


def test_without_need_the_target_halves_back_to_where_it_began() -> None:
    bdp = estimator(MIB)
    now = grown(bdp, 4) - 0.05
    assert bdp.target == 16 * MIB
    seen = []
    while bdp.next_timer() < inf:
        due = bdp.next_timer()
        assert not bdp.tick(due - 0.001)
        assert bdp.tick(due)
        seen.append((round(due - now, 3), bdp.target // MIB))
    assert seen == [(10.0, 8), (12.5, 4), (15.0, 2), (17.5, 1)]


def test_the_way_back_ends_where_it_began_whatever_the_steps() -> None:
    bdp = estimator(FLOOR * 3, FLOOR * 8)
    now = grown(bdp, 2)
    seen = []
    for pressed in (False, True, False):
        bdp.pressed = pressed
        while bdp.next_timer() < inf:
            now = max(now + 1, bdp.next_timer())
            bdp.tick(now)
            seen.append(bdp.target / FLOOR)
    assert seen == [4, 3, 1.5, 1, 2, 3]


def test_a_trickle_is_no_need() -> None:
    bdp = estimator(MIB, rtt=0.05)
    grown(bdp, 1)
    bdp.received(10 * MIB)  # a megabyte per second: 50 KiB in a round trip
    assert bdp.tick(bdp.next_timer())
    assert bdp.target == MIB


def test_half_of_it_in_use_keeps_the_target() -> None:
    bdp = estimator(MIB, rtt=0.05)
    grown(bdp, 1)
    due = bdp.next_timer()
    bdp.received(int(MIB / 2 / 0.05 * 10.5))
    assert not bdp.tick(due)
    assert bdp.target == 2 * MIB
    assert bdp.next_timer() == pytest.approx(due + 10)


def test_one_burst_of_half_of_it_keeps_the_target() -> None:
    bdp = estimator(MIB)
    now = grown(bdp, 1)
    use_up(bdp, now + 5, 0.55)
    assert bdp.next_timer() == pytest.approx(now + 15)


def test_short_memory_takes_an_idle_connection_to_the_floor_and_lets_it_return() -> None:
    bdp = estimator(FLOOR * 8)
    bdp.pressed = True
    seen = []
    while bdp.next_timer() < inf:
        bdp.tick(bdp.next_timer())
        seen.append(bdp.target // FLOOR)
    assert seen == [4, 2, 1]
    bdp.pressed = False
    while bdp.next_timer() < inf:
        bdp.tick(max(bdp.next_timer(), NOW + 60))
        seen.append(bdp.target // FLOOR)
    assert seen == [4, 2, 1, 2, 4, 8]


def test_a_target_below_the_initial_one_rises_only_in_silence() -> None:
    bdp = estimator(FLOOR * 2)
    bdp.pressed = True
    bdp.tick(bdp.next_timer())
    assert bdp.target == FLOOR
    bdp.pressed = False
    bdp.received(FLOOR)
    assert not bdp.tick(bdp.next_timer())
    assert bdp.tick(bdp.next_timer())
    assert bdp.target == FLOOR * 2


def test_a_tick_before_its_time_changes_nothing() -> None:
    bdp = estimator(MIB)
    now = grown(bdp, 1)
    assert not bdp.tick(now + 5)
    assert bdp.target == 2 * MIB


def test_steps_of_a_quiet_spell_do_not_pile_up_after_a_late_timer() -> None:
    bdp = estimator(MIB)
    now = grown(bdp, 4)
    assert bdp.tick(now + 3600)
    assert bdp.target == 8 * MIB
    assert bdp.next_timer() == pytest.approx(now + 3600 + 2.5)


# The squeeze.

RATE = 20e6


def full_pipe(bdp: BdpEstimator, now: float, rtt: float, seconds: float) -> None:
    """Let bytes come at RATE without a break, until a PING comes back after ``rtt``."""
    bdp.received(int(RATE * (seconds - rtt)))
    sample(bdp, now + seconds - rtt, int(RATE * rtt), rtt)


def squeeze(bdp: BdpEstimator) -> int | None:
    return bdp.squeeze


def squeezed() -> tuple[BdpEstimator, float]:
    """One whose pipe is full, and whose round trip of 50 ms is old."""
    bdp = estimator(4 * MIB, rtt=0.05)
    full_pipe(bdp, NOW, 0.1, 12.0)
    return bdp, NOW + 12


def test_a_full_pipe_with_an_old_round_trip_is_squeezed() -> None:
    bdp, _ = squeezed()
    assert squeeze(bdp) == pytest.approx(0.75 * RATE * 0.05, abs=2)
    assert bdp.target == 4 * MIB


def test_a_fresh_round_trip_needs_no_squeeze() -> None:
    bdp = estimator(4 * MIB, rtt=0.05)
    full_pipe(bdp, NOW, 0.1, 9.0)
    assert squeeze(bdp) is None


def test_a_pipe_with_pauses_is_not_squeezed() -> None:
    bdp = estimator(4 * MIB, rtt=0.05)
    bdp.received(int(RATE * 2))
    sample(bdp, NOW + 11.9, int(RATE * 0.1), 0.1)
    assert squeeze(bdp) is None


def test_while_squeezed_a_ping_waits_until_the_window_is_used_up() -> None:
    bdp, now = squeezed()
    assert bdp.squeeze is not None
    bdp.received(1)
    assert not bdp.wants_ping(now + 0.2, bdp.squeeze + 1)
    assert bdp.wants_ping(now + 0.2, bdp.squeeze)


def test_a_probe_that_is_as_long_as_ever_ends_the_squeeze_and_lets_the_target_fall() -> None:
    bdp, now = squeezed()
    assert sample(bdp, now + 0.2, 700_000, 0.051)
    assert squeeze(bdp) is None
    assert bdp.target == pytest.approx(2 * RATE * 0.051, rel=0.01)
    assert bdp.next_timer() == pytest.approx(now + 0.251 + 10)


def test_a_probe_that_is_shorter_is_followed_by_another() -> None:
    bdp, now = squeezed()
    before = bdp.squeeze
    assert before is not None
    assert sample(bdp, now + 0.2, before, 0.02)
    assert squeeze(bdp) == before // 2
    assert sample(bdp, now + 0.4, before // 2, 0.019)
    assert squeeze(bdp) is None
    assert bdp.target == pytest.approx(2 * RATE * 0.019, rel=0.01)


def test_a_probe_that_is_longer_is_doubted_once() -> None:
    bdp, now = squeezed()
    assert sample(bdp, now + 0.2, 400_000, 0.2)
    assert squeeze(bdp) == 200_000
    assert sample(bdp, now + 0.5, 200_000, 0.2)
    assert squeeze(bdp) is None
    assert bdp.target == 4 * MIB


@pytest.mark.parametrize(("first", "second"), [(0.058, 0.054), (0.054, 0.058), (0.058, 0.058)])
def test_a_probe_that_is_a_little_longer_is_doubted_and_the_shorter_of_two_believed(
    first: float, second: float
) -> None:
    bdp, now = squeezed()
    before = squeeze(bdp)
    assert before is not None
    assert not sample(bdp, now + 0.2, before, first)
    assert (squeeze(bdp), bdp._path.rtt) == (before, 0.05)
    assert sample(bdp, now + 0.4, before, second)
    assert squeeze(bdp) is None
    assert bdp._path.rtt == pytest.approx(min(first, second))


def test_a_probe_that_is_longer_by_no_more_than_a_frame_says_what_was_known() -> None:
    bdp = estimator(4 * MIB, rtt=0.001)
    full_pipe(bdp, NOW, 0.1, 12.0)
    sample(bdp, NOW + 12.2, 16_384, 0.00124)
    assert (squeeze(bdp), bdp._path.rtt) == (None, 0.001)


def test_a_line_that_is_not_dry_is_asked_again_until_it_is() -> None:
    """The rate has dropped to a tenth, and what was to be little is much."""
    bdp, now = squeezed()
    left = bdp.squeeze
    assert left is not None
    for n in range(3):
        sample(bdp, now + 1 + n, left, left / 2e6)
        left //= 2
        assert squeeze(bdp) == left
    sample(bdp, now + 4, left, 0.0505)
    sample(bdp, now + 5, left // 2, 0.0505)
    assert squeeze(bdp) is None
    assert bdp._path.rtt == 0.05  # the rest is less than a frame
    bdp.received(1)
    assert bdp.wants_ping(now + 5.11, MIB)


def test_a_pipe_that_became_slower_is_squeezed_though_the_round_trip_is_fresh() -> None:
    bdp = estimator(4 * MIB, rtt=0.05)
    full_pipe(bdp, NOW, 0.1, 6.0)
    bdp.round_trip(NOW + 11, 0.05)
    bdp.received(12 * MIB)
    sample(bdp, NOW + 12, MIB, 0.5)
    assert squeeze(bdp) == pytest.approx(0.75 * 2 * MIB * 0.05, abs=2)
    assert bdp.target == 4 * MIB


def test_a_slower_sample_that_is_short_is_not_believed_alone() -> None:
    bdp = estimator(4 * MIB, rtt=0.05)
    full_pipe(bdp, NOW, 0.1, 6.0)
    seen = []
    for n in range(5):
        bdp.received(8 * MIB)
        sample(bdp, NOW + 12 + n, MIB // 5, 0.1)
        seen.append(squeeze(bdp) is None)
    assert seen == [True, True, True, True, False]


def burst(bdp: BdpEstimator, now: float) -> bool:
    """Let a stream's window of two megabytes come in one round."""
    bdp.begin_round(now, 0)
    bdp.received(2 * MIB)
    return bdp.granted(now + 0.01, 1, size=2 * MIB, left=0, increment=2 * MIB, unread=0)


def test_a_path_that_becomes_faster_ends_the_squeeze_and_may_grow() -> None:
    bdp, now = squeezed()
    assert burst(bdp, now + 0.1)
    assert squeeze(bdp) is None
    assert use_up(bdp, now + 0.2)
    assert bdp.target == 8 * MIB


def test_a_second_squeeze_ends_by_its_probe_only() -> None:
    bdp, now = squeezed()
    burst(bdp, now + 0.1)
    full_pipe(bdp, now, 0.1, 1.0)
    assert squeeze(bdp) is not None
    assert not burst(bdp, now + 1.1)
    sample(bdp, now + 1.2, 700_000, 0.05)
    assert squeeze(bdp) is None
    full_pipe(bdp, now + 1.2, 0.1, 14.0)
    assert burst(bdp, now + 15.3)
    assert squeeze(bdp) is None


def test_no_window_is_squeezed_to_less_than_a_frame() -> None:
    bdp, now = squeezed()
    seen = []
    for n in range(20):
        sample(bdp, now + n, MIB, 0.03 / 1.5**n)
        seen.append(bdp.squeeze)
        if bdp.squeeze is None:
            break
    assert seen[-2:] == [16_384, None]


def test_a_short_path_is_squeezed_to_a_frame() -> None:
    bdp = estimator(4 * MIB, rtt=0.001)
    bdp.received(int(1e6 * 11.9))
    sample(bdp, NOW + 11.9, 100_000, 0.1)
    assert bdp.squeeze == 16_384


def test_a_longer_probe_in_which_much_came_halves_the_squeeze_all_the_same() -> None:
    bdp, now = squeezed()
    before = bdp.squeeze
    assert before is not None
    sample(bdp, now + 0.2, 4 * MIB, 0.2)
    assert bdp.squeeze == before // 2


def test_a_squeeze_ends_when_no_bytes_come() -> None:
    bdp, now = squeezed()
    assert bdp.next_timer() == pytest.approx(now + 1)
    assert not bdp.tick(now + 0.9)
    bdp.received(FLOOR)
    assert not bdp.tick(bdp.next_timer())
    bdp.received(FLOOR - 1)
    assert bdp.tick(bdp.next_timer())
    assert squeeze(bdp) is None
    assert bdp.next_timer() == inf


def test_the_timer_is_for_whatever_comes_first() -> None:
    bdp, now = squeezed()
    assert bdp.next_timer() == pytest.approx(now + 1)
    bdp.pressed = True
    assert bdp.next_timer() == pytest.approx(NOW + 10)


def test_a_squeeze_that_nothing_comes_of_ends() -> None:
    bdp, now = squeezed()
    while squeeze(bdp) is not None:
        bdp.received(MIB)
        bdp.tick(bdp.next_timer())
        assert squeeze(bdp) is None or bdp.next_timer() < now + 20 + 1


def test_a_probe_that_outlives_its_squeeze_is_no_probe() -> None:
    bdp, now = squeezed()
    bdp.received(1)
    bdp.ping_written(now + 0.98, 0)
    bdp.tick(now + 1)
    assert squeeze(bdp) is None
    assert not bdp.ping_acknowledged(now + 1.02, 0)
    assert bdp._path.rtt == pytest.approx(0.04)


def test_the_burst_after_a_squeeze_is_no_reason_to_grow() -> None:
    bdp, now = squeezed()
    sample(bdp, now + 0.2, 700_000, 0.05)
    target = bdp.target
    assert not use_up(bdp, now + 0.26)
    assert bdp.target == target
    assert use_up(bdp, now + 0.4)


def test_the_target_never_falls_below_the_floor() -> None:
    bdp = estimator(4 * MIB, rtt=0.001)
    full_pipe(bdp, NOW, 0.1, 12.0)
    assert sample(bdp, NOW + 12.2, 16_384, 0.001)
    assert bdp.target == FLOOR


def test_after_a_fall_the_next_samples_come_soon() -> None:
    bdp, now = squeezed()
    sample(bdp, now + 0.2, 700_000, 0.051)
    bdp.received(1)
    assert bdp.wants_ping(now + 0.31, MIB)


def test_after_a_fall_gains_count_from_the_slower_rate() -> None:
    bdp = estimator(MIB, rtt=0.05)
    grown(bdp, 4)  # at 160 MB/s and more
    bdp.round_trip(NOW + 8, 0.05)
    full_pipe(bdp, NOW + 1.2, 0.1, 20.8)
    sample(bdp, NOW + 22.2, 700_000, 0.05)
    assert bdp.target == pytest.approx(2 * RATE * 0.05, rel=0.01)
    for n in range(3):
        assert use_up(bdp, NOW + 24 + n)
        sample(bdp, NOW + 24.1 + n, 0, 0.05)


def test_a_full_pipe_that_becomes_slower_is_sampled_more_often_but_not_every_moment() -> None:
    bdp = estimator(2 * MIB, rtt=0.05)
    now, pauses = NOW, []
    for n in range(13):
        rate = RATE if n < 9 else RATE / 2
        pause = 0.2
        bdp.received(int(rate * 0.1))
        while not bdp.wants_ping(now + pause, MIB):
            bdp.received(int(rate * 0.05))
            pause += 0.05
        pauses.append(round(pause, 2))
        bdp.round_trip(now + pause, 0.05)
        sample(bdp, now + pause, int(rate * 0.1), 0.1)
        now += pause
    assert pauses[-5:] == [10.0, 10.0, 0.5, 0.5, 0.5]


def test_the_target_stays_while_a_window_was_limiting_of_late() -> None:
    bdp = estimator(4 * MIB, rtt=0.05)
    use_up(bdp, NOW + 3)
    full_pipe(bdp, NOW, 0.1, 12.0)
    sample(bdp, NOW + 12.2, 700_000, 0.05)
    assert (squeeze(bdp), bdp.target) == (None, 8 * MIB)


def test_the_target_stays_when_it_is_hardly_too_large() -> None:
    bdp = estimator(int(2.9 * RATE * 0.05), rtt=0.05)
    full_pipe(bdp, NOW, 0.1, 12.0)
    assert sample(bdp, NOW + 12.2, 700_000, 0.05)
    assert bdp.target == int(2.9 * RATE * 0.05)
