"""A peer that does what a test tells it, frame by frame, right or wrong.

    async def handler(conn: Connection) -> None:
        await conn.handshake()
        request = await conn.recv_request()
        conn.headers(request.stream_id, [(b":status", b"200")])
        conn.rst(request.stream_id, CANCEL)

    async with scripted_peer(handler) as peer:
        ...  # reach it under peer.url("/")

The handler runs once for each connection. No rule of the protocol is enforced and nothing is
answered by itself, except in `recv_request` and `serve`. When the handler returns, its connection
stays open until the client leaves or the block ends. An exception of the handler ends the test with
it; only that the client left (`ClientLeftError`) is no error until `finished` is awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import cast

import hpack

from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import ACK, END_HEADERS, END_STREAM, PADDED, PRIORITY_FLAG

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NAMES = (
    *("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING"),
    *("GOAWAY", "WINDOW_UPDATE", "CONTINUATION"),
)

Field = tuple[bytes, bytes]
Handler = Callable[["Connection"], Awaitable[None]]


class ClientLeftError(Exception):
    """The client closed the connection where the script expected more of it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that the client sent.

    Args:
        kind: Its type, a constant of `frame_factory`.
        flags: Its flags.
        stream_id: Its stream.
        payload: Its payload; in the log of a connection that forgets data, that of DATA is empty.
        length: The length of its payload.
        end_stream: Whether it ends the stream; also the CONTINUATION after a HEADERS that says so.
        fields: The decoded field block, of HEADERS or of the CONTINUATION that ends it.
    """

    kind: int
    flags: int
    stream_id: int
    payload: bytes = field(repr=False)
    length: int
    end_stream: bool = False
    fields: tuple[Field, ...] | None = None

    @property
    def name(self) -> str:
        """The type's name."""
        return NAMES[self.kind] if self.kind < len(NAMES) else hex(self.kind)

    @property
    def ack(self) -> bool:
        """Whether it is an ACK, of PING or SETTINGS."""
        return self.kind in {frames.PING, frames.SETTINGS} and bool(self.flags & ACK)

    @property
    def data(self) -> bytes:
        """The payload without padding."""
        if self.flags & PADDED and self.kind in {frames.DATA, frames.HEADERS}:
            return self.payload[1 : len(self.payload) - self.payload[0]]
        return self.payload

    @property
    def code(self) -> int:
        """The error code of RST_STREAM or GOAWAY."""
        return self._number(4 if self.kind == frames.GOAWAY else 0)

    @property
    def last_stream_id(self) -> int:
        """The last stream of GOAWAY."""
        return self._number(0)

    @property
    def debug(self) -> bytes:
        """The debug data of GOAWAY."""
        return self.payload[8:]

    @property
    def increment(self) -> int:
        """The increment of WINDOW_UPDATE, in bytes."""
        return self._number(0)

    @property
    def settings(self) -> dict[int, int]:
        """The values of SETTINGS by their identifiers."""
        return dict(struct.iter_unpack(">HI", self.payload))

    def _number(self, offset: int) -> int:
        (number,) = struct.unpack_from(">I", self.payload, offset)
        return int(number)


@dataclass(slots=True)
class Request:
    """A request, as far as it has come."""

    stream_id: int
    fields: tuple[Field, ...]
    body: bytearray = field(default_factory=bytearray)
    trailers: tuple[Field, ...] = ()

    def __getitem__(self, name: bytes) -> bytes:
        """The value of the first field of that name."""
        return next(value for key, value in self.fields if key == name)


class _Reader(asyncio.StreamReader):
    """A reader that hands out what arrived before the client reset the connection."""

    def set_exception(self, exc: BaseException) -> None:
        """Take a lost connection for the end of what arrives."""
        self.feed_eof()


