"""SETTINGS that are wrong, odd, late, or keep requests waiting (RFC 9113 §6.5, §5.1.2)."""

from __future__ import annotations

import asyncio

from dynamo_h2 import (
    HttpRequestClient,
    PoolTimeout,
    RequestTimeout,
    Response,
)
from tests.behaviours import turns, until
from tests.hostile.stage import (
    GOOD,
    Stage,
    expect_error,
    expect_goaway,
    get,
    opening,
    post,
    upload,
    uploading,
)
from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import (
    DATA,
    ENABLE_PUSH,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    MAX_LIST,
    MAX_STREAMS,
    OK,
    PING,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS,
)
from tests.peers.scripted import Connection

CONNECT_PROTOCOL, NO_PRIORITIES = 8, 9
LEAST_FRAME = 16_384


async def refused(stage: Stage, code: int, *pairs: tuple[int, int]) -> None:
    """Settings like these end the connection, in the midst of it and at its beginning."""
    await stage.connection_error(lambda peer, _: peer.send_settings(*pairs), code)

    async def script(peer: Connection) -> None:
        await peer.expect_preface()
        await peer.recv_until(HEADERS)
        peer.send_settings(*pairs)

    expect_goaway(await stage.play(script, get), code)


# Values that are not allowed (§6.5.2)


async def test_a_server_that_allows_push_ends_the_connection(stage: Stage) -> None:
    await refused(stage, PROTOCOL_ERROR, (ENABLE_PUSH, 1))


async def test_push_that_is_neither_on_nor_off_ends_the_connection(stage: Stage) -> None:
    await refused(stage, PROTOCOL_ERROR, (ENABLE_PUSH, 2))


async def test_a_window_past_the_largest_ends_the_connection(stage: Stage) -> None:
    await refused(stage, FLOW_CONTROL_ERROR, (INITIAL_WINDOW, 2**31))


async def test_a_frame_size_below_the_least_ends_the_connection(stage: Stage) -> None:
    await refused(stage, PROTOCOL_ERROR, (MAX_FRAME, 16_383))


async def test_a_frame_size_past_the_largest_ends_the_connection(stage: Stage) -> None:
    await refused(stage, PROTOCOL_ERROR, (MAX_FRAME, 2**24))


async def test_extended_connect_that_is_neither_on_nor_off_ends_the_connection(
    stage: Stage,
) -> None:
    await refused(stage, PROTOCOL_ERROR, (CONNECT_PROTOCOL, 2))


async def test_priorities_that_are_neither_on_nor_off_end_the_connection(stage: Stage) -> None:
    await refused(stage, PROTOCOL_ERROR, (NO_PRIORITIES, 2))


async def test_priorities_that_change_later_end_the_connection(stage: Stage) -> None:
    """RFC 9218 §2.1: what the first SETTINGS say of it stands."""
    await stage.connection_error(
        lambda peer, _: peer.send_settings((NO_PRIORITIES, 0)),
        PROTOCOL_ERROR,
        settings=[(NO_PRIORITIES, 1)],
    )


async def test_priorities_that_are_given_up_later_end_the_connection(stage: Stage) -> None:
    await stage.connection_error(
        lambda peer, _: peer.send_settings((NO_PRIORITIES, 1)), PROTOCOL_ERROR
    )


async def test_a_bad_value_behind_which_a_good_one_stands_ends_the_connection(
    stage: Stage,
) -> None:
    await refused(stage, PROTOCOL_ERROR, (MAX_FRAME, 1), (MAX_FRAME, 16_384))


async def test_more_settings_than_there_are_end_the_connection(stage: Stage) -> None:
    many = [(INITIAL_WINDOW, size % 2) for size in range(33)]
    await refused(stage, ENHANCE_YOUR_CALM, *many)


# ACKs (§6.5.3)


async def test_an_ack_that_nobody_asked_for_ends_the_connection(stage: Stage) -> None:
    await stage.connection_error(lambda peer, _: peer.send_settings(ack=True), PROTOCOL_ERROR)


