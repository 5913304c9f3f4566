"""When to ask the peer whether it is there, and when to give up (RFC 9113 §6.7).

The algorithm:

1. Any received byte is life. A PING goes out when nothing was received for ``interval`` seconds
   (lengthened by up to 10 %, so that many connections do not ask at the same moment).
2. Nothing at all within ``timeout`` seconds after that PING means that the peer is dead.
3. Without ``while_idle`` no PING goes out while no stream is open; then the first stream after a
   spell longer than the interval brings a PING with it, in the same write: the request does not
   wait for the answer, and a dead peer is still found after ``timeout``.
4. One PING is in flight at a time; its ACK is a sample of the round trip.
5. While we do not read, silence is of our own making: the clock starts anew when reading does.

A timer that fires late proves nothing about the peer, whose answer may lie unread in the socket:
the caller reads what is there before it asks for a verdict.
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf
from struct import Struct

# The most by which an interval is lengthened at random.
JITTER = 0.1

_PAYLOAD = Struct(">4sI")
_MARK = b"dyn2"


class Verdict(Enum):
    """What is to be done now."""

    WAIT = auto()
    PING = auto()
    DEAD = auto()


class KeepAlive:
    """The keep-alive of one connection.

    Args:
        interval: Seconds of silence before a PING; None sends none.
        timeout: Seconds that a PING may stay without any sign of life.
        while_idle: Whether to ask while no stream is open.
        jitter: A number in 0…1, drawn once for each connection.
        now: The present, in seconds of a monotonic clock.
    """

    __slots__ = (
        "_interval",
        "_pings",
        "_sent_at",
        "_while_idle",
        "last_received",
        "paused",
        "rtt",
        "timeout",
    )

    def __init__(
        self,
        interval: float | None,
        timeout: float,
        *,
        while_idle: bool,
        jitter: float,
        now: float,
    ) -> None:
        self._interval = inf if interval is None else interval * (1 + JITTER * jitter)
        self.timeout = timeout
        self._while_idle = while_idle
        self._sent_at: float | None = None
        self._pings = 0
        self.last_received = now
        self.paused = False
        self.rtt: float | None = None

    @property
    def waiting(self) -> bool:
        """Whether a PING is in flight."""
        return self._sent_at is not None

    def received(self, now: float) -> None:
        """Note that bytes arrived."""
        self.last_received = now

    def pause(self) -> None:
        """Note that reading has stopped."""
        self.paused = True

    def resume(self, now: float) -> None:
        """Note that reading goes on: what was missed in between is not counted."""
        self.paused = False
        self.last_received = now

    def next_timer(self, *, streams: bool) -> float:
        """The time at which to ask ``verdict`` again, in seconds; infinite for never."""
        if self.paused:
            return inf
        if self._sent_at is not None:
            return self._dead_at()
        if not streams and not self._while_idle:
            return inf
        return self.last_received + self._interval

    def verdict(self, now: float, *, streams: bool) -> Verdict:
        """Say what the clock asks for.

        Args:
            now: The present, in seconds.
            streams: Whether any stream is open.
        """
        due = self.next_timer(streams=streams)
        if now < due:
            return Verdict.WAIT
        if self._sent_at is None:
            return Verdict.PING
        if self.last_received > self._sent_at:
            # Bytes came, but the ACK did not: alive, and the PING counts as lost.
            self._sent_at = None
            return self.verdict(now, streams=streams)
        return Verdict.DEAD

    def stream_opened(self, now: float) -> bool:
        """Whether a PING should go with the first stream after a long silence."""
        return (
            not self._while_idle
            and self._sent_at is None
            and now - self.last_received >= self._interval
        )

    def ping(self, now: float) -> bytes:
        """Note that a PING is being written; returns its payload."""
        self._sent_at = now
        self._pings = (self._pings + 1) & 0xFFFFFFFF
        return _PAYLOAD.pack(_MARK, self._pings)

    def acknowledged(self, payload: bytes, now: float) -> bool:
        """Take a PING ACK; false when it answers no PING of ours that is in flight."""
        if self._sent_at is None or payload != _PAYLOAD.pack(_MARK, self._pings):
            return False
        self.rtt = now - self._sent_at
        self._sent_at = None
        return True

    def _dead_at(self) -> float:
        """When the PING in flight counts as unanswered."""
        assert self._sent_at is not None
        return max(self._sent_at, self.last_received) + self.timeout