class Connection:
    """One connection of a client, under the control of a script.

    Args:
        index: 0 for the first connection, 1 for the next, ….
        reader: What the client sends.
        writer: What it gets.
    """

    def __init__(
        self, index: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.index = index
        self.preface = b""
        self.received: list[Frame] = []
        self.forget_data = False
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self._reader = reader
        self._writer = writer
        self._block = b""
        self._block_ends = False
        self._open: dict[int, Request] = {}

    # Receiving

    async def expect_preface(self) -> None:
        """Read the connection preface (RFC 9113 §3.4)."""
        self.preface = await self._read(len(PREFACE))
        assert self.preface == PREFACE

    async def recv_frame(self) -> Frame:
        """Wait for the next frame, and log it.

        Raises:
            ClientLeftError: The client closed the connection instead.
        """
        header = await self._read(9)
        (length,) = struct.unpack(">I", b"\0" + header[:3])
        kind, flags, stream_id = struct.unpack_from(">BBI", header, 3)
        frame = Frame(kind, flags, stream_id & 0x7FFFFFFF, await self._read(length), length)
        if kind in {frames.HEADERS, frames.CONTINUATION}:
            frame = self._with_fields(frame)
        elif kind == frames.DATA and flags & END_STREAM:
            frame = replace(frame, end_stream=True)
        forget = self.forget_data and kind == frames.DATA
        self.received.append(replace(frame, payload=b"") if forget else frame)
        return frame

    async def recv_until(self, kind: int, stream_id: int | None = None) -> Frame:
        """Wait for a frame of that type (and stream); what comes before it is in the log only."""
        while True:
            frame = await self.recv_frame()
            if frame.kind == kind and stream_id in {None, frame.stream_id}:
                return frame

    def log(self, kind: int, stream_id: int | None = None) -> list[Frame]:
        """The frames of that type (and stream) that were received so far."""
        return [f for f in self.received if f.kind == kind and stream_id in {None, f.stream_id}]

    async def until_left(self) -> None:
        """Read, and log, until the client has left."""
        with contextlib.suppress(ClientLeftError):
            while True:
                await self.recv_frame()

    def narrow(self) -> None:
        """Let the kernel keep little of what is not read, however much memory it has."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)

    def freeze(self) -> None:
        """Stop reading from the socket: the client's writes get stuck in the kernel's buffers."""
        self._transport.pause_reading()

    def thaw(self) -> None:
        """Read from the socket again."""
        self._transport.resume_reading()

    # A well-behaved server, for the parts of a script that are not about the protocol

    async def handshake(self, *settings: tuple[int, int]) -> Frame:
        """Read the preface, exchange SETTINGS; return the client's."""
        await self.expect_preface()
        self.send_settings(*settings)
        frame = await self.recv_frame()
        assert (frame.kind, frame.ack) == (frames.SETTINGS, False)
        self.send_settings(ack=True)
        return frame

    async def recv_request(self) -> Request:
        """Wait for the next request that is complete.

        Meanwhile PING and SETTINGS are acknowledged, the credit for DATA is given back, and
        requests that the client resets are forgotten.
        """
        while True:
            frame = await self.recv_frame()
            self._be_polite(frame)
            if frame.kind == frames.RST_STREAM:
                self._open.pop(frame.stream_id, None)
            elif (request := self._collect(frame)) is not None:
                return request

    async def serve(self, answer: Callable[[Request], bytes] = lambda request: b"") -> None:
        """Answer every request with 200 and the body that `answer` makes, until the client left."""
        while True:
            request = await self.recv_request()
            self.respond(request.stream_id, answer(request))

    def respond(self, stream_id: int, body: bytes = b"", status: int = 200) -> None:
        """Answer a request; the body goes out in frames of 16 KiB, whatever the windows say."""
        self.headers(stream_id, [(b":status", b"%d" % status)], end_stream=not body)
        for start in range(0, len(body), 16_384):
            end = start + 16_384
            self.data(stream_id, body[start:end], end_stream=end >= len(body))

    # Sending: at once, as told

    def raw(self, data: bytes) -> None:
        """Send any bytes.

        Raises:
            ClientLeftError: The connection is gone.
        """
        if self._transport.is_closing():
            raise ClientLeftError("before all was sent")
        self._writer.write(data)

    def frame(
        self,
        kind: int,
        flags: int = 0,
        stream_id: int = 0,
        payload: bytes = b"",
        *,
        length: int | None = None,
    ) -> None:
        """Send any frame; `length` is what its header claims, when that is to differ."""
        self.raw(frames.frame(kind, flags, stream_id, payload, length=length))

    def send_settings(self, *pairs: tuple[int, int], ack: bool = False) -> None:
        """Send SETTINGS, or their ACK."""
        self.raw(frames.settings_ack() if ack else frames.settings(*pairs))

    def headers(
        self,
        stream_id: int,
        fields: Iterable[Field],
        *,
        end_stream: bool = False,
        end_headers: bool = True,
    ) -> None:
        """Send HEADERS, encoded with the connection's own table."""
        flags = (END_STREAM if end_stream else 0) | (END_HEADERS if end_headers else 0)
        self.frame(frames.HEADERS, flags, stream_id, self.encoder.encode(fields))

    def data(self, stream_id: int, data: bytes = b"", *, end_stream: bool = False) -> None:
        """Send DATA, of any length and whatever the windows say."""
        self.raw(frames.data(stream_id, data, end_stream=end_stream))

    def rst(self, stream_id: int, code: int) -> None:
        """Send RST_STREAM."""
        self.raw(frames.rst(stream_id, code))

    def goaway(self, last_stream_id: int, code: int = 0, debug: bytes = b"") -> None:
        """Send GOAWAY."""
        self.raw(frames.goaway(last_stream_id, code, debug))

    def ping(self, payload: bytes = b"12345678", *, ack: bool = False) -> None:
        """Send PING, or its ACK."""
        self.raw(frames.ping(payload, ack=ack))

    def window_update(self, stream_id: int, increment: int) -> None:
        """Send WINDOW_UPDATE."""
        self.raw(frames.window_update(stream_id, increment))

    async def drain(self) -> None:
        """Wait until the client has taken most of what was sent.

        Raises:
            ClientLeftError: It left instead.
        """
        try:
            await self._writer.drain()
        except OSError as error:
            raise ClientLeftError(str(error)) from None

    # Ending

    def half_close(self) -> None:
        """Send FIN and go on reading; not with TLS."""
        self._writer.write_eof()

    def cut(self) -> None:
        """Send FIN, with TLS too, and nothing before that."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        with socket.socket(fileno=os.dup(sock.fileno())) as same:
            same.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Send what is left, then FIN."""
        self._writer.close()

    def abort(self) -> None:
        """Throw the connection away: the client sees a reset."""
        if not self._transport.is_closing():
            sock: socket.socket = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the loop has let go of the connection."""
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    # Inside

    @property
    def _transport(self) -> asyncio.Transport:
        return cast("asyncio.Transport", self._writer.transport)  # no subclass of it in uvloop

    async def _read(self, count: int) -> bytes:
        try:
            return await self._reader.readexactly(count)
        except asyncio.IncompleteReadError as error:
            raise ClientLeftError(f"after {error.partial!r}") from None
        except OSError as error:
            raise ClientLeftError(str(error)) from None

    def _with_fields(self, frame: Frame) -> Frame:
        """Add what is known only where a field block ends: the decoded fields, the stream's end."""
        if frame.kind == frames.HEADERS:
            self._block = frame.data[5:] if frame.flags & PRIORITY_FLAG else frame.data
            self._block_ends = bool(frame.flags & END_STREAM)
        else:
            self._block += frame.payload
        if not frame.flags & END_HEADERS:
            return replace(frame, end_stream=frame.kind == frames.HEADERS and self._block_ends)
        fields = tuple((name, value) for name, value in self.decoder.decode(self._block, raw=True))
        return replace(frame, fields=fields, end_stream=self._block_ends)

    def _be_polite(self, frame: Frame) -> None:
        if frame.kind == frames.PING and not frame.ack:
            self.ping(frame.payload, ack=True)
        elif frame.kind == frames.SETTINGS and not frame.ack:
            self.send_settings(ack=True)
        elif frame.kind == frames.DATA and frame.length:
            self.window_update(0, frame.length)
            if not frame.end_stream:
                self.window_update(frame.stream_id, frame.length)

    def _collect(self, frame: Frame) -> Request | None:
        """Put a frame where it belongs; return the request that it completes."""
        request = self._open.get(frame.stream_id)
        if frame.fields is not None and request is None:
            request = self._open[frame.stream_id] = Request(frame.stream_id, frame.fields)
        elif frame.fields is not None and request is not None:
            request.trailers = frame.fields
        elif frame.kind == frames.DATA and request is not None:
            request.body += frame.data
        else:
            return None
        return self._open.pop(frame.stream_id) if frame.end_stream else None


class ScriptedPeer:
    """A listening peer.

    Args:
        handler: The script, run once for each connection.
        socket_path: Listen on this Unix socket, not on a free port of 127.0.0.1.
        tls: Speak TLS with this context.
    """

    def __init__(
        self, handler: Handler, socket_path: str | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.connections: list[Connection] = []
        self.port = 0
        self._handler = handler
        self._path = socket_path
        self._tls = tls
        self._scripts: list[asyncio.Task[None]] = []
        self._left: list[ClientLeftError] = []
        self._connected = asyncio.Event()
        self._closed = False

    @property
    def base(self) -> str:
        """What a request's path is appended to."""
        if self._path is not None:
            return f"unix:{self._path}:"
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def url(self, path: str = "/") -> str:
        """The address of a path on this peer."""
        return self.base + path

    async def connection(self, index: int = 0) -> Connection:
        """Wait for a connection: the first, or a later one."""
        while len(self.connections) <= index:
            self._connected.clear()
            await self._connected.wait()
        return self.connections[index]

    async def finished(self) -> None:
        """Wait until the script of every connection made so far has come to its end.

        Raises:
            ClientLeftError: A client left in the middle of one.
        """
        if self._scripts:
            await asyncio.wait(self._scripts)
        if self._left:
            raise self._left[0]

    @contextlib.asynccontextmanager
    async def listen(self, group: asyncio.TaskGroup) -> AsyncIterator[None]:
        """Listen for the length of a block; scripts are tasks of `group`."""

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._closed:  # accepted a turn before the end
                writer.transport.abort()
                return
            connection = Connection(len(self.connections), reader, writer)
            self.connections.append(connection)
            self._scripts.append(group.create_task(self._run(connection)))
            self._connected.set()

        def protocol() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(_Reader(), connected)

        loop = asyncio.get_running_loop()
        if self._path is not None:
            server = await loop.create_unix_server(protocol, self._path, ssl=self._tls)
        else:
            server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=self._tls)
            self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await self._end()
            await server.wait_closed()

    async def _run(self, connection: Connection) -> None:
        try:
            await self._handler(connection)
        except ClientLeftError as error:
            self._left.append(error)

    async def _end(self) -> None:
        self._closed = True
        for script in self._scripts:
            script.cancel()
        for connection in self.connections:
            connection.abort()
            await connection.wait_closed()


@contextlib.asynccontextmanager
async def scripted_peer(
    handler: Handler, *, socket_path: str | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedPeer]:
    """Run a scripted peer for the length of an `async with` block in a test.

    Args:
        handler: The script; its exceptions end the block, and the test, with it.
        socket_path: Listen on this Unix socket, not on a free port of 127.0.0.1.
        tls: Speak TLS with this context.
    """
    peer = ScriptedPeer(handler, socket_path, tls)
    with _alone():
        async with asyncio.TaskGroup() as group, peer.listen(group):
            yield peer


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Take a single exception out of its group: a test is about that one."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None