async def test_settings_that_are_never_acknowledged_hold_nothing_up(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await peer.expect_preface()
        peer.send_settings()
        for _ in range(2):
            stream = (await peer.recv_until(HEADERS)).stream_id
            peer.respond(stream, bytes(100_000))

    async def twice(client: HttpRequestClient, url: str) -> Response:
        await get(client, url)
        return await get(client, url)

    outcome = await stage.play(script, twice)
    assert outcome.response.body == bytes(100_000)
    outcome.quiet()


async def test_all_settings_are_acknowledged(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        for _ in range(20):
            peer.send_settings((MAX_STREAMS, 50))
        while sum(frame.ack for frame in peer.log(SETTINGS)) < 21:
            await peer.recv_until(SETTINGS)
        peer.respond(stream, b"acknowledged")

    assert (await stage.accepted(attack)).body == b"acknowledged"


# Settings that are to be followed, however odd


async def test_settings_that_nobody_knows_are_ignored(stage: Stage) -> None:
    unknown = [(number, 2**32 - 1) for number in (0, 7, 10, 0xFA, 0xFFFF)]

    def attack(peer: Connection, stream: int) -> None:
        peer.send_settings(*unknown)
        peer.respond(stream, b"unknown")

    assert (await stage.accepted(attack, settings=unknown)).body == b"unknown"


async def test_empty_settings_in_the_midst_of_a_response_change_nothing(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK) + frames.settings() + frames.data(stream, b"whole"))
        peer.raw(frames.settings() + frames.data(stream, b"", end_stream=True))

    assert (await stage.accepted(attack)).body == b"whole"


async def test_the_last_of_several_values_counts(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        peer.respond(await opening(peer, (INITIAL_WINDOW, 0), (INITIAL_WINDOW, 5)))
        stream = (await peer.recv_until(HEADERS)).stream_id
        frame = await peer.recv_until(frames.DATA, stream)
        peer.window_update(stream, 100)
        peer.respond(stream, frame.data)

    async def twice(client: HttpRequestClient, url: str) -> Response:
        await get(client, url)
        return await post(client, url)

    outcome = await stage.play(script, twice)
    assert outcome.response.body == b"paylo"


async def test_a_peer_without_a_header_table_gets_blocks_that_need_none(stage: Stage) -> None:
    await _talk_about_tables(stage, 0)


async def test_a_peer_with_a_huge_header_table_gets_blocks_that_it_can_read(
    stage: Stage,
) -> None:
    await _talk_about_tables(stage, 2**32 - 1)


async def test_a_header_table_that_changes_all_the_time_is_followed(stage: Stage) -> None:
    await _talk_about_tables(stage, 4096, 0, 64, 4096, 0)


async def _talk_about_tables(stage: Stage, *sizes: int) -> None:
    """Requests reach a peer whole, whatever it says of its decoder's table."""
    fields = {"x-same": "again", "x-request-id": "differs"}

    async def script(peer: Connection) -> None:
        peer.respond(await opening(peer))
        for size in sizes:
            peer.decoder.max_allowed_table_size = size
            peer.send_settings((HEADER_TABLE_SIZE, size))
            while sum(frame.ack for frame in peer.log(SETTINGS)) < 2:
                await peer.recv_until(SETTINGS)
            peer.received.clear()
            peer.send_settings()
            for _ in range(2):
                request = await peer.recv_request()
                assert request[b"x-same"] == b"again"
                peer.respond(request.stream_id, b"read")

    async def call(client: HttpRequestClient, url: str) -> Response:
        response = await client.request("GET", url, headers=fields)
        for _ in range(2 * len(sizes)):
            response = await client.request("GET", url, headers=fields)
            assert response.body == b"read"
        return response

    outcome = await stage.play(script, call)
    assert outcome.response.body == b"read"
    assert outcome.connections == 1


async def test_a_short_header_list_of_the_peer_is_advice(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.respond(stream, b"advice")

    assert (await stage.accepted(attack, settings=[(MAX_LIST, 1)])).body == b"advice"


# Streams at once (§5.1.2)


async def test_where_no_streams_are_allowed_requests_wait_and_nobody_dials(stage: Stage) -> None:
    forbidden, allowed = asyncio.Event(), asyncio.Event()

    async def script(peer: Connection) -> None:
        peer.respond(await opening(peer))
        await limit_streams(peer, 0)
        forbidden.set()
        await allowed.wait()
        peer.send_settings((MAX_STREAMS, 1))

    async def call(client: HttpRequestClient, url: str) -> Response:
        await get(client, url)
        await forbidden.wait()
        calls = [
            *(client.request("GET", url, pool_timeout=0.1) for _ in range(5)),
            *(client.request("GET", url, timeout=0.1) for _ in range(5)),
        ]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        for error, kind in zip(errors, [PoolTimeout] * 5 + [RequestTimeout] * 5, strict=True):
            expect_error(error, kind, processed=False)
        waiting = asyncio.create_task(get(client, url))
        await turns(10)
        allowed.set()
        return await waiting

    outcome = await stage.play(script, call)
    assert outcome.response.body == GOOD
    outcome.quiet()


async def test_a_peer_that_never_allowed_a_stream_refuses_what_was_written_ahead(
    stage: Stage,
) -> None:
    allowed = asyncio.Event()

    async def script(peer: Connection) -> None:
        await peer.expect_preface()
        stream = (await peer.recv_until(HEADERS)).stream_id
        peer.send_settings((MAX_STREAMS, 0))
        peer.rst(stream, REFUSED_STREAM)
        await allowed.wait()
        peer.send_settings((MAX_STREAMS, 1))

    async def call(client: HttpRequestClient, url: str) -> Response:
        waiting = asyncio.create_task(get(client, url))
        await until(lambda: client.stats().requests_sent)
        await until(lambda: not client.stats().streams_in_flight)
        await turns(10)
        assert client.stats().connections_opened == 1
        allowed.set()
        return await waiting

    outcome = await stage.play(script, call)
    assert outcome.response.body == GOOD
    assert outcome.connections <= 2


async def test_one_stream_at_a_time_is_one_at_a_time(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await opening(peer, (MAX_STREAMS, 1))
        for _ in range(5):
            peer.received.clear()
            peer.ping()
            while not (await peer.recv_until(PING)).ack:
                pass
            assert not peer.log(HEADERS)
            peer.respond(stream, b"%d" % stream)
            stream = (await peer.recv_request()).stream_id
        peer.respond(stream, b"%d" % stream)

    async def call(client: HttpRequestClient, url: str) -> object:
        await get(client, url)
        responses = await asyncio.gather(*(get(client, url) for _ in range(5)))
        return sorted(int(response.body) for response in responses)

    outcome = await stage.play(script, call, max_connections_per_host=1)
    assert outcome.result == [3, 5, 7, 9, 11]
    outcome.quiet()


async def test_a_limit_that_falls_below_what_is_open_ends_nothing(stage: Stage) -> None:
    limited = asyncio.Event()

    async def script(peer: Connection) -> None:
        streams = [await opening(peer)]
        streams += [(await peer.recv_request()).stream_id for _ in range(3)]
        await limit_streams(peer, 1)
        peer.received.clear()
        limited.set()
        for stream in streams:
            assert not peer.log(HEADERS)
            peer.respond(stream, b"%d" % stream)
            peer.ping()
            while not (await peer.recv_until(PING)).ack:
                pass

    async def call(client: HttpRequestClient, url: str) -> object:
        first = [asyncio.create_task(get(client, url)) for _ in range(4)]
        await limited.wait()
        late = asyncio.create_task(get(client, url))
        return [int(response.body) for response in await asyncio.gather(*first)], await late

    outcome = await stage.play(script, call, max_connections_per_host=1)
    assert isinstance(outcome.result, tuple)
    assert outcome.result[0] == [1, 3, 5, 7]
    assert outcome.result[1].body == GOOD
    outcome.quiet()


async def limit_streams(peer: Connection, limit: int) -> None:
    """Change the number of streams, and wait until the client knows."""
    peer.send_settings((MAX_STREAMS, limit))
    while not (await peer.recv_until(SETTINGS)).ack:
        pass


# What a server may say, though it says nothing (§6.5.2, RFC 8441 §3)


async def test_settings_that_do_not_concern_a_client_are_taken(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.send_settings((ENABLE_PUSH, 0), (CONNECT_PROTOCOL, 1))
        peer.respond(stream, b"as before")

    assert (await stage.accepted(attack)).body == b"as before"


async def test_frames_that_get_shorter_in_the_midst_of_an_upload_are_obeyed(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await uploading(peer, (MAX_FRAME, 65_536))
        peer.window_update(0, 2**30)
        peer.window_update(stream, 100_000)
        while not any(frame.length > LEAST_FRAME for frame in peer.log(DATA)):
            await peer.recv_until(DATA)
        peer.send_settings((MAX_FRAME, LEAST_FRAME))
        while sum(frame.ack for frame in peer.log(SETTINGS)) < 2:
            await peer.recv_until(SETTINGS)
        peer.received.clear()
        peer.window_update(stream, 2**30)
        while not (await peer.recv_until(DATA)).end_stream:
            pass
        assert max(frame.length for frame in peer.log(DATA)) == LEAST_FRAME
        peer.respond(stream, b"all of it")

    outcome = await stage.play(script, upload)
    assert outcome.response.body == b"all of it"
    outcome.quiet()
