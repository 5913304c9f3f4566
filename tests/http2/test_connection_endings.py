"""What the peer or the network ended, and whether a request can have been processed."""

from __future__ import annotations

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import ConnectionLost, KeepAliveTimeout, RemoteProtocolError, StreamReset
from dynamo_h2.http2.connection import State
from dynamo_h2.http2.stream import Need, Stream
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import (
    OPEN_WINDOWS,
    ORIGIN,
    PLENTY,
    SHUT,
    Link,
    body,
    ended,
    failure,
    kinds,
    resets,
    succeeded,
)
from tests.http2.test_connection import answer

pytestmark = pytest.mark.usefixtures("each_engine")

BIG = 10_000_000
CODES = [ff.NO_ERROR, ff.PROTOCOL_ERROR, ff.REFUSED_STREAM, ff.CANCEL, ff.ENHANCE_YOUR_CALM, 0xBEEF]


def reset_of(stream: Stream) -> StreamReset:
    """The reset with which a stream ended."""
    error = failure(stream)
    assert type(error) is StreamReset
    assert error.by_peer
    return error


# Reset by the peer.


def test_a_refused_stream_was_not_processed() -> None:
    link = Link()
    stream = link.open(b"x")
    link.flush()
    link.feed(ff.rst(1, ff.REFUSED_STREAM))
    error = reset_of(stream)
    assert (error.code, error.processed) == (ff.REFUSED_STREAM, False)
    assert str(error) == f"{ORIGIN} reset stream 1: REFUSED_STREAM (0x7)"
    assert link.sent() == []


@pytest.mark.parametrize(
    "before",
    [
        ff.headers(1, (b":status", b"100")),
        ff.headers(1, (b":status", b"103")),
        ff.headers(1, ff.OK),
        ff.headers(1, ff.OK) + ff.data(1, b"x"),
    ],
)
def test_a_stream_that_is_refused_after_something_of_a_response_may_have_been(
    before: bytes,
) -> None:
    link = Link()
    stream = link.open()
    link.feed(before, ff.rst(1, ff.REFUSED_STREAM))
    assert (reset_of(stream).code, reset_of(stream).processed) == (ff.REFUSED_STREAM, None)


@pytest.mark.parametrize("code", [code for code in CODES if code != ff.REFUSED_STREAM])
@pytest.mark.parametrize("head", [False, True])
def test_any_other_reset_before_the_end_says_nothing_of_that(code: int, head: bool) -> None:
    link = Link()
    stream = link.open()
    waiting = link.wait_for(stream, Need.END)
    link.feed(ff.headers(1, ff.OK) if head else b"", ff.rst(1, code))
    assert waiting.done()
    assert (reset_of(stream).code, reset_of(stream).processed) == (code, None)
    assert not link.connection.streams


def test_what_came_before_a_reset_can_be_read() -> None:
    link = Link()
    stream = link.open()
    link.flush()
    link.feed(ff.headers(1, ff.OK), ff.data(1, b"one"), ff.data(1, b"two"), ff.rst(1, ff.CANCEL))
    assert (stream.read(), stream.read(), stream.read()) == (b"one", b"two", None)
    assert reset_of(stream).code == ff.CANCEL
    assert link.sent() == []


@pytest.mark.parametrize("code", CODES)
def test_a_reset_after_the_end_of_the_response_is_success_and_stops_the_upload(code: int) -> None:
    link = Link(pairs=(OPEN_WINDOWS,))
    stream = link.open(bytes(BIG), limit=PLENTY)
    waiting = link.wait_for(stream, Need.DONE)
    assert body(link.sent(200_000), 1)
    link.feed(ff.headers(1, ff.OK), ff.data(1, b"enough", end_stream=True))
    assert not waiting.done()
    link.feed(ff.rst(1, code), ff.window_update(0, 1 << 24))
    assert waiting.done()
    assert succeeded(stream)
    assert stream.body() == b"enough"
    assert link.sent() == []
    assert not link.connection.has_output


