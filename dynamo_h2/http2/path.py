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

# Seconds for which the smallest round trip is believed: routes change within minutes.
RTT_AGE = 10.0

# Growth has to pay: a gain below a quarter may be noise, and three of them are no accident.
GAIN = 1.25
FLAT_ROUNDS = 3

# An ACK that came late by more than this part of the product stood in line, if that is more than
# the largest frame that every peer may send.
QUEUE = 0.25
FRAME = 16_384


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

    def add_rate(self, now: float, rate: float, times: int = 1) -> None:
        """Take a sample of the delivery rate, in bytes per second, that counts so many times."""
        self._rates.extend([(now, rate)] * min(times, RATE_SAMPLES))

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

        One whose ACK was ``queued`` behind DATA only replaces what is three times as old as usual.
        """
        if rtt > self.rtt and now - self._rtt_at < RTT_AGE * (3 if queued else 1):
            return False
        longer = rtt > self.rtt * GAIN
        self.rtt, self._rtt_at = rtt, now
        return longer

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
