"""Peers that leave without a word, at every point of a request."""

from __future__ import annotations

import asyncio

import pytest

from dynamo_h2 import ConnectError, ConnectionLost, HttpRequestClient, Response
from dynamo_h2.transport.protocol import ClientProtocol
from tests.behaviours import stuck, turns, until
from tests.hostile.stage import (
    Call,
    Script,
    Stage,
    expect_error,
    expect_good,
    get,
    hostile_peer,
    opening,
    upload,
    uploading,
)
from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import DATA, HEADERS, INITIAL_WINDOW, OK
from tests.peers.scripted import Connection, scripted_peer
from tests.peers.tls import Certificates

WIDE = 2**30


async def test_a_peer_that_closes_before_it_answers_loses_the_request(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await opening(peer)
        peer.close()

    outcome = await stage.play(script, get)
    expect_error(outcome.result, ConnectionLost, processed=None)
    assert outcome.connections == 2


async def test_a_peer_that_sends_nothing_more_loses_the_request(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await opening(peer)
        peer.half_close()
        await peer.until_left()

    outcome = await stage.play(script, get)
    expect_error(outcome.result, ConnectionLost, processed=None)
    assert outcome.connections == 2


async def test_a_connection_that_is_reset_loses_the_request(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await opening(peer)
        peer.abort()

    outcome = await stage.play(script, get)
    expect_error(outcome.result, ConnectionLost, processed=None)
    assert outcome.connections == 2


async def test_a_body_without_a_length_is_not_whole_where_the_connection_ends(
    stage: Stage,
) -> None:
    async def script(peer: Connection) -> None:
        stream = await opening(peer)
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"all there is?"))
        peer.close()

    outcome = await stage.play(script, get)
    expect_error(outcome.result, ConnectionLost, processed=None)
    assert outcome.connections == 2


async def test_a_connection_that_ends_in_the_midst_of_a_frame_loses_the_request(
    stage: Stage,
) -> None:
    async def script(peer: Connection) -> None:
        stream = await opening(peer)
        answer = frames.headers(stream, OK) + frames.data(stream, bytes(1000), end_stream=True)
        peer.raw(answer[:-1])
        peer.half_close()
        await peer.until_left()

    outcome = await stage.play(script, get)
    expect_error(outcome.result, ConnectionLost, processed=None)
    assert outcome.connections == 2


async def test_what_arrived_before_the_connection_was_reset_can_be_read(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await opening(peer)
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"the beginning"))
        await read.wait()
        peer.abort()

    read = asyncio.Event()

    async def call(client: HttpRequestClient, url: str) -> bytes:
        async with client.stream("GET", url) as response:
            chunks = aiter(response)
            got = await anext(chunks)
            read.set()
            with pytest.raises(ConnectionLost) as raised:
                await anext(chunks)
        expect_error(raised.value, ConnectionLost, processed=None)
        return got

    outcome = await stage.play(script, call)
    assert outcome.result == b"the beginning"
    assert outcome.connections == 2


async def test_a_peer_that_leaves_in_the_midst_of_an_upload_loses_it(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await peer.recv_until(DATA, await uploading(peer))
        peer.abort()

    outcome = await stage.play(script, upload)
    expect_error(outcome.result, ConnectionLost, processed=None)
    assert outcome.connections == 2


async def test_a_whole_response_is_one_though_the_upload_was_cut(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        peer.respond(await uploading(peer), b"whole")
        peer.half_close()
        await peer.until_left()

    outcome = await stage.play(script, upload)
    assert outcome.response.body == b"whole"
    assert outcome.connections == 2


async def test_a_peer_that_always_leaves_at_once_is_not_dialled_for_ever(stage: Stage) -> None:
    async def handler(peer: Connection) -> None:
        peer.abort()

    async with scripted_peer(handler) as peer, stage.client(connect_retries=2) as client:
        with pytest.raises((ConnectError, ConnectionLost)):
            await client.request("GET", peer.url())
        assert 1 <= len(peer.connections) <= 5


async def test_a_peer_that_leaves_after_its_settings_is_not_dialled_for_ever(
    stage: Stage,
) -> None:
    async def handler(peer: Connection) -> None:
        await peer.expect_preface()
        peer.send_settings()
        peer.close()

    async with scripted_peer(handler) as peer, stage.client(max_retries=2) as client:
        with pytest.raises((ConnectError, ConnectionLost)):
            await client.request("GET", peer.url())
        assert 1 <= len(peer.connections) <= 5


# TLS


async def play_tls(stage: Stage, script: Script, call: Call, keys: Certificates) -> object:
    """Play a script over TLS; return what came of the call."""
    async with (
        hostile_peer(script, tls=keys.server_context()) as peer,
        HttpRequestClient(stage.config(), ssl_context=keys.client_context()) as client,
    ):
        try:
            return await call(client, peer.url())
        except ConnectionLost as error:
            return error
        finally:
            # A request that is written in the turn in which the peer leaves is lost with it.
            await until(lambda: client.stats().connections_closed == 1)
            await expect_good(client, peer)
            assert len(peer.connections) == 2


async def test_tls_that_ends_without_a_word_loses_the_request(
    stage: Stage, certificates: Certificates
) -> None:
    async def script(peer: Connection) -> None:
        stream = await opening(peer)
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"so far"))
        await peer.drain()
        peer.abort()

    result = await play_tls(stage, script, get, certificates)
    expect_error(result, ConnectionLost, processed=None)


