"""What a peer does wrong, and who is told of it; peers that fall silent."""

from __future__ import annotations

import asyncio
import time

import pytest

from dynamo_h2 import (
    ConnectError,
    HttpRequestClient,
    KeepAliveTimeout,
    RemoteProtocolError,
    StreamReset,
)
from tests.behaviours import (
    client_for,
    greeted,
    patient,
    serve,
    settled,
    shake,
    standstill,
    turns,
    until,
)
from tests.http2.frame_factory import (
    COMPRESSION_ERROR,
    FLOW_CONTROL_ERROR,
    GOAWAY,
    HEADERS,
    PING,
    PROTOCOL_ERROR,
    RST_STREAM,
)
from tests.peers import Peer
from tests.peers.scripted import Connection, scripted_peer

OK = [(b":status", b"200")]


MALFORMED: dict[str, list[tuple[bytes, bytes]]] = {
    "no status": [(b"x", b"y")],
    "a status that is none": [(b":status", b"abc")],
    "a status of switching protocols": [(b":status", b"101")],
    "upper case in a name": [*OK, (b"X-Upper", b"1")],
    "a pseudo-header of requests": [*OK, (b":path", b"/")],
    "a field of the connection": [*OK, (b"connection", b"close")],
    "a line break in a value": [*OK, (b"x", b"1\r\ny: 2")],
    "two lengths": [*OK, (b"content-length", b"1"), (b"content-length", b"2")],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_response_fails_its_own_request_and_no_other(
    fields: list[tuple[bytes, bytes]],
) -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        good = asyncio.create_task(client.request("GET", peer.url()))
        await asyncio.sleep(0)
        bad = asyncio.create_task(client.request("GET", peer.url()))
        connection = await greeted(peer)
        requests = [await connection.recv_request() for _ in range(2)]
        connection.headers(requests[1].stream_id, fields, end_stream=True)
        reset = await connection.recv_until(RST_STREAM)
        assert (reset.stream_id, reset.code) == (requests[1].stream_id, PROTOCOL_ERROR)
        with pytest.raises(RemoteProtocolError) as raised:
            await bad
        assert (raised.value.code, raised.value.processed) == (PROTOCOL_ERROR, None)
        assert raised.value.stream_id == requests[1].stream_id
        connection.respond(requests[0].stream_id, b"good")
        assert (await good).body == b"good"


async def test_a_response_shorter_than_its_length_is_an_error() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        task = asyncio.create_task(client.request("GET", peer.url()))
        connection = await greeted(peer)
        request = await connection.recv_request()
        connection.headers(request.stream_id, [*OK, (b"content-length", b"10")])
        connection.data(request.stream_id, b"short", end_stream=True)
        with pytest.raises(RemoteProtocolError, match="5 bytes of content where 10"):
            await task


@pytest.mark.parametrize("increment", [0, 2**31 - 1])
async def test_a_window_update_that_cannot_be_fails_its_own_request(increment: int) -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        task = asyncio.create_task(client.request("GET", peer.url()))
        connection = await greeted(peer)
        request = await connection.recv_request()
        connection.window_update(request.stream_id, increment)
        with pytest.raises(RemoteProtocolError) as raised:
            await task
        expected = FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR
        assert (raised.value.code, raised.value.processed) == (expected, None)
        assert (await connection.recv_until(RST_STREAM)).code == expected
        assert client.stats().connections_closed == 0


async def test_a_broken_header_block_ends_the_connection_with_goaway() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        tasks = [asyncio.create_task(client.request("GET", peer.url())) for _ in range(3)]
        connection = await greeted(peer)
        for _ in range(3):
            await connection.recv_request()
        connection.frame(HEADERS, 0x4, 1, b"\xff\xff\xff\xff\xff")
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        for error in errors:
            assert isinstance(error, RemoteProtocolError)
            assert (error.code, error.processed) == (COMPRESSION_ERROR, None)
        goaway = await connection.recv_until(GOAWAY)
        assert (goaway.code, goaway.debug != b"") == (COMPRESSION_ERROR, True)
        await connection.until_left()
        await until(lambda: client.stats().connections_closed == 1)
        task = asyncio.create_task(client.request("GET", peer.url()))
        other = await greeted(peer, 1)
        other.respond((await other.recv_request()).stream_id)
        await task


async def test_a_reset_in_the_middle_of_a_streamed_answer_reaches_its_reader() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        context = client.stream("GET", peer.url())
        entering = asyncio.create_task(context.__aenter__())
        connection = await greeted(peer)
        request = await connection.recv_request()
        connection.headers(request.stream_id, OK)
        connection.data(request.stream_id, b"the beginning")
        connection.rst(request.stream_id, 2)
        await settled(connection)
        chunks = aiter(await entering)
        assert await anext(chunks) == b"the beginning"
        for _ in range(2):
            with pytest.raises(StreamReset) as raised:
                await anext(chunks)
        assert raised.value.processed is None
        await context.__aexit__(None, None, None)
        assert (client.stats().errors, client.stats().responses) == (1, 0)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"HTTP/1.0 505 Version Not Supported\n\n", "HTTP/1.0 505 Version Not Supported"),
        (b"HTTP/1.1 400", "HTTP/1.1 400"),
    ],
)
async def test_a_peer_that_speaks_http1_is_told_apart(said: bytes, line: str) -> None:
    async def handler(connection: Connection) -> None:
        await connection.expect_preface()
        for _ in range(100):
            await connection.recv_until(HEADERS)
        connection.raw(said)
        connection.close()

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        errors = await asyncio.gather(
            *(client.request("GET", peer.url()) for _ in range(150)), return_exceptions=True
        )
        stats = client.stats()
    expected = (
        f"peer speaks HTTP/1.1 (first line '{line}'), HTTP/2 with prior knowledge was expected"
    )
    for error in errors:
        assert type(error) is ConnectError
        assert expected in str(error)
    processed = [error.processed for error in errors if isinstance(error, ConnectError)]
    assert (processed.count(None), processed.count(False)) == (100, 50)
    assert (stats.connections_opened, stats.retries) == (1, 0)


