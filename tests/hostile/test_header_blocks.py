"""Field blocks and their compression (RFC 9113 §4.3, §6.2, §6.10; RFC 7541)."""

from __future__ import annotations

import pytest

from tests.hostile.stage import (
    NEIGHBOUR,
    VICTIM,
    Stage,
    expect_goaway,
    leave,
)
from tests.http2 import frame_factory as frames
from tests.http2.frame_factory import (
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    OK,
    PADDED,
    PROTOCOL_ERROR,
    RST_STREAM,
    WINDOW_UPDATE,
)
from tests.peers.scripted import Connection

STATUS_200 = b"\x88"


async def broken(stage: Stage, block: bytes) -> None:
    """A block that cannot be decoded costs the connection, whoever it is for."""

    def attack(peer: Connection, stream: int) -> None:
        peer.frame(HEADERS, END_HEADERS | END_STREAM, stream, block)

    await stage.connection_error(attack, COMPRESSION_ERROR)


async def interrupted(stage: Stage, *between: bytes) -> None:
    """A block lets nothing come between its parts."""

    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, flags=0))
        for frame in between:
            peer.raw(frame)

    await stage.connection_error(attack, PROTOCOL_ERROR)


# Blocks that cannot be decoded (RFC 7541 §2.3.3, §4.2, §5, §6)


async def test_index_0_ends_the_connection(stage: Stage) -> None:
    await broken(stage, b"\x80")


async def test_an_index_past_the_table_ends_the_connection(stage: Stage) -> None:
    await broken(stage, STATUS_200 + b"\xff\x80\x01")


async def test_an_index_of_a_name_past_the_table_ends_the_connection(stage: Stage) -> None:
    await broken(stage, STATUS_200 + b"\x7f\x80\x01\x01v")


async def test_an_index_of_an_entry_that_was_evicted_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        block = STATUS_200 + b"\x40\x01k\x01v"
        peer.frame(HEADERS, END_HEADERS, stream, block)
        peer.frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x20\xbe")

    await stage.connection_error(attack, COMPRESSION_ERROR)


async def test_a_block_that_ends_in_a_name_ends_the_connection(stage: Stage) -> None:
    await broken(stage, STATUS_200 + b"\x00\x0aab")


async def test_a_block_that_ends_before_a_value_ends_the_connection(stage: Stage) -> None:
    await broken(stage, STATUS_200 + b"\x00\x01a")


async def test_a_block_that_ends_in_a_number_ends_the_connection(stage: Stage) -> None:
    await broken(stage, STATUS_200 + b"\xff")


async def test_a_number_without_an_end_ends_the_connection(stage: Stage) -> None:
    await broken(stage, STATUS_200 + b"\xff" * 1000)


async def test_a_number_past_every_bound_ends_the_connection(stage: Stage) -> None:
    await broken(stage, STATUS_200 + b"\x00\x7f\xff\xff\xff\xff\xff\xff\xff\x7fa")


async def test_a_huffman_code_with_the_end_of_string_in_it_ends_the_connection(
    stage: Stage,
) -> None:
    await broken(stage, STATUS_200 + b"\x00\x01a\x84\xff\xff\xff\xff")


async def test_huffman_padding_of_more_than_a_byte_ends_the_connection(stage: Stage) -> None:
    await broken(stage, STATUS_200 + b"\x00\x01a\x82\x1f\xff")


async def test_huffman_padding_with_zeros_ends_the_connection(stage: Stage) -> None:
    await broken(stage, STATUS_200 + b"\x00\x01a\x81\x18")


async def test_a_table_larger_than_announced_ends_the_connection(stage: Stage) -> None:
    await broken(stage, b"\x3f\xe2\x1f" + STATUS_200)


async def test_a_change_of_the_table_after_a_field_ends_the_connection(stage: Stage) -> None:
    await broken(stage, STATUS_200 + b"\x20")


