"""A worker of the drill that speaks HTTP/2 frame by frame, and refuses when it is told to.

    python -m bench.drill.scripted PORT LOG CONTROL

Its log has a line for each request that it executes, as those of the other workers do, and for each
that it refuses: with `-` before the identifier where no byte of a response had been sent, with `~`
where one had. What it says about a request on the wire is what it wrote down before. A line that
begins with `!` is a rule that the client broke.

SIGTERM ends it in order: no new connections, and a GOAWAY in two steps on those that are open.
Commands come as datagrams to the Unix socket CONTROL: `refuse N` and `cut N` are about the next N
requests, `goaway cut`, `goaway steps` and `goaway error` about the connections that are open.
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import sys
import zlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import hpack
import uvloop
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from bench.drill.app import ID, OVERLOADED, REFUSE, TOKENS, WORK, Log, receipt, token
from bench.drill.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAMS: Final = 30
"""What one connection takes: few enough that a client needs several."""
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 2, 7, 8, 11
ENDS: Final = (INTERNAL_ERROR, INTERNAL_ERROR, ENHANCE_YOUR_CALM)
EVERYTHING: Final = 2**31 - 1
HELD: Final = 3
"""Requests that wait above a GOAWAY before it is sent …"""
HELD_FOR: Final = 0.05
"""… and for how many seconds at most."""
STEP: Final = 0.05
"""Seconds between the two GOAWAYs of a graceful end; RFC 9113 §6.8 asks for a round trip."""


@dataclass(slots=True)
class Script:
    """What to do with the requests that come next, on all connections.

    Args:
        log: where it is written down.
        refuse: how many of them to refuse.
        cut: how many of them to execute without bringing the response to its end.
    """

    log: Log
    refuse: int = 0
    cut: int = 0
    rng: random.Random = field(default_factory=lambda: random.Random(1))


@dataclass(slots=True)
class Request:
    """A request that is being executed, or that waits above a GOAWAY."""

    request_id: bytes
    work: float
    tokens: bool
    cut: bool
    length: int = 0
    checksum: int = 0
    timer: asyncio.TimerHandle | None = None


class Connection(asyncio.Protocol):
    """One connection of the client.

    Args:
        script: what all connections follow.
        connections: those that are open.
    """

    def __init__(self, script: Script, connections: set[Connection]) -> None:
        self._script = script
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._data = bytearray()
        self._greeted = False
        self._bound = False  # whether the client has taken note of our limit
        self._decoder, self._encoder = hpack.Decoder(), hpack.Encoder()
        self._block: HeadersFrame | None = None
        self._running: dict[int, Request] = {}
        self._held: dict[int, bytes] = {}
        self._holding = False
        self._highest = 0  # of what was executed
        self._last = EVERYTHING  # what our GOAWAY says
        self._transport: asyncio.Transport
        self._handlers: dict[type[Frame], Callable[..., None]] = {
            HeadersFrame: self._on_headers,
            ContinuationFrame: self._on_continuation,
            DataFrame: self._on_data,
            RstStreamFrame: self._on_reset,
            SettingsFrame: self._on_settings,
            PingFrame: self._on_ping,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says the first word."""
        self._transport = cast("asyncio.Transport", transport)  # no subclass of it in uvloop
        self._connections.add(self)
        settings = {
            SettingsFrame.MAX_CONCURRENT_STREAMS: STREAMS,
            SettingsFrame.INITIAL_WINDOW_SIZE: 65_535,
        }
        self._send(SettingsFrame(settings=settings))

    def connection_lost(self, exc: Exception | None) -> None:
        """Executes nothing any more of what came over this connection."""
        self._connections.discard(self)
        for request in self._running.values():
            if request.timer is not None:
                request.timer.cancel()
        self._running.clear()

    def data_received(self, data: bytes) -> None:
        """Takes what came, frame by frame."""
        self._data += data
        if not self._greeted:
            if len(self._data) < len(PREFACE):
                return
            if not self._data.startswith(PREFACE):
                self._violation(b"preface")
                return
            self._greeted = True
            del self._data[: len(PREFACE)]
        while len(self._data) >= 9:
            header = memoryview(bytes(self._data[:9]))
            frame, length = Frame.parse_frame_header(header)
            if len(self._data) < 9 + length:
                return
            frame.parse_body(memoryview(bytes(self._data[9 : 9 + length])))
            del self._data[: 9 + length]
            handle = self._handlers.get(type(frame))
            if handle is not None:
                handle(frame)

    # GOAWAY

    def go_away(self, how: str) -> None:
        """Begins to end the connection: `cut`, `steps` or `error`."""
        if self._last != EVERYTHING or self._holding:
            return
        if how == "cut":
            # The next ones are not executed, so that there is something above the last one.
            self._holding = True
            self._loop.call_later(HELD_FOR, self._cut_off)
        elif how == "steps":
            self._send(GoAwayFrame(last_stream_id=EVERYTHING, error_code=NO_ERROR))
            self._loop.call_later(STEP, self._say_last, NO_ERROR)
        else:
            self._say_last(self._script.rng.choice(ENDS))
            self._loop.call_later(0.01, self._transport.close)

    def _cut_off(self) -> None:
        if self._holding:
            self._holding = False
            self._say_last(NO_ERROR)
            self._held.clear()

    def _say_last(self, code: int) -> None:
        if self._transport.is_closing():
            return
        self._last = self._highest
        self._send(GoAwayFrame(last_stream_id=self._last, error_code=code))
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._last != EVERYTHING and not self._running:
            self._transport.close()

    # Frames

    def _on_headers(self, frame: HeadersFrame) -> None:
        if "END_HEADERS" in frame.flags:
            self._on_block(frame, frame.data)
        else:
            self._block = frame

    def _on_continuation(self, frame: ContinuationFrame) -> None:
        assert self._block is not None
        self._block.data += frame.data
        if "END_HEADERS" in frame.flags:
            self._on_block(self._block, self._block.data)

    def _on_block(self, frame: HeadersFrame, block: bytes) -> None:
        fields = dict(self._decoder.decode(block, raw=True))
        stream_id, script = frame.stream_id, self._script
        if stream_id in self._running:  # trailers
            self._on_end(stream_id)
            return
        request_id = fields[ID]
        if stream_id > self._last:
            script.log.write(b"-", request_id)
        elif self._holding:
            script.log.write(b"-", request_id)
            self._held[stream_id] = request_id
            if len(self._held) == HELD:
                self._cut_off()
        elif len(self._running) >= STREAMS:
            if self._bound:
                script.log.write(b"!streams ", request_id)
            self._refuse(stream_id, request_id)
        elif script.refuse:
            script.refuse -= 1
            self._refuse(stream_id, request_id)
        elif REFUSE in fields:
            self._respond(stream_id, b"503", OVERLOADED)
            self._reset_unless_ended(frame)
        else:
            self._execute(stream_id, fields)
            if "END_STREAM" in frame.flags:
                self._on_end(stream_id)

    def _refuse(self, stream_id: int, request_id: bytes) -> None:
        late = self._script.rng.random() < 0.1
        self._script.log.write(b"~" if late else b"-", request_id)
        if late:
            self._send_head(stream_id, [(b":status", b"103")])
        self._send(RstStreamFrame(stream_id, error_code=REFUSED_STREAM))

    def _reset_unless_ended(self, frame: HeadersFrame) -> None:
        if "END_STREAM" not in frame.flags:
            self._send(RstStreamFrame(frame.stream_id, error_code=NO_ERROR))

    def _execute(self, stream_id: int, fields: dict[bytes, bytes]) -> None:
        script = self._script
        cut = script.cut > 0
        script.cut -= cut
        request_id = fields[ID]
        script.log.write(b"", request_id)
        self._highest = stream_id
        tokens = fields[b":path"] == b"/tokens"
        self._running[stream_id] = Request(request_id, float(fields[WORK]), tokens, cut)

    def _on_data(self, frame: DataFrame) -> None:
        length = frame.flow_controlled_length
        if length:
            self._send(WindowUpdateFrame(0, window_increment=length))
        request = self._running.get(frame.stream_id)
        if request is None:
            return
        request.length += len(frame.data)
        request.checksum = zlib.crc32(frame.data, request.checksum)
        if "END_STREAM" in frame.flags:
            self._on_end(frame.stream_id)
        elif length:
            self._send(WindowUpdateFrame(frame.stream_id, window_increment=length))

    def _on_end(self, stream_id: int) -> None:
        request = self._running[stream_id]
        if request.tokens:
            self._send_head(stream_id, [(b":status", b"200")])
            self._later(request, request.work / TOKENS, self._next_token, stream_id, 0)
        else:
            self._later(request, request.work, self._answer, stream_id)

    def _on_reset(self, frame: RstStreamFrame) -> None:
        request = self._running.pop(frame.stream_id, None)
        if request is not None and request.timer is not None:
            request.timer.cancel()
        self._close_when_done()

    def _on_settings(self, frame: SettingsFrame) -> None:
        if "ACK" in frame.flags:
            self._bound = True
            return
        self._send(SettingsFrame(flags=["ACK"]))

    def _on_ping(self, frame: PingFrame) -> None:
        if "ACK" not in frame.flags:
            self._send(PingFrame(opaque_data=frame.opaque_data, flags=["ACK"]))

    # Answers

    def _later(self, request: Request, delay: float, call: Callable[..., None], *args: int) -> None:
        request.timer = self._loop.call_later(delay, partial(call, *args))

    def _answer(self, stream_id: int) -> None:
        request = self._running.pop(stream_id)
        body = receipt(request.request_id, request.length, request.checksum)
        if request.cut:
            self._cut(stream_id, body)
        else:
            self._respond(stream_id, b"200", body)
        self._close_when_done()

    def _next_token(self, stream_id: int, index: int) -> None:
        request = self._running[stream_id]
        if request.cut and index == TOKENS // 2:
            del self._running[stream_id]
            self._send_reset(stream_id)
            self._close_when_done()
            return
        last = index == TOKENS - 1
        self._send_data(stream_id, token(request.request_id, index), end=last)
        if last:
            del self._running[stream_id]
            self._close_when_done()
        else:
            self._later(request, request.work / TOKENS, self._next_token, stream_id, index + 1)

    def _cut(self, stream_id: int, body: bytes) -> None:
        """Answers, but not to the end."""
        way = self._script.rng.randrange(3)
        if way:
            length = (b"content-length", b"%d" % len(body))
            self._send_head(stream_id, [(b":status", b"200"), length])
            self._send_data(stream_id, body[:-1], end=way == 1)  # shorter than it said
        if way != 1:
            self._send_reset(stream_id)

    def _send_reset(self, stream_id: int) -> None:
        code = self._script.rng.choice((NO_ERROR, INTERNAL_ERROR, CANCEL))
        self._send(RstStreamFrame(stream_id, error_code=code))

    def _respond(self, stream_id: int, status: bytes, body: bytes) -> None:
        length = (b"content-length", b"%d" % len(body))
        self._send_head(stream_id, [(b":status", status), length])
        self._send_data(stream_id, body, end=True)

    def _send_head(self, stream_id: int, fields: list[tuple[bytes, bytes]]) -> None:
        block = self._encoder.encode(fields)
        self._send(HeadersFrame(stream_id, block, flags=["END_HEADERS"]))

    def _send_data(self, stream_id: int, body: bytes, *, end: bool) -> None:
        self._send(DataFrame(stream_id, body, flags=["END_STREAM"] if end else []))

    def _send(self, frame: Frame) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame.serialize())

    def _violation(self, what: bytes) -> None:
        self._script.log.write(b"!", what)
        self._transport.abort()