def test_a_reset_after_the_end_lets_the_producer_go() -> None:
    link = Link(pairs=(SHUT,))
    stream = link.open(upload=True)
    link.upload(stream, bytes(100_000))
    assert stream.send is not None
    assert stream.send.full()
    producer = stream.send.wait()
    link.feed(ff.headers(1, ff.OK, end_stream=True), ff.rst(1, ff.NO_ERROR))
    assert producer.done()
    assert stream.send.closed
    link.upload(stream, b"more", end=True)
    assert kinds(link.sent()) == [(ff.HEADERS, 1)]


# GOAWAY.


def test_goaway_refuses_what_is_above_and_lets_go_on_what_is_not() -> None:
    link = Link()
    streams = [link.open(limit=PLENTY) for _ in range(4)]
    link.flush()
    link.feed(ff.goaway(3, ff.NO_ERROR))
    assert [stream.done for stream in streams] == [False, False, True, True]
    for stream in streams[2:]:
        error = reset_of(stream)
        assert (error.code, error.processed) == (ff.REFUSED_STREAM, False)
        assert "GOAWAY NO_ERROR (0x0)" in str(error)
    assert link.states[0] is State.DRAINING
    assert link.sent() == []
    link.feed(answer(1, b"below"), answer(3, b"at"))
    assert [stream.body() for stream in streams[:2]] == [b"below", b"at"]
    assert all(succeeded(stream) for stream in streams[:2])
    assert kinds(link.sent()) == [(ff.GOAWAY, 0)]
    assert link.connection.closed


def test_goaway_says_why() -> None:
    link = Link()
    stream = link.open()
    link.feed(ff.goaway(0, ff.ENHANCE_YOUR_CALM, b"too_many_pings\xff" + bytes(500)))
    text = str(failure(stream))
    assert f"{ORIGIN} refused stream 1: GOAWAY ENHANCE_YOUR_CALM (0xb) 'too_many_pings" in text
    assert len(text) < 800


def test_goaway_after_something_of_a_response_says_nothing_of_processing() -> None:
    link = Link()
    silent, interim, begun = link.open(), link.open(), link.open()
    link.feed(ff.headers(3, (b":status", b"103")), ff.headers(5, ff.OK), ff.goaway(0))
    assert [reset_of(one).processed for one in (silent, interim, begun)] == [False, None, None]


def test_goaway_does_not_fail_a_response_that_is_complete() -> None:
    link = Link(pairs=(SHUT,))
    stream = link.open(bytes(1000))
    link.feed(ff.headers(1, ff.OK, end_stream=True), ff.goaway(0))
    assert succeeded(stream)


def test_an_upload_goes_on_after_a_goaway_that_covers_it() -> None:
    link = Link(pairs=(SHUT,))
    stream = link.open(bytes(50_000))
    link.flush()
    link.feed(ff.goaway(1), ff.window_update(1, 50_000))
    sent = link.sent()
    assert len(body(sent, 1)) == 50_000
    assert ended(sent, 1)
    link.feed(answer(1))
    assert succeeded(stream)


def test_of_two_goaways_the_lower_identifier_counts() -> None:
    link = Link()
    streams = [link.open() for _ in range(3)]
    link.feed(ff.goaway(2**31 - 1))
    assert [stream.done for stream in streams] == [False] * 3
    link.feed(ff.goaway(1))
    assert [stream.done for stream in streams] == [False, True, True]
    link.feed(ff.goaway(5))
    link.feed(answer(1))
    assert succeeded(streams[0])
    assert [reset_of(stream).processed for stream in streams[1:]] == [False, False]
    assert link.states.count(State.DRAINING) == 1


def test_what_the_peer_sends_on_a_refused_stream_is_ignored() -> None:
    link = Link()
    link.open()
    refused = link.open()
    link.flush()
    link.feed(ff.goaway(1), ff.headers(3, ff.OK), ff.data(3, b"late"), ff.rst(3))
    assert reset_of(refused).processed is False
    assert link.sent() == []
    assert not link.connection.closed


def test_goaway_on_an_idle_connection_closes_it() -> None:
    link = Link()
    link.feed(ff.goaway(0))
    assert link.connection.closed
    assert kinds(link.sent()) == [(ff.GOAWAY, 0)]
    assert link.states == [State.DRAINING, State.CLOSED]


# The connection.


def test_a_connection_lost_in_flight_says_nothing_of_processing() -> None:
    link = Link()
    written = link.open(b"x")
    link.flush()
    unwritten = link.open(b"y")
    link.connection.lost(ConnectionResetError("reset"), link.now)
    assert type(failure(written)) is ConnectionLost
    assert (failure(written).processed, failure(unwritten).processed) == (None, False)


