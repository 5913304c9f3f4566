"""A protocol on a transport that leads nowhere: what it writes can be counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from math import inf

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import ClientClosed
from dynamo_h2.http2.connection import State
from dynamo_h2.http2.headers import build_head
from dynamo_h2.http2.request import Request
from dynamo_h2.http2.stream import Stream
from dynamo_h2.metrics import Counters
from dynamo_h2.transport.busy_poll import BusyPoll
from dynamo_h2.transport.protocol import ClientProtocol
from tests.behaviours import turns
from tests.http2.frame_factory import (
    INITIAL_WINDOW,
    MAX_FRAME,
    Sent,
    parse,
    settings,
    window_update,
)

ORIGIN = "http://worker"
WIDE = settings((INITIAL_WINDOW, 2**31 - 1), (MAX_FRAME, 1 << 20)) + window_update(
    0, 2**31 - 1 - 65_535
)


class Wire(asyncio.Transport):
    """A transport to nowhere: keeps each write, and takes as much as it is told to.

    Args:
        protocol: Whom it serves.
        room: How many bytes the other side takes; what is beyond waits in the buffer.
        late: Whether `pause_writing` is called in the next turn, as some loops do.
        tls: Whether it passes for one with TLS.
    """

    def __init__(
        self,
        protocol: ClientProtocol,
        room: float = inf,
        *,
        late: bool = False,
        tls: bool = False,
    ) -> None:
        super().__init__({"ssl_object": object()} if tls else None)
        self.protocol = protocol
        self.writes: list[bytes] = []
        self.waiting = 0
        self.most_waiting = 0
        self.calls: list[str] = []
        self._room = room
        self._late = late
        self._high = 0
        self._paused = False
        self._closing = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high = high

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._closing
        self.writes.append(bytes(data))
        taken = min(len(data), self._room)
        self._room -= taken
        self.waiting += len(data) - int(taken)
        self.most_waiting = max(self.most_waiting, self.waiting)
        if self.waiting > self._high and not self._paused:
            self._paused = True
            if self._late:
                asyncio.get_running_loop().call_soon(self.protocol.pause_writing)
            else:
                self.protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def take(self, size: float) -> None:
        """Let the other side take what waits, and more."""
        taken = min(self.waiting, size)
        self.waiting -= int(taken)
        self._room = size - taken
        if self._paused and self.waiting <= self._high // 4:
            self._paused = False
            self.protocol.resume_writing()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._end("close")

    def abort(self) -> None:
        self._end("abort")

    def _end(self, how: str) -> None:
        self.calls.append(how)
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")

    def frames(self) -> list[Sent]:
        """All that was written, cut into frames."""
        return parse(b"".join(self.writes))

    def kinds(self) -> list[int]:
        return [frame.kind for frame in self.frames()]


class Rig:
    """A protocol with what it reports."""

    def __init__(
        self,
        config: dict[str, object],
        settings_due: float = inf,
        polls: BusyPoll | None = None,
    ) -> None:
        self.states: list[State] = []
        self.counters = Counters()
        self.protocol = ClientProtocol(
            Http2Config().replace(**config),
            ORIGIN,
            on_state=lambda _, state: self.states.append(state),
            counters=self.counters,
            settings_due=settings_due,
            busy_poll=polls,
        )

    def close(self) -> None:
        self.protocol.close(partial(ClientClosed, "client was closed"))

    def open(
        self, method: str = "GET", body: bytes | None = None, *, deadline: float = inf
    ) -> Stream:
        """Start a request."""
        head = build_head(method, "http", "worker", "/", ())
        request = Request(head, data=body, limit=1 << 30, deadline=deadline)
        return self.protocol.connection.open_stream(request, time.monotonic())


@asynccontextmanager
async def wired(
    *greeting: bytes,
    room: float = inf,
    late: bool = False,
    tls: bool = False,
    settings_due: float = inf,
    polls: BusyPoll | None = None,
    **config: object,
) -> AsyncIterator[tuple[Rig, Wire]]:
    """A protocol on a `Wire`, after the greeting of the peer; what it wrote so far is forgotten."""
    rig = Rig(config, settings_due, polls)
    wire = Wire(rig.protocol, late=late, tls=tls)
    rig.protocol.connection_made(wire)
    if greeting:
        rig.protocol.data_received(b"".join(greeting))
        await turns(2)
        wire.writes.clear()
    wire.take(room)
    try:
        yield rig, wire
    finally:
        wire.abort()
        await rig.protocol.closed