async def test_more_than_two_changes_of_the_table_end_the_connection(stage: Stage) -> None:
    await broken(stage, b"\x20\x3f\xe1\x1f\x20" + STATUS_200)


async def test_a_broken_block_that_crosses_our_reset_still_ends_the_connection(
    stage: Stage,
) -> None:
    async def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        await peer.recv_until(RST_STREAM, stream)
        peer.frame(HEADERS, END_HEADERS, stream, b"\x80")

    outcome = await stage.attack(attack, call=leave)
    assert (outcome.result, outcome.resets) == (200, [(VICTIM, CANCEL)])
    expect_goaway(outcome, COMPRESSION_ERROR)


# Blocks in pieces (RFC 9113 §6.10)


async def test_continuation_without_headers_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.continuation(stream, frames.block(OK)))

    await stage.connection_error(attack, PROTOCOL_ERROR)


async def test_continuation_after_the_end_of_a_block_ends_the_connection(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK) + frames.continuation(stream, b""))

    await stage.connection_error(attack, PROTOCOL_ERROR)


async def test_continuation_on_another_stream_ends_the_connection(stage: Stage) -> None:
    await interrupted(stage, frames.continuation(NEIGHBOUR, frames.block(OK)))


async def test_headers_inside_a_block_end_the_connection(stage: Stage) -> None:
    await interrupted(stage, frames.headers(NEIGHBOUR, OK))


async def test_data_inside_a_block_ends_the_connection(stage: Stage) -> None:
    await interrupted(stage, frames.data(VICTIM, b"x"))


async def test_ping_inside_a_block_ends_the_connection(stage: Stage) -> None:
    await interrupted(stage, frames.continuation(VICTIM, b"", end=False), frames.ping())


async def test_priority_inside_a_block_ends_the_connection(stage: Stage) -> None:
    await interrupted(stage, frames.frame(frames.PRIORITY, 0, VICTIM, bytes(5)))


async def test_rst_stream_inside_a_block_ends_the_connection(stage: Stage) -> None:
    await interrupted(stage, frames.rst(VICTIM))