def test_a_connection_lost_after_a_complete_response_is_success() -> None:
    link = Link(pairs=(SHUT,))
    stream = link.open(bytes(1000), limit=PLENTY)
    link.flush()
    link.feed(ff.headers(1, ff.OK), ff.data(1, b"all", end_stream=True))
    assert not stream.done
    link.connection.lost(None, link.now)
    assert succeeded(stream)
    assert stream.body() == b"all"


def test_what_came_before_the_loss_can_be_read() -> None:
    link = Link()
    stream = link.open()
    link.flush()
    link.feed(ff.headers(1, ff.OK), ff.data(1, b"half"))
    link.connection.lost(None, link.now)
    assert stream.read() == b"half"
    assert type(failure(stream)) is ConnectionLost


def test_a_peer_that_answers_no_ping_is_dead() -> None:
    link = Link()
    written = link.open(b"x")
    link.flush()
    link.wait(30)
    assert kinds(link.sent()) == [(ff.PING, 0)]
    unwritten = link.open(b"y")
    link.wait(9.99)
    assert not written.done
    link.wait(0.01)
    error = failure(written)
    assert type(error) is KeepAliveTimeout
    assert str(error) == f"{ORIGIN} did not answer a PING within 10 s"
    assert (error.processed, failure(unwritten).processed) == (None, False)
    assert (link.connection.dead, link.connection.closed) == (True, True)
    assert link.sent() == []


CONNECTION_ERRORS: list[tuple[bytes, int]] = [
    (ff.frame(ff.PING, 0, 0, b"short"), ff.FRAME_SIZE_ERROR),
    (ff.frame(ff.DATA, 0, 1, length=(1 << 20) + 1), ff.FRAME_SIZE_ERROR),
    (ff.settings((ff.INITIAL_WINDOW, 2**31)), ff.FLOW_CONTROL_ERROR),
    (ff.settings((ff.MAX_FRAME, 1)), ff.PROTOCOL_ERROR),
    (ff.settings_ack(), ff.PROTOCOL_ERROR),
    (ff.window_update(0, 0), ff.PROTOCOL_ERROR),
    (ff.window_update(0, 2**31 - 1), ff.FLOW_CONTROL_ERROR),
    (ff.frame(ff.HEADERS, 4, 1, b"\xbf"), ff.COMPRESSION_ERROR),
    (ff.headers(9, ff.OK), ff.PROTOCOL_ERROR),
    (ff.data(2, b"x"), ff.PROTOCOL_ERROR),
    (ff.frame(ff.PUSH_PROMISE, 4, 1, bytes(4)), ff.PROTOCOL_ERROR),
    (ff.ping() * 1001, ff.ENHANCE_YOUR_CALM),
]


@pytest.mark.parametrize(("wrong", "code"), CONNECTION_ERRORS)
def test_a_connection_error_fails_all_streams_and_is_told_with_goaway(
    wrong: bytes, code: int
) -> None:
    link = Link()
    written = [link.open(), link.open()]
    link.flush()
    unwritten = link.open()
    link.feed(wrong)
    goaway = link.sent()[-1]
    assert (goaway.kind, goaway.code) == (ff.GOAWAY, code)
    for stream in (*written, unwritten):
        error = failure(stream)
        assert type(error) is RemoteProtocolError
        assert error.code == code
        assert str(error).startswith(f"{ORIGIN} broke the protocol: ")
    assert [failure(one).processed for one in (*written, unwritten)] == [None, None, False]
    assert link.connection.closed


@pytest.mark.parametrize(("wrong", "code"), CONNECTION_ERRORS[:2])
def test_responses_before_a_connection_error_in_the_same_read_are_delivered(
    wrong: bytes, code: int
) -> None:
    link = Link()
    first, second, third = (link.open(limit=PLENTY) for _ in range(3))
    link.flush()
    link.feed(answer(1, b"whole"), ff.headers(3, ff.OK), ff.data(3, b"half"), wrong, answer(5))
    assert succeeded(first)
    assert first.body() == b"whole"
    assert (second.status, second.body()) == (200, b"half")
    assert [type(failure(one)) for one in (second, third)] == [RemoteProtocolError] * 2
    assert third.status == 0


