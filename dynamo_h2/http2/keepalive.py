"""When to ask the peer whether it is there, and when to give up (RFC 9113 §6.7).

The algorithm:

1. Any received byte is life. A PING goes out when nothing was received for ``interval`` seconds
   (lengthened by up to 10 %, so that many connections do not ask at the same moment).
2. Nothing at all within ``timeout`` seconds after that PING means that the peer is dead.
3. Without ``while_idle`` no PING goes out while no stream is open; then the first stream after a
   spell longer than the interval brings a PING with it, in the same write: the request does not
   wait for the answer, and a dead peer is still found after ``timeout``.
4. One PING is in flight at a time; its ACK is a sample of the round trip.
5. While streams are open, a PING goes out early when nothing was received for one second, or four
   round trips if that is more; and with the RST_STREAM of a cancel when nothing was received since
   that stream was opened. At most one of both until HEADERS or DATA arrive: gRPC servers count each
   PING that comes sooner, and close after the third. Only when streams that were given up so have
   taken the connection's last slot is there one more: no request could use it before the next.
6. Without a byte for 250 ms after a PING, or four round trips, the peer is *suspect*, until a byte
   arrives. Suspicion costs little; so it comes early, and death only when rules 1 and 2 say so:
   never before ``interval`` and ``timeout`` have passed in silence.
7. A PING counts from when it is written. One that waits because the peer does not read makes it
   suspect as well, but dead only when ``write_timeout`` has passed too: how long a peer may take
   nothing is for that limit to say.
8. While we do not read, silence is of our own making: the clock starts anew when reading does.

The round trip is smoothed as TCP does it (RFC 6298 §2); until the first PING, it is what the ACK of
our SETTINGS took.

A timer that fires late proves nothing about the peer, whose answer may lie unread in the socket:
the caller reads what is there before it asks for a verdict.
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf
from struct import Struct

# The most by which an interval is lengthened at random.
JITTER = 0.1

# The least silence that makes an open stream ask, and that makes a PING's peer suspect (seconds):
# with less, the pauses of a busy worker would count. Where round trips are longer, four of them.
ASK_AFTER = 1.0
SUSPECT_AFTER = 0.25
PATIENCE = 4

# The weight of a new round trip among the older ones is one to seven (RFC 6298 §2).
SMOOTHING = 8

_PAYLOAD = Struct(">4sI")
_MARK = b"dyn2"


class Verdict(Enum):
    """What is to be done now."""

    WAIT = auto()
    PING = auto()
    SUSPECT = auto()
    DEAD = auto()


class KeepAlive:
    """The keep-alive of one connection.

    Args:
        interval: Seconds of silence before a PING; None sends none.
        timeout: Seconds that a PING may stay without any sign of life.
        while_idle: Whether to ask while no stream is open.
        jitter: A number in 0…1, drawn once for each connection.
        write_timeout: Seconds in which the peer may take nothing.
        now: The present, in seconds of a monotonic clock.

    Attributes:
        last_received: When the last byte came; may be set in place of calling ``received``.
        busy_since: When streams were opened while there were none; to be set from outside.
        unwritten: Whether a PING was queued and is not written yet.
        asked: Whether a PING of rule 5 was written since HEADERS or DATA arrived. True at first: a
            peer that has not spoken yet is still being connected to.
        ask_after: The silence after which rule 5 asks, in seconds.
        suspect: Whether the peer owes us a sign of life.
        paused: Whether reading has stopped.
        rtt: The last round trip of a PING, in seconds.
        srtt: The smoothed round trip, in seconds; 0 before the first.
    """

    __slots__ = (
        "_counts_from",
        "_interval",
        "_pings",
        "_sent_at",
        "_while_idle",
        "_write_timeout",
        "ask_after",
        "asked",
        "busy_since",
        "last_received",
        "paused",
        "rtt",
        "srtt",
        "suspect",
        "timeout",
        "unwritten",
    )

    def __init__(
        self,
        interval: float | None,
        timeout: float,
        *,
        while_idle: bool,
        jitter: float,
        now: float,
        write_timeout: float = inf,
    ) -> None:
        self._interval = inf if interval is None else interval * (1 + JITTER * jitter)
        self.timeout = timeout
        self._while_idle = while_idle
        self._sent_at: float | None = None
        self._counts_from = inf
        self._write_timeout = max(timeout, write_timeout)
        self.unwritten = False
        self._pings = 0
        self.last_received = now
        self.busy_since = now
        self.asked = True
        self.ask_after = inf if interval is None else ASK_AFTER
        self.suspect = False
        self.paused = False
        self.rtt: float | None = None
        self.srtt = 0.0

    @property
    def waiting(self) -> bool:
        """Whether a PING is in flight."""
        return self._sent_at is not None

    def received(self, now: float) -> None:
        """Note that bytes arrived."""
        self.last_received = now
        self.suspect = False

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
            return min(self._suspect_at(), self._dead_at())
        due = self.last_received + self._interval if streams or self._while_idle else inf
        if streams and not self.asked:
            due = min(due, max(self.busy_since, self.last_received) + self.ask_after)
        return due

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
            if now < self.last_received + self._interval:
                self.asked = True
            return Verdict.PING
        if self.last_received > self._sent_at:
            # Bytes came, but the ACK did not: alive, and the PING counts as lost.
            self._sent_at = None
            return self.verdict(now, streams=streams)
        if now >= self._dead_at():
            return Verdict.DEAD
        self.suspect = True
        return Verdict.SUSPECT

    def stream_opened(self, now: float) -> bool:
        """Whether a PING should go with the first stream after a long silence."""
        return (
            not self._while_idle
            and self._sent_at is None
            and now - self.last_received >= self._interval
        )

    def silent_since(self, when: float) -> bool:
        """Whether nothing came since then (seconds), and the peer may be asked about that."""
        return self.last_received < when and self._interval < inf

    def ask(self, *, again: bool) -> bool:
        """Whether a PING should go with the RST_STREAM of a stream that is given up in silence.

        Args:
            again: Whether to ask though that was done since HEADERS or DATA arrived.
        """
        if self.paused or self._sent_at is not None or (self.asked and not again):
            return False
        self.asked = True
        return True

    def ping(self, now: float) -> bytes:
        """Note that a PING is queued; returns its payload."""
        self.unwritten = True
        self._count_from(now)
        self._pings = (self._pings + 1) & 0xFFFFFFFF
        return _PAYLOAD.pack(_MARK, self._pings)

    def written(self, now: float) -> None:
        """Note that the PING that was queued is handed to the transport."""
        self.unwritten = False
        if self._sent_at is not None:
            self._count_from(now)

    def _count_from(self, now: float) -> None:
        self._sent_at = now
        self._counts_from = max(now, self.last_received + self._interval)

    def acknowledged(self, payload: bytes, now: float) -> bool:
        """Take a PING ACK; false when it answers no PING of ours that is in flight."""
        if self._sent_at is None or payload != _PAYLOAD.pack(_MARK, self._pings):
            return False
        rtt = now - self._sent_at
        self._set_srtt(rtt if self.rtt is None else self.srtt + (rtt - self.srtt) / SMOOTHING)
        self.rtt = rtt
        self._sent_at = None
        return True

    def settings_acknowledged(self, rtt: float) -> None:
        """Take what the ACK of our SETTINGS took, in seconds, until a PING tells better."""
        if self.rtt is None:
            self._set_srtt(rtt)

    def _set_srtt(self, seconds: float) -> None:
        self.srtt = seconds
        if self._interval < inf:
            self.ask_after = max(ASK_AFTER, PATIENCE * seconds)

    def _suspect_at(self) -> float:
        """When the peer of the PING in flight becomes suspect; infinite once it is, or lives."""
        assert self._sent_at is not None
        if self.suspect or self.last_received > self._sent_at:
            return inf
        return self._sent_at + max(SUSPECT_AFTER, PATIENCE * self.srtt)

    def _dead_at(self) -> float:
        """When the PING in flight counts as unanswered."""
        assert self._sent_at is not None
        if self.last_received > self._sent_at:
            return self.last_received + self.timeout
        return self._counts_from + (self._write_timeout if self.unwritten else self.timeout)
