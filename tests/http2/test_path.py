"""What the estimator believes of a path, and when it lets growth go on."""

from __future__ import annotations

from dynamo_h2.http2.path import Gate, Path
from tests.http2.bdp_steps import NOW

# What is known about the path.


def test_the_rate_is_the_largest_of_ten_samples() -> None:
    path = Path()
    path.add_rate(NOW, 900.0)
    for n in range(9):
        path.add_rate(NOW + n / 10, 100.0 + n)
    assert path.rate(NOW + 1) == 900.0
    path.add_rate(NOW + 1, 50.0)
    assert path.rate(NOW + 1) == 108.0


def test_a_sample_that_lasted_ten_round_trips_stands_for_all() -> None:
    path = Path()
    path.add_rtt(NOW, 0.1, queued=False)
    path.add_rate(NOW, 900.0)
    path.add_rate(NOW + 1, 100.0, full=0.95)
    assert path.rate(NOW + 1) == 900.0
    path.add_rate(NOW + 2, 90.0, full=100.0)
    assert path.rate(NOW + 2) == 90.0


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


def test_a_round_trip_that_stood_in_line_is_believed_only_after_a_minute() -> None:
    path = Path()
    path.add_rtt(NOW, 0.1, queued=False)
    path.add_rtt(NOW + 59, 0.3, queued=True)
    assert (path.rtt, path.stale(NOW + 59)) == (0.1, True)
    path.add_rtt(NOW + 60, 0.3, queued=True)
    assert (path.rtt, path.stale(NOW + 60)) == (0.3, False)


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


def test_a_window_that_runs_down_is_a_sample_of_a_full_pipe() -> None:
    path = Path()
    path.add_rtt(NOW, 0.1, queued=False)
    path.add_rate(NOW, 200.0, full=5.0)
    path.add_run_down(NOW + 1, 150, 1.0, 200.0)
    assert path.rate(NOW + 1) == 150.0


def test_a_short_run_down_is_no_sample_and_neither_is_a_lull() -> None:
    path = Path()
    path.add_rtt(NOW, 0.1, queued=False)
    path.add_rate(NOW, 200.0)
    for _ in range(9):
        path.add_run_down(NOW + 1, 140, 0.7, 200.0)
        path.add_run_down(NOW + 1, 130, 1.0, 200.0)
    for _ in range(9):
        path.add_rate(NOW + 1, 100.0)
    assert path.rate(NOW + 1) == 200.0


def test_a_probe_agrees_within_a_quarter() -> None:
    path = Path()
    path.add_rtt(NOW, 0.1, queued=False)
    assert path.agrees(0.12, 0.0)
    assert path.agrees(0.09, 0.0)
    assert not path.agrees(0.13, 0.0)
    assert not path.agrees(0.07, 0.0)
    assert path.agrees(0.25, 0.3)


def test_one_probe_that_is_a_little_longer_needs_another_and_the_shorter_is_believed() -> None:
    path = Path()
    path.add_rtt(NOW, 0.1, queued=False)
    path.add_rate(NOW, 10e6)
    assert not path.needs_another(NOW, 0.104, 0.0)
    assert path.needs_another(NOW, 0.106, 0.0)
    assert not path.needs_another(NOW, 0.106, 0.11)
    assert path.shortest(NOW, 0.106, 0.11) == 0.106
    assert path.shortest(NOW, 0.11, 0.106) == 0.106
    assert path.shortest(NOW, 0.11, 0.0) == 0.11
    assert path.shortest(NOW, 0.101, 0.0) == 0.1


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


def test_a_gate_that_is_opened_counts_anew() -> None:
    gate = Gate()
    for n in range(9):
        gate.lets_through(NOW + n, 100.0)
    gate.open(100.0)
    passed = [gate.lets_through(NOW + 9 + n, 110.0) for n in range(4)]
    assert passed == [True, True, False, False]
