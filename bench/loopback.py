"""A worker without sockets: a transport that answers by itself, so that the client is all there is.

It reads as much of what the client writes as an answer needs, and the answers to all that came in
one write come back in one read, in the next turn of the loop, as a busy worker's do.
"""

from __future__ import annotations

import asyncio
from struct import Struct
from typing import TYPE_CHECKING, Final, TypeVar
from unittest.mock import patch

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from dynamo_h2 import Http2Config, HttpRequestClient
from dynamo_h2 import client as client_module
from dynamo_h2.http2.frames import (
    END_HEADERS,
    END_STREAM,
    HEADER_LENGTH,
    PREFACE,
    FrameType,
    pack_frame,
    pack_settings,
    pack_window_update,
)
from dynamo_h2.transport.sockets import Address

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Sequence

    from dynamo_h2.origin import Origin
    from dynamo_h2.transport.connect import DialReport

    P = TypeVar("P", bound=asyncio.Protocol)


def huffman_coded(text: bytes) -> bytes:
    """Returns a string literal of a field block (RFC 7541 §5.2), as servers send it."""
    coded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)
    return bytes((0x80 | len(coded),)) + coded


URL: Final = "http://127.0.0.1:8000"
# What granian answers, without what enters the decoder's table: :status 202, server and date.
HEAD: Final = b"\x08\x03202\x0f\x27%b\x0f\x12%b" % (
    huffman_coded(b"granian"),
    huffman_coded(b"Mon, 23 Nov 2026 16:14:39 GMT"),
)
READ: Final = 262_144  # bytes of a read, where a whole body is sent: as many as uvloop takes

SMALL: Final = 4_096  # bytes of a body for which no credit is given back

_HERE: Final = Address(0, ("127.0.0.1", 8000))
_INITIAL_WINDOW: Final = 0x4
_WINDOW: Final = 2**30
_STREAMS: Final = 4_096
_MAX_CONCURRENT_STREAMS: Final = 0x3
_unpack_header = Struct(">HBBBL").unpack_from
_pack_header = Struct(">HBBBL").pack


class LoopbackTransport(asyncio.Transport):
    """Takes what the client writes, and answers each request once it is complete.

    Args:
        protocol: The client's.
        tokens: Whether answers go on after their head: then it is up to `send`.
    """

    def __init__(self, protocol: asyncio.Protocol, *, tokens: bool) -> None:
        super().__init__()
        self._protocol = protocol
        self._tokens = tokens
        self._loop = asyncio.get_running_loop()
        self._greeted = False
        # Bytes that are to come, bytes of bodies whose credit is owed, and the stream they are of.
        self._body_left = self._owed = self._uploading = 0
        self._flags = END_HEADERS if tokens else END_HEADERS | END_STREAM
        self.streams: list[int] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes one buffer."""
        self.writelines([data])

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Takes buffers; what is to be said to them is said in the next turn of the loop."""
        answers = [] if self._greeted else self._greet()
        greeting = len(answers)
        for buffer in list_of_data:
            if self._body_left:
                # The payload of a frame whose header was a buffer of its own.
                self._body_left = 0
            else:
                self._read(buffer, answers)
        if self._owed:
            # Before the answer, which ends the stream.
            credit = pack_window_update(0, self._owed)
            answers.insert(greeting, credit + pack_window_update(self._uploading, self._owed))
            self._owed = 0
        if answers:
            self._loop.call_soon(self._protocol.data_received, b"".join(answers))

    def _greet(self) -> list[bytes]:
        """Says what a worker says first."""
        settings = {_MAX_CONCURRENT_STREAMS: _STREAMS, _INITIAL_WINDOW: _WINDOW}
        acknowledgement = pack_frame(FrameType.SETTINGS, 1, 0)
        return [pack_settings(settings), acknowledgement, pack_window_update(0, _WINDOW)]

    def _read(self, data: bytes | bytearray | memoryview, answers: list[bytes]) -> None:
        """Reads the frames of a buffer; only the payload of DATA may come in one of its own."""
        at, size = 0, len(data)
        if not self._greeted:
            self._greeted = True
            at = len(PREFACE)
        while at < size:
            high, low, kind, flags, stream_id = _unpack_header(data, at)
            length = high << 8 | low
            at += HEADER_LENGTH + length
            self._body_left = max(0, at - size)
            if kind == FrameType.DATA and length > SMALL:
                self._owed += length
                self._uploading = stream_id
            if flags & END_STREAM and kind <= FrameType.HEADERS:
                answers.append(_pack_header(0, len(HEAD), 1, self._flags, stream_id) + HEAD)
                if self._tokens:
                    self.streams.append(stream_id)

    def send(self, data: bytes) -> None:
        """Lets the client read."""
        self._protocol.data_received(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever kept."""

    def get_write_buffer_size(self) -> int:
        """Returns 0: everything is taken at once."""
        return 0

    def is_closing(self) -> bool:
        """Returns false: only the client closes."""
        return False

    def pause_reading(self) -> None:
        """What comes, comes when it is asked for."""

    def resume_reading(self) -> None:
        """What comes, comes when it is asked for."""

    def close(self) -> None:
        """Ends the connection."""
        self._loop.call_soon(self._protocol.connection_lost, None)

    abort = close


class Loopback:
    """Stands in for the dialer of a client.

    Args:
        tokens: As for `LoopbackTransport`.

    Attributes:
        transports: Those that were made.
    """

    def __init__(self, *, tokens: bool = False) -> None:
        self._tokens = tokens
        self.transports: list[LoopbackTransport] = []

    async def resolve(self, _origin: Origin) -> list[Address]:
        """Knows the only place there is."""
        return [_HERE]

    def connect_at_once(self, _origin: Origin, _address: Address) -> None:
        """Has no socket that could be connected."""

    async def dial(
        self,
        _origin: Origin,
        factory: Callable[[], P],
        *,
        server_hostname: str | None,
        addresses: Sequence[Address],
        report: DialReport,
    ) -> P:
        """Makes a connection that leads nowhere."""
        assert server_hostname is None
        (report.winner,) = addresses
        protocol = factory()
        transport = LoopbackTransport(protocol, tokens=self._tokens)
        self.transports.append(transport)
        protocol.connection_made(transport)
        return protocol

    def client(self, **config: object) -> HttpRequestClient:
        """Makes a client whose connections all lead here."""

        def here(_config: Http2Config, _context: ssl.SSLContext | None, **_: object) -> Loopback:
            return self

        with patch.object(client_module, "Dialer", here):
            return HttpRequestClient(Http2Config().replace(**config))
