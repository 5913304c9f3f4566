"""Requests that the caller gives up while the peer does something else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from dynamo_h2 import HttpRequestClient, RemoteProtocolError, Response
from tests.behaviours import stuck, turns, until
from tests.hostile.stage import (
    GOOD,
    VICTIM,
    Stage,
    expect_goaway,
    expect_unharmed,
    get,
    leave,
    opening,
)
from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import (
    CANCEL,
    DATA,
    HEADERS,
    MAX_STREAMS,
    OK,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    WINDOW_UPDATE,
)
from tests.peers.scripted import Connection


class Cancelled:
    """A call that is cancelled as soon as an event is set; returns "cancelled"."""

    def __init__(self) -> None:
        self.now = asyncio.Event()

    async def __call__(self, client: HttpRequestClient, url: str) -> object:
        task = asyncio.create_task(client.request("POST", url, body=b"payload"))
        await self.now.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            return await task
        return "cancelled"


async def test_an_answer_that_crosses_a_cancel_is_ignored(stage: Stage) -> None:
    call = Cancelled()

    async def attack(peer: Connection, stream: int) -> None:
        call.now.set()
        await peer.recv_until(RST_STREAM, stream)
        peer.headers(stream, [OK, (b"x-entered", b"into the table")])
        peer.data(stream, b"too late", end_stream=True)

    outcome = await stage.attack(attack, call=call)
    assert (outcome.result, outcome.resets) == ("cancelled", [(VICTIM, CANCEL)])
    expect_unharmed(outcome)


async def test_a_reset_that_crosses_a_cancel_is_ignored(stage: Stage) -> None:
    call = Cancelled()

    async def attack(peer: Connection, stream: int) -> None:
        call.now.set()
        await peer.recv_until(RST_STREAM, stream)
        peer.rst(stream, REFUSED_STREAM)

    outcome = await stage.attack(attack, call=call)
    assert (outcome.result, outcome.resets) == ("cancelled", [(VICTIM, CANCEL)])
    expect_unharmed(outcome)


async def test_a_goaway_that_crosses_a_cancel_sends_nothing_again(stage: Stage) -> None:
    call = Cancelled()

    async def attack(peer: Connection, stream: int) -> None:
        call.now.set()
        await peer.recv_until(RST_STREAM, stream)
        peer.goaway(stream - 2)

    outcome = await stage.attack(attack, call=call)
    assert (outcome.result, outcome.resets) == ("cancelled", [(VICTIM, CANCEL)])
    assert isinstance(outcome.neighbour, Response)
    assert outcome.connections == 2


async def test_a_connection_error_that_crosses_a_cancel_is_nobodys(stage: Stage) -> None:
    call = Cancelled()

    async def attack(peer: Connection, stream: int) -> None:
        call.now.set()
        await peer.recv_until(RST_STREAM, stream)
        peer.data(0, b"nobody's")

    outcome = await stage.attack(attack, call=call)
    assert outcome.result == "cancelled"
    assert isinstance(outcome.neighbour, RemoteProtocolError)
    expect_goaway(outcome, PROTOCOL_ERROR)


async def test_a_cancel_in_the_midst_of_a_frame_leaves_the_rest_to_be_skipped(
    stage: Stage,
) -> None:
    half_sent = asyncio.Event()

    async def attack(peer: Connection, stream: int) -> None:
        frame = frames.data(stream, bytes(100_000), end_stream=True)
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"first") + frame[:50_000])
        await peer.drain()
        half_sent.set()
        await peer.recv_until(RST_STREAM, stream)
        peer.raw(frame[50_000:])

    async def call(client: HttpRequestClient, url: str) -> bytes:
        async with client.stream("GET", url) as response:
            first = await anext(aiter(response))
            await half_sent.wait()
            await turns(20)
            return first

    outcome = await stage.attack(attack, call=call)
    assert (outcome.result, outcome.resets) == (b"first", [(VICTIM, CANCEL)])
    expect_unharmed(outcome)


async def test_a_cancel_in_the_midst_of_a_block_leaves_the_rest_to_be_decoded(
    stage: Stage,
) -> None:
    call = Cancelled()

    async def attack(peer: Connection, stream: int) -> None:
        block = peer.encoder.encode([OK, (b"x-entered", b"into the table")])
        peer.frame(HEADERS, 0, stream, block[:4])
        await peer.drain()
        call.now.set()
        await peer.recv_until(RST_STREAM, stream)
        peer.raw(frames.continuation(stream, block[4:]))

    outcome = await stage.attack(attack, call=call)
    assert (outcome.result, outcome.resets) == ("cancelled", [(VICTIM, CANCEL)])
    expect_unharmed(outcome)


async def test_a_cancelled_upload_gives_its_place_and_its_body_back(stage: Stage) -> None:
    closed = asyncio.Event()
    cancel = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(10_000)
        finally:
            closed.set()

    async def attack(peer: Connection, stream: int) -> None:
        stream += 2
        while sum(frame.length for frame in peer.log(DATA, stream)) < 65_535:
            await peer.recv_until(DATA, stream)
        cancel.set()
        await peer.recv_until(RST_STREAM, stream)
        peer.respond(VICTIM, b"beside it")

    async def call(client: HttpRequestClient, url: str) -> Response:
        beside = asyncio.create_task(get(client, url))
        await until(lambda: client.stats().streams_in_flight == 2)
        task = asyncio.create_task(client.request("POST", url, body=endless()))
        await cancel.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await beside

    outcome = await stage.attack(attack, call=call)
    assert outcome.response.body == b"beside it"
    assert closed.is_set()
    assert outcome.resets == [(VICTIM + 2, CANCEL)]
    expect_unharmed(outcome)


async def test_a_cancel_while_no_stream_is_allowed_leaves_the_place_in_line(stage: Stage) -> None:
    forbidden = asyncio.Event()
    allow = asyncio.Event()

    async def script(peer: Connection) -> None:
        peer.respond(await opening(peer))
        peer.send_settings((MAX_STREAMS, 0))
        while not (await peer.recv_until(frames.SETTINGS)).ack:
            pass
        forbidden.set()
        await allow.wait()
        peer.send_settings((MAX_STREAMS, 1))

    async def call(client: HttpRequestClient, url: str) -> Response:
        await get(client, url)
        await forbidden.wait()
        first, second = (asyncio.create_task(get(client, url)) for _ in range(2))
        await turns(5)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        allow.set()
        return await second

    outcome = await stage.play(script, call)
    assert outcome.response.body == GOOD
    outcome.quiet()


async def test_a_cancel_before_the_peers_settings_resets_what_was_written(stage: Stage) -> None:
    call = Cancelled()

    async def script(peer: Connection) -> None:
        await peer.expect_preface()
        stream = (await peer.recv_until(HEADERS)).stream_id
        call.now.set()
        await peer.recv_until(RST_STREAM, stream)
        peer.send_settings()
        peer.headers(stream, [OK], end_stream=True)

    outcome = await stage.play(script, call)
    assert (outcome.result, outcome.resets) == ("cancelled", [(1, CANCEL)])
    outcome.lives()


async def test_a_response_that_is_left_takes_no_more_than_it_was_granted(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        await peer.recv_until(RST_STREAM, stream)
        granted = len(peer.log(WINDOW_UPDATE, stream))
        for _ in range(40):
            peer.data(stream, bytes(10_000))
            await peer.drain()
        assert len(peer.log(WINDOW_UPDATE, stream)) == granted

    outcome = await stage.attack(attack, call=leave)
    assert not outcome.first.log(WINDOW_UPDATE, VICTIM)
    assert outcome.resets == [(VICTIM, CANCEL)]
    expect_unharmed(outcome)


async def test_hundreds_of_cancels_that_cross_their_answers_leave_the_table_right(
    stage: Stage,
) -> None:
    count = 300

    async def attack(peer: Connection, stream: int) -> None:
        head = [OK, (b"x-entered", b"into the table")]
        late = [stream]
        peer.headers(stream, head)
        while len(late) < count:
            request = await peer.recv_request()
            peer.headers(request.stream_id, head)
            late.append(request.stream_id)
        while len(peer.log(RST_STREAM)) < count:
            await peer.recv_until(RST_STREAM)
        for each in late:
            peer.data(each, bytes(100))
            peer.headers(each, [(b"x-end-%d" % each, b"also entered")], end_stream=True)

    async def call(client: HttpRequestClient, url: str) -> int:
        return sum(await asyncio.gather(*(leave(client, url) for _ in range(count))))

    outcome = await stage.attack(attack, call=call, max_resets=1000)
    assert outcome.result == 200 * count
    assert {code for _, code in outcome.resets} == {CANCEL}
    expect_unharmed(outcome)


async def test_a_cancel_of_what_a_stuck_peer_does_not_take_returns_at_once(stage: Stage) -> None:
    frozen, cancelled = asyncio.Event(), asyncio.Event()

    async def script(peer: Connection) -> None:
        stream = await opening(peer, (frames.INITIAL_WINDOW, 2**30))
        peer.window_update(0, 2**30)
        peer.respond(stream)
        await peer.recv_until(HEADERS)
        peer.freeze()
        frozen.set()
        await cancelled.wait()
        peer.thaw()
        peer.forget_data = True
        await peer.recv_until(RST_STREAM)

    async def call(client: HttpRequestClient, url: str) -> str:
        await get(client, url)
        task = asyncio.create_task(client.request("POST", url, body=_noise()))
        await frozen.wait()
        await stuck(client)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled.set()
        return "cancelled"

    outcome = await stage.play(script, call)
    assert (outcome.result, outcome.resets) == ("cancelled", [(3, CANCEL)])
    outcome.lives()


async def _noise() -> AsyncIterator[bytes]:
    while True:
        yield bytes(100_000)
