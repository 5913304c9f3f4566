"""What we end ourselves: time-outs, limits and cancels, and that every stream ends once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.errors import ReadTimeout, RequestTimeout, ResponseTooLarge, WriteTimeout
from dynamo_h2.http2.stream import Need, Stream
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import (
    ORIGIN,
    PLENTY,
    SHUT,
    Link,
    body,
    failure,
    kinds,
    resets,
    succeeded,
)
from tests.http2.test_connection import answer

pytestmark = pytest.mark.usefixtures("each_engine")


# Time-outs.


def check_timeout(
    link: Link, stream: Stream, kind: type[Exception], after: float, message: str
) -> None:
    """A stream is alive just before its time is up, and ends with CANCEL and its error then."""
    link.wait(after - 0.01)
    assert not stream.done
    assert resets(link.sent()) == []
    link.wait(0.03)
    error = failure(stream)
    assert type(error) is kind
    assert isinstance(error, TimeoutError)
    assert str(error) == f"{message}: stream 1 of {ORIGIN}"
    assert error.processed is None
    assert resets(link.sent()) == [(1, ff.CANCEL)]
    assert not link.connection.closed


def test_the_deadline_cancels_the_stream() -> None:
    link = Link()
    stream = link.open(b"x", deadline=link.now + 5)
    link.flush()
    check_timeout(link, stream, RequestTimeout, 5, "request timed out")


def test_the_deadline_holds_for_the_body_too() -> None:
    link = Link()
    stream = link.open(b"x", deadline=link.now + 5, limit=PLENTY)
    link.flush()
    link.feed(ff.headers(1, ff.OK), ff.data(1, b"half"))
    check_timeout(link, stream, RequestTimeout, 5, "request timed out")


def test_a_silent_body_times_out() -> None:
    link = Link()
    stream = link.open(read_timeout=3, limit=PLENTY)
    link.flush()
    link.wait(20)
    link.feed(ff.headers(1, ff.OK), ff.data(1, b"half"))
    message = "no bytes of the response within read_timeout"
    check_timeout(link, stream, ReadTimeout, 3, message)


def test_a_body_that_the_peer_does_not_take_times_out() -> None:
    link = Link(pairs=((ff.INITIAL_WINDOW, 1000),))
    stream = link.open(bytes(5000), write_timeout=3)
    link.flush()
    link.wait(2.5)
    link.feed(ff.window_update(1, 1000))
    assert len(body(link.sent(), 1)) == 1000
    message = "no progress of the body within write_timeout"
    check_timeout(link, stream, WriteTimeout, 3, message)


def test_a_request_that_times_out_unwritten_may_be_processed_for_it_is_still_written() -> None:
    link = Link()
    stream = link.open(b"x", deadline=link.now + 0.5)
    link.wait(0.6)
    assert type(failure(stream)) is RequestTimeout
    assert kinds(link.sent()) == [(ff.HEADERS, 1), (ff.DATA, 1), (ff.RST_STREAM, 1)]
    assert failure(stream).processed is None


# We ended it.


def test_a_response_over_its_limit_is_cancelled_and_was_processed() -> None:
    link = Link()
    stream, other = link.open(limit=1000), link.open(limit=1000)
    link.flush()
    link.feed(ff.headers(1, ff.OK), ff.data(1, bytes(600)), ff.data(1, bytes(400)))
    assert not stream.done
    link.feed(ff.data(1, b"x"), ff.data(1, bytes(5000)), answer(3, bytes(1000)))
    error = failure(stream)
    assert type(error) is ResponseTooLarge
    assert error.processed is True
    assert str(error) == f"response of {ORIGIN} exceeds 1000 bytes"
    assert resets(link.sent()) == [(1, ff.CANCEL)]
    assert stream.unread == 0
    assert succeeded(other)


def test_a_response_over_its_limit_with_its_last_byte_needs_no_reset() -> None:
    link = Link()
    stream = link.open(limit=1000)
    link.flush()
    link.feed(answer(1, bytes(1001)))
    assert type(failure(stream)) is ResponseTooLarge
    assert link.sent() == []


@pytest.mark.parametrize("begun", [False, True])
def test_a_cancel_resets_the_stream_and_drops_what_was_received(begun: bool) -> None:
    link = Link()
    stream = link.open(b"x")
    link.flush()
    if begun:
        link.feed(ff.headers(1, ff.OK), ff.data(1, b"half"))
    link.connection.cancel(stream, link.now)
    assert link.wanted_output
    assert resets(link.sent()) == [(1, ff.CANCEL)]
    assert (stream.done, stream.error, stream.ended) == (True, None, False)
    assert stream.read() is None
    link.connection.cancel(stream, link.now)
    assert link.sent() == []
    assert not link.connection.streams


def test_a_cancel_after_the_end_sends_nothing() -> None:
    link = Link()
    stream = link.open()
    link.flush()
    link.feed(answer(1, b"whole"))
    link.connection.cancel(stream, link.now)
    assert link.sent() == []


def test_a_cancel_stops_the_upload_and_lets_the_producer_go() -> None:
    link = Link(pairs=(SHUT,))
    stream = link.open(upload=True)
    link.upload(stream, bytes(100_000))
    link.flush()
    assert stream.send is not None
    producer = stream.send.wait()
    link.connection.cancel(stream, link.now)
    assert producer.done()
    link.upload(stream, b"more", end=True)
    link.feed(ff.window_update(1, 1 << 20))
    assert resets(link.sent()) == [(1, ff.CANCEL)]
    assert not link.connection.has_output


def test_failing_a_stream_tells_the_caller_its_own_error() -> None:
    link = Link()
    stream = link.open(upload=True)
    link.flush()
    mistake = ValueError("mine")
    link.connection.fail(stream, mistake, link.now)
    assert stream.error is mistake
    assert resets(link.sent()) == [(1, ff.CANCEL)]


def test_what_arrives_after_a_cancel_is_answered_with_nothing() -> None:
    link = Link()
    stream = link.open()
    link.flush()
    link.connection.cancel(stream, link.now)
    link.flush()
    link.feed(
        ff.headers(1, (b":status", b"103")),
        ff.headers(1, ff.OK),
        ff.data(1, bytes(5000)) * 10,
        ff.window_update(1, 5),
        ff.headers(1, (b"t", b"u"), end_stream=True),
        ff.rst(1),
    )
    assert link.sent() == []
    assert not link.connection.closed


EVENTS: dict[str, Callable[[int], bytes]] = {
    "head": lambda stream: ff.headers(stream, ff.OK),
    "last head": lambda stream: ff.headers(stream, ff.OK, end_stream=True),
    "interim": lambda stream: ff.headers(stream, (b":status", b"100")),
    "data": lambda stream: ff.data(stream, b"abc"),
    "padding": lambda stream: ff.padded_data(stream, b"", 9),
    "end": lambda stream: ff.data(stream, b"z", end_stream=True),
    "trailers": lambda stream: ff.headers(stream, (b"t", b"u"), end_stream=True),
    "reset": lambda stream: ff.rst(stream, ff.CANCEL),
    "refuse": lambda stream: ff.rst(stream, ff.REFUSED_STREAM),
    "credit": lambda stream: ff.window_update(stream, 1000),
    "no credit": lambda stream: ff.window_update(stream, 0),
    "goaway": ff.goaway,
    "silence": lambda stream: b"",
}


@given(
    events=st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.sampled_from([1, 3, 5, 7]))),
    cancelled=st.integers(0, 20),
    bodies=st.lists(st.sampled_from([0, 10, 30_000, 200_000]), min_size=4, max_size=4),
)
def test_every_stream_ends_in_a_response_or_in_one_error(
    events: list[tuple[str, int]], cancelled: int, bodies: list[int]
) -> None:
    link = Link()
    streams = [
        link.open(bytes(size), deadline=link.now + 5, read_timeout=3, limit=PLENTY)
        for size in bodies
    ]
    waiting = [link.wait_for(stream, Need.DONE) for stream in streams]
    link.flush()
    for step, (name, stream_id) in enumerate(events):
        if step == cancelled:
            link.connection.cancel(streams[2], link.now)
        link.feed(EVENTS[name](stream_id))
        link.wait(0.1)
        link.flush()
    link.wait(10)
    for stream, signal in zip(streams, waiting, strict=True):
        assert signal.done()
        assert stream.done
        assert not (stream.ended and stream.error)
        if stream is not streams[2]:
            assert stream.ended or failure(stream).processed in {None, False}
        if stream.ended:
            assert stream.status >= 200
        elif stream.error and stream.got_response:
            assert failure(stream).processed is None
    assert not link.connection.streams
    link.flush()
    assert not link.connection.has_output
    assert link.connection.next_timer() > link.now
