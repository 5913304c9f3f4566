"""Requests that end before their time: the peer hears of it at once, the connection lives on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from dynamo_h2 import (
    HttpRequestClient,
    ReadTimeout,
    RequestTimeout,
    ResponseTooLarge,
    WriteTimeout,
)
from tests.behaviours import (
    expect_alive,
    expect_cancel,
    greeted,
    noise,
    patient,
    settled,
    shake,
)
from tests.http2.frame_factory import DATA, HEADERS, RST_STREAM
from tests.peers.scripted import Connection, scripted_peer

OK = [(b":status", b"200")]
BIG = noise(300_000)


class OwnError(Exception):
    """What a caller's own code raises."""


# Leaving and cancelling


async def test_leaving_a_response_early_resets_its_stream() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        context = client.stream("GET", peer.url())
        entering = asyncio.create_task(context.__aenter__())
        connection = await greeted(peer)
        request = await connection.recv_request()
        connection.headers(request.stream_id, OK)
        connection.data(request.stream_id, b"the first token")
        response = await entering
        assert await anext(aiter(response)) == b"the first token"
        await context.__aexit__(None, None, None)
        await expect_cancel(connection, request.stream_id)
        await expect_alive(client, peer, connection)


async def test_an_error_inside_the_block_resets_the_stream_and_is_not_changed() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        request = await connection.recv_request()
        connection.headers(request.stream_id, OK)
        await expect_cancel(connection, request.stream_id)

    error = OwnError("of the block")
    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        with pytest.raises(OwnError) as raised:
            async with client.stream("GET", peer.url()):
                raise error
        assert raised.value is error
        await peer.finished()
        await expect_alive(client, peer, await peer.connection())


async def test_a_response_that_was_read_to_its_end_is_not_reset() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        context = client.stream("GET", peer.url())
        entering = asyncio.create_task(context.__aenter__())
        connection = await greeted(peer)
        connection.respond((await connection.recv_request()).stream_id, b"all of it")
        assert await (await entering).aread() == b"all of it"
        await context.__aexit__(None, None, None)
        await expect_alive(client, peer, connection)
        assert not connection.log(RST_STREAM)


async def test_a_response_that_was_left_cannot_be_read_any_more() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        context = client.stream("GET", peer.url())
        entering = asyncio.create_task(context.__aenter__())
        connection = await greeted(peer)
        connection.headers((await connection.recv_request()).stream_id, OK)
        response = await entering
        await context.__aexit__(None, None, None)
        with pytest.raises(RuntimeError, match="closed"):
            await response.aread()


async def test_a_stream_is_entered_once() -> None:
    """A second time would send the request again, and without its body."""
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        context = client.stream("POST", peer.url(), body=b"payload")
        entering = asyncio.create_task(context.__aenter__())
        connection = await greeted(peer)
        connection.respond((await connection.recv_request()).stream_id)
        await (await entering).aread()
        with pytest.raises(RuntimeError, match="entered once"):
            await context.__aenter__()
        await context.__aexit__(None, None, None)
        with pytest.raises(RuntimeError, match="entered once"):
            await context.__aenter__()
        assert client.stats().requests_sent == 1


@pytest.mark.parametrize("answered", [False, True], ids=["before the head", "after the head"])
async def test_cancelling_a_request_resets_its_stream(answered: bool) -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        task = asyncio.create_task(client.request("POST", peer.url(), body=b"payload"))
        connection = await greeted(peer)
        request = await connection.recv_request()
        if answered:
            connection.headers(request.stream_id, OK)
            await settled(connection)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await expect_cancel(connection, request.stream_id)
        await expect_alive(client, peer, connection)


async def test_cancelling_the_wait_for_the_head_of_a_stream_resets_it() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        entering = asyncio.create_task(client.stream("GET", peer.url()).__aenter__())
        connection = await greeted(peer)
        request = await connection.recv_request()
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        await expect_cancel(connection, request.stream_id)
        await expect_alive(client, peer, connection)


