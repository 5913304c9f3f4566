"""The client as its caller sees it: how it is made, what it counts, what goes wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from dynamo_h2 import (
    ConnectError,
    ConnectTimeout,
    Headers,
    Http2Config,
    HttpRequestClient,
    KeepAliveTimeout,
    Overloaded,
    RemoteProtocolError,
    StatusError,
    StreamReset,
)
from dynamo_h2.transport import pool
from tests.behaviours import (
    client_for,
    greeted,
    healthy,
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
from tests.transport.listening import refusing_port

OK = [(b":status", b"200")]


# Making one


def test_a_client_is_made_in_several_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYN_HTTP2_MAX_CONCURRENT_STREAMS", "7")
    config = Http2Config(max_retries=9)
    assert HttpRequestClient().config == Http2Config()
    assert HttpRequestClient.with_config(config).config is config
    assert HttpRequestClient.from_env().config.max_concurrent_streams == 7
    assert HttpRequestClient.with_timeout(2).config.request_timeout == 2.0


def test_a_client_without_requests_needs_no_loop() -> None:
    client = HttpRequestClient()
    assert client.transport_name == "http2"
    assert client.is_healthy
    stats = client.stats()
    assert (stats.requests_sent, stats.connections_opened, stats.average_latency) == (0, 0, 0.0)


# Interim responses


async def test_interim_responses_go_to_their_callback_in_order() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        while True:
            request = await connection.recv_request()
            for status, hint in ((b"100", b"a"), (b"103", b"b"), (b"199", b"c")):
                connection.headers(request.stream_id, [(b":status", status), (b"x-hint", hint)])
            connection.respond(request.stream_id, b"final")

    seen: list[tuple[int, str]] = []

    def note(status: int, headers: Headers) -> None:
        seen.append((status, headers["X-Hint"]))

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        response = await client.request("GET", peer.url(), on_informational=note)
        async with client.stream("GET", peer.url(), on_informational=note) as streamed:
            assert (streamed.status, await streamed.aread()) == (200, b"final")
        ignored = await client.request("GET", peer.url())
    assert (response.status, response.body) == (200, b"final")
    assert (ignored.status, ignored.body) == (200, b"final")
    assert seen == [(100, "a"), (103, "b"), (199, "c")] * 2


async def test_an_error_of_the_callback_resets_the_stream_and_reaches_the_caller() -> None:
    error = KeyError("of the callback")

    def fail(_status: int, _headers: Headers) -> None:
        raise error

    async def handler(connection: Connection) -> None:
        await connection.handshake()
        request = await connection.recv_request()
        connection.headers(request.stream_id, [(b":status", b"103")])
        await connection.recv_until(RST_STREAM, request.stream_id)
        await connection.serve()

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(KeyError) as raised:
            await client.request("GET", peer.url(), on_informational=fail)
        assert raised.value is error
        assert (await client.request("GET", peer.url())).status == 200
        assert client.stats().connections_opened == 1


# Statuses


@pytest.mark.parametrize("status", [200, 202, 204, 299])
async def test_send_request_returns_the_body_of_a_success(status: int) -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        request = await connection.recv_request()
        body = b"" if status == 204 else b"body"
        connection.respond(request.stream_id, body, status)

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        expected = b"" if status == 204 else b"body"
        assert await client.send_request(peer.url(), b"") == expected


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (301, b"moved", StatusError),
        (404, b"", StatusError),
        (500, b"Server overloaded: 9 requests wait", Overloaded),
        (429, b"Server unavailable: draining", Overloaded),
        (503, b"", Overloaded),
        (503, b"any words", Overloaded),
        (500, b"not Server overloaded:", StatusError),
    ],
)
async def test_send_request_raises_for_anything_else(
    status: int, body: bytes, kind: type[StatusError]
) -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        request = await connection.recv_request()
        connection.respond(request.stream_id, body, status)

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(StatusError) as raised:
            await client.send_request(peer.url(), b"")
        assert (client.stats().responses, client.stats().errors) == (1, 0)
    error = raised.value
    assert type(error) is kind
    assert (error.status, error.body, error.processed) == (status, body, True)


# Peers that break the rules


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
    config = patient(keep_alive_interval=0.05, keep_alive_timeout=0.05)
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


@pytest.mark.timeout(10)
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
    config = patient(keep_alive_interval=0.02, keep_alive_timeout=0.02, keep_alive_while_idle=False)
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
    config = {"keep_alive_interval": 0.1, "keep_alive_timeout": 0.1}
    async with client_for(granian, **config) as client:
        url = granian.url("/v1/rpc/x")
        await client.send_request(url, b"")
        hanging = asyncio.create_task(client.request("GET", granian.url("/hang"), timeout=None))
        await until(lambda: client.stats().streams_in_flight == 1)
        for _ in range(3):
            await standstill(client)
            sent = client.stats().bytes_sent
            await until(lambda sent=sent: client.stats().bytes_sent > sent)  # type: ignore[misc]  # a PING
            time.sleep(0.4)  # noqa: ASYNC251 - blocking is what this is about
            task = asyncio.create_task(client.send_request(url, b"", timeout=0.1))
            await turns(3)  # by now it is on its way
            time.sleep(0.4)  # noqa: ASYNC251
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
        time.sleep(0.5)  # noqa: ASYNC251
        assert (await client.request("GET", url, timeout=0.4)).status == 200
        holder = asyncio.create_task(client.request("GET", url))
        await turns(3)
        time.sleep(0.5)  # noqa: ASYNC251
        response = await client.request("GET", url, timeout=0.4, pool_timeout=0.3)
        assert response.status == 200
        await holder


# Health and statistics


async def test_health_follows_the_hosts_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        assert healthy(client)
        with refusing_port() as port:
            with pytest.raises(ConnectError):
                await client.request("GET", f"http://127.0.0.1:{port}/")
            assert not healthy(client)  # the only host in use is out of reach
            await client.request("GET", peer.url())
            assert healthy(client)  # one of two is not
        (await peer.connection()).close()
        await until(lambda: client.stats().connections_closed == 1)
        assert healthy(client)  # it went, but its last dial did not fail
        monkeypatch.setattr(pool, "HEALTH_WINDOW", 0.0)
        assert healthy(client)  # nobody was used lately


async def test_a_host_that_is_tried_in_vain_counts_as_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "HEALTH_WINDOW", 0.2)
    with refusing_port() as port:
        async with HttpRequestClient(patient()) as client:
            began = time.monotonic()
            while time.monotonic() - began < 0.3:
                with pytest.raises(ConnectError):
                    await client.request("GET", f"http://127.0.0.1:{port}/")
            assert not healthy(client)


async def test_a_host_that_sends_no_settings_is_not_healthy() -> None:
    async def handler(connection: Connection) -> None:
        await connection.until_left()

    config = patient(connect_timeout=0.05)
    async with scripted_peer(handler) as peer, HttpRequestClient(config) as client:
        with pytest.raises(ConnectTimeout):
            await client.request("GET", peer.url())
        assert not healthy(client)


async def test_every_statistic_moves() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        requests = [await connection.recv_request() for _ in range(3)]
        connection.respond(requests[0].stream_id, b"answer")
        await gate.wait()
        connection.rst(requests[1].stream_id, 7)
        connection.rst(requests[2].stream_id, 2)
        await connection.serve()

    gate = asyncio.Event()
    config = patient(max_connections_per_host=1)
    async with scripted_peer(handler) as peer:
        client = HttpRequestClient(config)
        start = client.stats()
        tasks = [asyncio.create_task(client.request("GET", peer.url())) for _ in range(3)]
        await until(lambda: client.stats().responses == 1)
        during = client.stats()
        gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        end = client.stats()
        await client.close()
        closed = client.stats()
    assert (start.streams_in_flight, during.streams_in_flight, end.streams_in_flight) == (0, 2, 0)
    assert (during.connections_active, during.connections_idle) == (1, 0)
    assert (end.connections_active, end.connections_idle) == (0, 1)
    assert (during.requests_sent, end.requests_sent) == (3, 4)
    assert (during.responses, end.responses) == (1, 2)
    assert (during.errors, end.errors) == (0, 1)
    assert (during.retries, end.retries) == (0, 1)
    assert 0 == start.bytes_sent < during.bytes_sent < end.bytes_sent < closed.bytes_sent
    assert 0 == start.bytes_received < during.bytes_received < end.bytes_received
    assert start.average_latency == 0.0 < during.average_latency
    assert (start.connections_opened, end.connections_opened) == (0, 1)
    assert (end.connections_closed, closed.connections_closed) == (0, 1)
    assert (closed.connections_active, closed.connections_idle) == (0, 0)


async def test_bytes_are_counted_both_ways() -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        await client.request("GET", peer.url())
        before = client.stats()
        await client.request("POST", peer.url(), body=bytes(50_000))
        after = client.stats()
    assert 50_000 < after.bytes_sent - before.bytes_sent < 51_000
    assert 50_000 < after.bytes_received - before.bytes_received < 51_000


async def test_a_request_takes_as_long_as_it_took() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        began = time.monotonic()
        task = asyncio.create_task(client.request("GET", peer.url()))
        connection = await greeted(peer)
        request = await connection.recv_request()
        await asyncio.sleep(0.05)
        connection.respond(request.stream_id)
        response = await task
        whole = time.monotonic() - began
        assert 0.05 <= response.elapsed <= whole
        assert 0.05 <= client.stats().average_latency <= whole


async def test_time_is_taken_in_less_than_milliseconds() -> None:
    async with scripted_peer(serve) as peer, HttpRequestClient(patient()) as client:
        responses = [await client.request("GET", peer.url()) for _ in range(10)]
    microseconds = [round(response.elapsed * 1_000_000) % 1000 for response in responses]
    assert any(1 < each < 999 for each in microseconds)


# Full duplex


async def test_question_and_answer_take_turns_on_one_stream() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        head = await connection.recv_until(HEADERS)
        connection.headers(head.stream_id, OK)
        ended = False
        while not ended:
            frame = await connection.recv_until(0)
            ended = frame.end_stream
            connection.data(head.stream_id, frame.data[::-1], end_stream=ended)

    answers: asyncio.Queue[bytes] = asyncio.Queue()
    talk: list[bytes] = []

    async def question() -> AsyncIterator[bytes]:
        for word in (b"abc", b"def", b"ghi"):
            yield word
            talk.append(await answers.get())

    async with (
        scripted_peer(handler) as peer,
        HttpRequestClient(patient()) as client,
        client.stream("POST", peer.url(), body=question()) as response,
    ):
        async for chunk in response:
            answers.put_nowait(chunk)
    assert talk == [b"cba", b"fed", b"ihg"]
