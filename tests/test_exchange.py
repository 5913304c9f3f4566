"""Attempts: what is sent again, what is not, and what the caller sees of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from h2.errors import ErrorCodes

from dynamo_h2 import (
    ConnectionLost,
    HttpRequestClient,
    RemoteProtocolError,
    RequestTimeout,
    StreamReset,
    TransportError,
)
from dynamo_h2.http2.body import BodySource
from tests.behaviours import async_pieces, greeted, noise, patient, pieces, shake, until
from tests.http2.frame_factory import HEADERS, MAX_STREAMS, REFUSED_STREAM
from tests.peers.scripted import Connection, scripted_peer

OK = [(b":status", b"200")]
BODY = noise(200_000)


async def refuse_first(connection: Connection) -> None:
    """Refuse the first request of the first connection, at its head; echo all others."""
    await connection.handshake()
    if connection.index == 0:
        head = await connection.recv_until(HEADERS)
        connection.rst(head.stream_id, REFUSED_STREAM)
    await connection.serve(lambda request: bytes(request.body))


async def refuse_all(connection: Connection) -> None:
    await connection.handshake()
    while True:
        head = await connection.recv_until(HEADERS)
        connection.rst(head.stream_id, REFUSED_STREAM)


async def refuse_whole(connection: Connection) -> None:
    """Refuse every request once it has come to its end."""
    await connection.handshake()
    while True:
        request = await connection.recv_request()
        connection.rst(request.stream_id, REFUSED_STREAM)


# What is sent again


async def test_a_refused_request_is_sent_again_on_another_connection() -> None:
    async with scripted_peer(refuse_first) as peer, HttpRequestClient(patient()) as client:
        response = await client.request("POST", peer.url(), body=b"payload")
        stats = client.stats()
    assert response.body == b"payload"
    assert (stats.retries, stats.requests_sent, stats.responses, stats.errors) == (1, 2, 1, 0)
    assert len(peer.connections) == 2


async def test_a_refused_request_uses_the_same_connection_where_there_may_be_no_other() -> None:
    config = patient(max_connections_per_host=1)
    async with scripted_peer(refuse_first) as peer, HttpRequestClient(config) as client:
        response = await client.request("POST", peer.url(), body=b"payload")
    assert response.body == b"payload"
    assert len(peer.connections) == 1


async def test_the_attempts_stand_in_the_response() -> None:
    async with scripted_peer(refuse_first) as peer, HttpRequestClient(patient()) as client:
        response = await client.request("GET", peer.url())
        async with client.stream("GET", peer.url()) as streamed:
            await streamed.aread()
    first, second = response.attempts
    assert isinstance(first.error, StreamReset)
    assert (first.error.code, first.error.by_peer) == (REFUSED_STREAM, True)
    assert (first.connection, first.stream_id) == (peer.base, 1)
    assert (second.connection, second.stream_id, second.error) == (peer.base, 1, None)
    assert response.elapsed >= first.elapsed + second.elapsed > 0
    assert [attempt.error for attempt in streamed.attempts] == [None]


@pytest.mark.parametrize("max_retries", [0, 1, 2, 5])
async def test_a_request_is_sent_again_at_most_max_retries_times(max_retries: int) -> None:
    config = patient(max_retries=max_retries)
    async with scripted_peer(refuse_all) as peer, HttpRequestClient(config) as client:
        with pytest.raises(StreamReset) as raised:
            await client.request("GET", peer.url())
        stats = client.stats()
    assert (raised.value.processed, raised.value.code) == (False, REFUSED_STREAM)
    heads = [head for connection in peer.connections for head in connection.log(HEADERS)]
    assert len(heads) == max_retries + 1
    assert (stats.retries, stats.errors, stats.responses) == (max_retries, 1, 0)
    notes = getattr(raised.value, "__notes__", [])
    assert [note.split(":")[0] for note in notes] == [
        f"attempt {n + 1}" for n in range(max_retries)
    ]


async def test_nothing_is_sent_again_after_the_deadline() -> None:
    config = patient(max_retries=1_000_000)
    async with scripted_peer(refuse_all) as peer, HttpRequestClient(config) as client:
        with pytest.raises((StreamReset, RequestTimeout)):
            await client.request("GET", peer.url(), timeout=0.05)


@pytest.mark.parametrize(
    "body",
    [BODY, bytearray(BODY), list(pieces(BODY)), lambda: pieces(BODY), lambda: async_pieces(BODY)],
    ids=["bytes", "bytearray", "list", "callable", "async callable"],
)
async def test_a_body_that_can_be_made_again_is_sent_again_whole(body: BodySource) -> None:
    async with scripted_peer(refuse_first) as peer, HttpRequestClient(patient()) as client:
        response = await client.request("POST", peer.url(), body=body)
    assert response.body == BODY
    assert len(response.attempts) == 2


async def test_a_streamed_response_may_come_from_a_second_attempt() -> None:
    async with scripted_peer(refuse_first) as peer, HttpRequestClient(patient()) as client:
        async with client.stream("POST", peer.url(), body=lambda: pieces(BODY)) as response:
            assert await response.aread() == BODY
        assert len(response.attempts) == 2


async def test_requests_above_the_last_stream_of_goaway_are_sent_again() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        if connection.index:
            await connection.serve(lambda _: b"second")
        requests = [await connection.recv_request() for _ in range(6)]
        connection.goaway(requests[2].stream_id)
        for request in requests[:3]:
            connection.respond(request.stream_id, b"first")

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        responses = await asyncio.gather(*(client.request("GET", peer.url()) for _ in range(6)))
        stats = client.stats()
    assert sorted(response.body for response in responses) == [b"first"] * 3 + [b"second"] * 3
    assert (stats.retries, stats.responses, stats.errors) == (3, 6, 0)
    assert len(peer.connections) == 2


async def test_a_lower_goaway_refuses_more_and_a_higher_one_takes_nothing_back() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        if connection.index:
            await connection.serve(lambda _: b"second")
        requests = [await connection.recv_request() for _ in range(4)]
        connection.goaway(2**31 - 1)
        connection.goaway(requests[0].stream_id)
        connection.goaway(2**31 - 1)
        connection.respond(requests[0].stream_id, b"first")

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        responses = await asyncio.gather(*(client.request("GET", peer.url()) for _ in range(4)))
    assert sorted(response.body for response in responses) == [b"first"] + [b"second"] * 3


async def test_a_burst_past_the_limit_of_the_peer_is_answered_whole() -> None:
    """The first hundred go out before the peer can say that it takes ten at a time."""
    loop = asyncio.get_running_loop()

    async def handler(connection: Connection) -> None:
        await connection.handshake((MAX_STREAMS, 10))
        working: set[int] = set()

        def finish(stream_id: int) -> None:
            working.discard(stream_id)
            connection.respond(stream_id, b"answer")

        while True:
            head = await connection.recv_until(HEADERS)
            if len(working) == 10:
                connection.rst(head.stream_id, REFUSED_STREAM)
            else:
                working.add(head.stream_id)
                loop.call_later(0.002, finish, head.stream_id)

    config = patient(max_connections_per_host=3)
    async with scripted_peer(handler) as peer, HttpRequestClient(config) as client:
        responses = await asyncio.gather(*(client.request("GET", peer.url()) for _ in range(150)))
    assert {response.body for response in responses} == {b"answer"}


# What is not


@pytest.mark.parametrize("make", [pieces, async_pieces])
async def test_a_generator_that_was_read_is_not_sent_again(make: object) -> None:
    assert callable(make)
    async with scripted_peer(refuse_whole) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(StreamReset) as raised:
            await client.request("POST", peer.url(), body=make(BODY))
        assert client.stats().retries == 0
    assert raised.value.processed is False


@pytest.mark.parametrize("status", [b"103", b"200"])
async def test_what_was_refused_after_something_of_a_response_is_not_sent_again(
    status: bytes,
) -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        request = await connection.recv_request()
        connection.headers(request.stream_id, [(b":status", status)])
        connection.rst(request.stream_id, REFUSED_STREAM)

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(StreamReset) as raised:
            await client.request("GET", peer.url())
        assert client.stats().retries == 0
    assert (raised.value.processed, raised.value.code) == (None, REFUSED_STREAM)


@pytest.mark.parametrize("code", [ErrorCodes.NO_ERROR, ErrorCodes.INTERNAL_ERROR])
async def test_any_other_reset_is_not_sent_again(code: int) -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        request = await connection.recv_request()
        connection.rst(request.stream_id, code)

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(StreamReset) as raised:
            await client.request("GET", peer.url())
        assert (client.stats().retries, client.stats().errors) == (0, 1)
    assert (raised.value.processed, raised.value.code) == (None, code)
    assert (raised.value.origin, raised.value.stream_id) == (peer.base, 1)


@pytest.mark.parametrize("how", ["close", "abort", "half_close"])
async def test_a_request_on_a_connection_that_is_lost_is_not_sent_again(how: str) -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        await connection.recv_request()
        getattr(connection, how)()

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(ConnectionLost) as raised:
            await client.request("GET", peer.url())
        stats = client.stats()
    assert raised.value.processed is None
    assert (stats.retries, stats.errors, stats.connections_opened) == (0, 1, 1)


async def test_a_broken_connection_fails_every_request_on_it_with_an_error_of_its_own() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        for _ in range(3):
            await connection.recv_request()
        connection.data(0, b"DATA belongs on a stream")

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        errors = await asyncio.gather(
            *(client.request("GET", peer.url()) for _ in range(3)), return_exceptions=True
        )
        assert client.stats().retries == 0
    assert len({id(error) for error in errors}) == 3
    for error in errors:
        assert isinstance(error, RemoteProtocolError)
        assert error.processed is None


async def test_an_error_that_a_body_brings_along_is_not_taken_for_our_own() -> None:
    """A body may come from another client, whose errors say that *its* peer did nothing."""
    begun = 0

    async def relayed() -> AsyncIterator[bytes]:
        nonlocal begun
        begun += 1
        yield b"the beginning"
        raise StreamReset("somewhere else", code=REFUSED_STREAM, by_peer=True, processed=False)

    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(StreamReset, match=r"\Asomewhere else\Z"):
            await client.request("POST", peer.url(), body=relayed)
        assert client.stats().retries == 0
    assert begun == 1


async def test_an_error_of_the_callback_for_interim_responses_is_not_taken_for_our_own() -> None:
    def callback(_status: int, _headers: object) -> None:
        raise TransportError("somewhere else", processed=False)

    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        request = asyncio.create_task(client.request("GET", peer.url(), on_informational=callback))
        connection = await greeted(peer)
        received = await connection.recv_request()
        connection.headers(received.stream_id, [(b":status", b"103")])
        with pytest.raises(TransportError, match=r"\Asomewhere else\Z"):
            await request
        assert client.stats().retries == 0


# Connections that are gone


async def test_the_request_after_a_lost_connection_gets_a_new_one() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        request = await connection.recv_request()
        connection.respond(request.stream_id, b"%d" % connection.index)
        if connection.index == 0:
            connection.close()
        await connection.until_left()

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        assert (await client.request("GET", peer.url())).body == b"0"
        await (await peer.connection()).wait_closed()
        await until(lambda: client.stats().connections_closed == 1)
        assert (await client.request("GET", peer.url())).body == b"1"
