"""The rules of RFC 9113 for frames, at the level of bytes: what ends the connection, and how."""

from __future__ import annotations

import struct

import pytest
from h2.connection import H2Connection
from h2.exceptions import DenialOfServiceError, ProtocolError
from h2.settings import SettingCodes, Settings

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.engine import Engine, NotHttp2
from tests.http2.frame_factory import (
    ACK,
    ALTSVC,
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GET,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    MAX_LIST,
    MAX_STREAMS,
    NO_ERROR,
    OK,
    PADDED,
    PING,
    PRIORITY,
    PRIORITY_FLAG,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Recorder,
    Rig,
    block,
    continuation,
    data,
    frame,
    goaway,
    headers,
    padded_data,
    parse,
    ping,
    rst,
    settings,
    settings_ack,
    window_update,
)

pytestmark = pytest.mark.usefixtures("each_engine")

LARGEST = 2**31 - 1


def test_an_engine_is_made_of_what_h2_makes_and_begins_with_the_same_settings() -> None:
    config = Http2Config()
    stock, engine = H2Connection(), Rig(pairs=None).engine
    ours = vars(engine)
    assert vars(stock).keys() - ours.keys() == set()
    for name, value in vars(stock).items():
        assert isinstance(ours[name], type(value)) or name == "_closed_streams", name
    assert dict(engine.remote_settings) == dict(stock.remote_settings)
    sizes = {
        SettingCodes.HEADER_TABLE_SIZE: config.header_table_size,
        SettingCodes.ENABLE_PUSH: 0,
        SettingCodes.INITIAL_WINDOW_SIZE: config.stream_window,
        SettingCodes.MAX_FRAME_SIZE: config.max_frame_size,
        SettingCodes.MAX_CONCURRENT_STREAMS: config.max_concurrent_streams,
        SettingCodes.MAX_HEADER_LIST_SIZE: config.max_header_list_size,
    }
    assert dict(engine.local_settings) == dict(Settings(initial_values=sizes))
    assert engine.outbound_flow_control_window == stock.outbound_flow_control_window


