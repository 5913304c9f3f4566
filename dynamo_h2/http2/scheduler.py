"""Who sends next: a fair round robin among the most urgent streams with body bytes and a window.

The algorithm:

1. A sender that has bytes to send stands in the ring of its urgency, once.
2. A step takes the first sender of the most urgent ring, lets it send one quantum and puts it at
   the back: a small request waits for at most one quantum of each upload before it, and for none
   that is less urgent (RFC 9218 §10: those wait as long as there is something more urgent to send).
3. A DATA frame is never longer than the quantum, the peer's MAX_FRAME_SIZE, or the window: a longer
   one would hold up every PING ACK and RST_STREAM behind it.
4. A sender whose own window is used up leaves the ring until a WINDOW_UPDATE or SETTINGS brings it
   back. When the connection's window is used up the run ends, and the ring keeps its order.
5. A run ends when the budget (the room in the transport's buffer) is used up; the last turn may
   overrun it by a quantum, so that there is progress with any budget.

Each step costs O(1), however many senders wait: there are eight rings at most. An end of stream
without bytes needs no window and never comes here.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

# RFC 9113 §6.5.2: what the peer takes until its SETTINGS say otherwise.
DEFAULT_MAX_FRAME_SIZE = 16_384


class Sender(Protocol):
    """A stream's send half, as the scheduler sees it."""

    stream_id: int
    queued: int
    """Body bytes that wait to be sent."""
    urgency: int
    """0 for the most urgent to 7; it may not change while the sender stands in a ring."""

    def take(self, limit: int, frame: int, now: float) -> bytes | memoryview:
        """Take up to ``limit`` bytes off the queue, of small chunks no more than one frame."""


S = TypeVar("S", bound=Sender, contravariant=True)
R = TypeVar("R", bound=Sender)


class Outlet(Protocol[S]):
    """Where the frames go: the connection."""

    @property
    def connection_window(self) -> int:
        """Bytes that the peer will take on the whole connection."""

    def send_window(self, stream_id: int) -> int:
        """Bytes that the peer will take on one stream now, the connection's window included."""

    def send_body(self, sender: S, data: bytes | memoryview) -> None:
        """Queue bytes as DATA, with the end of the stream when ``sender`` has nothing more."""


class Scheduler(Generic[R]):
    """The rings of senders of one connection.

    Args:
        quantum: The most bytes that a sender may send in its turn.

    Attributes:
        rings: The senders that wait, by urgency; no ring is empty.
    """

    __slots__ = ("frame_limit", "quantum", "rings")

    def __init__(self, quantum: int) -> None:
        self.quantum = quantum
        self.frame_limit = min(quantum, DEFAULT_MAX_FRAME_SIZE)
        # A deque could not let go of a sender in its midst.
        self.rings: dict[int, OrderedDict[R, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self.rings.values()))

    def __bool__(self) -> bool:
        return bool(self.rings)

    def peer_frame_size(self, size: int) -> None:
        """Follow the peer's MAX_FRAME_SIZE, in bytes."""
        self.frame_limit = min(self.quantum, size)

    def add(self, sender: R) -> None:
        """Put a sender that has bytes at the back of its ring, unless it stands in it."""
        if sender.queued:
            ring = self.rings.get(sender.urgency)
            if ring is None:
                ring = self.rings[sender.urgency] = OrderedDict()
            ring.setdefault(sender)

    def discard(self, sender: R) -> None:
        """Forget a sender, if it stands in a ring."""
        ring = self.rings.get(sender.urgency)
        if ring is not None and sender in ring:
            self._leave(ring, sender)

    def run(self, outlet: Outlet[R], budget: int, now: float) -> int:
        """Send about ``budget`` bytes, as far as windows allow; returns how many were queued."""
        rings = self.rings
        sent = 0
        while rings and sent < budget and outlet.connection_window > 0:
            ring = rings[min(rings)]
            sender = next(iter(ring))
            sent += self._turn(outlet, sender, now)
            # It may be gone: with its last byte a stream may be over.
            if sender in ring:
                if sender.queued and (
                    outlet.send_window(sender.stream_id) > 0 or outlet.connection_window <= 0
                ):
                    ring.move_to_end(sender)
                else:
                    self._leave(ring, sender)
        return sent

    def _leave(self, ring: OrderedDict[R, None], sender: R) -> None:
        """Take a sender out of its ring, and the ring away when it is empty."""
        del ring[sender]
        if not ring:
            del self.rings[sender.urgency]

    def _turn(self, outlet: Outlet[R], sender: R, now: float) -> int:
        """Give one sender its quantum; returns the bytes that it sent."""
        # Nothing but what is sent here changes the windows in the meantime.
        room = min(self.quantum, outlet.send_window(sender.stream_id))
        sent = 0
        while sender.queued and sent < room:
            data = sender.take(room - sent, self.frame_limit, now)
            sent += len(data)
            outlet.send_body(sender, data)
        return sent
