"""How large a receive window should be: twice what the path carries in one round trip.

The algorithm:

1. A PING is written after new DATA. The bytes read from the socket until its ACK, over that time,
   are a sample of the delivery rate; the time is a sample of the round trip. One is in flight at a
   time; one without an ACK is given up after 20 s, and the next one takes its place.
2. The rate is the largest of the last ten samples, none older than 20 s; one of a full pipe (6)
   counts as often as it lasted round trips, and so does the rate at which a large window runs down
   in a squeeze (7). The round trip is the smallest of 10 s; one that stood in line is no sample of
   it, unless no squeeze has told for a minute. Twice their product, between floor and ceiling, is
   what is *wanted*.
3. The clock is cut into rounds a little shorter than the round trip: what is granted within one
   comes back as DATA only after it. So a window was *limiting* when less than a quarter is left of
   what the peer had been granted before the round, or before the PING. All else is limited by the
   application: such a sample may raise the rate, but never the target.
4. As soon as a window is limiting the target rises, to twice what a round trip brings at this pace:
   it doubles with each round trip, and waits for no ACK. An ACK raises it to what is wanted.
5. It does not rise while the application has more unread than it took within the round, nor after
   three rounds in which the rate gained less than 25 %. A rate that does gain as much sets it free
   again, so does a longer round trip, and every 20 s one more round is tried.
6. An ACK stands in line behind the DATA that the peer's socket already holds. With a full pipe the
   time until it comes is our own window over the rate, and a target made of it would feed itself.
   The pipe is *full* when DATA came without a break and a quarter of the product stood in line.
7. So when the pipe is full at the rate (2), and the round trip is 10 s old or the target too large,
   the connection's window is *squeezed* to three quarters of the product, until one PING has gone
   through what is left. It goes ahead of a grant, when what was granted before has come: the line
   is dry, and nothing new is before the ACK. If the round trip was another than known, the path may
   have become slower or longer: the window is halved and asked again, until that makes no
   difference, and the shorter of the two is believed. A path that becomes faster ends the squeeze.
8. The target falls to what is wanted after a squeeze, with no limiting window for 10 s.
9. After 10 s without need for half of it the target is halved, and again every 2.5 s, down to the
   initial size, or to the floor while memory is short. From below it returns the same way.
10. PINGs are at least 100 ms and one round trip apart. The pause starts there again when the target
    moved, doubles up to 10 s when it did not, and is 0.5 s until a slower full pipe is believed.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from dynamo_h2.http2.path import FRAME, GAIN, Gate, Path

# The least that a target falls to, in bytes: about what HTTP/2 starts with (RFC 9113 §6.9.2).
FLOOR = 65_536

# No sample is shorter, in seconds.
INSTANT = 0.0001

# A round, in round trips: if it were one, what its own grants brought could fall into it by chance.
ROUND = 0.875

# A window with less than a quarter left is limiting: credit comes back in quarters.
LOW_WATER = 4

# A target that is too small or too large by less than this stays: it would only go up and down.
RISE = 1.125
SLACK = 1.5

# What is left of the product by a squeeze, a FRAME at least; seconds without DATA that end it; and
# round trips after it in which what it had held up comes in a burst.
SQUEEZE = 0.75
DRY = 1.0
CALM = 2

# Twice the product within a round trip is a faster path, and ends a squeeze; less may be jitter.
FASTER = 2

# The pauses between PINGs, in seconds: the least, the least while a full pipe is slower than it
# was, and the most.
PAUSE = 0.1
DOUBT_PAUSE = 0.5
LONG_PAUSE = 10.0

# A PING whose ACK did not come for so many seconds is given up.
LOST = 20.0

# Seconds without need before the target goes back, and between its steps: 64 MiB are 4 MiB again
# after 20 s.
QUIET = 10.0
STEP = 2.5


class Mark(NamedTuple):
    """A moment: the time, and how many bytes had come and lay unread."""

    at: float
    total: int = 0
    unread: int = 0


class BdpEstimator:
    """The size that the receive windows of one connection should have.

    Numbers go in and numbers come out: bytes, and seconds of a monotonic clock. Whoever drives it
    looks at ``target`` and ``squeeze`` again whenever a method returns True, and tells how many
    bytes are ``unread``: those that the application has not taken yet, on all streams.

    Args:
        initial: Bytes of a stream's window at the start, and after a quiet spell.
        ceiling: The most that ``target`` rises to, in bytes.
        now: The present, in seconds.
        floor: The least that ``target`` falls to, in bytes.

    Attributes:
        target: Bytes that a receive window should have now.
        squeeze: While not None, bytes that the connection's window must not exceed.
        pressed: Whether memory is short, to be set from outside: no growth, and rest at the floor.
        round_until: When to call ``begin_round``, before the bytes of a read are counted.
        total: Flow-controlled bytes that came; a hot loop may add to it in place of ``received``.
    """

    __slots__ = (
        "_calm_at",
        "_ceiling",
        "_floor",
        "_fresh",
        "_gate",
        "_granted",
        "_in_flight",
        "_initial",
        "_limited",
        "_limited_at",
        "_moved",
        "_outran",
        "_path",
        "_pause",
        "_ping_at",
        "_probed",
        "_probing",
        "_quiet",
        "_quiet_at",
        "_round",
        "_sampled",
        "_sent",
        "_squeezed",
        "_squeezed_rate",
        "pressed",
        "round_until",
        "squeeze",
        "target",
        "total",
    )

    def __init__(self, *, initial: int, ceiling: int, now: float, floor: int = FLOOR) -> None:
        start = Mark(now)
        self.target = self._initial = initial
        self._ceiling = max(ceiling, initial)
        self._floor = min(floor, initial)
        self.total = 0
        self.pressed = False
        self._path = Path()
        self._gate = Gate()
        self._moved = False
        # When a window was limiting last; the round; and what was granted in it, by identifiers.
        self._limited_at = now
        self._round = start
        self._fresh: dict[int, int] = {}
        self.round_until = inf
        # The last PING, whether a window was limiting since, what was granted, and the last sample.
        self._in_flight = self._probing = self._limited = False
        self._granted: dict[int, int] = {}
        self._sent = Mark(-inf)
        self._sampled = start
        self._pause = PAUSE
        self._ping_at = now
        self.squeeze: int | None = None
        self._squeezed = start
        self._squeezed_rate = 0.0
        self._probed = 0.0
        self._outran = False
        self._calm_at = now
        self._quiet = start
        self._quiet_at = now + QUIET

    # Bytes.

    def received(self, size: int) -> None:
        """Count ``size`` flow-controlled bytes, padding included, that were read."""
        self.total += size

    def begin_round(self, now: float, unread: int) -> None:
        """Begin a round; to be called when a read finds that ``round_until`` has come."""
        self._round = Mark(now, self.total, unread)
        self._fresh.clear()
        self.round_until = now + ROUND * self._path.round_trip

    def granted(
        self, now: float, window_id: int, *, size: int, left: int, increment: int, unread: int
    ) -> bool:
        """Note that credit goes back for bytes that came; True when ``target`` rose.

        Args:
            now: The present, in seconds.
            window_id: The stream's identifier, or 0 for the connection.
            size: What the window should have, in bytes.
            left: What it has before the grant, in bytes.
            increment: What is granted, in bytes.
            unread: What the application has not taken yet, in bytes.
        """
        since = self._granted.get(window_id, 0)
        self._granted[window_id] = since + increment
        if (left - since) * LOW_WATER <= size and now >= self._calm_at:
            self._limited = True
        if self._path.rtt == inf:
            return False
        if self.squeeze is not None:
            return self._outrun(now)
        fresh = self._fresh.get(window_id, 0)
        self._fresh[window_id] = fresh + increment
        seen = left - fresh
        if seen * 2 > size or now > self.round_until or now < self._calm_at:
            return False
        self._watch(now, QUIET)
        if seen * LOW_WATER > size:
            return False
        self._limited_at = now
        came = self.total - self._round.total
        if unread > came + self._round.unread - unread:
            return False
        rtt = self._path.round_trip
        pace = came / max(now - self._round.at, INSTANT)
        used = max(came, min(size, pace * rtt))
        return self._grow(now, used / rtt, int(2 * used))

    # PINGs.

    def round_trip(self, now: float, rtt: float) -> None:
        """Take a round trip that was measured by other means, such as SETTINGS and their ACK."""
        self._learn_rtt(now, rtt)

    def wants_ping(self, now: float, credit: int) -> bool:
        """Whether to write a PING; the connection's window has ``credit`` bytes left.

        In a squeeze this is to be asked, and the PING to be written, ahead of each grant on the
        connection: what was granted before has come, and nothing new can stand before the ACK.
        """
        if now < self._ping_at or self.total == self._sampled.total:
            return False
        return self.squeeze is None or credit <= self.squeeze

    def ping_written(self, now: float, unread: int) -> None:
        """Note that a PING is being written, whatever for."""
        if self.squeeze is not None:
            self._sample_squeeze(now)
        self._in_flight = True
        self._probing = self.squeeze is not None
        self._limited = self._moved = False
        self._granted.clear()
        self._sent = Mark(now, self.total, unread)
        self._ping_at = now + LOST

    def ping_acknowledged(self, now: float, unread: int) -> bool:
        """Take the ACK of the last PING; True when ``target`` or ``squeeze`` changed."""
        rtt = max(now - self._sent.at, INSTANT)
        if not self._in_flight or rtt >= LOST:
            return False
        before = (self.target, self.squeeze)
        self._in_flight = False
        if self._probing:
            self._take_probe(now, rtt)
        else:
            self._take_sample(now, rtt, unread)
        self._ping_at = self._sent.at + (self._pause if self.squeeze is None else PAUSE)
        self._sampled = Mark(now, self.total)
        return before != (self.target, self.squeeze)

    # Time.

    def next_timer(self) -> float:
        """When to call ``tick``, in seconds; infinite for never."""
        due = inf if self.target == self._rest else self._quiet_at
        return due if self.squeeze is None else min(due, self._squeezed.at + DRY)

    def tick(self, now: float) -> bool:
        """Give back what is not needed any more; True when ``target`` or ``squeeze`` changed."""
        before = (self.target, self.squeeze)
        self._check_squeeze(now)
        if self.target != self._rest and now >= self._quiet_at:
            self._go_back(now)
        return before != (self.target, self.squeeze)

    # Inside: samples.

    def _wanted(self, now: float) -> int:
        """Twice the rate times the round trip."""
        product = self._path.product(self._path.rate(now))
        return max(int(2 * product), self._floor)

    def _learn_rtt(self, now: float, rtt: float, *, queued: bool = False) -> None:
        """Take a sample of the round trip, and cut the rounds by it."""
        if self._path.add_rtt(now, rtt, queued=queued):
            self._gate.open()
        self.round_until = min(self.round_until, now + ROUND * self._path.round_trip)

    def _take_sample(self, now: float, rtt: float, unread: int) -> None:
        """Take what a PING and its ACK say."""
        path = self._path
        came = self.total - self._sent.total
        rate = came / rtt
        # Whether DATA has come without a break since the last sample.
        flows = (self.total - self._sampled.total) * 2 >= rate * (now - self._sampled.at)
        full = flows and path.stood_in_line(rate, rtt)
        if came:
            path.add_rate(now, rate, rtt if full else 0.0)
        self._learn_rtt(now, rtt, queued=flows and came > FRAME and rtt > path.rtt * GAIN)
        slower = full and rate * GAIN < path.rate(now)
        taken = (came + self._sent.unread - unread) * path.rtt / rtt
        may_grow = self._limited and unread <= taken
        grew = may_grow and self._grow(now, rate, self._wanted(now))
        settled = full and not grew and not slower
        if settled and (path.stale(now) or self._is_too_large(now)):
            self._begin_squeeze(now, rate)
        self._set_pause(slower=slower)

    def _set_pause(self, *, slower: bool) -> None:
        """Choose the pause before the next PING, unless the target moved since the last."""
        if slower:
            self._pause = min(self._pause, DOUBT_PAUSE)
        elif not self._moved:
            self._pause = min(self._pause * 2, LONG_PAUSE)

    # Inside: the squeeze.

    def _begin_squeeze(self, now: float, rate: float) -> None:
        self.squeeze = max(int(self._path.product(rate) * SQUEEZE), FRAME)
        self._squeezed = Mark(now, self.total)
        self._squeezed_rate = rate
        self._probed = 0.0
        self._calm_at = inf

    def _take_probe(self, now: float, rtt: float) -> None:
        """Take the round trip of a PING that was written while the window was squeezed.

        If it was another than the one before, the first than what was known, the line may not have
        been dry, and the rate may have dropped. Of two that agree the shorter one waited less.
        """
        if self.squeeze is None:
            self._learn_rtt(now, rtt, queued=True)
            return
        path, before = self._path, self._probed
        halve = self.squeeze > FRAME and not path.agrees(rtt, before)
        again = halve or path.needs_another(now, rtt, before)
        if rtt < path.rtt or not again:
            self._learn_rtt(now, path.shortest(now, rtt, before))
        if halve:
            self.squeeze = max(min(self.squeeze, self.total - self._sent.total) // 2, FRAME)
        if again:
            self._probed = rtt
            return
        if before:
            self._pause = PAUSE
        self._outran = False
        self._release(now)
        if self._is_too_large(now):
            self._gate.open(self._path.rate(now))
            self._move(now, self._wanted(now))

    def _check_squeeze(self, now: float) -> None:
        """Give a squeeze up when the bytes that use up the window do not come, or come in vain."""
        if self.squeeze is None or now < self._squeezed.at + DRY:
            return
        if self.total - self._squeezed.total < FLOOR or now - self._sent.at >= LOST:
            self._release(now)
        else:
            self._sample_squeeze(now)
        self._squeezed = Mark(now, self.total)

    def _sample_squeeze(self, now: float) -> None:
        """Take the rate at which the window runs down until the first probe: the line is full."""
        since = self._squeezed
        if self._sent.at < since.at:
            came = self.total - since.total
            self._path.add_run_down(now, came, now - since.at, self._squeezed_rate)

    def _outrun(self, now: float) -> bool:
        """Give a squeeze up when the path has become faster, since nothing grows meanwhile.

        On a longer path all that is under way may come at once: so the next one goes to its end.
        """
        faster = FASTER * self._path.product(self._path.rate(now))
        came = self.total - self._round.total
        if self._outran or now > self.round_until or came < max(faster, FLOOR):
            return False
        self._outran = True
        self._release(now)
        self._calm_at = now
        return True

    def _release(self, now: float) -> None:
        """End a squeeze; what it held up is no reason to grow."""
        self.squeeze = None
        self._calm_at = now + CALM * self._path.round_trip

    # Inside: the target.

    @property
    def _rest(self) -> int:
        """Where the target is without need."""
        return self._floor if self.pressed else self._initial

    def _grow(self, now: float, rate: float, wanted: int) -> bool:
        """Let the target rise, if it would and may."""
        wanted = min(wanted, self._ceiling)
        enough = wanted < self.target * RISE
        if enough or self.pressed or not self._gate.lets_through(now, rate):
            return False
        self._move(now, wanted)
        if not self._in_flight:
            self._ping_at = self._sent.at + PAUSE
        return True

    def _is_too_large(self, now: float) -> bool:
        """Whether a full pipe wants much less than the target, and no window was limiting."""
        return self._wanted(now) * SLACK < self.target and now - self._limited_at >= QUIET

    def _move(self, now: float, target: int) -> None:
        self.target = target
        self._moved = True
        self._pause = PAUSE
        self._watch(now, QUIET)

    def _watch(self, now: float, seconds: float) -> None:
        """Look in so many seconds how much of the target was needed from now on."""
        self._quiet = Mark(now, self.total)
        self._quiet_at = now + seconds

    def _go_back(self, now: float) -> None:
        """Take a step back to where the target rests, unless half of it was needed.

        A target that is below may have been made so by a slow path: only silence lets it return.
        """
        came, rest = self.total - self._quiet.total, self._rest
        shrinks = self.target > rest
        used = 4 * self._path.product(came / (now - self._quiet.at)) if shrinks else came
        if used >= self.target:
            self._watch(now, QUIET)
            return
        self._watch(now, STEP)
        self._gate.open()
        self.target = max(self.target // 2, rest) if shrinks else min(self.target * 2, rest)
