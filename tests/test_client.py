"""The client as its caller sees it: how it is made, what it counts, what goes wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from dynamo_h2 import (
    UNSET,
    CallOptions,
    ConnectError,
    ConnectTimeout,
    Headers,
    Http2Config,
    HttpRequestClient,
    Overloaded,
    RequestTimeout,
    StatusError,
    Timeout,
)
from dynamo_h2.transport import pool
from tests.behaviours import greeted, healthy, patient, serve, shake, until
from tests.http2.frame_factory import DATA, HEADERS, RST_STREAM
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


# Time limits of a call


async def answer_late(connection: Connection) -> None:
    await connection.handshake()
    while True:
        request = await connection.recv_request()
        await asyncio.sleep(0.3)
        connection.respond(request.stream_id)


@pytest.mark.parametrize("limit", [0.05, timedelta(milliseconds=50), UNSET], ids=str)
async def test_a_time_limit_is_seconds_or_a_timedelta_or_that_of_the_config(limit: Timeout) -> None:
    config = patient(request_timeout=0.05 if limit is UNSET else 30)
    async with scripted_peer(answer_late) as peer, HttpRequestClient(config) as client:
        with pytest.raises(RequestTimeout):
            await client.request("GET", peer.url(), timeout=limit)
        with pytest.raises(RequestTimeout):
            await client.send_request(peer.url(), b"", timeout=limit)
        with pytest.raises(RequestTimeout):
            async with client.stream("GET", peer.url(), timeout=limit):
                pass


async def test_a_time_limit_of_none_is_no_limit_whatever_the_config_says() -> None:
    config = Http2Config(request_timeout=0.05, read_timeout=0.05, pool_timeout=0.05)
    limits = CallOptions(timeout=None, read_timeout=None, write_timeout=None, pool_timeout=None)
    async with scripted_peer(answer_late) as peer, HttpRequestClient(config) as client:
        assert (await client.request("GET", peer.url(), **limits)).status == 200
        async with client.stream("GET", peer.url(), **limits) as response:
            assert await response.aread() == b""


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
            frame = await connection.recv_until(DATA)
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