def test_data_above_the_connection_window_is_an_error_of_the_connection() -> None:
    link = Link(Http2Config(initial_stream_window=1 << 20, initial_connection_window=1 << 20))
    reader, other = link.open(), link.open()
    link.flush()
    quarter = (1 << 20) // 4
    # Less than a quarter of the window is owed, so that it was not granted anew.
    link.feed(ff.headers(1, ff.OK), ff.data(1, bytes(quarter - 1)), ff.headers(3, ff.OK))
    assert not reader.done
    link.feed(ff.data(3, bytes((1 << 20) - quarter + 2)))
    assert link.sent()[-1].code == ff.FLOW_CONTROL_ERROR
    assert [type(failure(one)) for one in (reader, other)] == [RemoteProtocolError] * 2
    assert (other.unread, reader.unread) == (0, quarter - 1)


# Errors of one stream.

STREAM_ERRORS: list[tuple[bytes, int]] = [
    (ff.headers(1, (b"no", b"status")), ff.PROTOCOL_ERROR),
    (ff.headers(1, (b":status", b"abc")), ff.PROTOCOL_ERROR),
    (ff.headers(1, ff.OK, (b"Upper", b"case")), ff.PROTOCOL_ERROR),
    (ff.headers(1, ff.OK, (b"connection", b"close")), ff.PROTOCOL_ERROR),
    (ff.headers(1, (b":status", b"103"), end_stream=True), ff.PROTOCOL_ERROR),
    (ff.data(1, b"before the head"), ff.PROTOCOL_ERROR),
    (
        ff.headers(1, ff.OK, (b"content-length", b"5")) + ff.data(1, b"four", end_stream=True),
        ff.PROTOCOL_ERROR,
    ),
    (ff.headers(1, ff.OK) + ff.headers(1, (b":status", b"200")), ff.PROTOCOL_ERROR),
    (ff.window_update(1, 0), ff.PROTOCOL_ERROR),
    (ff.window_update(1, 2**31 - 1), ff.FLOW_CONTROL_ERROR),
]


@pytest.mark.parametrize(("wrong", "code"), STREAM_ERRORS)
def test_a_malformed_message_or_window_fails_its_stream_and_no_other(
    wrong: bytes, code: int
) -> None:
    link = Link(pairs=((ff.INITIAL_WINDOW, 100_000),))
    # The first is still uploading, with some of its window left: a WINDOW_UPDATE concerns it.
    stream = link.open(bytes(BIG))
    other = link.open(limit=PLENTY)
    link.flush()
    link.feed(wrong, answer(3, b"fine"))
    error = failure(stream)
    assert type(error) is RemoteProtocolError
    assert (error.code, error.processed) == (code, None)
    assert resets(link.sent()) == [(1, code)]
    assert other.body() == b"fine"
    assert not link.connection.closed
    link.open(None)
    assert kinds(link.sent()) == [(ff.HEADERS, 5)]


def test_data_above_the_window_of_a_stream_fails_that_stream() -> None:
    link = Link(Http2Config(initial_stream_window=100_000))
    stream, other = link.open(), link.open(limit=PLENTY)
    link.flush()
    link.feed(ff.headers(1, ff.OK), ff.data(1, bytes(100_000)), ff.data(1, b"x"), answer(3))
    error = failure(stream)
    assert type(error) is RemoteProtocolError
    assert (error.code, error.processed) == (ff.FLOW_CONTROL_ERROR, None)
    assert resets(link.sent()) == [(1, ff.FLOW_CONTROL_ERROR)]
    assert succeeded(other)


def test_too_many_interim_responses_fail_their_stream() -> None:
    link = Link()
    stream, other = link.open(), link.open()
    link.flush()
    interim = ff.headers(1, (b":status", b"102"))
    link.feed(interim * 100)
    assert not stream.done
    link.feed(interim, answer(3))
    error = failure(stream)
    assert type(error) is RemoteProtocolError
    assert (error.code, error.processed) == (ff.ENHANCE_YOUR_CALM, None)
    assert resets(link.sent()) == [(1, ff.ENHANCE_YOUR_CALM)]
    assert succeeded(other)
