"""Frames that we make and read, with hyperframe as the judge of both."""

from __future__ import annotations

import hyperframe.frame as judge
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_h2.http2 import frames
from dynamo_h2.http2.frames import FrameHeader, FrameReader, FrameType, PeerError
from tests.http2 import frame_factory as ff

stream_ids = st.integers(1, 2**31 - 1)
codes = st.integers(0, 2**32 - 1)
payloads = st.binary(max_size=300)


def read(packed: bytes) -> judge.Frame:
    """Let hyperframe read one frame."""
    frame, length = judge.Frame.parse_frame_header(memoryview(packed)[:9], strict=True)
    frame.parse_body(memoryview(packed)[9:])
    assert length == len(packed) - 9
    return frame


@given(stream_ids, codes)
def test_rst_stream_is_packed(stream_id: int, code: int) -> None:
    frame = read(frames.pack_rst_stream(stream_id, code))
    assert isinstance(frame, judge.RstStreamFrame)
    assert (frame.stream_id, frame.error_code) == (stream_id, code)


@given(st.integers(0, 2**31 - 1), st.integers(1, 2**31 - 1))
def test_window_update_is_packed(stream_id: int, increment: int) -> None:
    frame = read(frames.pack_window_update(stream_id, increment))
    assert isinstance(frame, judge.WindowUpdateFrame)
    assert (frame.stream_id, frame.window_increment) == (stream_id, increment)


@given(st.integers(0, 2**31 - 1), codes, payloads)
def test_goaway_is_packed_and_read(last: int, code: int, debug: bytes) -> None:
    packed = frames.pack_goaway(last, code, debug)
    frame = read(packed)
    assert isinstance(frame, judge.GoAwayFrame)
    assert (frame.last_stream_id, frame.error_code, frame.additional_data) == (last, code, debug)
    assert frames.parse_goaway(packed[9:]) == (last, code, debug)


@given(st.dictionaries(st.integers(0, 2**16 - 1), codes))
def test_settings_are_packed_and_read(pairs: dict[int, int]) -> None:
    packed = frames.pack_settings(pairs)
    frame = read(packed)
    assert isinstance(frame, judge.SettingsFrame)
    assert frame.settings == pairs
    assert frames.parse_settings(packed[9:]) == list(pairs.items())


def test_settings_keep_their_order_and_their_duplicates() -> None:
    packed = ff.settings((4, 1), (3, 2), (4, 3))
    assert frames.parse_settings(packed[9:]) == [(4, 1), (3, 2), (4, 3)]


@pytest.mark.parametrize("length", [0, 1, 255, 256, 65_535, 65_536, 2**24 - 1])
def test_a_length_has_three_bytes(length: int) -> None:
    packed = frames.pack_frame(FrameType.DATA, 1, 5, bytes(length))
    assert frames.parse_header(packed) == (length, FrameType.DATA, 1, 5)


@given(codes, st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**24 - 1))
def test_a_header_is_read_anywhere_in_a_buffer(
    stream_id: int, kind: int, flags: int, length: int
) -> None:
    packed = ff.frame(kind, flags, stream_id, length=length)
    header = FrameHeader(length, kind, flags, stream_id & 0x7FFF_FFFF)
    assert frames.parse_header(packed) == header
    assert frames.parse_header(memoryview(b"xyz" + packed), 3) == header
    assert frames.parse_header(bytearray(b"xyz" + packed), 3) == header


@settings(max_examples=200)
@given(payloads, st.integers(0, 255), st.booleans(), st.sampled_from([ff.DATA, ff.HEADERS]))
def test_padding_and_priority_are_stripped_as_hyperframe_does(
    payload: bytes, pad: int, priority: bool, kind: int
) -> None:
    frame: judge.DataFrame | judge.HeadersFrame
    if kind == ff.DATA:
        frame = judge.DataFrame(1, payload, flags=["PADDED"])
    else:
        flags = ["PADDED", "END_HEADERS", *(["PRIORITY"] if priority else [])]
        frame = judge.HeadersFrame(1, payload, flags=flags)
    frame.pad_length = pad
    packed = frame.serialize()
    assert frames.body_of(frames.parse_header(packed), packed[9:]) == payload


def reader() -> FrameReader:
    """A reader that has seen the peer's SETTINGS."""
    reader = FrameReader(16_384, 65_536)
    reader.feed(ff.settings())
    assert [header.name for header, _ in reader.frames()] == ["SETTINGS"]
    return reader


def test_a_reader_without_bytes_is_at_a_boundary() -> None:
    assert reader().at_boundary


def test_a_reader_gives_only_complete_frames() -> None:
    ours = reader()
    whole = ff.ping(b"abcdefgh")
    for byte in whole[:-1]:
        ours.feed(bytes([byte]))
        assert list(ours.frames()) == []
        assert not ours.at_boundary
    ours.feed(memoryview(whole[-1:] + whole[:3]))
    assert list(ours.frames()) == [(FrameHeader(8, ff.PING, 0, 0), b"abcdefgh")]
    assert not ours.at_boundary
    ours.clear()
    ours.feed(ff.ping(b"ijklmnop"))
    assert [payload for _, payload in ours.frames()] == [b"ijklmnop"]


def test_a_reader_between_headers_and_continuation_is_at_no_boundary() -> None:
    ours = reader()
    ours.feed(ff.headers(1, ff.OK, flags=0))
    assert list(ours.frames()) == []
    assert not ours.at_boundary
    ours.feed(ff.continuation(1, b"rest"))
    ((header, block),) = ours.frames()
    assert (header.name, block) == ("HEADERS", ff.block(ff.OK) + b"rest")


def test_a_reader_keeps_its_place_when_a_frame_is_not_wanted_yet() -> None:
    ours = reader()
    ours.feed(ff.ping(b"abcdefgh") + ff.ping(b"ijklmnop"))
    for _, payload in ours.frames():
        assert payload == b"abcdefgh"
        break
    assert [payload for _, payload in ours.frames()] == [b"ijklmnop"]


def test_a_block_limit_is_never_below_one_frame_of_the_least_size() -> None:
    ours = FrameReader(2**24 - 1, 1)
    ours.feed(ff.settings() + ff.frame(ff.HEADERS, 0, 1, length=16_384))
    assert len(list(ours.frames())) == 1
    ours.clear()
    ours.feed(ff.frame(ff.HEADERS, 0, 1, length=16_385))
    with pytest.raises(PeerError, match="field block"):
        list(ours.frames())
