"""Uploads that outlive their answer, and a thousand cancels."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from dynamo_h2 import HttpRequestClient, TransportError
from tests.behaviours import (
    async_pieces,
    expect_alive,
    expect_cancel,
    greeted,
    noise,
    patient,
    pieces,
    shake,
)
from tests.http2.frame_factory import (
    CANCEL,
    DATA,
    HEADERS,
    NO_ERROR,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from tests.peers.scripted import Connection, Frame, scripted_peer

OK = [(b":status", b"200")]
BIG = noise(300_000)


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
    config = patient(initial_connection_window=1_000_000, max_resets=10_000)
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
