"""Frames as bytes, right or wrong, and an engine at the other end of them.

Nothing here uses the code under test to make or to read a frame.
"""

from __future__ import annotations

import struct
from typing import ClassVar, NamedTuple

import hpack
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.engine import Engine
from dynamo_h2.http2.headers import Field, RequestHead, build_head

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = range(9)
CONTINUATION, ALTSVC = 9, 10
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_LIST = range(1, 7)

NO_ERROR, PROTOCOL_ERROR, _, FLOW_CONTROL_ERROR, _, STREAM_CLOSED, FRAME_SIZE_ERROR = range(7)
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 7, 8, 9
ENHANCE_YOUR_CALM = 11

OK: Field = (b":status", b"200")
GET: list[Field] = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":authority", b"worker"),
    (b":path", b"/"),
]


# Frames


def frame(
    kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", *, length: int | None = None
) -> bytes:
    """Any frame; ``length`` is what the header claims, when that is to differ."""
    claimed = len(payload) if length is None else length
    return struct.pack(">I", claimed)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))


def settings_ack() -> bytes:
    return frame(SETTINGS, ACK)


def block(*fields: Field) -> bytes:
    """A field block that leaves every table alone: literals without indexing."""
    out = b""
    for name, value in fields:
        out += b"\x00" + _string(name) + _string(value)
    return out


def _string(text: bytes) -> bytes:
    return bytes(hpack.hpack.encode_integer(len(text), 7)) + text


def headers(
    stream: int, *fields: Field, end_stream: bool = False, flags: int = END_HEADERS
) -> bytes:
    return frame(HEADERS, flags | end_stream, stream, block(*fields))


def continuation(stream: int, payload: bytes, *, end: bool = True) -> bytes:
    return frame(CONTINUATION, END_HEADERS if end else 0, stream, payload)


def data(stream: int, payload: bytes = b"", *, end_stream: bool = False) -> bytes:
    return frame(DATA, int(end_stream), stream, payload)


def padded_data(stream: int, payload: bytes, pad: int, *, end_stream: bool = False) -> bytes:
    return frame(DATA, PADDED | end_stream, stream, bytes([pad]) + payload + bytes(pad))