# Keep-alive


async def test_a_peer_that_answers_no_ping_is_left_at_once() -> None:
    config = patient(keep_alive_interval=0.1, keep_alive_timeout=0.1)
    async with scripted_peer(shake) as peer, HttpRequestClient(config) as client:
        tasks = [asyncio.create_task(client.request("GET", peer.url())) for _ in range(2)]
        connection = await greeted(peer)
        await connection.recv_until(PING)
        connection.freeze()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        for error in errors:
            assert isinstance(error, KeepAliveTimeout)
            assert error.processed is None
        await until(lambda: client.stats().connections_closed == 1)
        connection.thaw()
        await connection.until_left()
        assert not connection.log(GOAWAY)  # nothing more is written to a dead peer
        task = asyncio.create_task(client.request("GET", peer.url()))
        other = await greeted(peer, 1)
        other.respond((await other.recv_request()).stream_id)
        assert (await task).status == 200


async def test_a_peer_that_answers_pings_is_kept() -> None:
    config = patient(keep_alive_interval=0.02, keep_alive_timeout=5)
    async with scripted_peer(shake) as peer, HttpRequestClient(config) as client:
        task = asyncio.create_task(client.request("GET", peer.url()))
        connection = await greeted(peer)
        request = await connection.recv_request()
        for _ in range(5):
            ping = await connection.recv_until(PING)
            connection.ping(ping.payload, ack=True)
        connection.respond(request.stream_id, b"late")
        assert (await task).body == b"late"
        ping = await connection.recv_until(PING)  # idle connections are asked too
        connection.ping(ping.payload, ack=True)
        await settled(connection)


async def test_an_idle_connection_is_not_asked_where_the_config_says_so() -> None:
    config = patient(keep_alive_interval=0.02, keep_alive_while_idle=False)
    async with scripted_peer(serve) as peer, HttpRequestClient(config) as client:
        await client.request("GET", peer.url())
        connection = await peer.connection()
        await asyncio.sleep(0.2)
        assert not connection.log(PING)
        # After the long silence a PING goes with the next request, which does not wait for it.
        assert (await client.request("GET", peer.url())).status == 200
        await until(lambda: connection.log(PING))
        assert client.stats().connections_opened == 1


async def test_a_loop_that_was_blocked_takes_nobody_for_late(granian: Peer) -> None:
    """What the worker said meanwhile lies in the socket: it is read before anyone is judged."""
    config = {"keep_alive_interval": 0.1, "keep_alive_timeout": 0.25}
    async with client_for(granian, **config) as client:
        url = granian.url("/v1/rpc/x")
        await client.send_request(url, b"")
        hanging = asyncio.create_task(client.request("GET", granian.url("/hang"), timeout=None))
        await until(lambda: client.stats().streams_in_flight == 1)
        for _ in range(3):
            await standstill(client)
            sent = client.stats().bytes_sent
            await until(lambda sent=sent: client.stats().bytes_sent > sent)  # type: ignore[misc]  # a PING
            time.sleep(0.6)  # noqa: ASYNC251 - blocking is what this is about
            task = asyncio.create_task(client.send_request(url, b"", timeout=0.25))
            await turns(3)  # by now it is on its way
            time.sleep(0.6)  # noqa: ASYNC251
            assert await task == b""
        hanging.cancel()
        await asyncio.wait([hanging])
        assert (client.stats().errors, client.stats().connections_opened) == (0, 1)


async def test_a_loop_that_was_blocked_takes_no_time_from_the_next_request(granian: Peer) -> None:
    """Some loops tell the time at which their turn began: long ago, when a prompt was tokenized."""
    config = {"max_connections_per_host": 1, "max_concurrent_streams": 1}
    url = granian.url("/tokens?count=2&interval_ms=50")
    async with client_for(granian, **config) as client:
        await client.request("GET", url)
        time.sleep(1.0)  # noqa: ASYNC251
        assert (await client.request("GET", url, timeout=0.9)).status == 200
        holder = asyncio.create_task(client.request("GET", url))
        await turns(3)
        time.sleep(1.0)  # noqa: ASYNC251
        response = await client.request("GET", url, timeout=0.9, pool_timeout=0.8)
        assert response.status == 200
        await holder
