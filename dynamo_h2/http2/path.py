"""What samples say about the path of one connection, and whether larger windows pay on it."""

from __future__ import annotations

from collections import deque
from math import inf

# A round trip counts as a millisecond at least: below it we measure our own event loop.
LEAST_RTT = 0.001

# Samples of the rate that are remembered, and for how many seconds: a lull says nothing about the
# path, but after 20 s a slower path must be believed.
RATE_SAMPLES = 10
RATE_AGE = 20.0

# Seconds for which the smallest round trip is believed: routes change within minutes. Against one
# that stood in line it is for longer, since a squeeze will tell better.
RTT_AGE = 10.0
QUEUED_AGE = 60.0

# Growth has to pay: a gain below a quarter may be noise, and three of them are no accident.
GAIN = 1.25
FLAT_ROUNDS = 3

# An ACK that came late by more than this part of the product stood in line, if that is more than
# the largest frame that every peer may send.
QUEUE = 0.25
FRAME = 16_384

# A second probe tells whether a round trip that is longer by more than this is the path's.
NEAR = 1.05

# A window that runs down in a squeeze for so many round trips, or so many seconds, gives a sample,
# if the rate is not less by more than this: then it is the application's.
RUN_DOWN_ROUNDS = 8
RUN_DOWN = 1.0
RUN_DOWN_SLACK = 1.5


class Path:
    """What the samples say about the path.

    Attributes:
        rtt: The smallest round trip, in seconds; infinite while none is known.
    """

    __slots__ = ("_rates", "_rtt_at", "rtt")

    def __init__(self) -> None:
        self._rates: deque[tuple[float, float]] = deque(maxlen=RATE_SAMPLES)
        self.rtt = inf
        self._rtt_at = -inf

    @property
    def round_trip(self) -> float:
        """The smallest round trip as it counts, in seconds."""
        return max(self.rtt, LEAST_RTT)

    def add_rate(self, now: float, rate: float, full: float = 0.0) -> None:
        """Take a sample of the delivery rate, in bytes per second.

        When the pipe was ``full`` for so many seconds, it counts as often as they were round trips.
        """
        times = min(int(full / self.round_trip), RATE_SAMPLES)
        self._rates.extend([(now, rate)] * max(times, 1))

    def add_run_down(self, now: float, came: int, lasted: float, rate: float) -> None:
        """Take what came in so many seconds while a window ran down in a squeeze.

        The sample that began it, of this ``rate``, may have met a drop halfway.
        """
        enough = lasted >= min(RUN_DOWN, RUN_DOWN_ROUNDS * self.round_trip)
        if enough and came / lasted * RUN_DOWN_SLACK >= rate:
            self.add_rate(now, came / lasted, lasted)

    def rate(self, now: float) -> float:
        """The largest rate that is still believed, in bytes per second."""
        return max((rate for at, rate in self._rates if now - at <= RATE_AGE), default=0.0)

    def product(self, rate: float) -> float:
        """Bytes under way at a rate: 0 while no round trip is known."""
        return 0.0 if self.rtt == inf else rate * self.round_trip

    def stale(self, now: float) -> bool:
        """Whether the smallest round trip should be measured anew."""
        return now - self._rtt_at >= RTT_AGE

    def add_rtt(self, now: float, rtt: float, *, queued: bool) -> bool:
        """Take a sample of the round trip, in seconds; True when the path has become longer.

        One whose ACK was ``queued`` behind DATA may be of our own making, and a squeeze will tell:
        it only replaces what none has told for a minute.
        """
        if rtt > self.rtt and now - self._rtt_at < (QUEUED_AGE if queued else RTT_AGE):
            return False
        longer = rtt > self.rtt * GAIN
        self.rtt, self._rtt_at = rtt, now
        return longer

    def agrees(self, rtt: float, before: float) -> bool:
        """Whether a probe says what the one before it said (0 for none), or what is known."""
        last = before or self.rtt
        return last <= rtt * GAIN <= last * GAIN * GAIN

    def needs_another(self, now: float, rtt: float, before: float) -> bool:
        """Whether a probe that agrees is not to be believed alone."""
        longer = rtt > self.rtt * NEAR and not self._is_known(now, rtt)
        return longer and not before and self.agrees(rtt, before)

    def shortest(self, now: float, rtt: float, before: float) -> float:
        """What to believe after two probes, or one: the shorter one waited less."""
        shorter = min(rtt, before or rtt)
        return min(shorter, self.rtt) if self._is_known(now, shorter) else shorter

    def _is_known(self, now: float, rtt: float) -> bool:
        """Whether a round trip is longer than what is known by no more than a frame."""
        return (rtt - self.rtt) * self.rate(now) < FRAME

    def stood_in_line(self, rate: float, rtt: float) -> bool:
        """Whether an ACK came so late that DATA was before it."""
        return rate * (rtt - self.rtt) >= max(self.product(rate) * QUEUE, FRAME)


class Gate:
    """Lets the target rise as long as that pays."""

    __slots__ = ("_at", "_flat", "_plateau")

    def __init__(self) -> None:
        self.open()

    def open(self, rate: float = 0.0) -> None:
        """Forget what did not pay; gains count from ``rate`` on, in bytes per second."""
        self._plateau = rate
        self._flat = 0
        self._at = -inf

    def lets_through(self, now: float, rate: float) -> bool:
        """Whether the target may rise once more, now that this is the rate."""
        if rate >= self._plateau * GAIN:
            self._plateau, self._flat, self._at = rate, 0, now
            return True
        self._flat += 1
        if self._flat < FLAT_ROUNDS or now - self._at >= RATE_AGE:
            self._at = now
            return True
        return False