async def test_tls_that_is_closed_in_the_midst_of_a_body_loses_the_request(
    stage: Stage, certificates: Certificates
) -> None:
    async def script(peer: Connection) -> None:
        stream = await opening(peer)
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"so far"))
        peer.close()

    result = await play_tls(stage, script, get, certificates)
    expect_error(result, ConnectionLost, processed=None)


async def test_a_whole_response_is_one_though_the_peer_asked_much_and_read_nothing(
    stage: Stage, certificates: Certificates
) -> None:
    held_up, over = asyncio.Event(), asyncio.Event()

    async def script(peer: Connection) -> None:
        await peer.handshake((INITIAL_WINDOW, WIDE))
        peer.window_update(0, WIDE)
        stream = (await peer.recv_until(HEADERS)).stream_id
        peer.freeze()
        await held_up.wait()
        # More than half of the answers that are kept for a peer that does not read. The first of
        # them may still find room on the way.
        while ours[0].connection.queued_control < 550:
            await ask(peer, 50)
        peer.respond(stream, b"whole")
        await peer.drain()
        await turns(2)
        peer.cut()
        await over.wait()
        peer.thaw()
        peer.forget_data = True
        await peer.until_left()

    async def ask(peer: Connection, count: int) -> None:
        due = ours[0]._counters.bytes_received + len(frames.ping()) * count
        peer.raw(frames.ping() * count)
        await until(lambda: ours[0]._counters.bytes_received >= due)

    ours: list[ClientProtocol] = []

    async def call(client: HttpRequestClient, url: str) -> Response:
        body = bytes(64 << 20)
        task = asyncio.create_task(client.request("POST", url, body=body))
        await until(lambda: client.stats().requests_sent)
        assert client._pool is not None
        ours.extend(client._pool._open)
        await stuck(client)
        held_up.set()
        try:
            return await task
        finally:
            over.set()

    result = await play_tls(stage, script, call, certificates)
    assert isinstance(result, Response)
    assert result.body == b"whole"


async def test_a_whole_response_is_one_however_tls_ends(
    stage: Stage, certificates: Certificates
) -> None:
    async def script(peer: Connection) -> None:
        peer.respond(await opening(peer), b"whole")
        await asyncio.sleep(0)
        peer.close()

    result = await play_tls(stage, script, get, certificates)
    assert isinstance(result, Response)
    assert result.body == b"whole"


async def test_a_connection_that_ends_behind_any_byte_gives_no_response_but_a_whole_one(
    stage: Stage,
) -> None:
    answer = (
        frames.headers(1, (b":status", b"103"))
        + frames.headers(1, OK, flags=0)
        + frames.continuation(1, frames.block((b"k", b"v")))
        + frames.data(1, b"some ")
        + frames.padded_data(1, b"body", 7)
        + frames.headers(1, (b"x-end", b"now"), end_stream=True)
    )

    async def handler(peer: Connection) -> None:
        await opening(peer)
        peer.raw(answer[: peer.index])
        peer.half_close()
        await peer.until_left()

    async with scripted_peer(handler) as peer, stage.client() as client:
        for _ in answer:
            with pytest.raises(ConnectionLost) as raised:
                await get(client, peer.url())
            expect_error(raised.value, ConnectionLost, processed=None)
        assert (await get(client, peer.url())).body == b"some body"
