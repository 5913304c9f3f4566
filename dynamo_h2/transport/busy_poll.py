"""Polling instead of sleeping, where the answer to a request that is alone is due any moment.

A loop that has nothing to do sleeps, and so does its core: to be woken up takes longer then than
all that this client does for a request. So the loop is kept turning for a moment, as the drivers of
network cards, hypervisors and the schedulers of other languages do it.

1. For one request of a client at a time, and only as long as it is alone on its connection. Where
   there are more, the loop has work, and finds their answers without any help.
2. Only where nine in ten answers on the connection have been in time. It has a counter for that: an
   answer in time adds one, a late one takes away eight, so that a peer whose answers are fast now
   and slow then, or go on as streams of tokens do, is hardly ever waited for in vain.
3. Each turn offers the core to whoever wants it. Where somebody has had it, another process or the
   loop's own work, nothing is polled for twenty times as long: a core that is at work needs no
   waking up, and who has offered it waits for the other's slice of time to end. After a gap that is
   longer than any slice, CPU time is rationed, and not to be spent like this for a minute.
"""

from __future__ import annotations

import asyncio
import os
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from dynamo_h2.metrics import Counters

__all__ = ["BusyPoll", "LoneRequests"]

# What an answer adds to the counter of its connection at most, the least with which the next one is
# polled for, and what a late one takes away.
CERTAIN: Final = 16
LIKELY: Final = 8
MISSED: Final = 8

# How much later an answer may come that the loop slept for, in seconds: it had to be woken up.
WAKING: Final = 100e-6

# Seconds after which a core that was offered has been taken: else that takes about a microsecond.
TAKEN: Final = 10e-6

# Seconds after which a turn had something to do: that of an idle loop takes a few microseconds.
BUSY: Final = 50e-6

# For how many times as long nothing is polled for: less than a twentieth can be lost by offering.
LEAVE_ALONE: Final = 20

# A gap (seconds) that is longer than a scheduler's slice of time, and for how long to do without.
RATIONED: Final = 0.01
MINUTE: Final = 60.0

# None where the system has no such call.
sched_yield: Callable[[], None] | None = getattr(os, "sched_yield", None)


class BusyPoll:
    """Keeps the loop of a client turning while it waits for an answer.

    Args:
        limit: How long it does so at most, in seconds, for each request.
        counters: Where the time that was spent is counted.

    Attributes:
        polled: Whose request is waited for in this way; None while the loop may sleep.
    """

    __slots__ = (
        "_began",
        "_counters",
        "_leave_until",
        "_looked_at",
        "_loop",
        "_turning",
        "limit",
        "polled",
    )

    def __init__(self, limit: float, counters: Counters) -> None:
        self.limit = limit
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self.polled: LoneRequests | None = None
        self._began = 0.0
        self._looked_at = 0.0
        self._leave_until = 0.0
        self._turning = False

    @classmethod
    def up_to(cls, limit: float | None, counters: Counters) -> BusyPoll | None:
        """Make one; None where the configuration or the system has no use for it.

        Args:
            limit: As of ``busy_poll`` in the configuration.
            counters: Where the time that was spent is counted.
        """
        return None if limit is None or sched_yield is None else cls(limit, counters)

    def begin(self, requests: LoneRequests, now: float) -> None:
        """Poll for one that was just written, unless another is waited for in the same way."""
        if self.polled is not None and self.polled is not requests:
            self.polled = None
            self._leave_until = max(self._leave_until, now + self.limit)
        elif now >= self._leave_until:
            # Takes 174 calls and saves 66.7 of 185 µs per answer; A/A ±6.9.
            self.polled = requests
            self._began = self._looked_at = monotonic()
            if not self._turning:
                self._turning = True
                self._loop.call_soon(self._turn)

    def end(self, now: float) -> None:
        """Let the loop sleep again: the answer is here."""
        self._look(now, BUSY)
        self.polled = None

    def _turn(self) -> None:
        self._turning = False
        polled = self.polled
        if polled is None:
            return
        now = monotonic()
        if not polled.alone:
            self.polled = None
        elif self._look(now, BUSY):
            if now >= self._began + self.limit:
                self.polled = None
                polled.missed()
                return
            # Saves 108 calls and 30.6 of 186 µs per answer from the same core; A/A ±1.8.
            assert sched_yield is not None
            sched_yield()
            if self._look(monotonic(), TAKEN):
                self._turning = True
                self._loop.call_soon(self._turn)

    def _look(self, now: float, allowed: float) -> bool:
        """Whether nobody else has had the core or the loop since the last look.

        Args:
            now: The present, in seconds.
            allowed: How long ago the last look may be, in seconds.
        """
        gone = now - self._looked_at
        self._looked_at = now
        if gone > allowed:
            self.polled = None
            self._leave_until = now + (MINUTE if gone > RATIONED else LEAVE_ALONE * gone)
            return False
        self._counters.busy_poll_time += gone
        return True


class LoneRequests:
    """The requests of one connection that were alone when they were written.

    Args:
        busy_poll: The client's.
        streams: The ids of the connection's streams in flight.

    Attributes:
        stream_id: The latest one; 0 where it has been judged while it was in flight.
    """

    __slots__ = ("_busy_poll", "_counter", "_streams", "_written_at", "stream_id")

    def __init__(self, busy_poll: BusyPoll, streams: Collection[int]) -> None:
        self._busy_poll = busy_poll
        self._streams = streams
        self._counter = 0
        self._written_at = 0.0
        self.stream_id = 0

    @property
    def alone(self) -> bool:
        """Whether the latest one is in flight, and no other."""
        return len(self._streams) == 1 and self.stream_id in self._streams

    def written(self, stream_id: int, now: float) -> None:
        """Note that a request is out, and poll for its answer if that is likely to come in time."""
        self.stream_id = stream_id
        self._written_at = now
        if self._counter >= LIKELY:
            self._busy_poll.begin(self, now)

    def answered(self, now: float) -> None:
        """Note that the latest one is over, by what has come at ``now`` (seconds)."""
        busy_poll = self._busy_poll
        allowed = busy_poll.limit
        if busy_poll.polled is self:
            busy_poll.end(now)
        else:
            allowed += WAKING
        if now - self._written_at > allowed:
            self.missed()
        else:
            self._counter = min(self._counter + 1, CERTAIN)

    def missed(self) -> None:
        """Note that the answer was not there in time."""
        self._counter = max(self._counter - MISSED, 0)
        self.stream_id = 0
