"""Streams as they are received: messages, ends, resets, windows (RFC 9113 §5.1, §6.9, §8.1)."""

from __future__ import annotations

import gc
import weakref

import hpack
import pytest
from h2.exceptions import StreamClosedError

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.headers import Field
from tests.http2.frame_factory import (
    CANCEL,
    END_HEADERS,
    FLOW_CONTROL_ERROR,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    NO_ERROR,
    OK,
    PROTOCOL_ERROR,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Recorder,
    Rig,
    continuation,
    data,
    frame,
    headers,
    padded_data,
    rst,
    settings,
    settings_ack,
    window_update,
)

pytestmark = pytest.mark.usefixtures("each_engine")

LENGTH_5: Field = (b"content-length", b"5")


# Messages


def test_a_response_is_head_data_and_trailers() -> None:
    rig = Rig(streams=1)
    assert rig.feed(
        headers(1, OK, LENGTH_5, (b"x", b"1"), (b"x", b"2")),
        data(1, b"abc"),
        data(1),
        data(1, b"de"),
        headers(1, (b"grpc-status", b"0"), end_stream=True),
    ) == [
        ("head", 1, 200, [LENGTH_5, (b"x", b"1"), (b"x", b"2")], False),
        ("data", 1, b"abc", 3, False),
        ("data", 1, b"", 0, False),
        ("data", 1, b"de", 2, False),
        ("trailers", 1, [(b"grpc-status", b"0")]),
    ]
    assert rig.engine.open_streams == 0


def test_informational_responses_come_before_the_head() -> None:
    rig = Rig(streams=1)
    assert rig.feed(
        headers(1, (b":status", b"100")),
        headers(1, (b":status", b"103"), (b"link", b"</x>"), LENGTH_5),
        headers(1, OK, end_stream=True),
    ) == [
        ("informational", 1, 100, []),
        ("informational", 1, 103, [(b"link", b"</x>"), LENGTH_5]),
        ("head", 1, 200, [], True),
    ]


def test_empty_trailers_end_a_stream() -> None:
    rig = Rig(streams=1)
    assert rig.feed(headers(1, OK), headers(1, end_stream=True))[1:] == [("trailers", 1, [])]


@pytest.mark.parametrize("status", [b"204", b"304"])
def test_a_status_without_content_is_not_held_to_its_content_length(status: bytes) -> None:
    rig = Rig(streams=1)
    calls = rig.feed(headers(1, (b":status", status), LENGTH_5, end_stream=True))
    assert calls == [("head", 1, int(status), [LENGTH_5], True)]


@pytest.mark.parametrize("status", [b"204", b"304"])
def test_a_status_without_content_has_none(status: bytes) -> None:
    rig = Rig(streams=1)
    assert rig.stream_error(headers(1, (b":status", status)), data(1, b"x")) == PROTOCOL_ERROR


def test_a_response_to_head_has_no_content() -> None:
    rig = Rig()
    rig.open("HEAD")
    rig.open("HEAD")
    rig.sent()
    assert rig.feed(headers(1, OK, LENGTH_5, end_stream=True)) == [
        ("head", 1, 200, [LENGTH_5], True)
    ]
    assert rig.stream_error(headers(3, OK, LENGTH_5), data(3, b"abcde"), stream=3) == PROTOCOL_ERROR


def test_content_that_is_too_long_is_refused_before_its_end() -> None:
    rig = Rig(streams=1)
    rig.feed(headers(1, OK, LENGTH_5), data(1, b"abcde"))
    assert rig.stream_error(data(1, b"f")) == PROTOCOL_ERROR
    assert rig.recorder.calls[0] == ("late_data", 1)


def test_padding_is_not_content() -> None:
    rig = Rig(streams=1)
    calls = rig.feed(headers(1, OK, LENGTH_5), padded_data(1, b"abcde", 9, end_stream=True))
    assert calls[-1] == ("data", 1, b"abcde", 15, True)