# Each is fed to an engine with stream 1 open, after the exchange of SETTINGS.
CONNECTION_ERRORS: dict[str, tuple[int, bytes]] = {
    # Frame sizes
    "RST_STREAM of 3": (FRAME_SIZE_ERROR, frame(RST_STREAM, 0, 1, bytes(3))),
    "RST_STREAM of 5": (FRAME_SIZE_ERROR, frame(RST_STREAM, 0, 1, bytes(5))),
    "PING of 7": (FRAME_SIZE_ERROR, ping(bytes(7))),
    "PING ACK of 9": (FRAME_SIZE_ERROR, ping(bytes(9), ack=True)),
    "WINDOW_UPDATE of 3": (FRAME_SIZE_ERROR, frame(WINDOW_UPDATE, 0, 0, bytes(3))),
    "WINDOW_UPDATE of 5 on a stream": (FRAME_SIZE_ERROR, frame(WINDOW_UPDATE, 0, 1, bytes(5))),
    "SETTINGS of 5": (FRAME_SIZE_ERROR, frame(SETTINGS, payload=bytes(5))),
    "SETTINGS ACK with a payload": (FRAME_SIZE_ERROR, frame(SETTINGS, ACK, payload=bytes(6))),
    "GOAWAY of 7": (FRAME_SIZE_ERROR, frame(GOAWAY, payload=bytes(7))),
    "padded DATA of 0": (FRAME_SIZE_ERROR, frame(DATA, PADDED, 1)),
    "padded HEADERS of 0": (FRAME_SIZE_ERROR, frame(HEADERS, PADDED | END_HEADERS, 1)),
    "HEADERS without room for priority": (
        FRAME_SIZE_ERROR,
        frame(HEADERS, PRIORITY_FLAG | END_HEADERS, 1, bytes(4)),
    ),
    "padded HEADERS without room for priority": (
        FRAME_SIZE_ERROR,
        frame(HEADERS, PADDED | PRIORITY_FLAG | END_HEADERS, 1, bytes(5)),
    ),
    "unknown frame that is too long": (FRAME_SIZE_ERROR, frame(0xEE, length=1_048_577)),
    # Padding
    "padding as long as DATA": (PROTOCOL_ERROR, frame(DATA, PADDED, 1, b"\x05abcd")),
    "padding longer than HEADERS": (
        PROTOCOL_ERROR,
        frame(HEADERS, PADDED | END_HEADERS, 1, b"\x05abcd"),
    ),
    "padding over the priority": (
        PROTOCOL_ERROR,
        frame(HEADERS, PADDED | PRIORITY_FLAG | END_HEADERS, 1, b"\x02" + bytes(6)),
    ),
    # Stream identifiers
    "DATA on 0": (PROTOCOL_ERROR, data(0)),
    "HEADERS on 0": (PROTOCOL_ERROR, headers(0, OK)),
    "PRIORITY on 0": (PROTOCOL_ERROR, frame(PRIORITY, 0, 0, bytes(5))),
    "RST_STREAM on 0": (PROTOCOL_ERROR, rst(0)),
    "CONTINUATION on 0": (PROTOCOL_ERROR, continuation(0, b"")),
    "SETTINGS on 1": (PROTOCOL_ERROR, frame(SETTINGS, 0, 1)),
    "PING on 1": (PROTOCOL_ERROR, frame(PING, 0, 1, bytes(8))),
    "GOAWAY on 1": (PROTOCOL_ERROR, frame(GOAWAY, 0, 1, bytes(8))),
    "DATA on an idle stream": (PROTOCOL_ERROR, data(3)),
    "HEADERS on an idle stream": (PROTOCOL_ERROR, headers(3, OK)),
    "WINDOW_UPDATE on an idle stream": (PROTOCOL_ERROR, window_update(3, 1)),
    "DATA on a stream of the server": (PROTOCOL_ERROR, data(2)),
    "HEADERS on a stream of the server": (PROTOCOL_ERROR, headers(2, OK)),
    "RST_STREAM on a stream of the server": (PROTOCOL_ERROR, rst(2)),
    "WINDOW_UPDATE on a stream of the server": (PROTOCOL_ERROR, window_update(2, 1)),
    "PUSH_PROMISE": (PROTOCOL_ERROR, frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + block(*GET))),
    # Field blocks
    "CONTINUATION without HEADERS": (PROTOCOL_ERROR, continuation(1, b"")),
    "CONTINUATION after END_HEADERS": (PROTOCOL_ERROR, headers(1, OK) + continuation(1, b"")),
    "CONTINUATION on another stream": (PROTOCOL_ERROR, headers(1, flags=0) + continuation(3, b"")),
    "DATA in a field block": (PROTOCOL_ERROR, headers(1, flags=0) + data(1)),
    "HEADERS in a field block": (PROTOCOL_ERROR, headers(1, flags=0) + headers(1, OK)),
    "PING in a field block": (PROTOCOL_ERROR, headers(1, flags=0) + ping()),
    "an unknown frame in a field block": (PROTOCOL_ERROR, headers(1, flags=0) + frame(0xEE)),
    "an index that is not in the table": (
        COMPRESSION_ERROR,
        frame(HEADERS, END_HEADERS, 1, b"\xbe"),
    ),
    "index 0": (COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, b"\x80")),
    "a block that ends in a string": (
        COMPRESSION_ERROR,
        frame(HEADERS, END_HEADERS, 1, b"\0\x05a"),
    ),
    "a block that ends before a value": (
        COMPRESSION_ERROR,
        frame(HEADERS, END_HEADERS, 1, b"\0\1a"),
    ),
    "bad Huffman code": (COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, b"\0\x81\xff\0")),
    "a table size update after a field": (
        COMPRESSION_ERROR,
        frame(HEADERS, END_HEADERS, 1, b"\x88\x20"),
    ),
    "a table larger than announced": (
        COMPRESSION_ERROR,
        frame(HEADERS, END_HEADERS, 1, b"\x3f\xe2\x1f\x88"),
    ),
    "a header list many times too long": (
        ENHANCE_YOUR_CALM,
        frame(
            HEADERS, END_HEADERS, 1, b"\x88" + b"\x40\x01x\x7f\xa1\x1e" + bytes(4000) + b"\xbe" * 80
        ),
    ),
    # SETTINGS
    "ENABLE_PUSH = 1": (PROTOCOL_ERROR, settings((ENABLE_PUSH, 1))),
    "ENABLE_PUSH = 2": (PROTOCOL_ERROR, settings((ENABLE_PUSH, 2))),
    "a bad value that a later one hides": (
        PROTOCOL_ERROR,
        settings((ENABLE_PUSH, 2), (ENABLE_PUSH, 0)),
    ),
    "INITIAL_WINDOW_SIZE too large": (FLOW_CONTROL_ERROR, settings((INITIAL_WINDOW, 2**31))),
    "MAX_FRAME_SIZE too small": (PROTOCOL_ERROR, settings((MAX_FRAME, 16_383))),
    "MAX_FRAME_SIZE too large": (PROTOCOL_ERROR, settings((MAX_FRAME, 2**24))),
    "NO_RFC7540_PRIORITIES = 2": (PROTOCOL_ERROR, settings((9, 2))),
    "ENABLE_CONNECT_PROTOCOL = 2": (PROTOCOL_ERROR, settings((8, 2))),
    "33 settings": (ENHANCE_YOUR_CALM, settings(*[(MAX_STREAMS, 1)] * 33)),
    # Flow control
    "WINDOW_UPDATE of 0 on the connection": (PROTOCOL_ERROR, window_update(0, 0)),
    "WINDOW_UPDATE past 2**31 - 1 on the connection": (
        FLOW_CONTROL_ERROR,
        window_update(0, LARGEST - 65_534),
    ),
    "INITIAL_WINDOW_SIZE that lifts a stream past 2**31 - 1": (
        FLOW_CONTROL_ERROR,
        window_update(1, 1) + settings((INITIAL_WINDOW, LARGEST)),
    ),
}


