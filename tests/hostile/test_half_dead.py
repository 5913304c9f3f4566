"""Peers that fall silent, dribble, or take nothing, at every point of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Unpack

import pytest

from dynamo_h2 import (
    ClientClosed,
    ConnectTimeout,
    HttpRequestClient,
    KeepAliveTimeout,
    ReadTimeout,
    RequestTimeout,
    Response,
    WriteTimeout,
)
from dynamo_h2.call import CallOptions
from tests.hostile.stage import (
    GOOD,
    UPLOAD,
    Call,
    Outcome,
    Stage,
    expect_error,
    get,
    hostile_peer,
    opening,
    upload,
    uploading,
)
from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import (
    CANCEL,
    HEADERS,
    INITIAL_WINDOW,
    NO_ERROR,
    OK,
    PING,
    RST_STREAM,
)
from tests.peers.scripted import Connection

SETTINGS_TIMEOUT = 4
SHORT = 0.15
"""A limit that is to pass, in seconds."""

Stop = Callable[[Connection], Awaitable[bytes]]
"""A script that stops somewhere, and returns what comes of it when it is too late."""


def limited(**limits: Unpack[CallOptions]) -> Call:
    """A GET with time limits of its own."""

    async def call(client: HttpRequestClient, url: str) -> Response:
        return await client.request("GET", url, **limits)

    return call


async def streamed(client: HttpRequestClient, url: str) -> bytes:
    """A GET whose body is read as it arrives, with a limit for its silences."""
    async with client.stream("GET", url, read_timeout=SHORT) as response:
        return await response.aread()


async def given_up(stage: Stage, stop: Stop, call: Call) -> Outcome:
    """The client gives the request up, and only that: the same connection serves on."""

    async def script(peer: Connection) -> None:
        rest = await stop(peer)
        assert (await peer.recv_until(RST_STREAM)).code == CANCEL
        peer.raw(rest)

    outcome = await stage.play(script, call)
    assert outcome.resets == [(1, CANCEL)]
    outcome.lives()
    return outcome


# Silence


async def test_a_peer_that_accepts_and_says_nothing_is_given_up(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await peer.expect_preface()
        await peer.until_left()

    outcome = await stage.play(script, get, connect_timeout=2 * SHORT)
    expect_error(outcome.result, ConnectTimeout, processed=None)
    assert (outcome.goaways, outcome.connections) == ([SETTINGS_TIMEOUT], 2)


async def test_a_peer_whose_settings_never_end_is_given_up(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await peer.expect_preface()
        peer.raw(frames.settings((INITIAL_WINDOW, 1))[:-1])
        await peer.until_left()

    outcome = await stage.play(script, get, connect_timeout=2 * SHORT)
    expect_error(outcome.result, ConnectTimeout, processed=None)
    assert (outcome.goaways, outcome.connections) == ([SETTINGS_TIMEOUT], 2)


async def test_a_request_that_is_never_answered_is_given_up(stage: Stage) -> None:
    async def stop(peer: Connection) -> bytes:
        await opening(peer)
        return b""

    outcome = await given_up(stage, stop, limited(timeout=SHORT))
    expect_error(outcome.result, RequestTimeout, processed=None)


async def test_an_interim_response_buys_no_time(stage: Stage) -> None:
    async def stop(peer: Connection) -> bytes:
        peer.headers(await opening(peer), [(b":status", b"100")])
        return b""

    outcome = await given_up(stage, stop, limited(timeout=SHORT))
    expect_error(outcome.result, RequestTimeout, processed=None)


async def test_a_body_that_never_begins_is_given_up(stage: Stage) -> None:
    async def stop(peer: Connection) -> bytes:
        peer.headers(await opening(peer), [OK, (b"content-length", b"1000")])
        return b""

    outcome = await given_up(stage, stop, limited(read_timeout=SHORT))
    expect_error(outcome.result, ReadTimeout, processed=None)


async def test_a_streamed_body_that_stops_is_given_up(stage: Stage) -> None:
    async def stop(peer: Connection) -> bytes:
        stream = await opening(peer)
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"so far"))
        return frames.data(stream, b"too late", end_stream=True)

    outcome = await given_up(stage, stop, streamed)
    expect_error(outcome.result, ReadTimeout, processed=None)


async def test_an_answer_that_comes_too_late_is_ignored(stage: Stage) -> None:
    async def stop(peer: Connection) -> bytes:
        stream = await opening(peer)
        return frames.headers(stream, OK) + frames.data(stream, b"late", end_stream=True)

    outcome = await given_up(stage, stop, limited(timeout=SHORT))
    expect_error(outcome.result, RequestTimeout, processed=None)


async def test_a_frame_header_that_stops_is_given_up(stage: Stage) -> None:
    async def stop(peer: Connection) -> bytes:
        answer = frames.headers(await opening(peer), OK, end_stream=True)
        peer.raw(answer[:5])
        return answer[5:]

    outcome = await given_up(stage, stop, limited(timeout=SHORT))
    expect_error(outcome.result, RequestTimeout, processed=None)


async def test_a_field_block_that_stops_is_given_up(stage: Stage) -> None:
    async def stop(peer: Connection) -> bytes:
        stream = await opening(peer)
        peer.raw(frames.headers(stream, OK, flags=0))
        return frames.continuation(stream, frames.block((b"x", b"late")))

    outcome = await given_up(stage, stop, limited(timeout=SHORT))
    expect_error(outcome.result, RequestTimeout, processed=None)


async def test_a_data_frame_that_stops_is_given_up(stage: Stage) -> None:
    async def stop(peer: Connection) -> bytes:
        stream = await opening(peer)
        answer = frames.headers(stream, OK) + frames.data(stream, bytes(1000), end_stream=True)
        peer.raw(answer[:-900])
        return answer[-900:]

    outcome = await given_up(stage, stop, limited(read_timeout=SHORT))
    expect_error(outcome.result, ReadTimeout, processed=None)


# Dribble


async def dribble(peer: Connection, data: bytes, size: int = 1) -> bytes:
    """Send a few bytes now and then until the client resets; return what was not sent."""
    reset = asyncio.create_task(peer.recv_until(RST_STREAM))
    at = 0
    while not reset.done():
        peer.raw(data[at : at + size])
        at += size
        await asyncio.wait([reset], timeout=SHORT / 20)
    assert (await reset).code == CANCEL
    return data[at:]


async def test_a_head_byte_by_byte_does_not_outlive_the_request(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        fields = [(b"x", b"y" * 50)] * 50
        answer = frames.headers(await opening(peer), OK, *fields, end_stream=True)
        peer.raw(await dribble(peer, answer))

    outcome = await stage.play(script, limited(timeout=2 * SHORT))
    expect_error(outcome.result, RequestTimeout, processed=None)
    assert outcome.resets == [(1, CANCEL)]
    outcome.lives()


async def test_a_body_byte_by_byte_does_not_outlive_the_request(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await opening(peer)
        peer.headers(stream, [OK])
        byte = frames.data(stream, b"x")
        await dribble(peer, byte * 1000, len(byte))

    outcome = await stage.play(script, limited(timeout=2 * SHORT, read_timeout=SHORT))
    expect_error(outcome.result, RequestTimeout, processed=None)
    assert outcome.resets == [(1, CANCEL)]
    outcome.lives()


async def test_a_streamed_body_may_take_its_time(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await opening(peer)
        peer.headers(stream, [OK])
        for _ in range(20):
            peer.data(stream, b"x")
            await asyncio.sleep(SHORT / 15)
        peer.data(stream, b"", end_stream=True)

    async def call(client: HttpRequestClient, url: str) -> bytes:
        async with client.stream("GET", url, timeout=SHORT) as response:
            return await response.aread()

    outcome = await stage.play(script, call)
    assert outcome.result == b"x" * 20
    outcome.quiet()


# Keep-alive


async def test_a_peer_that_does_not_answer_a_ping_is_dead(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await opening(peer)
        await peer.until_left()

    outcome = await stage.play(script, get, keep_alive_interval=SHORT, keep_alive_timeout=SHORT)
    expect_error(outcome.result, KeepAliveTimeout, processed=None)
    assert len(outcome.first.log(PING)) == 1
    assert outcome.connections == 2


async def test_a_peer_that_answers_pings_and_nothing_else_is_alive(stage: Stage) -> None:
    async def call(client: HttpRequestClient, url: str) -> Response:
        return await client.request("GET", url, timeout=3 * SHORT)

    async def script(peer: Connection) -> None:
        await opening(peer)
        while (frame := await peer.recv_frame()).kind != RST_STREAM:
            if frame.kind == PING:
                peer.ping(frame.payload, ack=True)

    outcome = await stage.play(script, call, keep_alive_interval=SHORT / 3)
    expect_error(outcome.result, RequestTimeout, processed=None)
    assert outcome.resets == [(1, CANCEL)]
    outcome.lives()


async def test_an_idle_connection_that_died_is_not_used_again(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        peer.respond(await opening(peer))
        await peer.until_left()
        left.set()

    left = asyncio.Event()

    async def call(client: HttpRequestClient, url: str) -> Response:
        await get(client, url)
        await left.wait()
        return await get(client, url)

    outcome = await stage.play(script, call, keep_alive_interval=SHORT, keep_alive_timeout=SHORT)
    assert outcome.response.body == GOOD
    assert outcome.connections == 2


# Peers that take nothing


async def test_an_upload_into_a_peer_that_does_not_read_is_given_up(stage: Stage) -> None:
    wide = 2**30
    given_up = asyncio.Event()

    async def script(peer: Connection) -> None:
        await peer.handshake((INITIAL_WINDOW, wide))
        peer.window_update(0, wide)
        await peer.recv_until(HEADERS)
        peer.freeze()
        await given_up.wait()
        peer.thaw()
        peer.forget_data = True
        await peer.recv_until(RST_STREAM)

    async def call(client: HttpRequestClient, url: str) -> object:
        try:
            return await client.request("POST", url, body=endless(), write_timeout=2 * SHORT)
        finally:
            given_up.set()

    outcome = await stage.play(script, call)
    expect_error(outcome.result, WriteTimeout, processed=None)
    assert outcome.resets == [(1, CANCEL)]
    outcome.lives()


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield UPLOAD


async def test_an_early_response_ends_an_upload_that_nobody_takes(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await uploading(peer)
        peer.respond(stream, b"enough")
        await peer.recv_until(RST_STREAM, stream)

    outcome = await stage.play(script, upload)
    assert outcome.response.body == b"enough"
    assert outcome.resets == [(1, NO_ERROR)]
    outcome.lives()


async def test_a_client_leaves_a_peer_that_does_not_read(stage: Stage) -> None:
    wide = 2**30
    left = asyncio.Event()

    async def script(peer: Connection) -> None:
        await peer.handshake((INITIAL_WINDOW, wide))
        peer.window_update(0, wide)
        await peer.recv_until(HEADERS)
        peer.freeze()
        await left.wait()

    async with hostile_peer(script) as peer:
        async with stage.client() as client:
            task = asyncio.create_task(client.request("POST", peer.url(), body=endless()))
            await asyncio.wait([task], timeout=SHORT)
        with pytest.raises(ClientClosed) as raised:
            await task
        assert raised.value.processed is None
        left.set()
