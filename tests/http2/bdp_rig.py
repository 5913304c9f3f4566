"""A link with a sender, a receiver and its readers on a clock of plain numbers, event by event.

The sender obeys the windows that it was granted, puts DATA into the buffer of its socket as long as
there is room, and answers a PING behind what that buffer holds. The link carries the buffer at its
rate and delivers in order, after its delay and a random extra. The receiver reads what came, keeps
real receive windows by the estimator, and hands the bytes to a reader of limited speed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random

from dynamo_h2.http2.bdp import LOST, BdpEstimator
from dynamo_h2.http2.flow import GRANT_FRACTION, ReceiveWindow

KIB = 1024
MIB = 1024 * KIB
GIGABIT = 125_000_000.0
LARGEST = 2**31 - 1


class Clock:
    """What happens next."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, when: float, call: Callable[[], None]) -> None:
        heappush(self._events, (max(when, self.now), next(self._order), call))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, call = heappop(self._events)
            call()
        self.now = until


@dataclass
class Link:
    """What lies between: bytes per second, seconds each way, seconds of jitter, socket's bytes."""

    rate: float = GIGABIT
    delay: float = 0.01
    jitter: float = 0.0
    buffer: int = 4 * MIB
    seed: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    @property
    def rtt(self) -> float:
        return 2 * self.delay

    @property
    def product(self) -> float:
        return self.rate * self.rtt

    def extra(self) -> float:
        return self.delay + (self.random.random() * self.jitter if self.jitter else 0.0)


@dataclass
class Windows:
    """What the sender may send on one stream, and what it has to send."""

    credit: int
    supply: float = 0.0


class Sender:
    """The peer: sends what the application supplies as far as windows and socket allow."""

    def __init__(self, world: World, stream_credit: int, connection_credit: int) -> None:
        self.world = world
        self.credit = connection_credit
        self.streams = {2 * n + 1: Windows(stream_credit) for n in range(world.streams)}
        self.socket: deque[tuple[int, int]] = deque()
        self.buffered = 0
        self.busy = False
        self.arrives_at = 0.0
        self.answers = True

    def supply(self, size: float) -> None:
        """The application has so many bytes more, on each stream; infinite for no end."""
        for stream in self.streams.values():
            stream.supply += size
        self.pump()

    def stop(self) -> None:
        """The application has no more to send."""
        for stream in self.streams.values():
            stream.supply = 0.0

    def grant(self, stream_id: int, size: int) -> None:
        if stream_id:
            self.streams[stream_id].credit += size
            assert self.streams[stream_id].credit <= LARGEST
        else:
            self.credit += size
            assert self.credit <= LARGEST
        self.pump()

    def ping(self, number: int) -> None:
        if self.answers:
            self.socket.append((-number, 17))
            self.pump()

    def pump(self) -> None:
        """Fill the socket, a frame of each stream in turn."""
        going = True
        while going:
            going = False
            for stream_id, stream in self.streams.items():
                size = int(min(self.world.frame, self.credit, stream.credit, stream.supply))
                if size <= 0 or self.buffered >= self.world.link.buffer:
                    continue
                going = True
                self.credit -= size
                stream.credit -= size
                stream.supply -= size
                self.buffered += size
                self.socket.append((stream_id, size))
        if self.socket and not self.busy:
            self.transmit()

    def transmit(self) -> None:
        """Put the first of the socket's frames on the line."""
        clock, link = self.world.clock, self.world.link
        self.busy = True
        stream_id, size = self.socket.popleft()
        end = clock.now + size / link.rate

        def sent() -> None:
            self.busy = False
            if stream_id > 0:
                self.buffered -= size
            self.arrives_at = max(self.arrives_at, clock.now + link.extra())
            clock.at(self.arrives_at, lambda: self.world.receiver.arrive(stream_id, size))
            self.pump()

        clock.at(end, sent)


@dataclass
class Reader:
    """The application: takes bytes at a rate, in bytes per second; zero takes none.

    With ``lump`` it takes up to so many bytes at once, when it has got through them.
    """

    rate: float = inf
    lump: int = 0