def test_a_header_list_that_is_too_long_is_an_error_of_its_stream() -> None:
    config = Http2Config(max_header_list_size=1000)
    encoder = hpack.Encoder()
    long = encoder.encode([OK, (b"x-kept", b"1"), (b"x-long", b"v" * 2000), (b"x-last", b"2")])
    good = encoder.encode([OK, (b"x-kept", b"1"), (b"x-last", b"2")])
    rig = Rig(config, streams=2)
    assert rig.stream_error(frame(HEADERS, END_HEADERS, 1, long)) == PROTOCOL_ERROR
    assert rig.feed(frame(HEADERS, END_HEADERS, 3, good)) == [
        ("head", 3, 200, [(b"x-kept", b"1"), (b"x-last", b"2")], False)
    ]


def test_a_header_list_of_exactly_the_limit_is_taken() -> None:
    size = 32 + 7 + 3 + 32 + 1 + 100
    response = headers(1, OK, (b"x", b"v" * 100))
    assert len(Rig(Http2Config(max_header_list_size=size), streams=1).feed(response)) == 1
    rig = Rig(Http2Config(max_header_list_size=size - 1), streams=1)
    assert rig.stream_error(response) == PROTOCOL_ERROR


# Ends


def test_a_response_may_end_before_its_request() -> None:
    rig = Rig()
    rig.open("POST", end_stream=False)
    rig.feed(headers(1, OK, end_stream=True))
    assert rig.engine.open_streams == 1
    rig.engine.send_data(1, b"rest", end_stream=True)
    assert rig.engine.open_streams == 0
    assert rig.connection_error(data(1)) == STREAM_CLOSED


def test_trailers_of_ours_may_be_the_last_thing_on_a_stream() -> None:
    rig = Rig()
    rig.open("POST", end_stream=False)
    rig.feed(headers(1, OK, end_stream=True))
    rig.engine.send_trailers(1, [(b"x", b"y")])
    assert rig.engine.open_streams == 0


@pytest.mark.parametrize("late", [data(1, b"abc"), headers(1, (b"x", b"y"), end_stream=True)])
def test_what_comes_after_the_end_costs_the_stream_while_we_still_send(late: bytes) -> None:
    rig = Rig()
    rig.open("POST", end_stream=False)
    rig.feed(headers(1, OK, end_stream=True))
    rig.sent()
    assert rig.stream_error(late) == STREAM_CLOSED
    told = ("late_data", 3) if late == data(1, b"abc") else ("late", HEADERS)
    assert rig.feed(late) == [told]


def test_a_reset_after_the_end_is_told_while_we_still_send() -> None:
    rig = Rig(streams=1)
    rig.open("POST", end_stream=False)
    rig.feed(headers(1, OK, end_stream=True), headers(3, OK, end_stream=True))
    calls = rig.feed(rst(1, NO_ERROR), rst(3, NO_ERROR))
    assert calls == [("late", RST_STREAM), ("reset", 3, NO_ERROR)]
    assert rig.engine.open_streams == 0


def test_frames_after_a_reset_of_the_peer_are_ignored() -> None:
    rig = Rig(streams=1)
    assert rig.feed(
        rst(1, 0xDEADBEEF), headers(1, OK), data(1, b"abc"), rst(1), window_update(1, 0)
    ) == [
        ("reset", 1, 0xDEADBEEF),
        ("late", HEADERS),
        ("late_data", 3),
        ("late", RST_STREAM),
        ("late", WINDOW_UPDATE),
    ]
    assert rig.sent() == []


def test_a_forgotten_stream_is_gone_without_a_word() -> None:
    rig = Rig(streams=1)
    rig.engine.forget(1)
    rig.engine.forget(1)
    assert rig.engine.open_streams == 0
    assert rig.feed(data(1, b"abc")) == [("late_data", 3)]
    assert rig.sent() == []


def test_resetting_sends_one_frame() -> None:
    rig = Rig(streams=1)
    rig.engine.reset(1, CANCEL)
    rig.engine.reset(1, CANCEL)
    assert [(sent.kind, sent.stream, sent.code) for sent in rig.sent()] == [(RST_STREAM, 1, CANCEL)]
    assert rig.engine.queued_control == 0


# Windows


def test_window_updates_raise_what_may_be_sent() -> None:
    rig = Rig(streams=1)
    assert rig.engine.send_window(1) == 65_535
    assert rig.feed(window_update(1, 10), window_update(0, 5)) == [
        ("window_update", 1),
        ("window_update", 0),
    ]
    assert rig.engine.send_window(1) == 65_540
    assert rig.engine.send_window(3) == 0


