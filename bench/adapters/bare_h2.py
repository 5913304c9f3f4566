"""The baseline: an honest driver on stock h2.

What a careful engineer writes in a day: a plain ``asyncio.Protocol``, one connection per origin,
the headers of a request prepared once, HEADERS and DATA in one write, one flush per turn of the
loop, no logging, a future per stream, and flow control with the same windows as its rivals.
Nothing of h2 is replaced, subclassed or reached into.

This file is frozen. Ratios of different days can be compared only while the thing that everything
is divided by stays the same, so a digest of this source stands in every result and a test pins it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import cast
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

STREAM_WINDOW = 4 * 1024 * 1024
CONNECTION_WINDOW = 16 * 1024 * 1024
FIRST_WINDOW = 65_535  # RFC 9113 §6.9.2: what a connection starts with

Head = list[tuple[bytes, bytes]]


class BareStream:
    """One request in flight: what came back so far, and who waits for it."""

    __slots__ = ("chunks", "ended", "error", "on_demand", "status", "stream_id", "waiter")

    def __init__(self, stream_id: int, *, on_demand: bool) -> None:
        self.stream_id = stream_id
        self.chunks: deque[tuple[bytes, int]] = deque()
        self.ended = False
        self.error: Exception | None = None
        self.on_demand = on_demand  # credit goes back when the reader takes a chunk
        self.status = 0
        self.waiter: asyncio.Future[None] | None = None

    def check(self, *allowed: int) -> None:
        """Raises when the stream was cut off or its status is not one of those allowed."""
        if self.error is not None:
            raise self.error
        if self.status not in allowed:
            raise ConnectionError(f"status {self.status}")

    def wake(self) -> None:
        """Tells the reader that something happened."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class BareConnection(asyncio.Protocol):
    """One connection: bytes in, events to streams, and one flush per turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._streams: dict[int, BareStream] = {}
        self._unsent: dict[int, tuple[bytes, int]] = {}
        self._slots: deque[asyncio.Future[None]] = deque()
        self._flush_due = False
        self._writable = True
        self._closed: Exception | None = None
        self._transport: asyncio.Transport
        self.ready: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._handlers = {
            DataReceived: self._on_data,
            ResponseReceived: self._on_response,
            StreamEnded: self._on_ended,
            StreamReset: self._on_reset,
            WindowUpdated: self._on_window,
            RemoteSettingsChanged: self._on_settings,
            ConnectionTerminated: self._on_terminated,
        }

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the preface, SETTINGS and the larger connection window."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass
        self._h2.initiate_connection()
        self._h2.update_settings(
            {SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW, SettingCodes.ENABLE_PUSH: 0}
        )
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - FIRST_WINDOW)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Hands each event of the received bytes to its handler."""
        try:
            events = self._h2.receive_data(data)
        except ProtocolError as error:
            self._flush()
            self._transport.abort()
            self._fail(error)
            return
        handlers = self._handlers
        for event in events:
            handler = handlers.get(type(event))
            if handler is not None:
                handler(event)
        self._flush_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails whatever is still in flight."""
        self._fail(exc or ConnectionError("the peer closed the connection"))
        self.gone.set_result(None)

    def pause_writing(self) -> None:
        """The transport's buffer is full: bodies wait."""
        self._writable = False

    def resume_writing(self) -> None:
        """The transport's buffer has drained: bodies go on."""
        self._writable = True
        self._flush_soon()

    # requests

    async def begin(self, head: Head, body: bytes, *, on_demand: bool = False) -> BareStream:
        """Sends a request, or as much of it as the windows allow, when the peer has a slot."""
        while len(self._streams) >= self._h2.remote_settings.max_concurrent_streams:
            slot = self._loop.create_future()
            self._slots.append(slot)
            await slot
        if self._closed is not None:
            raise ConnectionError("the connection is closed") from self._closed
        stream = BareStream(self._h2.get_next_available_stream_id(), on_demand=on_demand)
        self._streams[stream.stream_id] = stream
        self._h2.send_headers(stream.stream_id, head, end_stream=not body)
        if body:
            self._send_body(stream.stream_id, body, 0)
        self._flush_soon()
        return stream

    async def wait(self, stream: BareStream) -> None:
        """Waits for the next chunk of a stream that is read on demand, or else for its end."""
        stream.waiter = self._loop.create_future()
        await stream.waiter

    def take(self, stream: BareStream) -> bytes:
        """Takes one chunk and gives its credit back."""
        data, length = stream.chunks.popleft()
        self._h2.acknowledge_received_data(length, stream.stream_id)
        self._flush_soon()
        return data

    def forget(self, stream: BareStream) -> None:
        """Resets a stream that its reader left early."""
        if self._streams.pop(stream.stream_id, None) is not None and self._closed is None:
            self._unsent.pop(stream.stream_id, None)
            self._h2.reset_stream(stream.stream_id, ErrorCodes.CANCEL)
            self._free_slot()
            self._flush_soon()

    def close(self) -> None:
        """Says goodbye and closes the transport."""
        if self._closed is None:
            self._h2.close_connection()
            self._flush()
            self._transport.close()

    # events

    def _on_response(self, event: Event) -> None:
        assert isinstance(event, ResponseReceived)
        stream = self._streams.get(event.stream_id)
        if stream is not None and event.headers is not None:
            stream.status = int(event.headers[0][1])

    def _on_data(self, event: Event) -> None:
        assert isinstance(event, DataReceived)
        assert event.data is not None
        assert event.flow_controlled_length is not None
        stream = self._streams.get(event.stream_id)
        if stream is None or not stream.on_demand:
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if stream is not None:
            stream.chunks.append((event.data, event.flow_controlled_length))
            if stream.on_demand:
                stream.wake()

    def _on_ended(self, event: Event) -> None:
        assert isinstance(event, StreamEnded)
        self._end(event.stream_id, None)

    def _on_reset(self, event: Event) -> None:
        assert isinstance(event, StreamReset)
        self._end(event.stream_id, ConnectionError(f"the peer reset it: {event.error_code!r}"))

    def _on_window(self, event: Event) -> None:
        if self._unsent:
            self._flush_soon()

    def _on_settings(self, event: Event) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def _on_terminated(self, event: Event) -> None:
        assert isinstance(event, ConnectionTerminated)
        self._transport.close()
        self._fail(ConnectionError(f"the peer said GOAWAY: {event.error_code!r}"))

    def _end(self, stream_id: int | None, error: Exception | None) -> None:
        if stream_id is None or (stream := self._streams.pop(stream_id, None)) is None:
            return
        self._unsent.pop(stream_id, None)
        stream.ended = True
        stream.error = error
        stream.wake()
        self._free_slot()

    def _free_slot(self) -> None:
        while self._slots:
            slot = self._slots.popleft()
            if not slot.done():
                slot.set_result(None)
                return

    def _fail(self, error: Exception) -> None:
        self._closed = error
        if not self.ready.done():
            self.ready.set_exception(error)
        for stream_id in list(self._streams):
            self._end(stream_id, error)
        while self._slots:
            self._free_slot()

    # bytes out

    def _send_body(self, stream_id: int, body: bytes, offset: int) -> None:
        """Sends what windows and frame size allow, and keeps the rest for later."""
        h2 = self._h2
        while offset < len(body):
            room = h2.local_flow_control_window(stream_id)
            if room <= 0 or not self._writable:
                self._unsent[stream_id] = (body, offset)
                return
            end = offset + min(room, h2.max_outbound_frame_size)
            h2.send_data(stream_id, body[offset:end], end_stream=end >= len(body))
            offset = end
        self._unsent.pop(stream_id, None)

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._closed is not None:
            return
        for stream_id, (body, offset) in list(self._unsent.items()):
            self._send_body(stream_id, body, offset)
        data = self._h2.data_to_send()
        if data:
            self._transport.write(data)


