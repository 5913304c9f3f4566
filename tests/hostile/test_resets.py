"""RST_STREAM of the peer, early, late and for any reason (RFC 9113 §5.4.2, §6.4, §8.1, §8.7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from dynamo_h2 import (
    HttpRequestClient,
    RemoteProtocolError,
    RequestTimeout,
    Response,
    StreamReset,
)
from tests.hostile.stage import (
    GOOD,
    Stage,
    expect_unharmed,
    get,
    opening,
    post,
    upload,
    uploading,
)
from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import (
    CANCEL,
    DATA,
    ENHANCE_YOUR_CALM,
    HEADERS,
    MAX_STREAMS,
    NO_ERROR,
    OK,
    PING,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
)
from tests.peers.scripted import Connection, scripted_peer

INTERNAL_ERROR, HTTP_1_1_REQUIRED = 2, 13


# Before anything of a response


async def test_a_request_that_was_cancelled_by_the_peer_is_reset(stage: Stage) -> None:
    await stage.peer_reset(lambda peer, stream: peer.rst(stream, CANCEL), CANCEL)


async def test_an_error_inside_the_peer_is_told_by_its_code(stage: Stage) -> None:
    await stage.peer_reset(lambda peer, stream: peer.rst(stream, INTERNAL_ERROR), INTERNAL_ERROR)


async def test_a_protocol_error_that_the_peer_sees_is_not_ours_to_retry(stage: Stage) -> None:
    await stage.peer_reset(lambda peer, stream: peer.rst(stream, PROTOCOL_ERROR), PROTOCOL_ERROR)


async def test_a_peer_that_is_overrun_resets_and_is_not_asked_again(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.rst(stream, ENHANCE_YOUR_CALM)

    await stage.peer_reset(attack, ENHANCE_YOUR_CALM)


async def test_a_peer_that_wants_http_1_is_not_asked_again(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.rst(stream, HTTP_1_1_REQUIRED)

    await stage.peer_reset(attack, HTTP_1_1_REQUIRED)


async def test_a_code_that_nobody_knows_is_told_as_it_is(stage: Stage) -> None:
    await stage.peer_reset(lambda peer, stream: peer.rst(stream, 0xDEADBEEF), 0xDEADBEEF)


async def test_no_error_before_the_end_is_an_error(stage: Stage) -> None:
    await stage.peer_reset(lambda peer, stream: peer.rst(stream, NO_ERROR), NO_ERROR)


async def test_a_second_reset_is_ignored(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.rst(stream, CANCEL) + frames.rst(stream, INTERNAL_ERROR))

    await stage.peer_reset(attack, CANCEL)


# REFUSED_STREAM (§8.7)


async def test_a_refused_request_is_sent_again(stage: Stage) -> None:
    outcome = await stage.attack(lambda peer, stream: peer.rst(stream, REFUSED_STREAM))
    assert (outcome.response.body, len(outcome.response.attempts)) == (GOOD, 2)
    assert isinstance(outcome.neighbour, Response)
    assert outcome.resets == []


async def test_a_peer_that_always_refuses_is_not_asked_for_ever(stage: Stage) -> None:
    asked = 0

    async def handler(peer: Connection) -> None:
        nonlocal asked
        await peer.handshake()
        while True:
            peer.rst((await peer.recv_request()).stream_id, REFUSED_STREAM)
            asked += 1

    async with scripted_peer(handler) as peer, stage.client(max_retries=2) as client:
        with pytest.raises(StreamReset) as raised:
            await post(client, peer.url())
        assert (raised.value.processed, raised.value.code) == (False, REFUSED_STREAM)
        assert asked == 3
        assert len(peer.connections) <= 3


async def test_a_refusal_after_an_interim_response_is_no_proof(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [(b":status", b"103")])
        peer.rst(stream, REFUSED_STREAM)

    await stage.peer_reset(attack, REFUSED_STREAM, processed=None)


async def test_a_refusal_after_the_head_is_no_proof(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK) + frames.rst(stream, REFUSED_STREAM))

    await stage.peer_reset(attack, REFUSED_STREAM, processed=None)


async def test_a_refusal_of_a_body_that_cannot_be_made_again_is_told(stage: Stage) -> None:
    async def once(client: HttpRequestClient, url: str) -> Response:
        return await client.request("POST", url, body=iter([b"once"]))

    def attack(peer: Connection, stream: int) -> None:
        peer.rst(stream, REFUSED_STREAM)

    await stage.peer_reset(attack, REFUSED_STREAM, processed=False, call=once)


# In the midst of a response


async def test_a_body_that_is_cut_by_a_reset_is_not_whole(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"the beginning"))
        peer.rst(stream, INTERNAL_ERROR)

    await stage.peer_reset(attack, INTERNAL_ERROR)


async def test_a_body_without_a_length_that_is_cut_by_no_error_is_not_whole(
    stage: Stage,
) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"the beginning"))
        peer.rst(stream, NO_ERROR)

    await stage.peer_reset(attack, NO_ERROR)


async def test_what_arrived_before_a_reset_can_be_read(stage: Stage) -> None:
    async def read(client: HttpRequestClient, url: str) -> bytes:
        async with client.stream("GET", url) as response:
            chunks = aiter(response)
            got = await anext(chunks)
            with pytest.raises(StreamReset) as raised:
                await anext(chunks)
        assert (raised.value.code, raised.value.processed) == (CANCEL, None)
        return got

    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"the beginning"))
        peer.rst(stream, CANCEL)

    outcome = await stage.attack(attack, call=read)
    assert outcome.result == b"the beginning"
    assert outcome.resets == []
    expect_unharmed(outcome)


# Behind the end of a response


async def test_a_reset_behind_the_end_is_ignored_whatever_its_code(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        answer = frames.headers(stream, OK) + frames.data(stream, b"whole", end_stream=True)
        peer.raw(answer + frames.rst(stream, INTERNAL_ERROR))

    assert (await stage.accepted(attack)).body == b"whole"


async def test_an_early_response_and_no_error_end_an_upload_in_peace(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await uploading(peer)
        peer.respond(stream, b"whole")
        peer.rst(stream, NO_ERROR)

    outcome = await stage.play(script, upload)
    assert outcome.response.body == b"whole"
    outcome.quiet()


async def test_an_early_response_that_wants_no_body_ends_an_upload_at_once(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        peer.respond(await uploading(peer), b"too large", status=413)

    outcome = await stage.play(script, upload)
    assert (outcome.response.status, outcome.response.body) == (413, b"too large")
    assert outcome.resets == [(1, NO_ERROR)]
    outcome.lives()


async def test_an_early_response_and_any_reset_end_an_upload_in_peace(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await uploading(peer)
        peer.respond(stream, b"whole")
        peer.rst(stream, CANCEL)

    outcome = await stage.play(script, upload)
    assert outcome.response.body == b"whole"
    outcome.quiet()


# Uploads


async def test_an_upload_that_is_reset_stops_and_its_body_is_closed(stage: Stage) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(10_000)
        finally:
            closed.set()

    async def call(client: HttpRequestClient, url: str) -> Response:
        return await client.request("POST", url, body=endless())

    async def script(peer: Connection) -> None:
        stream = await uploading(peer)
        await peer.recv_until(DATA, stream)
        peer.rst(stream, CANCEL)

    outcome = await stage.play(script, call)
    assert outcome.failed(StreamReset).code == CANCEL
    assert closed.is_set()
    outcome.quiet()


async def test_an_upload_that_is_refused_is_sent_again_from_its_beginning(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await uploading(peer)
        await peer.recv_until(DATA, stream)
        peer.rst(stream, REFUSED_STREAM)
        peer.window_update(0, 65_535)

    async def call(client: HttpRequestClient, url: str) -> Response:
        return await upload(client, url)

    outcome = await stage.play(script, call)
    assert (outcome.response.body, len(outcome.response.attempts)) == (GOOD, 2)
    assert outcome.resets == []


# One after the other


async def test_a_hundred_resets_harm_nobody_else(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.rst(stream, CANCEL)
        for _ in range(99):
            peer.rst((await peer.recv_request()).stream_id, CANCEL)

    async def call(client: HttpRequestClient, url: str) -> int:
        calls = (post(client, url) for _ in range(100))
        results = await asyncio.gather(*calls, return_exceptions=True)
        return sum(isinstance(result, StreamReset) for result in results)

    outcome = await stage.attack(attack, call=call)
    assert (outcome.result, outcome.resets) == (100, [])
    expect_unharmed(outcome)


# Resets of ours, which are not free


async def test_a_peer_that_makes_us_reset_again_and_again_is_left(stage: Stage) -> None:
    """Each malformed response costs a RST_STREAM; the connection drains before they are many."""

    async def script(peer: Connection) -> None:
        await peer.handshake()
        while True:
            request = await peer.recv_request()
            peer.headers(request.stream_id, [(b":status", b"none")])

    async def call(client: HttpRequestClient, url: str) -> int:
        results: list[object] = []
        while client.stats().connections_opened < 2:
            results += await asyncio.gather(get(client, url), return_exceptions=True)
        assert isinstance(results.pop(), Response)
        for error in results:
            assert isinstance(error, RemoteProtocolError)
            assert (error.code, error.processed) == (PROTOCOL_ERROR, None)
        return len(results)

    outcome = await stage.play(script, call, max_resets=50)
    assert isinstance(outcome.result, int)
    assert outcome.result >= 50
    assert len(outcome.resets) == outcome.result
    assert (outcome.goaways, outcome.connections) == ([NO_ERROR], 2)


async def test_a_peer_that_falls_silent_gets_no_more_requests_than_it_takes(stage: Stage) -> None:
    """They time out, but their slots stay taken: nobody knows whether the peer is there."""

    async def script(peer: Connection) -> None:
        peer.respond(await opening(peer, (MAX_STREAMS, 10)))
        peer.freeze()
        await gone.wait()
        peer.thaw()

    gone = asyncio.Event()

    async def call(client: HttpRequestClient, url: str) -> int:
        await get(client, url)
        for _ in range(5):
            calls = (client.request("GET", url, timeout=0.1) for _ in range(10))
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(error) for error in errors} == {RequestTimeout}
        sent = client.stats().requests_sent
        gone.set()
        return sent

    outcome = await stage.play(script, call, max_connections_per_host=1)
    assert outcome.result == 1 + 10


async def test_a_peer_that_answers_nothing_but_ping_goes_on_being_asked(stage: Stage) -> None:
    """A PING is answered: it is there, and whoever gives up makes room for the next."""

    async def script(peer: Connection) -> None:
        peer.respond(await opening(peer, (MAX_STREAMS, 10)))
        while True:
            frame = await peer.recv_frame()
            if frame.kind == PING and not frame.ack:
                peer.ping(frame.payload, ack=True)
            elif frame.kind == HEADERS and (b":path", b"/good") in (frame.fields or ()):
                peer.respond(frame.stream_id, GOOD)

    async def call(client: HttpRequestClient, url: str) -> int:
        await get(client, url)
        for _ in range(10):
            calls = (client.request("GET", url, timeout=0.15) for _ in range(10))
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(error) for error in errors} == {RequestTimeout}
        return client.stats().requests_sent

    outcome = await stage.play(script, call, max_connections_per_host=1)
    assert outcome.result == 101
    assert 10 <= len(outcome.first.log(PING)) <= 20
    outcome.lives()
