"""A clock that rings to some 50 µs, where loops know milliseconds only.

libuv and epoll both count in milliseconds. Linux has timers that are descriptors and do not; other
systems get the loop's own.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import itertools
import sys
import time
from collections.abc import Callable
from typing import Final

CLOCK_MONOTONIC: Final = 1
TFD_NONBLOCK: Final = 0o4000
TFD_CLOEXEC: Final = 0o2000000
TFD_TIMER_ABSTIME: Final = 1
NANOSECONDS: Final = 1_000_000_000


class _ITimerSpec(ctypes.Structure):
    """`struct itimerspec`: an interval, and when to ring first."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns"))


class _KernelAlarm:
    """One timer of the kernel that calls back on a loop (Linux)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._spec = _ITimerSpec()
        self._argument = ctypes.byref(self._spec)
        self._descriptor: int = libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "no timer is to be had")
        loop.add_reader(self._descriptor, callback)

    def set(self, when: float | None) -> None:
        """Ring at this time instead of the one before, or not at all."""
        nanoseconds = 0 if when is None else max(1, int(when * NANOSECONDS))  # 0 is never
        self._spec.at_s, self._spec.at_ns = divmod(nanoseconds, NANOSECONDS)
        # This also takes back that it rang, so that nobody has to read it.
        self._settime(self._descriptor, TFD_TIMER_ABSTIME, self._argument, None)


class _LoopAlarm:
    """One timer of a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None

    def set(self, when: float | None) -> None:
        """Ring at this time instead of the one before, or not at all."""
        if self._handle is not None:
            self._handle.cancel()
        if when is not None:
            self._handle = self._loop.call_later(when - time.monotonic(), self._callback)


class Clock:
    """Calls back at absolute times, and keeps account of how late it was.

    Args:
        loop: Where to call.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        kind = _KernelAlarm if sys.platform == "linux" else _LoopAlarm
        self.loop = loop
        self._alarm = kind(loop, self._ring)
        # When, the how-manieth, what, and since when it can be late.
        self._calls: list[tuple[float, int, Callable[[], None], float]] = []
        self._order = itertools.count()
        self._next = float("inf")
        self.rings = 0
        self.late = 0.0
        self.late_most = 0.0

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Call once when `time.monotonic()` has reached `when`; soon where that is past."""
        due = max(when, time.monotonic())
        heapq.heappush(self._calls, (when, next(self._order), callback, due))
        if when < self._next:
            self._next = when
            self._alarm.set(due)

    def _ring(self) -> None:
        now = time.monotonic()
        self._next = float("-inf")  # the alarm is set once, below
        calls = []  # what they ask for has to wait for others' turn
        while self._calls and self._calls[0][0] <= now:
            calls.append(heapq.heappop(self._calls))
        for _, _, callback, due in calls:
            self._count(now - due)
            callback()
        self._next = self._calls[0][0] if self._calls else float("inf")
        self._alarm.set(max(self._next, 0.0) if self._calls else None)

    def _count(self, late: float) -> None:
        self.rings += 1
        self.late += late
        self.late_most = max(self.late_most, late)
