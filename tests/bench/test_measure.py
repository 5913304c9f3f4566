"""Clocks and percentiles."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure import Meter, closed_loop, percentile, percentiles_ms


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_percentile_is_the_smallest_value_that_enough_others_do_not_pass(
    values: list[float], share: float
) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in ordered
    assert sum(value <= found for value in values) >= share * len(values) * (1 - 1e-9)
    assert sum(value < found for value in values) < share * len(values)


def test_percentiles_are_milliseconds_and_need_no_order() -> None:
    seconds = [0.001 * number for number in range(100, 0, -1)]
    figures = percentiles_ms(seconds, "x_")
    assert {name: figures[name] for name in ("x_p50_ms", "x_p99_ms")} == pytest.approx(
        {"x_p50_ms": 50, "x_p99_ms": 99}
    )
    assert figures["x_p10_ms"] < figures["x_p50_ms"] < figures["x_p999_ms"]


async def test_closed_loop_keeps_so_many_in_flight_and_no_more() -> None:
    running, most, finished = 0, 0, 0

    async def act() -> None:
        nonlocal running, most, finished
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        finished += 1

    durations = await closed_loop(act, 7, 0.5)
    assert most == 7
    assert len(durations) == finished >= 7
    assert all(duration >= 0 for duration in durations)


async def test_closed_loop_ends_with_the_first_error() -> None:
    async def act() -> None:
        raise ConnectionError("gone")

    with pytest.raises(ExceptionGroup, match="unhandled"):
        await closed_loop(act, 3, 60)


def test_meter_counts_the_cpu_of_this_process_alone() -> None:
    meter = Meter()
    total = sum(number * number for number in range(300_000))
    figures = meter.figures(10, [0.5])
    assert total > 0
    assert figures["cpu_us"] > 0
    assert figures["rate"] > 0
    assert figures["p50_ms"] == 500


def test_meter_refuses_to_divide_by_nothing() -> None:
    with pytest.raises(RuntimeError, match="nothing was finished"):
        Meter().figures(0, [])