def test_a_stream_window_past_the_largest_is_an_error_of_its_stream() -> None:
    rig = Rig(streams=2)
    assert rig.stream_error(window_update(1, 2**31 - 65_535)) == FLOW_CONTROL_ERROR
    assert rig.feed(window_update(3, 2**31 - 65_536)) == [("window_update", 3)]


def test_a_window_may_become_negative() -> None:
    rig = Rig()
    rig.open("POST", end_stream=False)
    rig.engine.send_data(1, bytes(16_384))
    assert rig.feed(settings((INITIAL_WINDOW, 1000))) == [("settings", 65_535)]
    assert rig.engine.send_window(1) == 1000 - 16_384
    rig.sent()
    rig.engine.send_data(1, b"", end_stream=True)
    assert [sent.payload for sent in rig.sent()] == [b""]
    assert rig.feed(settings((INITIAL_WINDOW, 65_535)))[0] == ("settings", 1000)


def test_settings_are_applied_in_their_order() -> None:
    rig = Rig(streams=1)
    rig.feed(settings((INITIAL_WINDOW, 0), (INITIAL_WINDOW, 2**31 - 1), (INITIAL_WINDOW, 5)))
    assert rig.engine.send_window(1) == 5
    rig.feed(settings((MAX_FRAME, 30_000)))
    assert rig.engine.max_outbound_frame_size == 30_000
    rig.engine.send_trailers(rig.open(end_stream=False), [(b"x", b"v" * 20_000)])
    assert [sent.kind for sent in rig.sent()][-1] == HEADERS


def test_more_than_a_stream_was_granted_is_an_error_of_its_stream() -> None:
    config = Http2Config(initial_stream_window=1000, initial_connection_window=100_000)
    rig = Rig(config, streams=2)
    rig.feed(headers(1, OK), data(1, bytes(1000)), data(1))
    assert rig.stream_error(data(1, b"x")) == FLOW_CONTROL_ERROR
    assert rig.recorder.calls[0] == ("late_data", 1)
    assert rig.engine.connection_receive_window.current_window_size == 100_000 - 1001


def test_more_than_the_connection_was_granted_ends_it() -> None:
    config = Http2Config(initial_stream_window=100_000, initial_connection_window=65_535)
    rig = Rig(config, streams=2)
    rig.feed(headers(1, OK), headers(3, OK), data(1, bytes(65_535)), data(3))
    assert rig.connection_error(data(3, b"x")) == FLOW_CONTROL_ERROR


def test_a_grant_is_sent_and_counted() -> None:
    rig = Rig(streams=1)
    window = rig.engine.stream_window(1)
    assert window is not None
    rig.feed(headers(1, OK), data(1, bytes(100)))
    rig.engine.grant(1, 60)
    rig.engine.grant(0, 70)
    assert [(sent.stream, sent.payload[-1]) for sent in rig.sent()] == [(1, 60), (0, 70)]
    assert window.current_window_size == window.max_window_size - 40
    rig.engine.grant(99, 1)
    assert rig.sent() == []


def test_our_new_window_moves_every_open_stream_when_it_is_acknowledged() -> None:
    config = Http2Config(initial_stream_window=1000)
    rig = Rig(config, streams=1)
    rig.feed(headers(1, OK), data(1, bytes(900)))
    first = rig.engine.stream_window(1)
    assert first is not None
    assert rig.engine.change_settings({INITIAL_WINDOW: 400})
    assert [sent.kind for sent in rig.sent()] == [SETTINGS]
    assert (first.current_window_size, first.max_window_size) == (100, 1000)
    second = rig.engine.stream_window(rig.open())
    assert second is not None
    assert second.max_window_size == 1000
    rig.feed(settings_ack())
    assert (first.current_window_size, first.max_window_size) == (-500, 400)
    assert (second.current_window_size, second.max_window_size) == (400, 400)
    assert rig.feed(data(1)) == [("data", 1, b"", 0, False)]


def test_our_new_limits_hold_from_their_ack_on() -> None:
    rig = Rig(streams=1)
    long = data(1, bytes(20_000))
    assert rig.engine.change_settings({MAX_FRAME: 16_384, 6: 100})
    assert rig.feed(headers(1, OK), long)[-1] == ("data", 1, bytes(20_000), 20_000, False)
    rig.feed(settings_ack())
    assert rig.engine.decoder.max_header_list_size == 100
    assert Rig.connection_error(rig, long[:9]) == 6


