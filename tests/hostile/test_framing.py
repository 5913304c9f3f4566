"""Frames that are wrong by themselves, or only look so (RFC 9113 §3.4, §4, §5.5, §6)."""

from __future__ import annotations

import asyncio

from dynamo_h2 import ConnectError, RemoteProtocolError
from tests.hostile.stage import (
    NEIGHBOUR,
    VICTIM,
    Stage,
    expect_error,
    expect_goaway,
    get,
)
from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import (
    ACK,
    ALTSVC,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    OK,
    PADDED,
    PING,
    PRIORITY,
    PRIORITY_FLAG,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from tests.peers.scripted import Connection

ORIGIN_FRAME, PRIORITY_UPDATE, UNKNOWN = 0x0C, 0x10, 0xFA
ANNOUNCED = 1_048_576
"""The longest frame that the client announces, in bytes."""


async def expect_request(peer: Connection) -> int:
    """Say nothing, and wait for what the client writes ahead; return the request's stream."""
    await peer.expect_preface()
    return (await peer.recv_until(HEADERS)).stream_id


# The beginning of a connection (§3.4)


BANNER = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"


async def test_a_banner_of_another_protocol_fails_the_dial(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        peer.raw(BANNER)
        await peer.expect_preface()
        await peer.until_left()

    outcome = await stage.play(script, get)
    # Which of the two comes first, banner or request, is up to the loop; the error tells.
    if outcome.first.log(HEADERS):
        expect_error(outcome.result, RemoteProtocolError, processed=None)
    else:
        expect_error(outcome.result, ConnectError, processed=False)
    expect_goaway(outcome, PROTOCOL_ERROR)


async def test_an_answer_that_is_no_http_ends_the_connection(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await expect_request(peer)
        peer.raw(BANNER)

    outcome = await stage.play(script, get)
    error = outcome.failed(RemoteProtocolError)
    assert (error.code, error.processed) == (PROTOCOL_ERROR, None)
    expect_goaway(outcome, PROTOCOL_ERROR)


async def test_a_first_frame_that_is_not_settings_ends_the_connection(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await expect_request(peer)
        peer.ping()

    outcome = await stage.play(script, get)
    assert outcome.failed(RemoteProtocolError).code == PROTOCOL_ERROR
    expect_goaway(outcome, PROTOCOL_ERROR)


async def test_a_first_frame_that_is_only_an_ack_ends_the_connection(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await expect_request(peer)
        peer.send_settings(ack=True)

    outcome = await stage.play(script, get)
    assert outcome.failed(RemoteProtocolError).code == PROTOCOL_ERROR
    expect_goaway(outcome, PROTOCOL_ERROR)


async def test_an_answer_in_http_1_is_named(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await expect_request(peer)
        peer.raw(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        peer.close()

    outcome = await stage.play(script, get)
    expect_error(outcome.result, ConnectError, processed=None)
    assert "HTTP/1.1 400 Bad Request" in str(outcome.result)
    assert outcome.connections == 2


# Frames that are too long (§4.2)


async def test_data_longer_than_announced_is_refused_at_its_header(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK))
        peer.frame(DATA, 0, stream, length=ANNOUNCED + 1)

    await stage.connection_error(attack, FRAME_SIZE_ERROR)


async def test_headers_longer_than_announced_are_refused_at_their_header(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(HEADERS, END_HEADERS, stream, length=ANNOUNCED + 1)

    await stage.connection_error(attack, FRAME_SIZE_ERROR)


async def test_an_unknown_frame_of_16_mib_is_refused_at_its_header(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(UNKNOWN, 0, stream, length=2**24 - 1)

    await stage.connection_error(attack, FRAME_SIZE_ERROR)


async def test_a_frame_just_as_long_as_announced_is_taken(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK))
        peer.data(stream, bytes(ANNOUNCED), end_stream=True)

    response = await stage.accepted(attack)
    assert response.body == bytes(ANNOUNCED)


# Frames of an impossible length (§6)


async def test_ping_of_seven_bytes_ends_the_connection(stage: Stage) -> None:
    await stage.connection_error(lambda peer, _: peer.ping(bytes(7)), FRAME_SIZE_ERROR)


async def test_rst_stream_of_three_bytes_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(RST_STREAM, 0, stream, bytes(3))

    await stage.connection_error(attack, FRAME_SIZE_ERROR)


async def test_window_update_of_five_bytes_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(WINDOW_UPDATE, 0, stream, bytes(5))

    await stage.connection_error(attack, FRAME_SIZE_ERROR)


async def test_settings_of_five_bytes_end_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, _: int) -> None:
        peer.frame(SETTINGS, 0, 0, bytes(5))

    await stage.connection_error(attack, FRAME_SIZE_ERROR)


async def test_an_ack_of_settings_with_a_payload_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, _: int) -> None:
        peer.frame(SETTINGS, ACK, 0, bytes(6))

    await stage.connection_error(attack, FRAME_SIZE_ERROR)


async def test_goaway_of_seven_bytes_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, _: int) -> None:
        peer.frame(GOAWAY, 0, 0, bytes(7))

    await stage.connection_error(attack, FRAME_SIZE_ERROR)


async def test_priority_of_four_bytes_ends_its_stream(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(PRIORITY, 0, stream, bytes(4))

    await stage.stream_error(attack, FRAME_SIZE_ERROR)


# Frames in the wrong place (§6)


async def test_data_on_stream_0_ends_the_connection(stage: Stage) -> None:
    await stage.connection_error(lambda peer, _: peer.data(0, b"nobody's"), PROTOCOL_ERROR)


async def test_headers_on_stream_0_end_the_connection(stage: Stage) -> None:
    await stage.connection_error(lambda peer, _: peer.headers(0, [OK]), PROTOCOL_ERROR)


async def test_priority_on_stream_0_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, _: int) -> None:
        peer.frame(PRIORITY, 0, 0, bytes(5))

    await stage.connection_error(attack, PROTOCOL_ERROR)


async def test_rst_stream_on_stream_0_ends_the_connection(stage: Stage) -> None:
    await stage.connection_error(lambda peer, _: peer.rst(0, 0), PROTOCOL_ERROR)


async def test_continuation_on_stream_0_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, _: int) -> None:
        peer.frame(CONTINUATION, END_HEADERS, 0, frames.block(OK))

    await stage.connection_error(attack, PROTOCOL_ERROR)


async def test_settings_on_a_stream_end_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(SETTINGS, 0, stream)

    await stage.connection_error(attack, PROTOCOL_ERROR)


async def test_ping_on_a_stream_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(PING, 0, stream, bytes(8))

    await stage.connection_error(attack, PROTOCOL_ERROR)


async def test_goaway_on_a_stream_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(GOAWAY, 0, stream, bytes(8))

    await stage.connection_error(attack, PROTOCOL_ERROR)


async def test_a_push_that_was_never_allowed_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        promised = b"\0\0\0\x02" + frames.block(*frames.GET)
        peer.frame(PUSH_PROMISE, END_HEADERS, stream, promised)

    await stage.connection_error(attack, PROTOCOL_ERROR)


async def test_a_push_before_our_settings_were_acknowledged_ends_the_connection(
    stage: Stage,
) -> None:
    async def script(peer: Connection) -> None:
        await peer.expect_preface()
        peer.send_settings()
        stream = (await peer.recv_until(HEADERS)).stream_id
        promised = b"\0\0\0\x02" + frames.block(*frames.GET)
        peer.frame(PUSH_PROMISE, END_HEADERS, stream, promised)

    outcome = await stage.play(script, get)
    assert outcome.failed(RemoteProtocolError).code == PROTOCOL_ERROR
    expect_goaway(outcome, PROTOCOL_ERROR)


# Padding (§6.1, §6.2)


async def test_padding_as_long_as_data_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK))
        peer.frame(DATA, PADDED, stream, b"\x05abcd")

    await stage.connection_error(attack, PROTOCOL_ERROR)


async def test_padded_data_without_a_byte_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK))
        peer.frame(DATA, PADDED, stream)

    await stage.connection_error(attack, FRAME_SIZE_ERROR)