async def test_window_update_inside_a_block_ends_the_connection(stage: Stage) -> None:
    await interrupted(stage, frames.frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x01"))


async def test_an_unknown_frame_inside_a_block_ends_the_connection(stage: Stage) -> None:
    await interrupted(stage, frames.frame(0xFA, 0, VICTIM, b"extension"))


async def test_a_block_of_many_pieces_is_one(stage: Stage) -> None:
    block = frames.block(OK, (b"x-" + b"n" * 40, b"v" * 40))

    def attack(peer: Connection, stream: int) -> None:
        peer.frame(HEADERS, END_STREAM, stream)
        for at in range(len(block)):
            peer.raw(frames.continuation(stream, block[at : at + 1], end=False))
        peer.raw(frames.continuation(stream, b"", end=True))

    response = await stage.accepted(attack)
    assert response.headers["x-" + "n" * 40] == "v" * 40


# Blocks that may be decoded, but are too much


async def test_a_response_without_a_field_ends_its_stream(stage: Stage) -> None:
    await stage.stream_error(lambda peer, stream: peer.headers(stream, []), PROTOCOL_ERROR)


async def test_a_header_list_longer_than_announced_ends_its_stream(stage: Stage) -> None:
    long = [(b"x-%d" % number, b"v" * 4000) for number in range(17)]

    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, *long))

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_trailers_longer_than_announced_end_their_stream(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.headers(stream, [OK])
        peer.raw(frames.headers(stream, (b"x", b"v" * 65_536), end_stream=True))

    await stage.stream_error(attack, PROTOCOL_ERROR)


async def test_a_header_list_as_long_as_announced_is_taken(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.raw(frames.headers(stream, OK, (b"x", b"v" * 65_000), end_stream=True))

    response = await stage.accepted(attack)
    assert len(response.headers["x"]) == 65_000


async def test_a_bomb_of_indices_is_not_unpacked(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        entry = b"\x40\x01x\x7f\xa1\x1e" + b"v" * 4000
        peer.frame(HEADERS, END_HEADERS, stream, STATUS_200 + entry + b"\xbe" * 16_000)

    await stage.connection_error(attack, ENHANCE_YOUR_CALM)


async def test_a_block_of_a_megabyte_is_refused_at_its_header(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(HEADERS, END_HEADERS, stream, length=2**20)

    await stage.connection_error(attack, ENHANCE_YOUR_CALM)


async def test_a_block_of_tiny_fields_is_not_read_to_its_end(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(HEADERS, END_HEADERS, stream, STATUS_200 + b"\x40\x01x\x00" * 30_000)

    await stage.connection_error(attack, ENHANCE_YOUR_CALM)


# Blocks that use what they may


@pytest.mark.parametrize("size", [b"\x20", b"\x3f\xe1\x1f", b"\x20\x3f\xe1\x1f"])
async def test_a_table_size_that_was_announced_is_followed(stage: Stage, size: bytes) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(HEADERS, END_HEADERS, stream, size + STATUS_200 + b"\x40\x01k\x01v")
        peer.frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x00\x01t\x01v")
        # The encoder of the scripted peer knows nothing of this change: begin anew.
        peer.encoder.header_table_size = 0
        peer.encoder.header_table_size = 4096

    assert (await stage.accepted(attack)).headers["k"] == "v"


# What only looks odd (RFC 7541 §4.4, §5.1, §5.2, §6.2.3)


async def decoded(stage: Stage, block: bytes, **fields: str) -> None:
    """A block that is odd, and right, is taken; the table is that of the encoder afterwards."""

    def attack(peer: Connection, stream: int) -> None:
        peer.frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200 + block)

    headers = (await stage.accepted(attack)).headers
    assert {name: headers[name] for name in fields} == fields


async def test_fields_that_are_never_indexed_are_taken(stage: Stage) -> None:
    await decoded(stage, b"\x10\x01k\x01v" + b"\x1f\x27\x04name", k="v", server="name")


async def test_a_huffman_code_of_nothing_is_empty(stage: Stage) -> None:
    await decoded(stage, b"\x00\x01k\x80", k="")


async def test_a_number_that_is_longer_than_need_be_is_taken(stage: Stage) -> None:
    await decoded(stage, b"\x00\x01k\x7f\x80\x80\x00" + b"v" * 127, k="v" * 127)


async def test_an_entry_that_is_larger_than_the_table_empties_it(stage: Stage) -> None:
    large = b"\x40\x01l\x7f\x89\x26" + b"v" * 5000

    def attack(peer: Connection, stream: int) -> None:
        block = large + b"\x40\x01k\x01v" + b"\xbe"
        peer.frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200 + block)
        peer.encoder.header_table_size = 0
        peer.encoder.header_table_size = 4096

    headers = (await stage.accepted(attack)).headers
    assert (len(headers["l"]), headers.get_list("k")) == (5000, ["v", "v"])


async def test_settings_inside_a_block_end_the_connection(stage: Stage) -> None:
    await interrupted(stage, frames.settings())


async def test_goaway_inside_a_block_ends_the_connection(stage: Stage) -> None:
    await interrupted(stage, frames.goaway(VICTIM))


async def test_flags_of_continuation_but_its_end_are_ignored(stage: Stage) -> None:
    def attack(peer: Connection, stream: int) -> None:
        peer.frame(HEADERS, PADDED, stream, b"\x03" + frames.block(OK) + bytes(3))
        peer.frame(CONTINUATION, 0xFF & ~END_HEADERS, stream, frames.block((b"k", b"v")))
        peer.frame(CONTINUATION, 0xFF, stream)
        peer.data(stream, b"not over yet", end_stream=True)

    response = await stage.accepted(attack)
    assert (response.headers["k"], response.body) == ("v", b"not over yet")