class Receiver:
    """The client: the estimator with real windows, driven as a connection drives it."""

    def __init__(self, world: World, initial: int, connection: int, ceiling: int) -> None:
        self.world = world
        self.initial, self.connection_initial = initial, connection
        self.bdp = BdpEstimator(initial=initial, ceiling=ceiling, now=0.0)
        self.connection = ReceiveWindow(connection)
        self.streams = {2 * n + 1: ReceiveWindow(initial) for n in range(world.streams)}
        self.unread = dict.fromkeys(self.streams, 0)
        self.backlog = 0
        self.waiting: deque[tuple[int, int]] = deque()
        self.taking = False
        self.inbox: list[tuple[int, int]] = []
        self.reading = False
        self.in_flight = False
        self.control_at = 0.0
        self.timer_at = inf
        self.got: list[tuple[float, int]] = [(0.0, 0)]
        self.grants = 0
        self.targets: list[tuple[float, int]] = [(0.0, initial)]
        self.squeezes: list[float] = []
        self.pings: list[float] = []

    # What comes in.

    def arrive(self, stream_id: int, size: int) -> None:
        self.inbox.append((stream_id, size))
        if not self.reading:
            self.reading = True
            self.world.clock.at(self.world.clock.now + self.world.turn, self.read)

    def read(self) -> None:
        """Read the socket: all that came since the last time."""
        now, bdp = self.world.clock.now, self.bdp
        self.reading = False
        inbox, self.inbox = self.inbox, []
        if now >= bdp.round_until:
            bdp.begin_round(now, self.backlog)
        for stream_id, size in inbox:
            if stream_id == -len(self.pings):
                self.in_flight = False
                if bdp.ping_acknowledged(now, self.backlog):
                    self.follow()
            elif stream_id < 0:
                pass  # the ACK of a PING that was given up
            else:
                self.take_data(stream_id, size)
        if bdp.squeeze is None:
            self.probe()
        self.arm()

    def take_data(self, stream_id: int, size: int) -> None:
        now = self.world.clock.now
        self.connection.window_consumed(size)
        self.streams[stream_id].window_consumed(size)
        self.bdp.received(size)
        self.got.append((now, self.got[-1][1] + size))
        self.unread[stream_id] += size
        self.backlog += size
        self.return_credit(0, self.connection, size)
        self.waiting.append((stream_id, size))
        if not self.taking:
            self.take_next()

    def go_on(self) -> None:
        """Let a reader that has changed look at what waits."""
        if not self.taking:
            self.take_next()

    def take_next(self) -> None:
        """Let the reader get through what waits, or through its next lump of it."""
        clock, reader = self.world.clock, self.world.reader
        self.taking = reader.rate > 0 and bool(self.waiting)
        if not self.taking:
            return
        lump = [self.waiting.popleft()]
        whole = lump[0][1]
        while self.waiting and whole < reader.lump:
            lump.append(self.waiting.popleft())
            whole += lump[-1][1]
        clock.at(clock.now + whole / reader.rate, lambda: self.take(lump))

    def take(self, lump: list[tuple[int, int]]) -> None:
        for stream_id, size in lump:
            self.unread[stream_id] -= size
            self.backlog -= size
            self.return_credit(stream_id, self.streams[stream_id], size)
        self.take_next()
        self.arm()

    # What goes out.

    def write(self, call: Callable[[], None]) -> None:
        """Let a control frame arrive at the sender after the delay, in order."""
        clock = self.world.clock
        self.control_at = max(self.control_at, clock.now + self.world.link.extra())
        clock.at(self.control_at, call)

    def probe(self) -> None:
        if self.bdp.wants_ping(self.world.clock.now, self.connection.current_window_size):
            self.write_ping()

    def write_ping(self) -> None:
        now = self.world.clock.now
        assert not self.in_flight or now - self.pings[-1] >= LOST
        self.in_flight = True
        self.pings.append(now)
        self.bdp.ping_written(now, self.backlog)
        number = len(self.pings)
        self.write(lambda: self.world.sender.ping(number))

    def return_credit(self, window_id: int, window: ReceiveWindow, size: int) -> None:
        window.owed += size
        target = self.bdp.target if window_id else self.whole()
        if window.owed * self.world.fraction < window.max_window_size:
            return
        increment = window.due(target)
        if not window_id and self.bdp.squeeze is not None:
            self.probe()
        if increment:
            rose = self.bdp.granted(
                self.world.clock.now,
                window_id,
                size=target,
                left=window.current_window_size,
                increment=increment,
                unread=self.backlog,
            )
            self.grant(window_id, window, increment)
            if rose:
                self.follow()

    def grant(self, window_id: int, window: ReceiveWindow, increment: int) -> None:
        window.window_opened(increment)
        self.grants += 1
        self.write(lambda: self.world.sender.grant(window_id, increment))

    def follow(self) -> None:
        """Let the windows have the size that the estimator says: up by a grant, down by waiting."""
        now, target = self.world.clock.now, self.bdp.target
        if target != self.targets[-1][1]:
            self.targets.append((now, target))
        if self.bdp.squeeze is not None:
            self.squeezes.append(now)
        self.resize(0, self.connection, self.whole())
        for stream_id, window in self.streams.items():
            self.resize(stream_id, window, target)

    def whole(self) -> int:
        """What the connection's window should have."""
        target = self.bdp.target
        whole = max(target, self.connection_initial) if target >= self.initial else target
        return whole if self.bdp.squeeze is None else min(whole, self.bdp.squeeze)

    def resize(self, window_id: int, window: ReceiveWindow, size: int) -> None:
        increment = window.grow(size)
        if increment:
            self.grant(window_id, window, increment)

    # Time.

    def arm(self) -> None:
        due = self.bdp.next_timer()
        if due < self.timer_at:
            self.timer_at = due
            self.world.clock.at(due, lambda: self.tick(due))

    def tick(self, due: float) -> None:
        if self.timer_at == due:
            self.timer_at = inf
            if self.bdp.tick(self.world.clock.now):
                self.follow()
            self.arm()