def rst(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def ping(payload: bytes = b"12345678", *, ack: bool = False) -> bytes:
    return frame(PING, int(ack), 0, payload)


def goaway(last_stream_id: int, code: int = NO_ERROR, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, payload=struct.pack(">II", last_stream_id, code) + debug)


class Sent(NamedTuple):
    """A frame that was sent to the peer."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM or GOAWAY."""
        (code,) = struct.unpack_from(">I", self.payload, 4 if self.kind == GOAWAY else 0)
        return int(code)


def parse(data: bytes) -> list[Sent]:
    """Cut bytes into frames; the preface, if there is one, is left out."""
    data = data.removeprefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    out = []
    while data:
        (length,) = struct.unpack(">I", b"\0" + data[:3])
        kind, flags, stream = struct.unpack_from(">BBI", data, 3)
        out.append(Sent(kind, flags, stream, data[9 : 9 + length]))
        assert len(out[-1].payload) == length
        data = data[9 + length :]
    return out


# Bare h2, for the traps


def bare(*pairs: tuple[int, int], streams: int = 0) -> H2Connection:
    """A client on h2 alone, after the exchange of SETTINGS, with that many GETs sent."""
    connection = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    connection.initiate_connection()
    connection.receive_data(settings(*pairs) + settings_ack())
    for _ in range(streams):
        connection.send_headers(connection.get_next_available_stream_id(), GET, end_stream=True)
    connection.data_to_send()
    return connection


def bare_with(**values: int) -> H2Connection:
    """Bare h2 whose local settings were replaced, after the peer has acknowledged them."""
    connection = H2Connection(H2Configuration(client_side=True))
    chosen = {SettingCodes[name]: value for name, value in values.items()}
    connection.local_settings = Settings(client=True, initial_values=chosen)
    connection.initiate_connection()
    connection.receive_data(settings() + settings_ack())
    connection.send_headers(1, GET, end_stream=True)
    return connection


def error_of(connection: H2Connection, data: bytes) -> int | None:
    """The code with which h2 or an engine gives the connection up, None when it does not."""
    try:
        connection.receive_data(data)
    except ProtocolError as error:
        return int(error.error_code)
    return None


# The engine


class Recorder:
    """A receiver that writes down what it is told, as (event, argument…)."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def on_settings(self, previous_initial_window: int) -> None:
        self.calls.append(("settings", previous_initial_window))

    def on_settings_ack(self) -> None:
        self.calls.append(("settings_ack",))

    def on_head(self, stream_id: int, status: int, fields: list[Field], end_stream: bool) -> None:
        self.calls.append(("head", stream_id, status, fields, end_stream))

    def on_informational(self, stream_id: int, status: int, fields: list[Field]) -> None:
        self.calls.append(("informational", stream_id, status, fields))

    def on_data(
        self, stream_id: int, data: bytes | memoryview, flow_length: int, end_stream: bool
    ) -> None:
        self.calls.append(("data", stream_id, bytes(data), flow_length, end_stream))

    def on_late_data(self, flow_length: int) -> None:
        self.calls.append(("late_data", flow_length))

    def on_late(self, frame_type: int) -> None:
        self.calls.append(("late", frame_type))

    def on_trailers(self, stream_id: int, fields: list[Field]) -> None:
        self.calls.append(("trailers", stream_id, fields))

    def on_reset(self, stream_id: int, code: int) -> None:
        self.calls.append(("reset", stream_id, code))

    def on_stream_error(self, stream_id: int, code: int, reason: str) -> None:
        self.calls.append(("stream_error", stream_id, int(code), reason))

    def on_window_update(self, stream_id: int) -> None:
        self.calls.append(("window_update", stream_id))

    def on_ping(self) -> None:
        self.calls.append(("ping",))

    def on_ping_ack(self, payload: bytes) -> None:
        self.calls.append(("ping_ack", payload))

    def on_goaway(self, last_stream_id: int, code: int, debug: bytes) -> None:
        self.calls.append(("goaway", last_stream_id, code, debug))

    def on_other(self, frame_type: int) -> None:
        self.calls.append(("other", frame_type))


def request(method: str = "GET") -> RequestHead:
    return build_head(method, "http", "worker", "/", ())


class Rig:
    """An engine with a recorder.

    Args:
        config: The engine's.
        streams: How many GETs to send; their streams are 1, 3, 5, …
        pairs: The peer's SETTINGS; None when they have not arrived yet.

    Attributes:
        engine_class: Which engine; the fixture ``each_engine`` sets it.
    """

    engine_class: ClassVar[type[Engine]] = Engine

    def __init__(
        self,
        config: Http2Config | None = None,
        *,
        streams: int = 0,
        pairs: tuple[tuple[int, int], ...] | None = (),
    ) -> None:
        self.recorder = Recorder()
        self.engine = self.engine_class(config or Http2Config(), self.recorder)
        self.engine.initiate()
        if pairs is not None:
            self.engine.receive(settings(*pairs) + settings_ack())
        for _ in range(streams):
            self.open()
        self.engine.take_output()
        self.recorder.calls.clear()

    def open(self, method: str = "GET", *fields: Field, end_stream: bool = True) -> int:
        """Send a request; return its stream."""
        return self.engine.open_stream(request(method), fields, end_stream)

    def feed(self, *frames: bytes) -> list[tuple[object, ...]]:
        """Let the engine receive frames; return what it told."""
        self.recorder.calls.clear()
        self.engine.receive(b"".join(frames))
        return list(self.recorder.calls)

    def sent(self) -> list[Sent]:
        """Take what the engine sends, cut into frames."""
        return parse(b"".join(self.engine.take_output()))

    def stream_error(self, *frames: bytes, stream: int = 1) -> int:
        """The code of the one RST_STREAM, on ``stream``, that is the answer to ``frames``."""
        calls = self.feed(*frames)
        (reset,) = self.sent()
        assert (reset.kind, reset.stream) == (RST_STREAM, stream)
        assert calls[-1][:3] == ("stream_error", stream, reset.code)
        assert stream not in self.engine.streams
        assert not self.engine.failed
        return reset.code

    def connection_error(self, *frames: bytes) -> int:
        """The code of the one GOAWAY, and of the exception, with which ``frames`` are answered."""
        try:
            self.engine.receive(b"".join(frames))
        except ProtocolError as error:
            code, reason = error.error_code, str(error)
        else:
            raise AssertionError("the connection goes on")
        last = self.sent()[-1]
        assert (last.kind, last.stream, last.code) == (GOAWAY, 0, code)
        assert last.payload == struct.pack(">II", 0, code) + reason.encode()
        assert reason
        assert self.engine.failed
        return int(code)
