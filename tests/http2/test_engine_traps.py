"""What h2 leaves to its user, the peer's side: first bare h2 going wrong, then the engine right."""

from __future__ import annotations

import struct

import hpack
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import (
    ProtocolError,
    StreamClosedError,
    TooManyStreamsError,
)
from h2.settings import SettingCodes
from h2.windows import WindowManager

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.flow import ReceiveWindow
from tests.http2.frame_factory import (
    ACK,
    COMPRESSION_ERROR,
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    GET,
    HEADER_TABLE_SIZE,
    HEADERS,
    NO_ERROR,
    OK,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    STREAM_CLOSED,
    Rig,
    bare,
    bare_with,
    block,
    continuation,
    data,
    error_of,
    frame,
    goaway,
    headers,
    parse,
    ping,
    rst,
    settings,
    settings_ack,
    window_update,
)

pytestmark = pytest.mark.usefixtures("each_engine")

MIB = 1 << 20


# Late frames


def test_late_frames_on_a_stream_that_we_reset_are_not_answered() -> None:
    late = [data(1, b"late"), headers(1, OK), data(1, b"later", end_stream=True)]
    stock = bare(streams=2)
    stock.reset_stream(1)
    stock.data_to_send()
    for each in late:
        stock.receive_data(each)
    assert [sent.kind for sent in parse(stock.data_to_send())] == [RST_STREAM] * 3

    rig = Rig(streams=2)
    rig.engine.reset(1, NO_ERROR)
    rig.sent()
    assert rig.feed(*late) == [("late_data", 4), ("late", HEADERS), ("late_data", 5)]
    assert rig.sent() == []


def test_late_header_blocks_still_reach_the_decoder() -> None:
    encoder = hpack.Encoder()
    late = encoder.encode([OK, (b"x-first", b"1")])
    next_one = encoder.encode([OK, (b"x-first", b"1")])
    assert len(next_one) < len(late)
    rig = Rig(streams=2)
    rig.engine.reset(1, NO_ERROR)
    calls = rig.feed(frame(HEADERS, END_HEADERS, 1, late), frame(HEADERS, END_HEADERS, 3, next_one))
    assert calls == [("late", HEADERS), ("head", 3, 200, [(b"x-first", b"1")], False)]


def test_late_data_counts_against_the_connection_window() -> None:
    rig = Rig(streams=1)
    rig.engine.reset(1, NO_ERROR)
    window = rig.engine.connection_receive_window
    before = window.current_window_size
    rig.feed(data(1, bytes(1000)))
    assert window.current_window_size == before - 1000


def test_a_stream_that_the_peer_reset_can_be_reset_again() -> None:
    stock = bare(streams=1)
    stock.receive_data(rst(1))
    with pytest.raises(StreamClosedError):
        stock.reset_stream(1)

    rig = Rig(streams=1)
    assert rig.feed(rst(1, REFUSED_STREAM)) == [("reset", 1, REFUSED_STREAM)]
    rig.engine.reset(1, NO_ERROR)
    rig.engine.reset(99, NO_ERROR)
    assert rig.sent() == []


# Malformed messages are errors of their stream


MALFORMED: dict[str, bytes] = {
    "upper case": headers(1, OK, (b"Upper", b"x")),
    "no status": headers(1, (b"x", b"y")),
    "pseudo-header in trailers": headers(1, OK) + headers(1, OK, end_stream=True),
    "connection-specific": headers(1, OK, (b"connection", b"close")),
    "1xx with END_STREAM": headers(1, (b":status", b"100"), end_stream=True),
    "DATA before the head": data(1, b"x"),
    "too much content": headers(1, OK, (b"content-length", b"1")) + data(1, b"xx"),
    "too little content": headers(1, OK, (b"content-length", b"3"))
    + data(1, b"xx", end_stream=True),
    "bad content-length": headers(1, OK, (b"content-length", b"1x")),
    "two content-lengths": headers(1, OK, (b"content-length", b"1"), (b"content-length", b"2")),
    "trailers without END_STREAM": headers(1, OK) + headers(1, (b"x", b"y")),
    "line feed in a value": headers(1, OK, (b"x", b"a\nb")),
    "1xx after the head": headers(1, OK) + headers(1, (b":status", b"103")),
    "request pseudo-header": headers(1, OK, (b":path", b"/")),
    "empty name": headers(1, OK, (b"", b"x")),
    "WINDOW_UPDATE of 0": window_update(1, 0),
}


