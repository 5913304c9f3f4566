"""Peers that send far too much of what costs them nothing (RFC 9113 §10.5)."""

from __future__ import annotations

from dynamo_h2 import HttpRequestClient, RemoteProtocolError, Response
from tests.hostile.stage import VICTIM, Stage, expect_goaway, expect_unharmed, leave
from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    INITIAL_WINDOW,
    MAX_STREAMS,
    OK,
    PADDED,
    PING,
    PRIORITY,
    RST_STREAM,
)
from tests.peers.scripted import Connection

PIECE = 32_768
"""How much is sent before the client has to have read it, in bytes."""


async def pour(peer: Connection, frame: bytes, count: int) -> None:
    """Send a frame again and again, no faster than the client takes it."""
    at_once = max(1, PIECE // len(frame))
    for start in range(0, count, at_once):
        peer.raw(frame * min(at_once, count - start))
        await peer.drain()
        peer.ping(b"take it?")
        while (await peer.recv_until(PING)).payload != b"take it?":
            pass


async def refused(stage: Stage, frame: bytes, count: int) -> None:
    """So many frames like this within a moment cost the connection."""

    async def attack(peer: Connection, stream: int) -> None:
        await pour(peer, frame, count)

    await stage.connection_error(attack, ENHANCE_YOUR_CALM)


async def borne(stage: Stage, frame: bytes, count: int) -> None:
    """So many frames like this are borne."""

    async def attack(peer: Connection, stream: int) -> None:
        await pour(peer, frame, count)
        peer.respond(stream, b"borne")

    assert (await stage.accepted(attack)).body == b"borne"


# Frames that say nothing


async def test_a_flood_of_ping_ends_the_connection(stage: Stage) -> None:
    await refused(stage, frames.ping(), 2_500)


async def test_a_burst_of_ping_is_answered(stage: Stage) -> None:
    await borne(stage, frames.ping(), 500)


async def test_a_flood_of_ping_that_is_not_read_is_not_kept(stage: Stage) -> None:
    async def attack(peer: Connection, _: int) -> None:
        peer.freeze()
        peer.raw(frames.ping() * 5_000)
        await peer.drain()
        peer.thaw()

    await stage.connection_error(attack, ENHANCE_YOUR_CALM)


async def test_a_flood_of_answers_to_nothing_ends_the_connection(stage: Stage) -> None:
    await refused(stage, frames.ping(b"whatever", ack=True), 25_000)


async def test_a_flood_of_settings_ends_the_connection(stage: Stage) -> None:
    await refused(stage, frames.settings(), 500)


async def test_a_flood_of_settings_that_move_every_window_ends_the_connection(
    stage: Stage,
) -> None:
    pairs = [(INITIAL_WINDOW, 65_535 + number % 2) for number in range(32)]
    await refused(stage, frames.settings(*pairs), 500)


async def test_a_flood_of_settings_that_change_the_streams_ends_the_connection(
    stage: Stage,
) -> None:
    await refused(stage, frames.settings((MAX_STREAMS, 0)) + frames.settings((MAX_STREAMS, 9)), 300)


async def test_a_flood_of_priority_ends_the_connection(stage: Stage) -> None:
    await refused(stage, frames.frame(PRIORITY, 0, VICTIM, bytes(5)), 25_000)


async def test_a_flood_of_unknown_frames_ends_the_connection(stage: Stage) -> None:
    await refused(stage, frames.frame(0xFA, 0, 0, b"x"), 25_000)


async def test_unknown_frames_of_a_megabyte_are_not_kept(stage: Stage) -> None:
    await borne(stage, frames.frame(0xFA, 0, 0, bytes(1_048_576)), 40)


async def test_a_flood_of_goaway_ends_the_connection(stage: Stage) -> None:
    await refused(stage, frames.goaway(VICTIM), 500)


async def test_a_flood_of_credit_is_borne_in_bounded_time(stage: Stage) -> None:
    await borne(stage, frames.window_update(VICTIM, 1) + frames.window_update(0, 1), 20_000)


async def test_a_flood_of_credit_for_a_stream_that_is_gone_is_borne(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.respond(stream, b"gone")
        await pour(peer, frames.window_update(stream, 1), 20_000)

    assert (await stage.accepted(attack)).body == b"gone"


async def test_a_flood_of_resets_of_a_stream_that_is_gone_is_borne(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.respond(stream, b"gone")
        await pour(peer, frames.rst(stream), 20_000)

    assert (await stage.accepted(attack)).body == b"gone"


# Responses that never come to an end


async def test_a_flood_of_empty_data_ends_the_connection(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        await pour(peer, frames.data(stream), 2_500)

    await stage.connection_error(attack, ENHANCE_YOUR_CALM)


async def test_a_flood_of_data_with_nothing_but_padding_ends_the_connection(
    stage: Stage,
) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        await pour(peer, frames.frame(DATA, PADDED, stream, b"\x01\0"), 2_500)

    await stage.connection_error(attack, ENHANCE_YOUR_CALM)


async def test_a_flood_of_interim_responses_ends_its_stream(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        await pour(peer, frames.headers(stream, (b":status", b"103")), 500)

    await stage.stream_error(attack, ENHANCE_YOUR_CALM)


async def test_some_interim_responses_are_borne(stage: Stage) -> None:
    await borne(stage, frames.headers(VICTIM, (b":status", b"102")), 100)


async def test_large_interim_responses_are_read_in_bounded_time(stage: Stage) -> None:
    fields = [(b"x-%d" % number, b"") for number in range(500)]

    async def attack(peer: Connection, stream: int) -> None:
        await pour(peer, frames.headers(stream, (b":status", b"103"), *fields), 102)

    await stage.stream_error(attack, ENHANCE_YOUR_CALM)


async def test_a_body_of_tiny_frames_is_kept_in_little_more_than_its_size(stage: Stage) -> None:
    count, stage.memory = 170_000, 8 * 1024 * 1024

    async def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        await pour(peer, frames.data(stream, b"ab"), count)
        peer.data(stream, b"", end_stream=True)

    response = await stage.accepted(attack)
    assert response.body == b"ab" * count


async def test_a_body_of_small_frames_between_large_ones_keeps_only_its_own(stage: Stage) -> None:
    junk = frames.frame(0xFA, 0, 0, bytes(250_000))

    async def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        for _ in range(150):
            await pour(peer, frames.data(stream, bytes(5_000)) + junk, 1)
        peer.data(stream, b"", end_stream=True)

    response = await stage.accepted(attack)
    assert response.body == bytes(150 * 5_000)


# Field blocks


async def test_a_block_of_endless_continuations_ends_the_connection(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.frame(HEADERS, 0, stream)
        for _ in range(16):
            peer.raw(frames.continuation(stream, bytes(16_000), end=False))
            await peer.drain()

    await stage.connection_error(attack, ENHANCE_YOUR_CALM)


async def test_a_block_of_empty_continuations_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(HEADERS, 0, stream)
        peer.raw(frames.continuation(stream, b"", end=False) * 1_000)

    await stage.connection_error(attack, ENHANCE_YOUR_CALM)


async def test_a_flood_of_blocks_for_a_stream_that_is_gone_is_borne(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        await peer.recv_until(RST_STREAM, stream)
        await pour(peer, frames.headers(stream, OK, (b"x", b"y")), 5_000)

    outcome = await stage.attack(attack, call=leave)
    assert outcome.resets == [(VICTIM, CANCEL)]
    expect_unharmed(outcome)


async def test_a_flood_of_data_for_a_stream_that_is_gone_is_borne_and_credited(
    stage: Stage,
) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        await peer.recv_until(RST_STREAM, stream)
        await pour(peer, frames.data(stream, bytes(10)), 20_000)

    outcome = await stage.attack(attack, call=leave, initial_connection_window=65_536)
    assert outcome.resets == [(VICTIM, CANCEL)]
    expect_unharmed(outcome)


async def test_a_flood_of_fields_that_enter_the_table_stays_within_it(stage: Stage) -> None:
    field = b"\x40\x04x-%02d\x7f\xe9\x06" + b"v" * 1_000  # a literal that is indexed

    async def script(peer: Connection) -> None:
        await peer.handshake()
        for _ in range(300):
            block = b"\x88" + b"".join(field % number for number in range(50))
            stream = (await peer.recv_request()).stream_id
            peer.frame(HEADERS, END_HEADERS | END_STREAM, stream, block)

    async def call(client: HttpRequestClient, url: str) -> Response:
        response = await client.request("GET", url)
        for _ in range(299):
            response = await client.request("GET", url)
        return response

    outcome = await stage.play(script, call)
    assert outcome.response.headers["x-49"] == "v" * 1_000
    outcome.quiet()


async def test_a_flood_behind_a_whole_response_does_not_take_it_back(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        answer = frames.headers(stream, OK) + frames.data(stream, b"whole", end_stream=True)
        peer.raw(answer + frames.settings() * 500)

    outcome = await stage.attack(attack)
    assert outcome.response.body == b"whole"
    assert isinstance(outcome.neighbour, RemoteProtocolError)
    expect_goaway(outcome, ENHANCE_YOUR_CALM)
