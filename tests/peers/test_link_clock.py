from __future__ import annotations

import asyncio
import functools
import os
import random
import sys
import time
from collections.abc import AsyncIterator

import pytest

from tests.peers.link_clock import Clock, _KernelAlarm

SOON = 0.001
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has timers to watch")


@pytest.fixture(params=[pytest.param("kernel", marks=LINUX), "loop"])
async def clock(request: pytest.FixtureRequest) -> AsyncIterator[Clock]:
    """With either kind of alarm."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "loop":
            patch.setattr(sys, "platform", "another")
        clock = Clock(asyncio.get_running_loop())
    yield clock
    alarm = clock._alarm
    alarm.set(None)
    if isinstance(alarm, _KernelAlarm):
        clock.loop.remove_reader(alarm._descriptor)
        os.close(alarm._descriptor)


async def test_calls_come_in_the_order_of_their_times_and_never_early(clock: Clock) -> None:
    now = time.monotonic()
    times = [now + SOON * n for n in range(1, 21)]
    called: list[tuple[float, float]] = []
    done = asyncio.Event()

    def note(when: float) -> None:
        called.append((when, time.monotonic()))
        if len(called) == len(times):
            done.set()

    for when in random.Random(5).sample(times, len(times)):
        clock.call_at(when, functools.partial(note, when))
    await done.wait()
    assert [when for when, _ in called] == times
    assert all(at >= when for when, at in called)


async def test_an_earlier_call_moves_the_alarm_forward(clock: Clock) -> None:
    done = asyncio.Event()
    clock.call_at(time.monotonic() + 3600, pytest.fail)
    clock.call_at(time.monotonic() + SOON, done.set)
    await done.wait()


async def test_a_call_may_ask_for_the_next(clock: Clock) -> None:
    done = asyncio.Event()
    left = iter(range(100))

    def again() -> None:
        if next(left, None) is None:
            done.set()
        else:
            clock.call_at(time.monotonic(), again)

    clock.call_at(time.monotonic() + SOON, again)
    await done.wait()


async def test_a_call_for_a_time_that_is_past_comes_and_is_not_late(clock: Clock) -> None:
    done = asyncio.Event()
    clock.call_at(time.monotonic() - 3600, done.set)
    await done.wait()
    assert (clock.rings, clock.late_most < 3600) == (1, True)


async def test_how_late_it_rang_is_counted(clock: Clock) -> None:
    done = asyncio.Event()
    when = time.monotonic() + SOON
    clock.call_at(when, done.set)
    while time.monotonic() < when + 10 * SOON:  # the loop has no chance to be in time
        pass
    await done.wait()
    assert clock.late_most == clock.late >= 10 * SOON


@LINUX
async def test_the_kernels_alarm_is_silent_when_nothing_is_to_come() -> None:
    loop = asyncio.get_running_loop()
    rang = asyncio.Event()
    alarm = _KernelAlarm(loop, rang.set)
    try:
        alarm.set(time.monotonic())
        await rang.wait()
        alarm.set(None)
        with pytest.raises(BlockingIOError):
            os.read(alarm._descriptor, 8)
    finally:
        loop.remove_reader(alarm._descriptor)
        os.close(alarm._descriptor)
