"""GOAWAY, and connections that end in other ways between requests (RFC 9113 §6.8, §5.4.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from dynamo_h2 import (
    ConnectError,
    ConnectionLost,
    HttpRequestClient,
    RemoteProtocolError,
    Response,
    StreamReset,
)
from tests.behaviours import async_pieces, until
from tests.hostile.stage import (
    GOOD,
    LINUX,
    NEIGHBOUR,
    UPLOAD,
    Stage,
    expect_error,
    get,
    opening,
    post,
    upload,
    uploading,
)
from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import (
    DATA,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    OK,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    WINDOW_UPDATE,
)
from tests.peers.scripted import Connection, scripted_peer

LARGEST = 2**31 - 1
INTERNAL_ERROR = 2


async def closed(client: HttpRequestClient, count: int) -> None:
    """Wait until that many connections are gone."""
    await until(lambda: client.stats().connections_closed == count)


# Streams below the last one finish, those above go elsewhere


async def test_a_request_above_the_last_stream_is_served_by_another_connection(
    stage: Stage,
) -> None:
    outcome = await stage.attack(lambda peer, _: peer.goaway(NEIGHBOUR))
    assert outcome.response.body == GOOD
    assert len(outcome.response.attempts) == 2
    assert isinstance(outcome.neighbour, Response)
    assert outcome.neighbour.body == b"neighbour"
    assert (outcome.resets, outcome.connections) == ([], 2)


async def test_requests_up_to_the_last_stream_finish(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.goaway(stream)
        peer.respond(stream, b"finished")

    outcome = await stage.attack(attack)
    assert outcome.response.body == b"finished"
    assert isinstance(outcome.neighbour, Response)
    assert (outcome.resets, outcome.goaways, outcome.connections) == ([], [NO_ERROR], 2)


async def test_a_goaway_in_two_steps_ends_what_came_between_in_peace(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.goaway(LARGEST)
        peer.goaway(stream)
        peer.respond(stream, b"finished")

    outcome = await stage.attack(attack)
    assert outcome.response.body == b"finished"
    assert isinstance(outcome.neighbour, Response)
    assert (outcome.resets, outcome.connections) == ([], 2)


async def test_the_second_step_of_a_goaway_may_refuse(stage: Stage) -> None:
    def attack(peer: Connection, _: int) -> None:
        peer.goaway(LARGEST)
        peer.goaway(NEIGHBOUR)

    outcome = await stage.attack(attack)
    assert (outcome.response.body, len(outcome.response.attempts)) == (GOOD, 2)
    assert isinstance(outcome.neighbour, Response)
    assert (outcome.resets, outcome.connections) == ([], 2)


async def test_a_goaway_that_takes_its_word_back_is_held_to_it(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.goaway(NEIGHBOUR)
        peer.goaway(LARGEST)
        peer.respond(stream, b"after all")

    outcome = await stage.attack(attack)
    assert outcome.response.body == GOOD
    assert (outcome.resets, outcome.connections) == ([], 2)


async def test_what_arrives_for_a_refused_stream_is_ignored_and_credited(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.goaway(NEIGHBOUR)
        peer.headers(stream, [OK, (b"x-entered", b"into the table")])
        for _ in range(10):
            peer.data(stream, bytes(10_000))
        peer.rst(stream, REFUSED_STREAM)
        before = len(peer.log(WINDOW_UPDATE, 0))
        while len(peer.log(WINDOW_UPDATE, 0)) < before + 2:
            await peer.recv_until(WINDOW_UPDATE, 0)

    outcome = await stage.attack(attack, initial_connection_window=100_000)
    assert outcome.response.body == GOOD
    assert isinstance(outcome.neighbour, Response)
    assert outcome.neighbour.headers["x-neighbour"] == "unharmed"
    assert outcome.resets == []


async def test_a_goaway_with_an_error_lets_streams_finish_as_any_other(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.goaway(stream, ENHANCE_YOUR_CALM, b"too many of everything")
        peer.respond(stream, b"finished")

    outcome = await stage.attack(attack)
    assert outcome.response.body == b"finished"
    assert outcome.connections == 2


async def test_a_goaway_with_a_code_that_nobody_knows_is_one(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.goaway(stream, 0xDEADBEEF)
        peer.respond(stream, b"finished")

    outcome = await stage.attack(attack)
    assert outcome.response.body == b"finished"
    assert outcome.connections == 2


async def test_a_goaway_with_a_megabyte_of_reasons_is_not_repeated(stage: Stage) -> None:
    async def once(client: HttpRequestClient, url: str) -> Response:
        return await client.request("GET", url, body=iter([b"cannot be sent again"]))

    async def attack(peer: Connection, _: int) -> None:
        peer.goaway(NEIGHBOUR, ENHANCE_YOUR_CALM, b"because " * 131_000)

    outcome = await stage.attack(attack, call=once)
    error = outcome.failed(StreamReset)
    assert error.processed is False
    assert "because because" in str(error)
    assert len(str(error)) < 1000


async def test_a_goaway_between_requests_costs_nothing(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        peer.respond(await opening(peer), b"first")
        peer.goaway(1)

    async def twice(client: HttpRequestClient, url: str) -> Response:
        await get(client, url)
        await closed(client, 1)
        return await get(client, url)

    outcome = await stage.play(script, twice)
    assert outcome.response.body == GOOD
    assert outcome.response.attempts[0].error is None
    assert (outcome.goaways, outcome.connections) == ([NO_ERROR], 2)


async def test_a_connection_that_drains_takes_no_new_request(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await opening(peer)
        peer.goaway(stream)
        peer.headers(stream, [OK])
        await streaming.wait()
        peer.data(stream, b"finished", end_stream=True)

    streaming = asyncio.Event()

    async def call(client: HttpRequestClient, url: str) -> bytes:
        async with client.stream("GET", url) as response:
            assert (await get(client, url)).body == GOOD
            streaming.set()
            return await response.aread()

    outcome = await stage.play(script, call)
    assert outcome.result == b"finished"
    assert (len(outcome.first.log(HEADERS)), outcome.connections) == (1, 2)


# Bodies


async def test_an_upload_below_the_last_stream_goes_on(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await uploading(peer)
        peer.goaway(stream)
        peer.window_update(0, 2**20)
        peer.window_update(stream, 2**20)
        while not (await peer.recv_until(DATA, stream)).end_stream:
            pass
        peer.respond(stream, b"all of it")

    outcome = await stage.play(script, upload)
    assert outcome.response.body == b"all of it"
    assert sum(frame.length for frame in outcome.first.log(DATA)) == len(UPLOAD)


async def test_an_upload_above_the_last_stream_is_sent_again_from_its_beginning(
    stage: Stage,
) -> None:
    async def script(peer: Connection) -> None:
        await uploading(peer)
        peer.goaway(0)

    outcome = await stage.play(script, upload)
    assert (outcome.response.body, len(outcome.response.attempts)) == (GOOD, 2)
    assert (outcome.resets, outcome.connections) == ([], 2)


async def test_a_body_that_cannot_be_made_again_is_not_sent_again(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await uploading(peer)
        peer.goaway(0)

    async def once(client: HttpRequestClient, url: str) -> Response:
        return await client.request("POST", url, body=async_pieces(UPLOAD))

    outcome = await stage.play(script, once)
    error = outcome.failed(StreamReset)
    assert (error.code, error.processed) == (REFUSED_STREAM, False)
    assert outcome.connections == 2


# What cannot be known


async def test_a_refusal_after_an_interim_response_is_no_proof(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [(b":status", b"100")])
        peer.goaway(NEIGHBOUR)

    outcome = await stage.attack(attack)
    expect_error(outcome.result, StreamReset, processed=None)
    assert isinstance(outcome.neighbour, Response)


async def test_a_refusal_after_the_head_of_a_response_is_no_proof(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        peer.goaway(NEIGHBOUR)

    outcome = await stage.attack(attack)
    expect_error(outcome.result, StreamReset, processed=None)


async def test_a_peer_that_leaves_before_it_has_finished_says_nothing(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.goaway(stream)
        peer.close()

    outcome = await stage.attack(attack)
    expect_error(outcome.result, ConnectionLost, processed=None)
    expect_error(outcome.neighbour, ConnectionLost, processed=None)
    assert outcome.connections == 2


async def test_a_goaway_tells_apart_what_its_end_of_the_connection_does_not(
    stage: Stage,
) -> None:
    def attack(peer: Connection, _: int) -> None:
        peer.raw(frames.goaway(NEIGHBOUR, INTERNAL_ERROR, b"out of order"))
        peer.close()

    outcome = await stage.attack(attack)
    assert outcome.response.body == GOOD
    expect_error(outcome.neighbour, ConnectionLost, processed=None)
    assert "after GOAWAY INTERNAL_ERROR (0x2) 'out of order'" in str(outcome.neighbour)
    assert outcome.connections == 2


# Peers that never mean it


async def test_a_peer_that_always_leaves_is_not_asked_for_ever(stage: Stage) -> None:
    async def handler(peer: Connection) -> None:
        await opening(peer)
        peer.goaway(0)

    async with scripted_peer(handler) as peer, stage.client(max_retries=2) as client:
        with pytest.raises(StreamReset) as raised:
            await post(client, peer.url())
        assert (raised.value.processed, raised.value.code) == (False, REFUSED_STREAM)
        assert len(raised.value.__notes__) == 2
        assert (len(peer.connections), client.stats().retries) == (3, 2)


async def test_a_peer_that_leaves_in_its_first_flight_is_not_asked_for_ever(
    stage: Stage,
) -> None:
    async def handler(peer: Connection) -> None:
        await peer.expect_preface()
        peer.raw(frames.settings() + frames.goaway(0))
        await peer.until_left()

    async with scripted_peer(handler) as peer, stage.client(max_retries=2) as client:
        with pytest.raises((StreamReset, ConnectionLost, ConnectError)) as raised:
            await post(client, peer.url())
        assert raised.value.processed is False
        # Twice as many as attempts, where it leaves before anything was sent to it.
        assert len(peer.connections) <= 2 * 3


async def test_a_peer_that_leaves_in_its_first_flight_once_costs_nothing(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await peer.expect_preface()
        peer.raw(frames.settings() + frames.goaway(0))

    outcome = await stage.play(script, get)
    assert outcome.response.body == GOOD
    assert outcome.connections == 2


# Responses that are complete when the connection ends


async def test_a_response_before_a_connection_error_counts(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        answer = frames.headers(stream, OK) + frames.data(stream, b"whole", end_stream=True)
        peer.raw(answer + frames.ping(bytes(7)))

    outcome = await stage.attack(attack)
    assert outcome.response.body == b"whole"
    assert isinstance(outcome.neighbour, RemoteProtocolError)
    assert outcome.connections == 2


async def test_a_response_before_the_end_of_the_connection_counts(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        answer = frames.headers(stream, OK) + frames.data(stream, b"whole", end_stream=True)
        peer.raw(answer + frames.goaway(stream, PROTOCOL_ERROR))
        peer.close()

    outcome = await stage.attack(attack)
    assert outcome.response.body == b"whole"
    expect_error(outcome.neighbour, ConnectionLost, processed=None)
    assert outcome.connections == 2


async def test_a_streamed_response_before_the_end_of_the_connection_can_be_read(
    stage: Stage,
) -> None:
    async def script(peer: Connection) -> None:
        stream = await opening(peer)
        answer = frames.headers(stream, OK) + frames.data(stream, b"whole", end_stream=True)
        peer.raw(answer + frames.frame(GOAWAY, 0, 1, bytes(8)))

    async def late(client: HttpRequestClient, url: str) -> bytes:
        async with client.stream("GET", url) as response:
            await closed(client, 1)
            return await response.aread()

    outcome = await stage.play(script, late)
    assert outcome.result == b"whole"
    assert outcome.goaways == [PROTOCOL_ERROR]


async def test_a_server_that_closes_after_each_response_serves_one_after_the_other(
    stage: Stage,
) -> None:
    async def handler(peer: Connection) -> None:
        stream = await opening(peer)
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"one", end_stream=True))
        peer.close()

    async with scripted_peer(handler) as peer, stage.client() as client:
        for number in range(1, 6):
            assert (await get(client, peer.url())).body == b"one"
            await closed(client, number)
        assert len(peer.connections) == 5


@pytest.mark.skipif(not LINUX, reason="only there can a socket be asked for its end alone")
async def test_a_request_is_not_written_behind_the_end_of_its_connection(stage: Stage) -> None:
    await _leaves_behind_each_response(stage, Connection.half_close)


@pytest.mark.skipif(not LINUX, reason="only there can a socket be asked for its end alone")
async def test_a_request_is_not_written_to_a_connection_that_was_reset(stage: Stage) -> None:
    await _leaves_behind_each_response(stage, Connection.abort)


async def _leaves_behind_each_response(stage: Stage, leave: Callable[[Connection], None]) -> None:
    """One connection for each request, though there is no moment between them."""

    async def handler(peer: Connection) -> None:
        stream = await opening(peer)
        peer.raw(frames.headers(stream, OK) + frames.data(stream, b"one", end_stream=True))
        await peer.drain()
        leave(peer)
        await peer.until_left()

    async with scripted_peer(handler) as peer, stage.client(max_retries=0) as client:
        for _ in range(5):
            assert (await get(client, peer.url())).body == b"one"
        assert len(peer.connections) == 5


async def test_a_last_stream_that_cannot_be_refuses_by_its_number(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        for last in (2**31 - 1, 1001, stream + 1):
            peer.goaway(last)
        peer.respond(stream, b"below them all")

    outcome = await stage.attack(attack)
    assert outcome.response.body == b"below them all"
    assert isinstance(outcome.neighbour, Response)
    assert (outcome.goaways, outcome.resets, outcome.connections) == ([NO_ERROR], [], 2)