@pytest.mark.parametrize("frames", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_message_harms_no_neighbour(frames: bytes) -> None:
    assert error_of(bare(streams=2), frames) == PROTOCOL_ERROR

    rig = Rig(streams=2)
    assert rig.stream_error(frames) == PROTOCOL_ERROR
    assert rig.feed(headers(3, OK, end_stream=True)) == [("head", 3, 200, [], True)]


def test_a_malformed_block_is_decoded_to_its_end() -> None:
    encoder = hpack.Encoder()
    bad = encoder.encode([OK, (b"Bad", b"x"), (b"x-after", b"1")])
    good = encoder.encode([OK, (b"x-after", b"1")])
    rig = Rig(streams=2)
    assert rig.stream_error(frame(HEADERS, END_HEADERS, 1, bad)) == PROTOCOL_ERROR
    assert rig.feed(frame(HEADERS, END_HEADERS, 3, good)) == [
        ("head", 3, 200, [(b"x-after", b"1")], False)
    ]


@pytest.mark.parametrize("status", [b"abc", b"99", b"2000", b"", b"101"])
def test_a_status_that_is_none_is_malformed(status: bytes) -> None:
    response = headers(1, (b":status", status))
    assert error_of(bare(streams=1), response) is None

    assert Rig(streams=1).stream_error(response) == PROTOCOL_ERROR


def test_a_response_that_ends_with_its_head_needs_the_content_it_announced() -> None:
    response = headers(1, OK, (b"content-length", b"100"), end_stream=True)
    assert error_of(bare(streams=1), response) is None

    assert Rig(streams=1).stream_error(response) == PROTOCOL_ERROR


def test_trailers_do_not_forget_the_content_that_was_announced() -> None:
    response = (
        headers(1, OK, (b"content-length", b"100"))
        + data(1, b"short")
        + headers(1, (b"x", b"y"), end_stream=True)
    )
    assert error_of(bare(streams=1), response) is None

    assert Rig(streams=1).stream_error(response) == PROTOCOL_ERROR


def test_a_304_may_say_how_long_the_content_would_be() -> None:
    response = headers(1, (b":status", b"304"), (b"content-length", b"100")) + data(
        1, end_stream=True
    )
    assert error_of(bare(streams=1), response) == PROTOCOL_ERROR

    calls = Rig(streams=1).feed(response)
    assert [call[0] for call in calls] == ["head", "data"]


# Connection errors that h2 does not see, or not as what they are


def test_rst_stream_on_an_idle_stream_is_an_error() -> None:
    assert error_of(bare(streams=1), rst(3)) is None

    assert Rig(streams=1).connection_error(rst(3)) == PROTOCOL_ERROR


def test_a_broken_field_block_is_a_compression_error() -> None:
    broken = frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff")
    assert error_of(bare(streams=1), broken) == PROTOCOL_ERROR

    assert Rig(streams=1).connection_error(broken) == COMPRESSION_ERROR


def test_push_is_refused_before_our_settings_were_acknowledged() -> None:
    push = frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + block(*GET))
    stock = H2Connection(H2Configuration(client_side=True))
    stock.initiate_connection()
    stock.update_settings({SettingCodes.ENABLE_PUSH: 0})
    stock.receive_data(settings())
    stock.send_headers(1, GET, end_stream=True)
    assert error_of(stock, push) is None

    rig = Rig(pairs=None)
    rig.feed(settings())
    rig.open()
    assert rig.connection_error(push) == PROTOCOL_ERROR


@pytest.mark.parametrize("first", [ping(), goaway(0), settings_ack(), window_update(0, 1)])
def test_the_first_frame_must_be_settings(first: bytes) -> None:
    stock = H2Connection(H2Configuration(client_side=True))
    stock.initiate_connection()
    assert error_of(stock, first) is None

    assert Rig(pairs=None).connection_error(first) == PROTOCOL_ERROR


def test_few_streams_are_opened_until_the_peer_has_said_how_many() -> None:
    stock = H2Connection(H2Configuration(client_side=True))
    assert stock.remote_settings.max_concurrent_streams == 2**32 + 1

    rig = Rig(pairs=None, streams=100)
    assert rig.engine.peer_stream_limit == 100
    with pytest.raises(TooManyStreamsError):
        rig.open()
    rig.feed(settings())
    assert rig.engine.peer_stream_limit == 2**31 - 1
    rig.feed(settings((3, 7)))
    assert rig.engine.peer_stream_limit == 7


def test_the_peer_cannot_make_our_table_unbounded() -> None:
    huge = settings((HEADER_TABLE_SIZE, 2**32 - 1))
    stock = bare()
    stock.receive_data(huge)
    assert stock.encoder.header_table_size == 2**32 - 1

    rig = Rig(Http2Config(header_table_size=8192))
    rig.feed(huge)
    assert rig.engine.encoder.header_table_size == 8192


# Limits


def test_a_frame_that_is_too_long_is_refused_at_its_header() -> None:
    header = frame(DATA, 0, 1, length=2**24 - 1)
    assert error_of(bare(streams=1), header) is None

    assert Rig(streams=1).connection_error(header) == FRAME_SIZE_ERROR


def test_a_long_field_block_is_refused_at_its_header() -> None:
    config = Http2Config(max_header_list_size=65_536)
    header = frame(HEADERS, END_HEADERS, 1, length=131_073)
    assert error_of(bare_with(MAX_FRAME_SIZE=MIB), header) is None

    assert Rig(config, streams=1).connection_error(header) == ENHANCE_YOUR_CALM
    exact = frame(HEADERS, END_HEADERS, 1, length=131_072)
    assert Rig(config, streams=1).feed(exact) == []


