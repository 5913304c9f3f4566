"""Hostile peers with many requests in flight, or in line behind what the peer does not take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from dynamo_h2 import (
    ConnectionLost,
    HttpRequestClient,
    KeepAliveTimeout,
    RemoteProtocolError,
    RequestTimeout,
    Response,
    TransportError,
)
from tests.behaviours import stuck, until
from tests.hostile.stage import (
    GOOD,
    MEMORY,
    UPLOAD,
    Outcome,
    Stage,
    expect_good,
    get,
    hostile_peer,
)
from tests.http2.frame_factory import (
    DATA,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    MAX_STREAMS,
    PING,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS,
)
from tests.peers.scripted import Connection, scripted_peer

WIDE = 2**30
MANY = 500


async def crowd(client: HttpRequestClient, url: str) -> list[object]:
    """Many calls at once; returns what came of each, in the order of their streams."""
    calls = (get(client, url) for _ in range(MANY))
    return list(await asyncio.gather(*calls, return_exceptions=True))


async def gather(peer: Connection) -> list[int]:
    """Take the whole crowd; return its streams."""
    await peer.handshake((MAX_STREAMS, MANY))
    return [(await peer.recv_request()).stream_id for _ in range(MANY)]


def results(outcome: Outcome) -> list[object]:
    assert isinstance(outcome.result, list)
    return outcome.result


# In flight


async def test_a_connection_error_reaches_each_request_by_itself(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await gather(peer)
        peer.data(0, b"nobody's")

    outcome = await stage.play(script, crowd)
    errors = [error for error in results(outcome) if isinstance(error, RemoteProtocolError)]
    assert {error.stream_id for error in errors} == set(range(1, 2 * MANY, 2))
    assert {(error.code, error.processed) for error in errors} == {(PROTOCOL_ERROR, None)}
    assert len({id(error) for error in errors}) == MANY
    assert (outcome.goaways, outcome.connections) == ([PROTOCOL_ERROR], 2)


async def test_a_goaway_in_the_midst_of_a_crowd_divides_it(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        streams = await gather(peer)
        middle = streams[MANY // 2 - 1]
        peer.goaway(middle)
        for stream in streams[: MANY // 2]:
            peer.respond(stream, b"here")

    outcome = await stage.play(script, crowd)
    bodies = [response.body for response in results(outcome) if isinstance(response, Response)]
    assert sorted(bodies) == [GOOD] * (MANY // 2) + [b"here"] * (MANY // 2)
    assert outcome.resets == []
    # Those whose connection was not ready took a hundred with them, the others filled them up.
    assert 2 <= outcome.connections <= 4


async def test_settings_that_move_every_window_of_a_crowd_are_bounded(stage: Stage) -> None:
    pairs = [(INITIAL_WINDOW, 65_535 + number % 2) for number in range(32)]

    async def script(peer: Connection) -> None:
        streams = await gather(peer)
        for _ in range(90):
            peer.send_settings(*pairs)
            while not (await peer.recv_until(SETTINGS)).ack:
                pass
        for stream in streams:
            peer.respond(stream, b"here")

    outcome = await stage.play(script, crowd)
    bodies = {response.body for response in results(outcome) if isinstance(response, Response)}
    assert bodies == {b"here"}
    outcome.quiet()


async def test_a_peer_that_allows_few_streams_refuses_what_was_written_ahead(
    stage: Stage,
) -> None:
    few = 10

    async def handler(peer: Connection) -> None:
        """Refuse what is over the limit, as servers do, and answer the others when asked again."""
        await peer.handshake((MAX_STREAMS, few))
        taken: list[int] = []
        while True:
            frame = await peer.recv_frame()
            if frame.kind == PING:
                peer.ping(frame.payload, ack=True)
            if frame.kind != HEADERS:
                continue
            if len(taken) < few:
                taken.append(frame.stream_id)
                asyncio.get_running_loop().call_soon(answer, peer, taken, frame.stream_id)
            else:
                peer.rst(frame.stream_id, REFUSED_STREAM)

    def answer(peer: Connection, taken: list[int], stream: int) -> None:
        taken.remove(stream)
        peer.respond(stream, GOOD)

    async with scripted_peer(handler) as peer, stage.client() as client:
        calls = (get(client, peer.url()) for _ in range(100))
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(result, Response), repr(result)


async def test_a_frame_size_that_falls_is_obeyed_in_the_midst_of_an_upload(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await peer.handshake((MAX_FRAME, 100_000), (INITIAL_WINDOW, WIDE))
        await peer.recv_until(HEADERS)
        peer.window_update(0, 50_000)
        sent = 0
        while sent < 65_535 + 50_000:
            sent += (await peer.recv_until(DATA)).length
        peer.send_settings((MAX_FRAME, 16_384))
        peer.window_update(0, WIDE)
        while not (frame := await peer.recv_until(DATA)).end_stream:
            assert frame.length <= 16_384
        peer.respond(1, b"obeyed")

    async def call(client: HttpRequestClient, url: str) -> Response:
        return await client.request("POST", url, body=UPLOAD)

    outcome = await stage.play(script, call)
    assert outcome.response.body == b"obeyed"
    outcome.quiet()


async def test_time_outs_behind_a_peer_that_sends_and_never_reads_do_not_pile_up(
    stage: Stage,
) -> None:
    """Each would leave a head and a reset in the queue; it keeps its slot as long as it waits."""
    stage.memory = 2 * MEMORY  # fifty large heads in several copies, of which asyncio keeps some

    async def script(peer: Connection) -> None:
        peer.narrow()
        await peer.handshake((MAX_STREAMS, 50))
        peer.freeze()
        while client_is_there:
            peer.ping()
            await asyncio.sleep(0.01)
        peer.abort()

    client_is_there = True

    async def call(client: HttpRequestClient, url: str) -> int:
        nonlocal client_is_there
        large = {"x-large": "x" * 30_000}
        await until(lambda: client.stats().connections_opened)
        for _ in range(10):
            calls = (client.request("GET", url, headers=large, timeout=0.02) for _ in range(50))
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(error) for error in errors} <= {RequestTimeout}
        client_is_there = False
        await until(lambda: client.stats().connections_closed)
        return client.stats().requests_sent

    async def greet_and_call(client: HttpRequestClient, url: str) -> int:
        return (await asyncio.gather(call(client, url), get_in_vain(client, url)))[0]

    async def get_in_vain(client: HttpRequestClient, url: str) -> None:
        with pytest.raises(RequestTimeout):
            await client.request("GET", url, timeout=0.1)

    outcome = await stage.play(
        script, greet_and_call, max_connections_per_host=1, max_resets=100_000
    )
    assert isinstance(outcome.result, int), repr(outcome.result)
    assert outcome.result < 300


# In line behind an upload that the peer does not take


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield UPLOAD


async def unwritten(
    stage: Stage,
    then: Callable[[Connection, asyncio.Event], Awaitable[None]],
    kind: type[TransportError],
    quiet: float = 0.01,
    **config: object,
) -> None:
    """Requests that were never written are served elsewhere when the connection ends.

    Args:
        stage: Where it is played.
        then: What the peer does to the connection; the event tells that the client has noticed.
        kind: How the upload before them fails.
        quiet: How long the kernel takes nothing before they are made, in seconds.
        config: Fields of the client's configuration.
    """
    frozen, queued, noticed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def script(peer: Connection) -> None:
        peer.narrow()
        await peer.handshake((INITIAL_WINDOW, WIDE))
        peer.window_update(0, WIDE)
        await peer.recv_until(HEADERS)
        peer.freeze()
        frozen.set()
        await queued.wait()
        await then(peer, noticed)

    async with hostile_peer(script) as peer, stage.client(**config) as client:
        upload = client.request("POST", peer.url(), body=endless(), write_timeout=None)
        uploading = asyncio.create_task(upload)
        uploading.add_done_callback(lambda _: noticed.set())
        await frozen.wait()
        await stuck(client, quiet)
        waiting = [asyncio.create_task(get(client, peer.url())) for _ in range(5)]
        await until(lambda: client.stats().requests_sent == 6)
        queued.set()
        for response in await asyncio.gather(*waiting):
            assert (response.body, len(response.attempts)) == (GOOD, 2)
        (error,) = await asyncio.gather(uploading, return_exceptions=True)
        assert type(error) is kind, repr(error)
        assert error.processed is None
        await expect_good(client, peer)
        assert len(peer.connections) == 2


async def test_requests_behind_a_connection_error_are_served_elsewhere(stage: Stage) -> None:
    async def then(peer: Connection, noticed: asyncio.Event) -> None:
        peer.data(0, b"nobody's")
        await noticed.wait()
        peer.thaw()
        peer.forget_data = True

    await unwritten(stage, then, RemoteProtocolError)


async def test_requests_behind_a_lost_connection_are_served_elsewhere(stage: Stage) -> None:
    async def then(peer: Connection, _: asyncio.Event) -> None:
        peer.abort()

    await unwritten(stage, then, ConnectionLost)


async def test_requests_behind_a_dead_peer_are_served_elsewhere(stage: Stage) -> None:
    async def then(_: Connection, noticed: asyncio.Event) -> None:
        await noticed.wait()

    # A window that is too small for a segment is filled once TCP probes it, after 0.2 s: only then
    # it is sure that nothing more is taken while the time of the peer runs out.
    times = {"keep_alive_interval": 1.0, "keep_alive_timeout": 0.2, "write_timeout": 1.5}
    await unwritten(stage, then, KeepAliveTimeout, quiet=0.4, **times)
