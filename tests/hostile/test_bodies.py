"""Bodies, and what was announced of their length (RFC 9113 §8.1.1, RFC 9110 §8.6)."""

from __future__ import annotations

import pytest

from dynamo_h2 import HttpRequestClient, RemoteProtocolError, Response, ResponseTooLarge
from tests.hostile.stage import VICTIM, Stage, expect_unharmed
from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import CANCEL, OK, PROTOCOL_ERROR
from tests.peers.scripted import Connection


def length(value: bytes) -> tuple[bytes, bytes]:
    return b"content-length", value


async def wrong(stage: Stage, *lengths: bytes, body: bytes = b"12345") -> None:
    """A body of five bytes that was announced like this is malformed."""

    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, *map(length, lengths)))
        peer.data(stream, body, end_stream=True)

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def head(client: HttpRequestClient, url: str) -> Response:
    return await client.request("HEAD", url)


# A length that is no length


async def test_a_length_below_zero_is_malformed(stage: Stage) -> None:
    await wrong(stage, b"-5")


async def test_a_length_with_a_sign_is_malformed(stage: Stage) -> None:
    await wrong(stage, b"+5")


async def test_a_length_with_a_fraction_is_malformed(stage: Stage) -> None:
    await wrong(stage, b"5.0")


async def test_a_length_in_hexadecimal_is_malformed(stage: Stage) -> None:
    await wrong(stage, b"0x5")


async def test_a_length_with_an_underscore_is_malformed(stage: Stage) -> None:
    await wrong(stage, b"0_5")


async def test_a_length_without_a_digit_is_malformed(stage: Stage) -> None:
    await wrong(stage, b"")


async def test_a_length_of_a_thousand_digits_is_malformed(stage: Stage) -> None:
    await wrong(stage, b"9" * 1000)


async def test_a_list_of_lengths_is_malformed(stage: Stage) -> None:
    await wrong(stage, b"5, 5")


async def test_two_lengths_that_differ_are_malformed(stage: Stage) -> None:
    await wrong(stage, b"5", b"6")


async def test_two_lengths_that_agree_are_one(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, length(b"5"), length(b"5")))
        peer.data(stream, b"12345", end_stream=True)

    assert (await stage.accepted(attack)).body == b"12345"


# A body of another length than announced


async def test_a_body_that_is_too_short_is_malformed(stage: Stage) -> None:
    await wrong(stage, b"6")


async def test_a_body_that_is_too_long_is_malformed(stage: Stage) -> None:
    await wrong(stage, b"4")


async def test_a_body_where_none_was_announced_is_malformed(stage: Stage) -> None:
    await wrong(stage, b"0")


async def test_a_body_that_is_too_long_is_refused_before_its_end(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, length(b"5")))
        peer.data(stream, b"123")
        peer.data(stream, b"456")

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_a_body_that_is_too_long_by_a_single_long_frame_is_refused_at_its_header(
    stage: Stage,
) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, length(b"5")))
        peer.frame(frames.DATA, 0, stream, bytes(100_000))

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_a_head_that_ends_the_stream_before_its_body_is_malformed(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, length(b"5"), end_stream=True))

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_trailers_that_come_before_the_body_is_whole_are_malformed(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, length(b"5")) + frames.data(stream, b"123"))
        peer.raw(frames.headers(stream, (b"x", b"trailer"), end_stream=True))

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_an_empty_end_before_the_body_is_whole_is_malformed(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, length(b"5")) + frames.data(stream, b"123"))
        peer.data(stream, b"", end_stream=True)

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_padding_is_no_part_of_the_length(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, length(b"5")))
        peer.raw(frames.padded_data(stream, b"123", 100))
        peer.raw(frames.padded_data(stream, b"45", 255, end_stream=True))

    assert (await stage.accepted(attack)).body == b"12345"


async def test_what_arrived_of_a_body_cut_short_can_be_read(stage: Stage) -> None:
    async def read(client: HttpRequestClient, url: str) -> bytes:
        async with client.stream("GET", url) as response:
            chunks = aiter(response)
            got = await anext(chunks)
            with pytest.raises(RemoteProtocolError) as raised:
                await anext(chunks)
        assert (raised.value.code, raised.value.processed) == (PROTOCOL_ERROR, None)
        return got

    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, length(b"5")) + frames.data(stream, b"123"))
        peer.data(stream, b"", end_stream=True)

    outcome = await stage.attack(attack, call=read)
    assert outcome.result == b"123"
    assert outcome.resets == [(VICTIM, PROTOCOL_ERROR)]
    expect_unharmed(outcome)


# Responses that have no body (RFC 9110 §6.4.1)


async def test_a_response_to_head_announces_a_body_and_has_none(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, length(b"5"), end_stream=True))

    response = await stage.accepted(attack, call=head)
    assert (response.headers["content-length"], response.body) == ("5", b"")


async def test_a_response_to_head_may_end_with_an_empty_frame(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, length(b"5")))
        peer.data(stream, b"", end_stream=True)

    assert (await stage.accepted(attack, call=head)).body == b""


async def test_a_response_to_head_with_a_body_is_malformed(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, length(b"5")))
        peer.data(stream, b"12345", end_stream=True)

    await stage.stream_error(attack, PROTOCOL_ERROR, call=head)


async def test_no_content_with_content_is_malformed(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, (b":status", b"204")))
        peer.data(stream, b"content", end_stream=True)

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_not_modified_with_content_is_malformed(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, (b":status", b"304"), length(b"7")))
        peer.data(stream, b"content", end_stream=True)

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_not_modified_says_how_long_the_content_would_be(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, (b":status", b"304"), length(b"7"), end_stream=True))

    response = await stage.accepted(attack)
    assert (response.status, response.headers["content-length"]) == (304, "7")


# A body that is too large for us


async def test_a_body_over_the_bound_is_cancelled(stage: Stage) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK))
        for _ in range(20):
            peer.data(stream, bytes(10_000))
        await peer.recv_until(frames.RST_STREAM, stream)
        peer.data(stream, bytes(10_000), end_stream=True)

    outcome = await stage.attack(attack, max_response_size=100_000)
    error = outcome.failed(ResponseTooLarge)
    assert (error.processed, error.stream_id) == (True, VICTIM)
    assert outcome.resets == [(VICTIM, CANCEL)]
    expect_unharmed(outcome)


async def test_a_body_just_within_the_bound_is_whole(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK))
        for _ in range(10):
            peer.data(stream, bytes(10_000))
        peer.data(stream, b"", end_stream=True)

    response = await stage.accepted(attack, max_response_size=100_000)
    assert response.body == bytes(100_000)


async def test_no_content_may_end_with_padding_or_trailers(stage: Stage) -> None:
    def padded(peer: Connection, stream: int) -> None:
        peer.headers(stream, [(b":status", b"204")])
        peer.raw(frames.padded_data(stream, b"", 20, end_stream=True))

    def trailers(peer: Connection, stream: int) -> None:
        peer.headers(stream, [(b":status", b"304"), (b"content-length", b"99")])
        peer.headers(stream, [(b"x-end", b"now")], end_stream=True)

    assert (await stage.accepted(padded)).body == b""
    response = await stage.accepted(trailers)
    assert (response.body, response.trailers["x-end"]) == (b"", "now")
