from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from pathlib import Path

import hpack
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RemoteSettingsChanged, ResponseReceived, StreamReset
from h2.settings import SettingCodes

from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import GET
from tests.peers import Certificates
from tests.peers.scripted import (
    PREFACE,
    ClientLeftError,
    Connection,
    ScriptedPeer,
    scripted_peer,
)

FIELDS = tuple(GET)


class Client:
    """Raw bytes to a scripted peer; what comes back is read as it is."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def connect(peer: ScriptedPeer) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", peer.port))


def block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    return bytes(hpack.Encoder().encode(fields))


async def silent(conn: Connection) -> None:
    await conn.until_left()


async def test_a_real_h2_client_is_served() -> None:
    async def handler(conn: Connection) -> None:
        await conn.handshake((frames.MAX_STREAMS, 7))
        request = await conn.recv_request()
        assert request[b":path"] == b"/"
        assert request.body == b"payload"
        conn.respond(request.stream_id, b"x" * 20_000)
        conn.rst(3, frames.REFUSED_STREAM)

    h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    h2.initiate_connection()
    for stream_id in (1, 3):
        h2.send_headers(stream_id, GET)
    h2.send_data(1, b"payload", end_stream=True)
    events: list[Event] = []
    async with scripted_peer(handler) as peer:
        client = await connect(peer)
        while not any(isinstance(event, StreamReset) for event in events):
            client.send(h2.data_to_send())
            events += h2.receive_data(await client.reader.read(65_536))
        await client.close()
        await peer.connection()
        await peer.finished()
    (settings,) = (event for event in events if isinstance(event, RemoteSettingsChanged))
    assert settings.changed_settings[SettingCodes.MAX_CONCURRENT_STREAMS].new_value == 7
    (head,) = (event for event in events if isinstance(event, ResponseReceived))
    assert (head.stream_id, head.headers) == (1, [(b":status", b"200")])
    body = b"".join(event.data for event in events if isinstance(event, DataReceived))
    assert body == b"x" * 20_000


async def test_every_frame_of_the_client_is_in_the_log() -> None:
    async with scripted_peer(silent_after_preface) as peer:
        client = await connect(peer)
        client.send(
            PREFACE,
            frames.settings((frames.INITIAL_WINDOW, 9), (frames.MAX_FRAME, 20_000)),
            frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block(FIELDS)),
            frames.padded_data(1, b"padded", 3, end_stream=True),
            frames.window_update(1, 77),
            frames.rst(1, frames.CANCEL),
            frames.ping(ack=True),
            frames.goaway(5, frames.PROTOCOL_ERROR, b"why"),
            frames.frame(0xFB, 0, 1, b"unknown"),
        )
        await client.close()
        await peer.connection()
        await peer.finished()
    settings, headers, data, window, rst, ping, goaway, unknown = peer.connections[0].received
    assert settings.settings == {frames.INITIAL_WINDOW: 9, frames.MAX_FRAME: 20_000}
    assert (headers.fields, headers.end_stream) == (FIELDS, False)
    assert (data.data, data.length, data.end_stream) == (b"padded", 10, True)
    assert (window.stream_id, window.increment) == (1, 77)
    assert (rst.stream_id, rst.code) == (1, frames.CANCEL)
    assert (ping.ack, settings.ack) == (True, False)
    assert (goaway.last_stream_id, goaway.code, goaway.debug) == (5, frames.PROTOCOL_ERROR, b"why")
    assert (unknown.name, headers.name) == ("0xfb", "HEADERS")
    assert peer.connections[0].log(frames.RST_STREAM, 1) == [rst]
    assert peer.connections[0].log(frames.RST_STREAM, 3) == []


async def silent_after_preface(conn: Connection) -> None:
    await conn.expect_preface()
    await conn.until_left()


async def test_a_field_block_in_pieces_is_decoded_at_its_end() -> None:
    whole = block(FIELDS)
    async with scripted_peer(silent_after_preface) as peer:
        client = await connect(peer)
        flags = frames.END_STREAM | frames.PADDED | frames.PRIORITY_FLAG
        payload = b"\x02" + struct.pack(">IB", 0, 16) + whole[:5] + b"\0\0"
        client.send(
            PREFACE,
            frames.frame(frames.HEADERS, flags, 1, payload),
            frames.continuation(1, whole[5:7], end=False),
            frames.continuation(1, whole[7:]),
        )
        await client.close()
        await peer.connection()
        await peer.finished()
    first, middle, last = peer.connections[0].received
    assert [each.fields for each in (first, middle, last)] == [None, None, FIELDS]
    assert [each.end_stream for each in (first, middle, last)] == [True, False, True]


async def test_a_request_is_complete_with_its_trailers() -> None:
    got = []

    async def handler(conn: Connection) -> None:
        await conn.handshake()
        got.append(await conn.recv_request())

    encoder = hpack.Encoder()
    trailers = ((b"x-check", b"1"),)
    async with scripted_peer(handler) as peer:
        client = await connect(peer)
        client.send(PREFACE, frames.settings())
        for stream_id in (1, 3):
            head = encoder.encode(FIELDS)
            client.send(frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, head))
        client.send(frames.rst(1), frames.ping(), frames.data(3, b"body"))
        flags = frames.END_HEADERS | frames.END_STREAM
        client.send(frames.frame(frames.HEADERS, flags, 3, encoder.encode(trailers)))
        await peer.connection()
        await peer.finished()
        answers = frames.parse(await client.reader.readexactly(9 + 9 + 17 + 13 + 13))
        await client.close()
    (request,) = got
    assert (request.stream_id, request.fields, request.trailers) == (3, FIELDS, trailers)
    assert request.body == b"body"
    assert [(each.kind, each.flags, each.stream) for each in answers] == [
        (frames.SETTINGS, 0, 0),
        (frames.SETTINGS, frames.ACK, 0),
        (frames.PING, frames.ACK, 0),
        (frames.WINDOW_UPDATE, 0, 0),
        (frames.WINDOW_UPDATE, 0, 3),
    ]


async def test_what_the_script_sends_is_sent_as_it_is() -> None:
    async def handler(conn: Connection) -> None:
        conn.headers(2, [(b":status", b"99")], end_stream=True, end_headers=False)
        conn.frame(frames.DATA, 0xFF, 0, b"abc", length=5)
        conn.window_update(4, 0)
        conn.goaway(1, 2, b"d")
        conn.ping(b"short")
        conn.raw(b"HTTP/1.1 200 OK\r\n")
        await conn.drain()
        conn.close()

    async with scripted_peer(handler) as peer:
        client = await connect(peer)
        sent = await client.reader.read()
        await client.close()
    head = frames.frame(frames.HEADERS, 1, 2, block([(b":status", b"99")]))
    assert sent == head + (
        frames.frame(frames.DATA, 0xFF, 0, b"abc", length=5)
        + frames.frame(frames.WINDOW_UPDATE, 0, 4, bytes(4))
        + frames.goaway(1, 2, b"d")
        + frames.frame(frames.PING, 0, 0, b"short")
        + b"HTTP/1.1 200 OK\r\n"
    )


async def test_an_exception_in_the_script_ends_the_test_with_it() -> None:
    async def handler(conn: Connection) -> None:
        assert await conn.recv_frame() is None, "the script failed"

    async def wait_for_an_answer() -> None:
        async with scripted_peer(handler) as peer:
            client = await connect(peer)
            client.send(frames.settings())
            try:
                await client.reader.read()
            finally:
                await client.close()

    with pytest.raises(AssertionError, match="the script failed"):
        await wait_for_an_answer()


async def test_an_exception_in_the_test_comes_out_as_it_is() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with scripted_peer(silent):
            raise LookupError("mine")


async def test_a_client_that_leaves_early_is_an_error_only_where_the_end_is_awaited() -> None:
    async def handler(conn: Connection) -> None:
        await conn.recv_until(frames.GOAWAY)

    async with scripted_peer(handler) as peer:
        client = await connect(peer)
        client.send(frames.settings())
        await client.close()
        await peer.connection()
        with pytest.raises(ClientLeftError):
            await peer.finished()


async def test_each_connection_runs_the_script_of_its_own() -> None:
    async def handler(conn: Connection) -> None:
        conn.raw(b"%d" % conn.index)

    async with scripted_peer(handler) as peer:
        clients = []
        for index in range(3):
            clients.append(await connect(peer))
            await peer.connection(index)
        assert [await client.reader.readexactly(1) for client in clients] == [b"0", b"1", b"2"]
        for client in clients:
            await client.close()


async def test_an_abort_resets_the_connection() -> None:
    async def handler(conn: Connection) -> None:
        conn.abort()

    async with scripted_peer(handler) as peer:
        client = await connect(peer)
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
        client.writer.transport.abort()


async def test_a_half_closed_peer_still_reads() -> None:
    async def handler(conn: Connection) -> None:
        conn.half_close()
        await conn.until_left()

    async with scripted_peer(handler) as peer:
        client = await connect(peer)
        assert await client.reader.read() == b""
        client.send(frames.ping())
        await client.close()
        await peer.connection()
        await peer.finished()
    assert [frame.name for frame in peer.connections[0].received] == ["PING"]


async def test_a_frozen_peer_takes_nothing_until_it_thaws() -> None:
    async def handler(conn: Connection) -> None:
        if conn.index == 0:
            conn.freeze()
        while True:
            await conn.recv_frame()
            conn.ping(ack=True)

    async with scripted_peer(handler) as peer:
        frozen, lively = await connect(peer), await connect(peer)
        await peer.connection(1)
        frozen.send(frames.ping())
        for _ in range(10):  # each answer comes after a look at all sockets
            lively.send(frames.ping())
            await lively.reader.readexactly(17)
        assert peer.connections[0].received == []
        peer.connections[0].thaw()
        await frozen.reader.readexactly(17)
        assert [frame.name for frame in peer.connections[0].received] == ["PING"]
        await frozen.close()
        await lively.close()


async def test_a_connection_that_forgets_data_keeps_its_length_only() -> None:
    async def handler(conn: Connection) -> None:
        conn.forget_data = True
        assert (await conn.recv_frame()).payload == b"payload"
        await conn.until_left()

    async with scripted_peer(handler) as peer:
        client = await connect(peer)
        client.send(frames.data(1, b"payload"))
        await client.close()
        await peer.connection()
        await peer.finished()
    (frame,) = peer.connections[0].received
    assert (frame.length, frame.payload) == (7, b"")


async def test_a_peer_on_a_unix_socket_answers(tmp_path: Path) -> None:
    path = str(tmp_path / "s")

    async def handler(conn: Connection) -> None:
        conn.raw(b"hello")

    async with scripted_peer(handler, socket_path=path) as peer:
        client = Client(*await asyncio.open_unix_connection(path))
        assert await client.reader.readexactly(5) == b"hello"
        assert peer.url("/x") == f"unix:{path}:/x"
        await client.close()


async def test_a_peer_with_tls_speaks_h2(certificates: Certificates) -> None:
    async def handler(conn: Connection) -> None:
        await conn.expect_preface()
        conn.raw(b"hello")

    context = certificates.client_context()
    context.set_alpn_protocols(["h2"])
    async with scripted_peer(handler, tls=certificates.server_context()) as peer:
        client = Client(*await asyncio.open_connection("127.0.0.1", peer.port, ssl=context))
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        client.send(PREFACE)
        assert await client.reader.readexactly(5) == b"hello"
        assert peer.url() == f"https://127.0.0.1:{peer.port}/"
        client.writer.transport.abort()
