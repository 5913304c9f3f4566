"""The arithmetic of a link, with no socket and no clock in it: when may which byte come out?

1. What is read from the sender is a chunk. It waits until all chunks before it are on the wire, of
   every connection that shares the link; its own way there takes its size / `rate` (`departs`).
2. On the wire it travels for `delay`, and for a random part of `jitter` (`due`).
3. It comes out when it is due and all before it on its own connection are out: TCP keeps order.
4. Nothing is read while the bytes that wait for the wire fill the queue: that is how the sender
   learns of it.

All times follow from the ones before and not from when somebody woke up, so that no error adds up.
"""

from __future__ import annotations

import enum
import random
from collections import deque
from dataclasses import dataclass
from typing import Final, TypedDict

PACKET: Final = 1448
"""Bytes of payload in a packet of Ethernet: links slower than that per `TICK` are cut as finely."""
TICK: Final = 0.0005
"""Seconds on the wire that one chunk takes at most on a fast link: finer costs a core."""
LARGEST: Final = 262_144
"""Bytes of a chunk at most: more made the relay no faster."""
QUEUE_TIME: Final = 0.02
"""Seconds of `rate` that the queue holds unless told: a router's buffer of our days."""
QUEUE_LEAST: Final = 32_768
QUEUE_UNPACED: Final = 1_048_576
"""Bytes that the queue holds on a link without a rate, where only the receiver can fill it."""
WIRE_UNPACED: Final = 67_108_864
"""Bytes under way at most on a link with a delay and no rate."""
BUFFER: Final = 131_072
"""Bytes to ask the kernel for, as a buffer (it doubles that); they belong to no link."""
BUFFER_TIME: Final = 0.005
"""Seconds of `rate` that suffice on slower links."""
BUFFER_LEAST: Final = 8_192
BATCH: Final = 4
"""Chunks for which a sender that is ahead waits to have room: to wake up for each costs more."""
CATCH_UP: Final = 0.25
"""Seconds that a link may make good after the relay itself was late. Where a sender was ready all
the time the rate is kept beyond that stall, as if there had been none."""