def test_continuations_are_bounded_in_bytes() -> None:
    part = b"\0\x01x\x7f\x80\x7f" + bytes(16_000)
    frames = [frame(HEADERS, 0, 1, part)]
    frames += [continuation(1, part, end=False) for _ in range(60)]
    assert error_of(bare(streams=1), b"".join(frames)) is None

    assert Rig(streams=1).connection_error(b"".join(frames)) == ENHANCE_YOUR_CALM


def test_continuations_are_bounded_in_number() -> None:
    frames = [frame(HEADERS, 0, 1), *[continuation(1, b"", end=False)] * 137]
    assert Rig(streams=1).connection_error(b"".join(frames)) == ENHANCE_YOUR_CALM
    fewer = [*frames[:-2], continuation(1, block(OK))]
    assert Rig(streams=1).feed(*fewer) == [("head", 1, 200, [], False)]


def test_a_block_may_change_the_table_size_twice_and_no_more() -> None:
    twice = frame(HEADERS, END_HEADERS, 1, b"\x20\x3f\xe1\x1f" + block(OK))
    thrice = frame(HEADERS, END_HEADERS, 1, b"\x20\x3f\xe1\x1f\x3f\xe1\x1f" + block(OK))
    assert error_of(bare(streams=1), thrice) is None

    assert Rig(streams=1).feed(twice) == [("head", 1, 200, [], False)]
    assert Rig(streams=1).connection_error(thrice) == COMPRESSION_ERROR


def test_answers_do_not_queue_without_bound() -> None:
    flood = ping() * 1001
    stock = bare()
    assert error_of(stock, flood) is None
    assert len(parse(stock.data_to_send())) == 1001

    rig = Rig()
    rig.feed(ping() * 1000)
    assert rig.engine.queued_control == 1000
    assert [sent.flags for sent in rig.sent()] == [ACK] * 1000
    assert rig.engine.queued_control == 0
    assert rig.connection_error(flood) == ENHANCE_YOUR_CALM


def test_resets_of_ours_count_as_answers_too() -> None:
    rig = Rig(streams=3)
    rig.feed(data(1, b"x"), settings(), window_update(3, 0))
    assert rig.engine.queued_control == 3


def test_a_grant_does_not_move_the_target_of_a_window() -> None:
    stock = WindowManager(1000)
    stock.window_opened(500)
    assert stock.max_window_size == 1500

    rig = Rig(streams=1)
    window = rig.engine.stream_window(1)
    assert isinstance(window, ReceiveWindow)
    target = window.max_window_size
    rig.engine.grant(1, 500)
    assert (window.max_window_size, window.current_window_size) == (target, target + 500)
    assert window is rig.engine.streams[1]._inbound_window_manager


# Books


def test_closed_streams_are_forgotten_at_once() -> None:
    response = headers(1, OK, end_stream=True)
    stock = bare(streams=1)
    stock.receive_data(response)
    assert list(stock.streams) == [1]

    rig = Rig(streams=1)
    rig.feed(response)
    assert rig.engine.streams == {}
    assert rig.engine.open_streams == rig.engine.open_outbound_streams == 0


def test_what_is_remembered_of_closed_streams_is_bounded() -> None:
    rig = Rig()
    for _ in range(2500):
        stream = rig.open()
        rig.feed(headers(stream, OK, end_stream=True))
    rig.engine.take_output()
    assert 1000 <= len(rig.engine._closed_streams) <= 2000
    assert rig.feed(data(1, b"late")) == [("late_data", 4)]
    assert Rig.connection_error(rig, data(4999, b"late")) == STREAM_CLOSED


def test_no_event_is_lost_when_a_later_frame_is_bad() -> None:
    frames = headers(1, OK) + data(1, b"x", end_stream=True) + ping(b"short")
    stock = bare(streams=1)
    with pytest.raises(ProtocolError):
        stock.receive_data(frames)  # and the response is gone with the exception

    rig = Rig(streams=1)
    assert rig.connection_error(frames) == FRAME_SIZE_ERROR
    assert rig.recorder.calls == [("head", 1, 200, [], False), ("data", 1, b"x", 1, True)]


def test_a_table_size_that_is_announced_twice_is_signalled_once() -> None:
    again = settings((HEADER_TABLE_SIZE, 1024))
    stock = bare()
    stock.receive_data(again + again)
    stock.data_to_send()
    stock.send_headers(1, GET)
    assert parse(stock.data_to_send())[0].payload[0] & 0xE0 != 0x20  # the peer was told nothing

    rig = Rig()
    rig.feed(again, again)
    rig.sent()
    rig.open()
    payload = rig.sent()[0].payload
    assert payload.startswith(b"\x3f\xe1\x07")
    assert list(hpack.Decoder().decode(payload, raw=True)) == GET