# Sending


def test_a_long_head_goes_out_in_frames_that_the_peer_allows() -> None:
    rig = Rig()
    rig.open("GET", (b"x", b"v" * 40_000))
    first, *rest = rig.sent()
    assert (first.kind, first.flags) == (HEADERS, 1)
    assert [(sent.kind, sent.flags, len(sent.payload) <= 16_384) for sent in rest] == [
        (9, 0, True),
        (9, END_HEADERS, True),
    ]
    whole = b"".join([sent.payload for sent in (first, *rest)])
    assert list(hpack.Decoder().decode(whole, raw=True))[-1] == (b"x", b"v" * 40_000)


def test_fields_go_out_in_their_order() -> None:
    rig = Rig()
    rig.open("POST", (b"b", b"1"), (b"a", b"2"), end_stream=False)
    (sent,) = rig.sent()
    assert sent.flags == END_HEADERS
    names = [name for name, _ in hpack.Decoder().decode(sent.payload, raw=True)]
    assert names == [b":method", b":scheme", b":authority", b":path", b"b", b"a"]


def test_trailers_without_fields_are_an_empty_data_frame() -> None:
    rig = Rig()
    rig.open("POST", end_stream=False)
    rig.sent()
    rig.engine.send_trailers(1, [])
    assert rig.sent() == [(0, 1, 1, b"")]


@pytest.mark.parametrize("ended_by", ["data", "trailers", "reset", "never opened"])
def test_nothing_is_sent_after_our_end(ended_by: str) -> None:
    rig = Rig()
    if ended_by != "never opened":
        rig.open("POST", end_stream=False)
    if ended_by == "data":
        rig.engine.send_data(1, b"", end_stream=True)
    elif ended_by == "trailers":
        rig.engine.send_trailers(1, [(b"x", b"y")])
    elif ended_by == "reset":
        rig.engine.reset(1, CANCEL)
    entries = list(rig.engine.encoder.header_table.dynamic_entries)
    rig.sent()
    with pytest.raises(StreamClosedError):
        rig.engine.send_data(1, b"")
    with pytest.raises(StreamClosedError):
        rig.engine.send_trailers(1, [(b"late", b"x")])
    assert rig.sent() == []
    assert list(rig.engine.encoder.header_table.dynamic_entries) == entries


def test_data_of_every_kind_of_bytes_goes_out() -> None:
    rig = Rig()
    rig.open("POST", end_stream=False)
    rig.sent()
    rig.engine.send_data(1, memoryview(b"abc")[1:])
    rig.engine.send_data(1, b"d", end_stream=True)
    assert [(sent.flags, sent.payload) for sent in rig.sent()] == [(0, b"bc"), (1, b"d")]


def test_output_keeps_its_order_and_is_taken_once() -> None:
    rig = Rig()
    rig.open("POST", end_stream=False)
    rig.engine.ping(b"abcdefgh")
    rig.engine.send_data(1, b"x")
    rig.feed(settings())
    rig.engine.goaway(NO_ERROR)
    assert [sent.kind for sent in rig.sent()] == [HEADERS, 6, 0, SETTINGS, 7]
    assert rig.engine.take_output() == []


def test_ping_acks_carry_their_payload() -> None:
    rig = Rig()
    assert rig.feed(frame(6, 0, 0, b"abcdefgh"), frame(6, 1, 0, b"ijklmnop")) == [
        ("ping",),
        ("ping_ack", b"ijklmnop"),
    ]
    assert rig.sent() == [(6, 1, 0, b"abcdefgh")]


def test_an_engine_is_freed_without_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        engine = Rig.engine_class(Http2Config(), Recorder())
        engine.initiate()
        gone = weakref.ref(engine)
        del engine
        assert gone() is None
    finally:
        gc.enable()


def test_a_block_may_cross_reads() -> None:
    rig = Rig(streams=1)
    whole = frame(HEADERS, 0, 1) + continuation(1, headers(1, OK)[9:])
    assert [rig.feed(whole[at : at + 1]) for at in range(len(whole))][-1] == [
        ("head", 1, 200, [], False)
    ]