class Changes(TypedDict, total=False):
    """New values for a link; what is not named stays as it is.

    Args:
        delay: Seconds from one end to the other, one way.
        rate: Bytes of payload per second, for all connections together; None: as fast as it goes.
        jitter: Seconds added at most; each chunk draws its own part of it.
        queue: Bytes that may wait for the wire; None: 20 ms at `rate`, 32 KiB at least, and 1 MiB
            on a link without a rate.
    """

    delay: float
    rate: float | None
    jitter: float
    queue: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What one direction of a link is like; for the values see `Changes`.

    Raises:
        ValueError: A value that no link can have.
    """

    delay: float = 0.0
    rate: float | None = None
    jitter: float = 0.0
    queue: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.delay < float("inf"):
            raise ValueError(f"delay is {self.delay!r}, allowed are seconds from 0")
        if not 0 <= self.jitter < float("inf"):
            raise ValueError(f"jitter is {self.jitter!r}, allowed are seconds from 0")
        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise ValueError(f"rate is {self.rate!r}, allowed are bytes/s above 0, or None")
        if self.queue is not None and self.queue < 1:
            raise ValueError(f"queue is {self.queue!r}, allowed are bytes from 1, or None")

    @property
    def capacity(self) -> int:
        """Bytes that may wait for the wire."""
        if self.queue is not None:
            return self.queue
        return QUEUE_UNPACED if self.rate is None else max(QUEUE_LEAST, int(self.rate * QUEUE_TIME))

    @property
    def wire(self) -> int:
        """Bytes that are on their way at most."""
        longest = self.delay + self.jitter
        if self.rate is None:
            return WIRE_UNPACED if longest else 0
        return int(self.rate * longest) + 1

    @property
    def batch(self) -> int:
        """Bytes that are to have room before a sender that is ahead is read again."""
        return max(self.grain, min(BATCH * self.grain, self.capacity // 2))

    @property
    def buffer(self) -> int:
        """Bytes that the kernel may accept for us while the queue has no room for them."""
        if self.rate is None:
            return BUFFER
        return min(BUFFER, max(BUFFER_LEAST, int(self.rate * BUFFER_TIME)))

    @property
    def grain(self) -> int:
        """Bytes to read at once."""
        fine = LARGEST if self.rate is None else max(PACKET, int(self.rate * TICK))
        return max(1, min(fine, LARGEST, self.capacity // 2))


class End(enum.Enum):
    """How a sender ends."""

    FIN = "FIN"
    RESET = "RST"


class Chunk:
    """Bytes that travel together, or the end of all that travels.

    Args:
        data: The bytes; what is left of them once they come out in parts.
        end: Set for an end, which has no bytes.
    """

    __slots__ = ("data", "departs", "due", "end", "luck", "size")

    def __init__(self, data: bytes | memoryview, end: End | None = None) -> None:
        self.data = data
        self.end = end
        self.size = len(data)
        self.luck = 0.0
        self.departs = 0.0
        self.due = 0.0

    def stand_still(self, since: float, seconds: float) -> None:
        """Live through a pause: what had not happened when it began happens later by its length."""
        if self.departs > since:
            self.departs += seconds
        if self.due > since:
            self.due += seconds


class Lane:
    """One direction of a link, shared by all connections: its queue, its wire, its figures.

    Args:
        conditions: What it is like at first.
        seed: For the jitter.
    """

    def __init__(self, conditions: Conditions, seed: int = 0) -> None:
        self.conditions = conditions
        self.delivered = 0
        self.held = 0
        self.held_peak = 0
        self._random = random.Random(seed)
        self._free = float("-inf")  # when the wire has taken all that waits for it
        self._queue: deque[Chunk] = deque()  # what waits, and some that departed unnoticed

    # What waits

    def backlog(self, now: float) -> float:
        """Bytes that wait for the wire."""
        rate = self.conditions.rate
        return 0.0 if rate is None else max(0.0, self._free - now) * rate

    def opens(self, size: int) -> float:
        """The time from which so many more bytes have room in the queue."""
        conditions = self.conditions
        if conditions.rate is None:
            return float("-inf")
        return self._free - (conditions.capacity - size) / conditions.rate

    def admit(self, chunk: Chunk, now: float, *, was_ready: bool = False) -> None:
        """Put a chunk behind all that waits, and set its times.

        Args:
            chunk: The chunk.
            now: The time, in seconds.
            was_ready: The sender had it before there was room, so that a relay which comes late
                to read it is not to cost the wire anything.
        """
        self._forget_departed(now)
        chunk.luck = self._random.random()
        start = max(self._free, now - CATCH_UP if was_ready else now)
        self._send_off(chunk, start, chunk.size)
        self._queue.append(chunk)
        self.hold(chunk.size)

    # What changes

    def change(self, conditions: Conditions, now: float) -> None:
        """Be like this from now on. What is on the wire already keeps its times."""
        before, self.conditions = self.conditions, conditions
        self._forget_departed(now)
        self._free = now
        for chunk in self._queue:
            # Of the first one a part is on the wire already.
            rest = chunk.size if before.rate is None else (chunk.departs - now) * before.rate
            self._send_off(chunk, self._free, min(chunk.size, rest))

    def stand_still(self, since: float, seconds: float) -> None:
        """Live through a pause of the whole link; the chunks are told one by one."""
        if self._free > since:
            self._free += seconds

    # Figures

    def hold(self, size: int) -> None:
        """Count bytes that came in, or (negative) that left."""
        self.held += size
        self.held_peak = max(self.held_peak, self.held)

    def _send_off(self, chunk: Chunk, start: float, size: float) -> None:
        conditions = self.conditions
        takes = 0.0 if conditions.rate is None else size / conditions.rate
        self._free = chunk.departs = start + takes
        chunk.due = chunk.departs + conditions.delay + conditions.jitter * chunk.luck

    def _forget_departed(self, now: float) -> None:
        while self._queue and self._queue[0].departs <= now:
            self._queue.popleft()