@dataclass
class World:
    """All of it together.

    Args:
        link: The path.
        reader: The application.
        streams: How many streams there are.
        initial: Bytes of a stream's window at the start.
        connection: The same for the connection; by default four times as much.
        ceiling: The estimator's.
        frame: Bytes of a DATA frame.
        turn: Seconds between the arrival of bytes and the receiver's look at its socket.
        known_rtt: Whether the SETTINGS already told the round trip.
        fraction: A grant waits until this fraction of the window is owed.
    """

    link: Link
    reader: Reader = field(default_factory=Reader)
    streams: int = 1
    initial: int = 4 * MIB
    connection: int = 0
    ceiling: int = 64 * MIB
    frame: int = 16 * KIB
    turn: float = 0.0
    known_rtt: bool = True
    fraction: int = GRANT_FRACTION

    def __post_init__(self) -> None:
        self.clock = Clock()
        connection = self.connection or 4 * self.initial
        self.sender = Sender(self, self.initial, connection)
        self.receiver = Receiver(self, self.initial, connection, self.ceiling)
        if self.known_rtt:
            self.bdp.round_trip(0.0, self.link.rtt)
        self.run(self.link.rtt)

    @property
    def bdp(self) -> BdpEstimator:
        return self.receiver.bdp

    def run(self, seconds: float) -> None:
        self.clock.run(self.clock.now + seconds)

    def trickle(self, rate: float, every: float) -> None:
        """Let the application supply bytes at a rate, in a portion every so many seconds."""

        def supply() -> None:
            self.sender.supply(int(rate * every))
            self.clock.at(self.clock.now + every, supply)

        supply()

    def received_by(self, when: float) -> int:
        got = self.receiver.got
        return got[bisect_right(got, (when, LARGEST << 32)) - 1][1]

    def rate(self, since: float, until: float) -> float:
        """Bytes per second that came in between."""
        return (self.received_by(until) - self.received_by(since)) / (until - since)

    def target_at(self, when: float) -> int:
        targets = self.receiver.targets
        return targets[bisect_right(targets, (when, LARGEST)) - 1][1]