class Control(asyncio.DatagramProtocol):
    """Takes commands.

    Args:
        script: what it changes.
        connections: those that are open.
    """

    def __init__(self, script: Script, connections: set[Connection]) -> None:
        self._script = script
        self._connections = connections

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Does what one command says."""
        verb, _, what = data.decode().partition(" ")
        if verb == "goaway":
            for connection in tuple(self._connections):
                connection.go_away(what)
        elif verb == "refuse":
            self._script.refuse += int(what)
        elif verb == "cut":
            self._script.cut += int(what)
        else:
            raise ValueError(data)


def listen_for_commands(path: Path) -> socket.socket:
    """Binds the socket that commands come to."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    sock.setblocking(False)
    return sock


async def serve(port: int, log: str, commands: socket.socket) -> None:
    """Runs until SIGTERM."""
    loop = asyncio.get_running_loop()
    connections: set[Connection] = set()
    script = Script(Log(log))
    await loop.create_datagram_endpoint(partial(Control, script, connections), sock=commands)
    make = partial(Connection, script, connections)
    server = await loop.create_server(make, "127.0.0.1", port, backlog=1024)
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    server.close()
    for connection in tuple(connections):
        connection.go_away("steps")
    await until(lambda: not connections)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], listen_for_commands(Path(sys.argv[3]))))
