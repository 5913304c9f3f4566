"""A plain client on h2 alone, to see whether the servers do what the tests count on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from tests.peers.servers import Peer

Field = tuple[bytes, bytes]


@dataclass(slots=True)
class Answer:
    """What came back on a stream, as far as it has come."""

    informational: list[int] = field(default_factory=list)
    status: int = 0
    fields: list[Field] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    trailers: list[Field] = field(default_factory=list)
    ended: bool = False

    @property
    def body(self) -> bytes:
        """All of the body that has come."""
        return b"".join(self.pieces)


class PlainClient:
    """One connection, one request at a time."""

    def __init__(
        self, authority: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._authority = authority.encode()
        self._reader = reader
        self._writer = writer
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.h2.initiate_connection()

    def send_head(
        self, method: str, path: str, fields: Iterable[Field] = (), *, end_stream: bool
    ) -> int:
        """Send the head of a request; return its stream."""
        stream_id = self.h2.get_next_available_stream_id()
        head = [
            (b":method", method.encode()),
            (b":scheme", b"http"),
            (b":authority", self._authority),
            (b":path", path.encode()),
        ]
        self.h2.send_headers(stream_id, [*head, *fields], end_stream=end_stream)
        return stream_id

    async def step(self, stream_id: int, answer: Answer) -> None:
        """Send what is due, wait for bytes, note what they say about the stream."""
        self._writer.write(self.h2.data_to_send())
        data = await self._reader.read(65_536)
        assert data, "the server closed the connection"
        for event in self.h2.receive_data(data):
            if isinstance(event, DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if getattr(event, "stream_id", None) == stream_id:
                self._note(event, answer)

    def _note(self, event: Event, answer: Answer) -> None:
        match event:
            case InformationalResponseReceived():
                answer.informational.append(int(dict(event.headers)[b":status"]))
            case ResponseReceived():
                answer.status = int(dict(event.headers)[b":status"])
                answer.fields = [(bytes(n), bytes(v)) for n, v in event.headers]
            case DataReceived():
                answer.pieces.append(event.data)
            case TrailersReceived():
                answer.trailers = [(bytes(n), bytes(v)) for n, v in event.headers]
            case StreamEnded():
                answer.ended = True
            case StreamReset():
                raise AssertionError(f"the server reset the stream: {event.error_code}")

    async def request(
        self, method: str, path: str, body: bytes = b"", fields: Iterable[Field] = ()
    ) -> Answer:
        """Send a request with a body that fits into the windows; return the whole answer."""
        stream_id = self.send_head(method, path, fields, end_stream=not body)
        if body:
            self.h2.send_data(stream_id, body, end_stream=True)
        return await self.finish(stream_id, Answer())

    async def finish(self, stream_id: int, answer: Answer) -> Answer:
        """Wait until the answer is whole."""
        while not answer.ended:
            await self.step(stream_id, answer)
        return answer


@contextlib.asynccontextmanager
async def plain_client(peer: Peer, *, with_certificate: bool = False) -> AsyncIterator[PlainClient]:
    """Connect to a server for the length of a block."""
    if peer.address.socket_path is not None:
        reader, writer = await asyncio.open_unix_connection(peer.address.socket_path)
    else:
        context = None
        if peer.certificates is not None:
            context = peer.certificates.client_context(with_certificate=with_certificate)
            context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.address.port, ssl=context)
    try:
        yield PlainClient(peer.authority, reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
