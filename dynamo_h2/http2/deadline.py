"""Deadlines of the streams of one connection, kept in a coarse wheel.

The algorithm:

1. Time is cut into ticks of 1/128 s; a deadline belongs to the first tick that ends after it.
2. A tick is a dict of the entries that are due in it, so that adding and removing cost O(1).
3. A heap holds the ticks, each once. Empty ticks are dropped when they reach the front, and all of
   them when their number has doubled.
4. Nothing fires early; what fires is at most one tick late. An entry whose deadline has moved on in
   the meantime is simply set again by its owner: most deadlines move away before they are due.

A heap of the deadlines themselves would keep an entry for each request of the last five seconds
(the default time-out), although nearly all of them end within milliseconds.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf
from typing import Generic, Protocol, TypeVar

# A power of two: multiplying and dividing by it is exact, so that a tick has ended at the very time
# at which it said it would.
TICKS_PER_SECOND = 128

# Ticks that are kept, empty or not, before a look for empty ones pays.
FEW_TICKS = 1024


class Timed(Protocol):
    """Anything that can stand in the wheel once."""

    tick: int
    """The tick it stands in; 0 when it stands in none. Written by the wheel alone."""


T = TypeVar("T", bound=Timed)


class Deadlines(Generic[T]):
    """The wheel of one connection."""

    __slots__ = ("_heap", "_many", "_ticks")

    def __init__(self) -> None:
        self._ticks: dict[int, dict[T, None]] = {}
        self._heap: list[int] = []
        self._many = FEW_TICKS

    def set(self, entry: T, when: float) -> float:
        """Let ``entry`` expire at ``when`` (seconds), instead of any earlier setting of it.

        Returns:
            The time at which its tick fires, in seconds.
        """
        tick = int(when * TICKS_PER_SECOND) + 1
        if entry.tick != tick:
            if entry.tick:
                self.discard(entry)
            entries = self._ticks.get(tick)
            if entries is None:
                if len(self._heap) >= self._many:
                    self._sweep()
                entries = self._ticks[tick] = {}
                heappush(self._heap, tick)
            entries[entry] = None
            entry.tick = tick
        return tick / TICKS_PER_SECOND

    def discard(self, entry: T) -> None:
        """Take ``entry`` out, if it is in."""
        if entry.tick:
            del self._ticks[entry.tick][entry]
            entry.tick = 0

    def next(self) -> float:
        """The time at which the first tick with an entry fires, in seconds; infinite for none."""
        heap = self._heap
        while heap and not self._ticks[heap[0]]:
            del self._ticks[heappop(heap)]
        return heap[0] / TICKS_PER_SECOND if heap else inf

    def expired(self, now: float) -> list[T]:
        """Take out and return all entries of the ticks that ended by ``now``."""
        out: list[T] = []
        last = now * TICKS_PER_SECOND
        while self._heap and self._heap[0] <= last:
            entries = self._ticks.pop(heappop(self._heap))
            for entry in entries:
                entry.tick = 0
            out.extend(entries)
        return out

    def _sweep(self) -> None:
        """Drop all empty ticks; a sorted list is a heap."""
        self._ticks = {tick: entries for tick, entries in self._ticks.items() if entries}
        self._heap = sorted(self._ticks)
        self._many = max(FEW_TICKS, 2 * len(self._heap))
