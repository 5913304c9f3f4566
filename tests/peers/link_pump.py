"""The part of the relay that touches sockets: connections, each with a pump for either direction.

A connection that ends, ends on the far side as it did on this one, after what it had sent: FIN as
FIN, RST as RST.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import sys
import termios
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from tests.peers.link_clock import Clock
from tests.peers.link_lane import BATCH, BUFFER, LARGEST, PACKET, Chunk, Conditions, End, Lane

LINGER_RESET: Final = struct.pack("ii", 1, 0)
"""Closing with this sends RST and forgets what was not sent."""
UNSENT_CHECK: Final = 0.001
"""Seconds between looks at whether the kernel has sent what it got."""


def close_with_reset(sock: socket.socket) -> None:
    """Close a socket so that its peer gets a RST (a Unix socket has none, and just ends)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    sock.close()


def unsent(sock: socket.socket) -> int:
    """Bytes that were given to the kernel and that the peer's kernel does not have yet."""
    if sys.platform != "linux":
        return 0
    answer = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def prepare(sock: socket.socket, buffer: int) -> None:
    """Make a socket one of ours, before it is connected.

    Args:
        sock: The socket.
        buffer: Bytes that the kernel may receive before we read them.
    """
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Loopback's own packets of 64 KiB do not fit a small buffer: bytes would come in spurts, a
        # fifth of a second apart.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, PACKET)