class BareClient:
    """One ``BareConnection`` per origin, and the headers of each request prepared once."""

    def __init__(self) -> None:
        self._connections: dict[str, BareConnection] = {}
        self._prepared: dict[tuple[str, str, int], tuple[BareConnection, Head]] = {}
        self._dialling = asyncio.Lock()

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Returns the body of a 200 or 202 response."""
        known = self._prepared.get((method, url, len(body)))
        connection, head = known or await self._prepare(method, url, len(body))
        stream = await connection.begin(head, body)
        while not stream.ended:
            await connection.wait(stream)
        stream.check(200, 202)
        return b"".join([data for data, _ in stream.chunks])

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncGenerator[bytes, None]:
        """Yields the body of a 200 response as it arrives."""
        known = self._prepared.get((method, url, len(body)))
        connection, head = known or await self._prepare(method, url, len(body))
        stream = await connection.begin(head, body, on_demand=True)
        try:
            while stream.chunks or not stream.ended:
                while stream.chunks:
                    yield connection.take(stream)
                if not stream.ended:
                    await connection.wait(stream)
            stream.check(200)
        finally:
            connection.forget(stream)

    async def close(self) -> None:
        """Closes every connection and waits until it is closed."""
        for connection in self._connections.values():
            connection.close()
            await connection.gone

    async def _prepare(self, method: str, url: str, length: int) -> tuple[BareConnection, Head]:
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        head = [
            (b":method", method.encode()),
            (b":scheme", b"http"),
            (b":authority", parts.netloc.encode()),
            (b":path", path.encode()),
        ]
        if length:
            head.append((b"content-type", b"application/octet-stream"))
            head.append((b"content-length", str(length).encode()))
        async with self._dialling:
            connection = self._connections.get(parts.netloc)
            if connection is None:
                connection = await self._dial(parts.hostname or "", parts.port or 80)
                self._connections[parts.netloc] = connection
        self._prepared[method, url, length] = (connection, head)
        return connection, head

    async def _dial(self, host: str, port: int) -> BareConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: BareConnection(loop), host, port)
        await connection.ready
        return connection


async def open_client(in_flight: int) -> BareClient:
    """Makes the client; it dials on its first request, whatever is to be in flight."""
    return BareClient()