async def test_padding_longer_than_headers_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(HEADERS, PADDED | END_HEADERS, stream, b"\xff" + frames.block(OK))

    await stage.connection_error(attack, PROTOCOL_ERROR)


async def test_headers_without_room_for_their_priority_end_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(HEADERS, PRIORITY_FLAG | END_HEADERS, stream, bytes(4))

    await stage.connection_error(attack, FRAME_SIZE_ERROR)


async def test_padding_of_any_length_is_left_out_of_the_body(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        block = b"\x07" + bytes(5) + frames.block(OK) + bytes(7)
        peer.frame(HEADERS, PADDED | PRIORITY_FLAG | END_HEADERS, stream, block)
        peer.raw(frames.padded_data(stream, b"", 255))
        peer.raw(frames.padded_data(stream, b"some ", 0))
        peer.raw(frames.padded_data(stream, b"body", 255))
        peer.raw(frames.padded_data(stream, b"", 0, end_stream=True))

    assert (await stage.accepted(attack)).body == b"some body"


# What has to be let pass (§4.1, §5.3, §5.5)


async def test_frames_of_unknown_types_are_ignored(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        for kind in (ALTSVC, ORIGIN_FRAME, UNKNOWN, 0xFF):
            for on in (0, 2, NEIGHBOUR, stream, 2**31 - 1):
                peer.frame(kind, 0xFF, on, b"extension")
        peer.respond(stream, b"as if nothing were")

    assert (await stage.accepted(attack)).body == b"as if nothing were"


async def test_a_priority_update_of_the_server_ends_the_connection(stage: Stage) -> None:
    await stage.connection_error(
        lambda peer, stream: peer.frame(PRIORITY_UPDATE, 0, 0, bytes([0, 0, 0, stream]) + b"u=1"),
        PROTOCOL_ERROR,
    )


async def test_an_unknown_frame_that_comes_in_many_pieces_is_ignored(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.frame(UNKNOWN, 0, 0, length=ANNOUNCED)
        for _ in range(16):
            peer.raw(bytes(ANNOUNCED // 16))
            await peer.drain()
        peer.respond(stream, b"after it")

    assert (await stage.accepted(attack)).body == b"after it"


async def test_flags_that_a_frame_does_not_have_are_ignored(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(SETTINGS, 0xFE)
        peer.frame(PING, 0xFE, 0, bytes(8))
        peer.frame(WINDOW_UPDATE, 0xFF, stream, b"\0\0\0\x01")
        peer.frame(HEADERS, END_HEADERS | 0x02 | 0x10 | 0x40 | 0x80, stream, frames.block(OK))
        peer.frame(DATA, 0xF6, stream, b"flagged")
        peer.frame(DATA, END_STREAM | 0xF6, stream)

    assert (await stage.accepted(attack)).body == b"flagged"


async def test_the_reserved_bit_of_a_stream_is_ignored(stage: Stage) -> None:
    reserved = 2**31

    def attack(peer: Connection, stream: int) -> None:
        peer.frame(PING, 0, reserved, bytes(8))
        peer.frame(HEADERS, END_HEADERS, reserved | stream, frames.block(OK))
        peer.frame(WINDOW_UPDATE, 0, reserved | stream, b"\x80\0\0\x01")
        peer.frame(DATA, END_STREAM, reserved | stream, b"reserved")

    assert (await stage.accepted(attack)).body == b"reserved"


async def test_priority_is_ignored_in_every_state(stage: Stage) -> None:
    itself = VICTIM.to_bytes(4, "big") + b"\0"

    def attack(peer: Connection, stream: int) -> None:
        for on in (2, stream, 99):
            peer.frame(PRIORITY, 0, on, itself)
        peer.respond(stream, b"unmoved")
        peer.frame(PRIORITY, 0, stream, itself)

    assert (await stage.accepted(attack)).body == b"unmoved"


async def test_each_ping_is_answered_with_its_own_payload(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        payloads = [bytes(8), b"\xff" * 8, b"payload!", b"payload?"]
        for payload in payloads:
            peer.ping(payload)
        peer.ping(b"an answr", ack=True)
        while len(peer.log(PING)) < len(payloads):
            await peer.recv_until(PING)
        assert [frame.payload for frame in peer.log(PING) if frame.ack] == payloads
        peer.respond(stream, b"answered")

    assert (await stage.accepted(attack)).body == b"answered"


async def test_data_without_a_byte_is_no_end(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK))
        for part in (b"", b"a", b"", b"", b"b", b""):
            peer.data(stream, part)
        peer.data(stream, b"", end_stream=True)

    assert (await stage.accepted(attack)).body == b"ab"


# What arrives in which piece


async def test_a_conversation_byte_by_byte_is_understood(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        await peer.expect_preface()
        for byte in frames.settings((frames.MAX_STREAMS, 7)):
            peer.raw(bytes([byte]))
            await asyncio.sleep(0)
        stream = (await peer.recv_request()).stream_id
        answer = frames.headers(stream, OK, (b"x-slow", b"very"), flags=0)
        answer += frames.continuation(stream, frames.block((b"x-more", b"yes")))
        answer += frames.data(stream, b"dribble") + frames.padded_data(stream, b"d", 9)
        answer += frames.ping() + frames.headers(stream, (b"x-end", b"now"), end_stream=True)
        for byte in answer:
            peer.raw(bytes([byte]))
            await asyncio.sleep(0)

    outcome = await stage.play(script, get)
    response = outcome.response
    assert (response.status, response.body) == (200, b"dribbled")
    assert (response.headers["x-more"], response.trailers["x-end"]) == ("yes", "now")
    outcome.quiet()


async def test_all_of_a_conversation_in_one_write_is_understood(stage: Stage) -> None:
    async def script(peer: Connection) -> None:
        stream = await expect_request(peer)
        answer = frames.settings() + frames.settings_ack() + frames.headers(stream, OK)
        peer.raw(answer + frames.data(stream, b"at once", end_stream=True) + frames.ping())

    outcome = await stage.play(script, get)
    assert outcome.response.body == b"at once"
    outcome.quiet()


async def test_a_push_on_stream_0_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, _: int) -> None:
        peer.frame(PUSH_PROMISE, END_HEADERS, 0, b"\0\0\0\x02")

    await stage.connection_error(attack, PROTOCOL_ERROR)