def widen(sock: socket.socket, buffer: int) -> None:
    """Let the kernel receive more than what `prepare` said. Less would make it drop packets."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    if sys.platform == "linux" and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, buffer)


class Gate:
    """Where pumps wait for room in the queue of a lane, which they then get in turn.

    Args:
        lane: The lane.
        clock: Tells when there is room.
    """

    def __init__(self, lane: Lane, clock: Clock) -> None:
        self.lane = lane
        self.clock = clock
        self._waiting: deque[Pump] = deque()
        self._rings_at = float("inf")

    def wait(self, pump: Pump) -> None:
        """Let a pump pull as soon as there is room for a chunk."""
        self._waiting.append(pump)
        self._set_clock()

    def change(self, conditions: Conditions) -> None:
        """Make the lane like this."""
        self.lane.change(conditions, time.monotonic())
        self._set_clock()

    def _set_clock(self) -> None:
        when = self.lane.opens(self.lane.conditions.batch)
        if self._waiting and when < self._rings_at:
            self._rings_at = when
            self.clock.call_at(when, self._ring)

    def _ring(self) -> None:
        if time.monotonic() < self._rings_at:  # a time that was replaced by an earlier one
            return
        self._rings_at = float("-inf")  # set once, below
        for _ in range(max(BATCH, len(self._waiting))):
            full = self.lane.opens(self.lane.conditions.grain) > time.monotonic()
            if full or not self._waiting:
                break
            self._waiting.popleft().pull_in_turn()
        self._rings_at = float("inf")
        self._set_clock()


class Pump:
    """One direction of a connection: takes bytes from a socket, and gives them to another when due.

    Args:
        gate: To the lane that they take.
        source: Where they come from.
        sink: Where they go.
        over: Called when an end of the source was passed on.
        broken: Called when the sink takes no more.
    """

    def __init__(
        self,
        gate: Gate,
        source: socket.socket,
        sink: socket.socket,
        over: Callable[[End], None],
        broken: Callable[[], None],
    ) -> None:
        self._gate = gate
        self._lane = gate.lane
        self._clock = gate.clock
        self._loop = gate.clock.loop
        self._source = source
        self._sink = sink
        self._over = over
        self._broken = broken
        self._chunks: deque[Chunk] = deque()
        self._held = 0
        self._rings_at = float("inf")
        self._frozen_since: float | None = None
        self._discarding = False
        self._cut_after: int | None = None  # bytes to go until `_on_cut`
        self._on_cut: Callable[[], None] | None = None
        # Who is to call next: the loop when the source has something, the gate when the lane has
        # room, `push` when it has made room; and the loop when the sink has room.
        self._listening = self._waiting = self._full = self._blocked = False
        self._ready = False  # only the lane keeps the source's bytes waiting
        self.source_ended = False
        self.end_passed_on = False  # or never to be passed on
        self._buffer = gate.lane.conditions.buffer
        self._listen()

    def change(self) -> None:
        """Go by what the lane is like now."""
        buffer = self._lane.conditions.buffer
        if buffer > self._buffer and not self.source_ended:
            self._buffer = buffer
            widen(self._source, buffer)
        self.push()

    # Reading

    def pull(self) -> None:
        """Read, now that the source has something."""
        self._pull(ready=False)

    def pull_in_turn(self) -> None:
        """Read, now that the lane has room."""
        self._waiting = False
        if not self.source_ended and self._frozen_since is None:
            self._pull(ready=self._ready)

    def _pull(self, *, ready: bool) -> None:
        # Until nothing is left, or again soon: when a source is reset, uvloop calls once and never
        # again, whatever there still is to read.
        for _ in range(BATCH):
            if not (self._discard() if self._discarding else self._read(ready)):
                return
        self._wait(ready=True)

    def _read(self, ready: bool) -> bool:
        """Read a chunk; tell whether there may be more. If not, somebody is to call."""
        if not self._has_room():
            return False
        size = self._lane.conditions.grain
        try:
            data = self._source.recv(size)
        except BlockingIOError:
            self._listen()
            return False
        except OSError:
            self.end(End.RESET)
            return False
        if not data:
            self.end(End.FIN)
            return False
        self._take(Chunk(data), was_ready=ready and len(data) == size)
        return not self.source_ended

    def _has_room(self) -> bool:
        conditions = self._lane.conditions
        if self._held + conditions.grain > conditions.capacity + conditions.wire:
            self._full = True
            self._deafen()
            return False
        if self._lane.opens(conditions.grain) > time.monotonic():
            self._wait(ready=True)
            return False
        return True

    def _discard(self) -> bool:
        """Read and forget; tell whether there may be more."""
        try:
            if self._source.recv(LARGEST):
                return True
        except BlockingIOError:
            self._listen()
            return False
        except OSError:
            pass  # an end like any other: nobody will hear of it
        self.source_ended = True
        self._deafen()
        if self.end_passed_on:
            self._over(End.FIN)
        return False

    def end(self, end: End) -> None:
        """Read no more, and pass on this end after what was read."""
        self.source_ended = True
        self._deafen()
        self._take(Chunk(b"", end))

    def _take(self, chunk: Chunk, *, was_ready: bool = False) -> None:
        self._lane.admit(chunk, time.monotonic(), was_ready=was_ready)
        self._held += chunk.size
        self._chunks.append(chunk)
        if not self._blocked:
            self.push()

    # Writing

    def push(self) -> None:
        """Give the sink what is due, as far as it takes it."""
        if self._frozen_since is not None:
            return
        now = time.monotonic()
        while self._chunks and self._chunks[0].due <= now and self._cut_after != 0:
            if not self._give(self._chunks[0]):
                break
        else:
            self._block(False)
            self._set_clock()
        if self._full:
            self._full = False
            self._wait(ready=False)

    def _give(self, chunk: Chunk) -> bool:
        """Give the sink a chunk; tell whether it takes more."""
        if chunk.end is not None:
            self._chunks.popleft()
            self._pass_on(chunk.end)
            return True
        try:
            sent = self._sink.send(memoryview(chunk.data)[: self._cut_after])
        except BlockingIOError:
            self._block(True)
            return False
        except OSError:
            self._broken()
            return False
        self._account(chunk, sent)
        return True

    def _account(self, chunk: Chunk, sent: int) -> None:
        self._held -= sent
        self._lane.hold(-sent)
        self._lane.delivered += sent
        if sent == len(chunk.data):
            self._chunks.popleft()
        else:
            chunk.data = memoryview(chunk.data)[sent:]
        if self._cut_after is not None:
            self._cut_after -= sent
            self._cut_if_due()

    def _pass_on(self, end: End) -> None:
        self.end_passed_on = True
        if end is End.FIN:
            with contextlib.suppress(OSError):
                self._sink.shutdown(socket.SHUT_WR)
        self._over(end)

    def _cut_if_due(self) -> None:
        if self._cut_after != 0 or self._on_cut is None:
            return
        if unsent(self._sink):  # a reset would overtake that
            self._clock.call_at(time.monotonic() + UNSENT_CHECK, self._cut_if_due)
        else:
            self._on_cut()

    # Faults

    def freeze(self) -> None:
        """Let nothing pass until `thaw`."""
        if self._frozen_since is None:
            self._frozen_since = time.monotonic()
            self._deafen()
            self._block(False)

    def thaw(self) -> None:
        """Go on as if no time had passed."""
        if self._frozen_since is None:
            return
        since, self._frozen_since = self._frozen_since, None
        pause = time.monotonic() - since
        for chunk in self._chunks:
            chunk.stand_still(since, pause)
        self.push()
        self._listen()

    def swallow(self) -> None:
        """Forget all that has not come out yet and all that comes, the end of the source too."""
        self._discarding = self.end_passed_on = True
        self._frozen_since = None
        self._drop()
        self._listen()

    def finish(self) -> None:
        """End after what was read, and forget what comes yet."""
        if not self.source_ended and not self._discarding:
            self._discarding = True
            self._take(Chunk(b"", End.FIN))
            self._listen()

    def cut(self, after: int, on_cut: Callable[[], None]) -> None:
        """Give the sink so many bytes more, and call."""
        self._cut_after, self._on_cut = after, on_cut
        self._cut_if_due()

    def stop(self) -> None:
        """Do nothing any more: the sockets are going to be closed."""
        self.source_ended = True
        self._on_cut = None
        self._deafen()
        self._drop()

    def _drop(self) -> None:
        self._block(False)
        self._chunks.clear()
        self._lane.hold(-self._held)
        self._held = 0

    # Who calls next

    def _set_clock(self) -> None:
        """Let the clock ring when the next chunk is due."""
        if self._chunks and self._chunks[0].due < self._rings_at:
            self._rings_at = self._chunks[0].due
            self._clock.call_at(self._rings_at, self._ring)

    def _ring(self) -> None:
        if time.monotonic() >= self._rings_at:  # else it was replaced by an earlier one
            self._rings_at = float("inf")
            self.push()

    def _listen(self) -> None:
        idle = not (self._listening or self._waiting or self._full)
        if idle and not self.source_ended and self._frozen_since is None:
            self._listening = True
            self._loop.add_reader(self._source, self.pull)

    def _deafen(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._source)

    def _wait(self, *, ready: bool) -> None:
        self._deafen()
        if not (self._waiting or self.source_ended):
            self._waiting = True
            self._ready = ready
            self._gate.wait(self)

    def _block(self, blocked: bool) -> None:
        if blocked and not self._blocked:
            self._loop.add_writer(self._sink, self.push)
        elif self._blocked and not blocked:
            self._loop.remove_writer(self._sink)
        self._blocked = blocked


class Connection:
    """A client's connection, and the one to the server that belongs to it.

    Args:
        up: To the lane from the client to the server.
        down: To the lane back.
        client: Connected to the client.
        server: Connected to the server.
        gone: Called when both are closed.
    """

    def __init__(
        self,
        up: Gate,
        down: Gate,
        client: socket.socket,
        server: socket.socket,
        gone: Callable[[Connection], None],
    ) -> None:
        self._client = client
        self._server = server
        self._gone = gone
        self.up = Pump(up, client, server, self._over, self._server_broke)
        self.down = Pump(down, server, client, self._over, self._client_broke)
        self.pumps = (self.up, self.down)

    def kill(self) -> None:
        """Swallow everything from now on and tell nobody of anything."""
        for pump in self.pumps:
            pump.swallow()
        self._over(End.FIN)

    def finish(self) -> None:
        """End both sides in order, after what is under way."""
        for pump in self.pumps:
            pump.finish()

    def reset(self) -> None:
        """Send both sides a RST, at once."""
        self._close(close_with_reset)

    def _over(self, end: End) -> None:
        if end is End.RESET:
            self.reset()
        elif all(pump.source_ended and pump.end_passed_on for pump in self.pumps):
            self._close(socket.socket.close)

    def _client_broke(self) -> None:
        self.down.swallow()
        self.up.end(End.RESET)

    def _server_broke(self) -> None:
        self.up.swallow()
        self.down.end(End.RESET)

    def _close(self, close: Callable[[socket.socket], None]) -> None:
        for pump in self.pumps:
            pump.stop()
        close(self._client)
        close(self._server)
        self._gone(self)
