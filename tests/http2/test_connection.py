"""A connection from its first flight on: settings, requests and responses, capacity."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import ConnectionLost, LocalProtocolError
from dynamo_h2.http2.connection import LAST_STREAM_ID, State
from dynamo_h2.http2.stream import Need
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import PLENTY, Link, failure, kinds, succeeded

pytestmark = pytest.mark.usefixtures("each_engine")

NO_RFC7540_PRIORITIES = 9
MIB = 1 << 20

CONFIGS = [
    Http2Config(),
    Http2Config.high_throughput(),
    Http2Config.low_latency(),
    Http2Config.memory_constrained(),
    Http2Config(
        max_frame_size=16_384,
        max_concurrent_streams=7,
        initial_stream_window=100_000,
        initial_connection_window=1_000_000,
        max_header_list_size=20_000,
        header_table_size=0,
    ),
]


def answer(stream: int, payload: bytes = b"") -> bytes:
    """A whole response."""
    return ff.headers(stream, ff.OK) + ff.data(stream, payload, end_stream=True)


# The first flight.


@pytest.mark.parametrize("config", CONFIGS)
def test_the_first_flight_says_every_setting_and_raises_the_connection_window(
    config: Http2Config,
) -> None:
    link = Link(config, pairs=None)
    assert link.first_flight.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    settings, update = ff.parse(link.first_flight)
    assert (settings.kind, settings.flags, settings.stream) == (ff.SETTINGS, 0, 0)
    pairs = list(struct.iter_unpack(">HI", settings.payload))
    assert dict(pairs) == {
        ff.HEADER_TABLE_SIZE: config.header_table_size,
        ff.ENABLE_PUSH: 0,
        ff.MAX_STREAMS: config.max_concurrent_streams,
        ff.INITIAL_WINDOW: config.stream_window,
        ff.MAX_FRAME: config.max_frame_size,
        ff.MAX_LIST: config.max_header_list_size,
        NO_RFC7540_PRIORITIES: 1,
    }
    assert len(pairs) == 7
    assert (update.kind, update.stream) == (ff.WINDOW_UPDATE, 0)
    assert 65_535 + int.from_bytes(update.payload) == config.connection_window


def test_a_connection_window_below_the_least_is_reached_by_withholding_credit() -> None:
    config = Http2Config(initial_connection_window=20_000, adaptive_window=False)
    link = Link(config)
    (settings,) = ff.parse(link.first_flight)
    assert settings.kind == ff.SETTINGS
    stream = link.open(limit=PLENTY)
    link.sent()
    link.feed(ff.headers(1, ff.OK), *[ff.data(1, bytes(5_000)) for _ in range(9)])
    assert link.sent() == []
    # 45,000 of 65,535 bytes came: the window stands at 20,535, and the next grant may fill it up.
    link.feed(ff.data(1, bytes(10_000)))
    (update,) = link.sent()
    assert (update.stream, int.from_bytes(update.payload)) == (0, 20_000 - 10_535)
    assert stream.unread == 55_000


def test_a_data_frame_of_1_mib_is_received() -> None:
    link = Link()
    stream = link.open(method="GET")
    payload = bytes(range(256)) * 4096
    link.feed(ff.headers(1, ff.OK), ff.data(1, payload, end_stream=True))
    assert len(payload) == MIB
    assert succeeded(stream)
    assert stream.read() == payload


def test_a_data_frame_of_more_than_was_announced_is_refused() -> None:
    link = Link()
    stream = link.open(method="GET")
    link.feed(ff.headers(1, ff.OK), ff.data(1, bytes(MIB + 1)))
    assert link.sent()[-1].code == ff.FRAME_SIZE_ERROR
    assert failure(stream).processed is None or failure(stream).processed is False


def test_a_data_frame_of_1_mib_is_sent_to_a_peer_that_allows_it() -> None:
    link = Link(
        Http2Config(send_quantum=MIB), pairs=((ff.MAX_FRAME, MIB), (ff.INITIAL_WINDOW, 2 * MIB))
    )
    link.feed(ff.window_update(0, 2 * MIB))
    payload = bytes(range(256)) * 4096
    link.open(payload)
    head, data = link.sent()
    assert (head.kind, head.flags) == (ff.HEADERS, ff.END_HEADERS)
    assert (data.kind, data.flags, data.stream) == (ff.DATA, ff.END_STREAM, 1)
    assert data.payload == payload


# Requests.


def test_a_request_without_a_body_is_one_frame() -> None:
    link = Link()
    link.open(None, (b"x-a", b"1"), method="GET")
    (head,) = link.sent()
    assert (head.kind, head.flags, head.stream) == (ff.HEADERS, 5, 1)
    assert link.fields(head) == [*ff.GET, (b"x-a", b"1")]


def test_a_small_request_is_two_frames_in_one_write() -> None:
    link = Link()
    link.open(b"hello")
    assert link.wanted_output
    head, data = link.sent()
    assert link.fields(head)[0] == (b":method", b"POST")
    assert (data.payload, data.flags) == (b"hello", ff.END_STREAM)


def test_an_empty_body_is_none() -> None:
    link = Link()
    link.open(b"")
    (head,) = link.sent()
    assert head.flags & ff.END_STREAM


def test_requests_have_odd_identifiers_in_order() -> None:
    link = Link()
    assert [link.open().stream_id for _ in range(4)] == [1, 3, 5, 7]


def test_a_response_is_handed_over_with_its_trailers() -> None:
    link = Link()
    stream = link.open(limit=PLENTY)
    waiting = link.wait_for(stream, Need.DONE)
    link.feed(
        ff.headers(1, (b":status", b"201"), (b"a", b"b")),
        ff.data(1, b"one"),
        ff.padded_data(1, b"two", 5),
    )
    assert not waiting.done()
    link.feed(ff.headers(1, (b"checksum", b"7"), end_stream=True))
    assert waiting.done()
    assert succeeded(stream)
    assert (stream.status, stream.fields, stream.body()) == (201, [(b"a", b"b")], b"onetwo")
    assert stream.trailers == [(b"checksum", b"7")]
    assert not link.connection.streams


def test_an_interim_response_reaches_the_callback_and_never_ends_the_request() -> None:
    link = Link()
    seen: list[object] = []
    stream = link.open(on_informational=lambda status, fields: seen.append((status, fields)))
    silent = link.open()
    link.feed(ff.headers(1, (b":status", b"103"), (b"link", b"</a>")))
    link.feed(ff.headers(3, (b":status", b"100")), answer(1), answer(3))
    assert seen == [(103, [(b"link", b"</a>")])]
    assert succeeded(stream)
    assert succeeded(silent)


def test_an_error_in_the_callback_is_handed_to_the_caller_and_resets_the_stream() -> None:
    link = Link()
    mistake = ValueError("mine")

    def callback(status: int, fields: object) -> None:
        raise mistake

    stream, other = link.open(on_informational=callback), link.open()
    link.sent()
    link.feed(ff.headers(1, (b":status", b"103")), answer(3))
    assert stream.done
    assert stream.error is mistake
    assert kinds(link.sent()) == [(ff.RST_STREAM, 1)]
    assert succeeded(other)


def test_the_callback_may_cancel_and_open_streams() -> None:
    link = Link()

    def callback(status: int, fields: object) -> None:
        link.connection.cancel(stream, link.now)
        link.open(b"instead")

    stream = link.open(on_informational=callback)
    link.flush()
    link.feed(ff.headers(1, (b":status", b"103")), ff.headers(1, ff.OK), ff.data(1, b"late"))
    assert kinds(link.sent()) == [(ff.RST_STREAM, 1), (ff.HEADERS, 3), (ff.DATA, 3)]
    assert stream.done
    assert stream.error is None


@given(st.data())
def test_any_split_of_the_received_bytes_gives_the_same(data: st.DataObject) -> None:
    link = Link(pairs=None)
    wire = (
        ff.settings((ff.MAX_STREAMS, 50))
        + ff.settings_ack()
        + ff.headers(1, (b":status", b"103"))
        + ff.headers(3, ff.OK, (b"x", b"y" * 50))
        + ff.ping()
        + ff.headers(1, ff.OK)
        + ff.data(1, b"abc")
        + ff.padded_data(3, b"def", 9, end_stream=True)
        + ff.headers(1, (b"t", b"u"), end_stream=True)
        + ff.rst(5, ff.REFUSED_STREAM)
        + ff.goaway(5)
    )
    streams = [link.open(limit=PLENTY) for _ in range(3)]
    link.flush()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        link.feed(wire[start:end])
    assert [stream.body() for stream in streams] == [b"abc", b"def", b""]
    assert [stream.done for stream in streams] == [True] * 3
    assert streams[0].trailers == [(b"t", b"u")]
    assert failure(streams[2]).processed is False
    assert link.connection.closed


# Capacity.


def test_until_the_settings_arrive_a_hundred_streams_are_assumed() -> None:
    link = Link(pairs=None)
    assert (link.connection.capacity, link.connection.ready) == (100, False)
    link.feed(ff.settings((ff.MAX_STREAMS, 250)))
    assert (link.connection.capacity, link.connection.ready) == (250, True)
    assert link.states == [State.READY]


def test_capacity_is_the_smaller_of_our_limit_and_the_peers() -> None:
    assert Link(Http2Config(max_concurrent_streams=10), pairs=None).connection.capacity == 10
    assert Link(pairs=()).connection.capacity == 1000
    assert Link(pairs=((ff.MAX_STREAMS, 128),)).connection.capacity == 128
    assert Link(pairs=((ff.MAX_STREAMS, 0),)).connection.capacity == 0


def test_a_full_connection_refuses_a_stream_without_a_byte() -> None:
    link = Link(pairs=((ff.MAX_STREAMS, 1),))
    link.open()
    link.sent()
    with pytest.raises(ConnectionLost, match="takes no more streams") as info:
        link.open()
    assert info.value.processed is False
    assert link.sent() == []
    assert len(link.connection.streams) == 1


def test_a_limit_that_changes_is_told_and_holds() -> None:
    link = Link(pairs=((ff.MAX_STREAMS, 1),))
    link.open()
    link.feed(ff.settings((ff.MAX_STREAMS, 2)))
    assert link.states == [State.FREED]
    link.open()
    link.feed(ff.settings((ff.MAX_STREAMS, 1)))
    link.feed(answer(1))
    with pytest.raises(ConnectionLost):
        link.open()


def test_each_stream_that_ends_frees_its_slot() -> None:
    link = Link()
    link.open()
    stream = link.open()
    link.feed(answer(1))
    link.connection.cancel(stream, link.now)
    assert link.states == [State.FREED, State.FREED]


def test_an_error_of_our_own_is_told_as_one() -> None:
    link = Link()
    link.connection._engine.highest_outbound_stream_id = 2**31 - 1
    with pytest.raises(LocalProtocolError) as info:
        link.open()
    assert info.value.processed is False
    assert not link.connection.streams


def test_identifiers_near_their_end_drain_the_connection() -> None:
    link = Link()
    link.connection._engine.highest_outbound_stream_id = LAST_STREAM_ID - 2
    stream = link.open()
    assert (stream.stream_id, link.connection.usable) == (LAST_STREAM_ID, True)
    last = link.open()
    assert (link.connection.draining, link.states) == (True, [State.DRAINING])
    with pytest.raises(ConnectionLost):
        link.open()
    link.sent()
    link.feed(answer(stream.stream_id), answer(last.stream_id))
    assert succeeded(stream)
    assert succeeded(last)
    assert kinds(link.sent()) == [(ff.GOAWAY, 0)]
    assert link.connection.closed