async def test_cancelling_an_upload_resets_its_stream_and_closes_the_body() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1000)
                await asyncio.sleep(0)
        finally:
            closed.set()

    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        task = asyncio.create_task(client.request("POST", peer.url(), body=endless()))
        connection = await greeted(peer)
        head = await connection.recv_until(HEADERS)
        await connection.recv_until(DATA)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert closed.is_set()
        await expect_cancel(connection, head.stream_id)
        connection.window_update(0, 65_535)
        await expect_alive(client, peer, connection)


async def test_a_request_that_is_cancelled_at_once_leaves_nothing_behind() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        await connection.serve(lambda _: b"next")

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        await client.request("GET", peer.url())
        for turns in range(4):
            task = asyncio.create_task(client.request("POST", peer.url(), body=b"payload"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await client.request("GET", peer.url())).body == b"next"
        assert (client.stats().streams_in_flight, client.stats().connections_opened) == (0, 1)


# Time limits


async def test_a_request_that_runs_out_of_time_is_reset() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        await client.warm_up([peer.url()])  # which is not to take of the time
        task = asyncio.create_task(client.request("GET", peer.url(), timeout=0.2))
        connection = await greeted(peer)
        request = await connection.recv_request()
        await expect_cancel(connection, request.stream_id)
        with pytest.raises(RequestTimeout) as raised:
            await task
        assert (raised.value.processed, raised.value.stream_id) == (None, request.stream_id)
        await expect_alive(client, peer, connection)


async def test_a_response_that_falls_silent_is_reset() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        task = asyncio.create_task(client.request("GET", peer.url(), read_timeout=0.05))
        connection = await greeted(peer)
        request = await connection.recv_request()
        connection.headers(request.stream_id, OK)
        connection.data(request.stream_id, b"something")
        await expect_cancel(connection, request.stream_id)
        with pytest.raises(ReadTimeout) as raised:
            await task
        assert raised.value.processed is None
        await expect_alive(client, peer, connection)


async def test_a_streamed_response_that_falls_silent_is_reset_while_it_is_read() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        context = client.stream("GET", peer.url(), read_timeout=0.05)
        entering = asyncio.create_task(context.__aenter__())
        connection = await greeted(peer)
        request = await connection.recv_request()
        connection.headers(request.stream_id, OK)
        connection.data(request.stream_id, b"something")
        chunks = aiter(await entering)
        assert await anext(chunks) == b"something"
        with pytest.raises(ReadTimeout):
            await anext(chunks)
        await context.__aexit__(None, None, None)
        await expect_cancel(connection, request.stream_id)
        await expect_alive(client, peer, connection)


async def test_a_body_that_the_peer_does_not_take_is_reset() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        task = asyncio.create_task(client.request("POST", peer.url(), body=BIG, write_timeout=0.05))
        connection = await greeted(peer)
        head = await connection.recv_until(HEADERS)
        await expect_cancel(connection, head.stream_id)
        with pytest.raises(WriteTimeout) as raised:
            await task
        assert raised.value.processed is None
        assert sum(frame.length for frame in connection.log(DATA)) == 65_535
        connection.window_update(0, 65_535)
        await expect_alive(client, peer, connection)


async def test_a_body_that_the_caller_is_slow_to_make_is_not_reset() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.sleep(0.5)
        yield b"two"

    async def handler(connection: Connection) -> None:
        await connection.handshake()
        await connection.serve(lambda request: bytes(request.body))

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        url = peer.url()
        response = await client.request("POST", url, body=slow(), write_timeout=0.3)
        assert response.body == b"onetwo"
        # Nor does the time for the head of a streamed response run before the body is out.
        async with client.stream("POST", url, body=slow(), timeout=0.3) as streamed:
            assert await streamed.aread() == b"onetwo"


async def test_a_response_that_nobody_reads_does_not_run_out_of_time() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        context = client.stream("GET", peer.url(), timeout=0.3, read_timeout=0.3)
        entering = asyncio.create_task(context.__aenter__())
        connection = await greeted(peer)
        request = await connection.recv_request()
        connection.headers(request.stream_id, OK)
        response = await entering
        await asyncio.sleep(0.5)
        connection.data(request.stream_id, b"at last", end_stream=True)
        assert await response.aread() == b"at last"
        await context.__aexit__(None, None, None)


# Bodies and answers that go wrong


@pytest.mark.parametrize("waiting", [False, True], ids=["sync", "async"])
async def test_an_error_of_the_body_resets_the_stream_and_is_not_changed(waiting: bool) -> None:
    error = OwnError("of the body")

    def failing() -> Iterator[bytes]:
        yield b"the beginning"
        raise error

    async def async_failing() -> AsyncIterator[bytes]:
        yield b"the beginning"
        await asyncio.sleep(0)
        raise error

    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        body = async_failing() if waiting else failing()
        task = asyncio.create_task(client.request("POST", peer.url(), body=body))
        connection = await greeted(peer)
        head = await connection.recv_until(HEADERS)
        await expect_cancel(connection, head.stream_id)
        with pytest.raises(OwnError) as raised:
            await task
        assert raised.value is error
        await expect_alive(client, peer, connection)


async def test_an_error_of_a_body_reaches_whoever_reads_the_answer() -> None:
    error = OwnError("of the body")
    go_on = asyncio.Event()

    async def failing() -> AsyncIterator[bytes]:
        yield b"the beginning"
        await go_on.wait()
        raise error

    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        context = client.stream("POST", peer.url(), body=failing())
        entering = asyncio.create_task(context.__aenter__())
        connection = await greeted(peer)
        head = await connection.recv_until(HEADERS)
        connection.headers(head.stream_id, OK)
        response = await entering
        go_on.set()
        with pytest.raises(OwnError) as raised:
            await response.aread()
        assert raised.value is error
        await context.__aexit__(None, None, None)
        await expect_cancel(connection, head.stream_id)
        await expect_alive(client, peer, connection)


async def test_a_body_that_is_cancelled_from_within_ends_the_request() -> None:
    async def cancelled() -> AsyncIterator[bytes]:
        yield b"the beginning"
        never = asyncio.get_running_loop().create_future()
        never.cancel()
        await never

    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        task = asyncio.create_task(client.request("POST", peer.url(), body=cancelled()))
        connection = await greeted(peer)
        head = await connection.recv_until(HEADERS)
        await expect_cancel(connection, head.stream_id)
        with pytest.raises(asyncio.CancelledError):
            await task
        await expect_alive(client, peer, connection)


async def test_an_answer_that_is_too_large_is_reset() -> None:
    config = patient(max_response_size=1000)
    async with scripted_peer(shake) as peer, HttpRequestClient(config) as client:
        task = asyncio.create_task(client.request("GET", peer.url()))
        connection = await greeted(peer)
        request = await connection.recv_request()
        connection.headers(request.stream_id, OK)
        connection.data(request.stream_id, bytes(1001))
        await expect_cancel(connection, request.stream_id)
        with pytest.raises(ResponseTooLarge) as raised:
            await task
        assert raised.value.processed is True
        await expect_alive(client, peer, connection)


async def test_reading_a_streamed_answer_that_is_too_large_resets_it() -> None:
    config = patient(max_response_size=1000)
    async with scripted_peer(shake) as peer, HttpRequestClient(config) as client:
        async with AsyncExitStack() as stack:
            context = client.stream("GET", peer.url())
            entering = asyncio.create_task(stack.enter_async_context(context))
            connection = await greeted(peer)
            request = await connection.recv_request()
            connection.headers(request.stream_id, OK)
            connection.data(request.stream_id, bytes(1001))
            with pytest.raises(ResponseTooLarge):
                await (await entering).aread()
            await expect_cancel(connection, request.stream_id)
        await expect_alive(client, peer, connection)


async def test_an_answer_of_just_the_largest_size_is_taken() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        await connection.serve(lambda _: bytes(1000))

    config = patient(max_response_size=1000)
    async with scripted_peer(handler) as peer, HttpRequestClient(config) as client:
        assert len((await client.request("GET", peer.url())).body) == 1000