@pytest.mark.parametrize(("code", "frames"), CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
def test_a_broken_rule_ends_the_connection_with_its_code(code: int, frames: bytes) -> None:
    assert Rig(streams=1).connection_error(frames) == code


@pytest.mark.parametrize(("code", "frames"), CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
def test_after_a_connection_error_nothing_is_read_or_sent(code: int, frames: bytes) -> None:
    rig = Rig(streams=1)
    rig.connection_error(frames)
    assert rig.feed(headers(1, OK), ping(), frames) == []
    rig.engine.reset(1, CANCEL)
    rig.engine.grant(0, 1)
    rig.engine.grant(1, 1)
    rig.engine.goaway(NO_ERROR)
    rig.engine.receive_eof()
    assert rig.sent() == []
    with pytest.raises(ProtocolError):
        rig.engine.ping(bytes(8))
    with pytest.raises(ProtocolError):
        rig.engine.change_settings({INITIAL_WINDOW: 1})
    with pytest.raises(ProtocolError):
        rig.engine.send_data(1, b"x")


@pytest.mark.parametrize(
    ("kind", "length"), [(RST_STREAM, 5), (PING, 9), (WINDOW_UPDATE, 5), (SETTINGS, 7), (GOAWAY, 7)]
)
def test_a_fixed_length_is_judged_at_the_header(kind: int, length: int) -> None:
    stream = 1 if kind == RST_STREAM else 0
    header = frame(kind, 0, stream, length=length)
    assert Rig(streams=1).connection_error(header) == FRAME_SIZE_ERROR


def test_the_reserved_bits_are_ignored() -> None:
    rig = Rig(streams=1)
    calls = rig.feed(
        frame(HEADERS, END_HEADERS, 1 | 1 << 31, block(OK)),
        window_update(1 | 1 << 31, 5 | 1 << 31),
        goaway(7 | 1 << 31),
    )
    assert [call[0] for call in calls] == ["head", "window_update", "goaway"]
    assert calls[2][1] == 7
    assert rig.engine.streams[1].outbound_flow_control_window == 65_540


def test_flags_that_a_frame_does_not_have_are_ignored() -> None:
    rig = Rig(streams=1)
    calls = rig.feed(
        frame(HEADERS, END_HEADERS | 0xD2, 1, block(OK)),
        frame(DATA, 0xF6, 1, b"x"),
        frame(PING, 0xFE, 0, bytes(8)),
        frame(SETTINGS, 0xFE),
        frame(RST_STREAM, 0xFF, 1, bytes(4)),
    )
    assert [call[0] for call in calls] == ["head", "data", "ping", "settings", "reset"]


def test_what_we_do_not_know_is_ignored() -> None:
    rig = Rig(streams=1)
    calls = rig.feed(
        frame(0xEE, 0xFF, 0, b"anything"),
        frame(0xEE, 0xFF, 77, b"anything"),
        frame(ALTSVC, 0, 0, b""),
        settings((0x77, 1), (9, 0)),
    )
    assert calls == [("other", 0xEE), ("other", 0xEE), ("other", ALTSVC), ("settings", 65_535)]
    assert 0x77 not in rig.engine.remote_settings


def test_a_peer_may_say_that_it_knows_no_priorities_and_say_it_again() -> None:
    rig = Rig(pairs=None)
    assert rig.feed(settings((9, 1))) == rig.feed(settings((9, 1))) == [("settings", 65_535)]


def test_priority_is_ignored_in_every_state() -> None:
    rig = Rig(streams=2)
    rig.feed(headers(1, OK, end_stream=True))
    itself = struct.pack(">IB", 3, 0)
    calls = rig.feed(*[frame(PRIORITY, 0, stream, itself) for stream in (1, 2, 3, 99)])
    assert calls == [("other", PRIORITY)] * 4
    assert rig.sent() == []


def test_priority_of_a_wrong_length_is_an_error_of_its_stream() -> None:
    rig = Rig(streams=1)
    assert rig.stream_error(frame(PRIORITY, 0, 1, bytes(4))) == FRAME_SIZE_ERROR
    assert rig.feed(frame(PRIORITY, 0, 1, bytes(6))) == [("other", PRIORITY)]


def test_priority_in_headers_is_skipped() -> None:
    payload = b"\x03" + bytes(5) + block(OK) + bytes(3)
    flags = END_HEADERS | PADDED | PRIORITY_FLAG | END_STREAM
    assert Rig(streams=1).feed(frame(HEADERS, flags, 1, payload)) == [("head", 1, 200, [], True)]


def test_padding_counts_for_flow_control_and_is_not_delivered() -> None:
    rig = Rig(streams=1)
    window = rig.engine.stream_window(1)
    assert window is not None
    before = window.current_window_size
    calls = rig.feed(headers(1, OK), padded_data(1, b"abc", 10), padded_data(1, b"", 0))
    assert calls[1:] == [("data", 1, b"abc", 14, False), ("data", 1, b"", 1, False)]
    assert window.current_window_size == before - 15


def test_a_block_in_pieces_is_one_event() -> None:
    whole = block(OK, (b"x", b"y"))
    rig = Rig(streams=1)
    calls = rig.feed(
        frame(HEADERS, END_STREAM | PADDED, 1, b"\x02" + whole[:3] + b"\0\0"),
        continuation(1, whole[3:9], end=False),
        continuation(1, b"", end=False),
        continuation(1, whole[9:]),
    )
    assert calls == [("head", 1, 200, [(b"x", b"y")], True)]


# The beginning


def fresh() -> Rig:
    return Rig(pairs=None)


def test_the_first_flight_says_what_the_config_says() -> None:
    config = Http2Config(
        max_frame_size=20_000,
        max_concurrent_streams=77,
        initial_stream_window=100_000,
        initial_connection_window=300_000,
        max_header_list_size=5000,
        header_table_size=1000,
    )
    engine = Rig.engine_class(config, Recorder())
    engine.initiate()
    (flight,) = engine.take_output()
    assert bytes(flight).startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    ours, update = parse(bytes(flight))
    assert (ours.kind, ours.flags, ours.stream) == (SETTINGS, 0, 0)
    assert dict(struct.iter_unpack(">HI", ours.payload)) == {
        HEADER_TABLE_SIZE: 1000,
        ENABLE_PUSH: 0,
        MAX_STREAMS: 77,
        INITIAL_WINDOW: 100_000,
        MAX_FRAME: 20_000,
        MAX_LIST: 5000,
        9: 1,
    }
    assert update == (WINDOW_UPDATE, 0, 0, struct.pack(">I", 300_000 - 65_535))
    assert engine.connection_receive_window.current_window_size == 300_000


def test_a_small_connection_window_needs_no_update_and_is_not_exceeded_later() -> None:
    engine = Rig.engine_class(Http2Config(initial_connection_window=1000), Recorder())
    engine.initiate()
    assert [sent.kind for sent in parse(b"".join(engine.take_output()))] == [SETTINGS]
    window = engine.connection_receive_window
    assert window.current_window_size == 65_535
    window.owed += 10_000
    assert window.due(1000) == 0


def test_settings_are_acknowledged_and_told() -> None:
    assert not fresh().engine.settings_received
    rig = fresh()
    assert rig.feed(settings((MAX_STREAMS, 5), (MAX_LIST, 99))) == [("settings", 65_535)]
    assert rig.sent() == [(SETTINGS, ACK, 0, b"")]
    assert rig.engine.settings_received
    assert rig.engine.peer_stream_limit == 5
    assert rig.engine.peer_max_header_list_size == 99


def test_the_peer_need_not_say_how_long_a_header_list_may_be() -> None:
    assert Rig().engine.peer_max_header_list_size is None


def test_a_garbage_beginning_is_no_settings_frame() -> None:
    assert fresh().connection_error(b"SSH-2.0-OpenSSH\r\n") == PROTOCOL_ERROR
    assert fresh().connection_error(b"\x15\x03\x01\x00\x02\x02\x46" + bytes(2)) == PROTOCOL_ERROR


def test_settings_that_are_too_long_are_refused_even_as_the_first_frame() -> None:
    assert fresh().connection_error(frame(SETTINGS, length=2**24 - 2)) == FRAME_SIZE_ERROR


HTTP1 = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize("step", [1, 4, 5, 8, 9, 10, 1000])
def test_a_peer_that_speaks_http1_is_recognised(step: int) -> None:
    rig = fresh()
    pieces = [HTTP1[start : start + step] for start in range(0, len(HTTP1), step)]
    with pytest.raises(NotHttp2) as caught:
        list(map(rig.engine.receive, pieces))
    assert caught.value.first_line == "HTTP/1.1 400 Bad Request"
    assert caught.value.error_code == PROTOCOL_ERROR
    assert rig.sent()[-1].kind == GOAWAY


def test_http1_is_recognised_whatever_frame_size_is_allowed() -> None:
    rig = Rig(Http2Config(max_frame_size=2**24 - 1), pairs=None)
    with pytest.raises(NotHttp2):
        rig.engine.receive(HTTP1)


def test_an_endless_status_line_is_not_waited_for() -> None:
    rig = fresh()
    rig.engine.receive(b"HTTP/1.1 " + b"x" * 246)
    with pytest.raises(NotHttp2) as caught:
        rig.engine.receive(b"xx")
    assert len(caught.value.first_line) == 256


def test_an_unfinished_status_line_is_told_when_the_connection_ends() -> None:
    rig = fresh()
    rig.engine.receive(b"HTTP/1.0 503 No")
    with pytest.raises(NotHttp2) as caught:
        rig.engine.receive_eof()
    assert caught.value.first_line == "HTTP/1.0 503 No"


def test_an_end_in_any_other_place_is_not_judged_by_the_engine() -> None:
    fresh().engine.receive_eof()
    rig = Rig(streams=1)
    rig.feed(data(1, b"HTTP/1.1 200 OK\r\n")[:12])
    rig.engine.receive_eof()


# Receivers


def test_a_receiver_may_end_the_connection() -> None:
    class Strict(Recorder):
        def on_ping(self) -> None:
            raise DenialOfServiceError("too many PINGs")

    engine = Rig.engine_class(Http2Config(), Strict())
    with pytest.raises(DenialOfServiceError):
        engine.receive(settings() + ping() + ping())
    *_, last = parse(b"".join(engine.take_output()))
    assert (last.kind, last.code) == (GOAWAY, ENHANCE_YOUR_CALM)
    assert last.payload.endswith(b"too many PINGs")
    assert engine.failed


def test_a_receiver_may_call_back() -> None:
    class Eager(Recorder):
        engine: Engine

        def on_head(self, stream_id: int, *rest: object) -> None:
            self.engine.reset(stream_id, CANCEL)

        def on_late_data(self, flow_length: int) -> None:
            super().on_late_data(flow_length)
            self.engine.grant(0, flow_length)

    recorder = Eager()
    rig = Rig(streams=1)
    rig.engine._receiver = recorder
    recorder.engine = rig.engine
    rig.engine.receive(headers(1, OK) + data(1, b"late", end_stream=True))
    assert [sent.kind for sent in rig.sent()] == [RST_STREAM, WINDOW_UPDATE]
    assert recorder.calls == [("late_data", 4)]


def test_a_stream_error_after_the_receiver_reset_the_stream_is_said_once() -> None:
    class Eager(Recorder):
        engine: Engine

        def on_late_data(self, flow_length: int) -> None:
            self.engine.reset(1, CANCEL)

    recorder = Eager()
    rig = Rig(streams=1)
    rig.engine._receiver = recorder
    recorder.engine = rig.engine
    rig.engine.receive(data(1, b"before the head"))
    assert [sent.code for sent in rig.sent()] == [CANCEL]
    assert recorder.calls == []


def test_the_names_of_h2_lead_to_the_same_place() -> None:
    recorder = Recorder()
    engine = Rig.engine_class(Http2Config(), recorder)
    engine.initiate_connection()
    engine.ping(bytes(8))
    everything = engine.data_to_send()
    assert [sent.kind for sent in parse(everything)] == [SETTINGS, WINDOW_UPDATE, PING]
    engine.ping(bytes(8))
    assert engine.data_to_send(10) + engine.data_to_send(100) == ping(bytes(8))
    assert engine.receive_data(settings() + settings_ack()) == []
    assert [call[0] for call in recorder.calls] == ["settings", "settings_ack"]


def test_errors_are_named_after_their_frames() -> None:
    for kind, name in ((CONTINUATION, "CONTINUATION"), (0xEE, "frame type 0xee")):
        with pytest.raises(ProtocolError, match=name):
            Rig().engine.receive(frame(kind, 0, 1, length=2_000_000))


def test_data_on_a_stream_that_has_ended_is_an_error_of_the_connection() -> None:
    for late in (data(1), headers(1, OK)):
        rig = Rig(streams=1)
        rig.feed(headers(1, OK, end_stream=True))
        assert rig.connection_error(late) == STREAM_CLOSED
