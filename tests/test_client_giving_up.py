"""Requests that end before their time: the peer hears of it at once, the connection lives on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from dynamo_h2 import (
    HttpRequestClient,
    ReadTimeout,
    RequestTimeout,
    ResponseTooLarge,
    TransportError,
    WriteTimeout,
)
from tests.behaviours import async_pieces, greeted, noise, patient, pieces, shake
from tests.http2.frame_factory import (
    CANCEL,
    DATA,
    HEADERS,
    NO_ERROR,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from tests.peers.scripted import Connection, Frame, ScriptedPeer, scripted_peer

OK = [(b":status", b"200")]
BIG = noise(300_000)


class OwnError(Exception):
    """What a caller's own code raises."""


async def expect_cancel(connection: Connection, stream_id: int) -> None:
    """Wait for the RST_STREAM of a stream: nothing else has to happen first."""
    reset = await connection.recv_until(RST_STREAM, stream_id)
    assert reset.code == CANCEL


async def answer_next(connection: Connection) -> None:
    request = await connection.recv_request()
    connection.respond(request.stream_id, b"next")


async def expect_alive(
    client: HttpRequestClient, peer: ScriptedPeer, connection: Connection
) -> None:
    """The same connection carries the next request, and nothing is left of the ones before."""
    response, _ = await asyncio.gather(client.request("GET", peer.url()), answer_next(connection))
    assert response.body == b"next"
    stats = client.stats()
    assert (stats.streams_in_flight, stats.connections_opened) == (0, 1)


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


@pytest.mark.parametrize("answered", [False, True], ids=["before the head", "after the head"])
async def test_cancelling_a_request_resets_its_stream(answered: bool) -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        task = asyncio.create_task(client.request("POST", peer.url(), body=b"payload"))
        connection = await greeted(peer)
        request = await connection.recv_request()
        if answered:
            connection.headers(request.stream_id, OK)
            connection.ping()
            await connection.recv_until(PING)
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
        task = asyncio.create_task(client.request("GET", peer.url(), timeout=0.05))
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
        await asyncio.sleep(0.2)
        yield b"two"

    async def handler(connection: Connection) -> None:
        await connection.handshake()
        await connection.serve(lambda request: bytes(request.body))

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        url = peer.url()
        response = await client.request("POST", url, body=slow(), write_timeout=0.05)
        assert response.body == b"onetwo"
        # Nor does the time for the head of a streamed response run before the body is out.
        async with client.stream("POST", url, body=slow(), timeout=0.05) as streamed:
            assert await streamed.aread() == b"onetwo"


async def test_a_response_that_nobody_reads_does_not_run_out_of_time() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        context = client.stream("GET", peer.url(), timeout=0.05, read_timeout=0.05)
        entering = asyncio.create_task(context.__aenter__())
        connection = await greeted(peer)
        request = await connection.recv_request()
        connection.headers(request.stream_id, OK)
        response = await entering
        await asyncio.sleep(0.2)
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


# A response that is complete before the body is


async def test_a_reset_after_a_complete_answer_is_a_success() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        while True:
            head = await connection.recv_until(HEADERS)
            connection.respond(head.stream_id, b"enough")
            connection.rst(head.stream_id, NO_ERROR)

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        response = await client.request("POST", peer.url(), body=BIG)
        assert response.body == b"enough"
        async with client.stream("POST", peer.url(), body=async_pieces(BIG)) as streamed:
            assert await streamed.aread() == b"enough"
        assert (client.stats().errors, client.stats().connections_opened) == (0, 1)


async def test_a_body_goes_on_after_a_complete_answer_while_the_peer_takes_it() -> None:
    async def handler(connection: Connection) -> None:
        await connection.handshake()
        head = await connection.recv_until(HEADERS)
        connection.respond(head.stream_id, b"early")
        connection.window_update(0, len(BIG))
        connection.window_update(head.stream_id, len(BIG))
        frame = await connection.recv_until(DATA)
        while not frame.end_stream:
            frame = await connection.recv_until(DATA)
        assert b"".join(frame.data for frame in connection.log(DATA)) == BIG

    async with scripted_peer(handler) as peer, HttpRequestClient(patient()) as client:
        response = await client.request("POST", peer.url(), body=pieces(BIG, 1000))
        assert response.body == b"early"
        await peer.finished()


async def test_a_body_that_nobody_takes_after_a_complete_answer_is_given_up() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        task = asyncio.create_task(client.request("POST", peer.url(), body=BIG))
        connection = await greeted(peer)
        head = await connection.recv_until(HEADERS)
        connection.respond(head.stream_id, b"enough")
        reset = await connection.recv_until(RST_STREAM, head.stream_id)
        assert reset.code == NO_ERROR
        assert (await task).body == b"enough"
        connection.window_update(0, 65_535)
        await expect_alive(client, peer, connection)


# Many of them


class Moody:
    """A peer that answers a request at once, in part, or not at all, and returns all credit."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.sent = 0
        self.gone: set[int] = set()

    async def __call__(self, connection: Connection) -> None:
        connection.forget_data = True
        await connection.handshake()
        while True:
            frame = await connection.recv_frame()
            if frame.kind == RST_STREAM:
                self.gone.add(frame.stream_id)
            elif frame.kind == DATA and frame.length:
                connection.window_update(0, frame.length)
                if not frame.end_stream and frame.stream_id not in self.gone:
                    connection.window_update(frame.stream_id, frame.length)
            elif frame.kind == HEADERS:
                self.answer(connection, frame)

    def answer(self, connection: Connection, head: Frame) -> None:
        path = dict(head.fields or ())[b":path"]
        mood = 3 if path == b"/whole" else self.random.randrange(4)
        body = bytes(self.random.randrange(1, 20_000))
        if mood == 1:
            connection.headers(head.stream_id, OK)
        elif mood == 2:
            connection.headers(head.stream_id, OK)
            connection.data(head.stream_id, body)
            self.sent += len(body)
        elif mood == 3:
            connection.respond(head.stream_id, body)
            self.sent += len(body)


async def test_a_thousand_cancels_at_random_moments_leave_the_connection_whole() -> None:
    moody, rng = Moody(7), random.Random(8)
    config = patient(initial_connection_window=1_000_000)
    async with scripted_peer(moody) as peer, HttpRequestClient(config) as client:
        await client.request("GET", peer.url("/whole"))
        connection = await peer.connection()

        async def give_up() -> None:
            body: list[Callable[[], object]] = [
                lambda: None,
                lambda: b"payload",
                lambda: bytes(rng.randrange(200_000)),
                lambda: async_pieces(bytes(rng.randrange(200_000)), 5000),
            ]
            chosen = rng.choice(body)()
            task = asyncio.create_task(client.request("POST", peer.url(), body=chosen))  # type: ignore[arg-type]
            await asyncio.sleep(rng.random() * 0.005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        for _ in range(20):
            await asyncio.gather(*(give_up() for _ in range(50)))
        assert client.stats().streams_in_flight == 0
        for _ in range(10):
            assert (await client.request("GET", peer.url("/whole"))).status == 200

        # All that was sent either way is credited again, but for what is not yet worth a frame.
        settings = connection.log(SETTINGS)[0].settings
        assert settings
        credit = sum(frame.increment for frame in connection.log(WINDOW_UPDATE, 0))
        raised = 1_000_000 - 65_535
        assert 0 <= moody.sent - (credit - raised) < 1_000_000 // 4
        resets = connection.log(RST_STREAM)
        assert len(resets) > 100
        assert {reset.code for reset in resets} == {CANCEL}
        assert (client.stats().connections_opened, client.stats().errors) == (1, 0)
        assert len(peer.connections) == 1


async def test_the_send_window_is_whole_after_uploads_that_were_cancelled() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        connection = None
        for _ in range(20):
            task = asyncio.create_task(client.request("POST", peer.url(), body=BIG))
            connection = await greeted(peer)
            head = await connection.recv_until(HEADERS)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await expect_cancel(connection, head.stream_id)
            arrived = sum(frame.length for frame in connection.log(DATA, head.stream_id))
            if arrived:
                connection.window_update(0, arrived)
        assert connection is not None
        task = asyncio.create_task(client.request("POST", peer.url(), body=noise(65_535)))
        frame = await connection.recv_until(DATA)
        while not frame.end_stream:
            frame = await connection.recv_until(DATA, frame.stream_id)
        assert sum(f.length for f in connection.log(DATA, frame.stream_id)) == 65_535
        connection.respond(frame.stream_id, b"whole")
        assert (await task).body == b"whole"


async def test_a_cancelled_request_is_no_error_of_the_transport() -> None:
    async with scripted_peer(shake) as peer, HttpRequestClient(patient()) as client:
        task = asyncio.create_task(client.request("GET", peer.url()))
        connection = await greeted(peer)
        await connection.recv_request()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        assert not isinstance(raised.value, TransportError)
        assert (client.stats().errors, client.stats().responses) == (0, 0)
