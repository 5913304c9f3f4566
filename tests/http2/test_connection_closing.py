"""How a connection ends: drained, abandoned, lost, or with a peer that speaks no HTTP/2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import (
    ClientClosed,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
)
from dynamo_h2.http2.connection import State
from dynamo_h2.http2.stream import Need
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import ORIGIN, PLENTY, Link, body, failure, kinds, succeeded
from tests.http2.test_connection import answer

pytestmark = pytest.mark.usefixtures("each_engine")


# Draining and closing.


def test_an_idle_connection_that_drains_closes_with_goaway() -> None:
    link = Link()
    link.connection.drain(link.now)
    (goaway,) = link.sent()
    assert (goaway.kind, goaway.code) == (ff.GOAWAY, ff.NO_ERROR)
    assert link.connection.closed
    assert link.states == [State.DRAINING, State.CLOSED]
    link.connection.drain(link.now)
    assert link.sent() == []
    assert len(link.states) == 2


def test_a_draining_connection_finishes_its_streams_first() -> None:
    link = Link()
    streams = [link.open(bytes(200_000), limit=PLENTY), link.open(limit=PLENTY)]
    link.sent()
    link.connection.drain(link.now)
    assert link.sent() == []
    assert not link.connection.closed
    link.feed(answer(3, b"second"), ff.window_update(0, 1 << 20), ff.window_update(1, 1 << 20))
    assert len(body(link.sent(), 1)) == 200_000 - 65_535
    link.feed(answer(1, b"first"))
    assert kinds(link.sent()) == [(ff.GOAWAY, 0)]
    assert [stream.body() for stream in streams] == [b"first", b"second"]
    assert link.states[0] is State.DRAINING
    assert State.CLOSED in link.states


def test_a_closed_connection_asks_for_no_timer() -> None:
    endings: list[Callable[[Link], None]] = [
        lambda link: link.connection.drain(link.now),
        lambda link: link.connection.lost(None, link.now),
        lambda link: link.feed(ff.ping() * 2000),
    ]
    for close in endings:
        link = Link(settings_due=2)
        close(link)
        assert link.connection.closed
        link.wait(1000)
        assert link.connection.timer_at == link.connection.next_timer() == inf


def test_abandoning_fails_every_stream_and_says_goaway() -> None:
    link = Link()
    written = link.open(b"one")
    link.flush()
    unwritten = link.open(b"two")
    link.connection.abandon(partial(ClientClosed, "client was closed"), link.now)
    assert kinds(link.sent()) == [(ff.GOAWAY, 0)]
    assert isinstance(failure(written), ClientClosed)
    assert (failure(written).processed, failure(unwritten).processed) == (None, False)
    assert failure(written) is not failure(unwritten)
    assert State.CLOSED in link.states


def test_abandoning_what_is_closed_changes_nothing() -> None:
    link = Link()
    link.connection.drain(link.now)
    link.flush()
    link.connection.abandon(partial(ClientClosed, "client was closed"), link.now)
    assert link.sent() == []
    assert link.connection.failure is None


def test_waiting_for_a_stream_that_is_gone_watches_nothing() -> None:
    link = Link()
    stream = link.open(deadline=link.now + 5, read_timeout=2)
    link.feed(ff.headers(1, ff.OK))
    link.connection.cancel(stream, link.now)
    link.flush()
    link.wait_for(stream, Need.DATA)
    assert stream.tick == 0
    assert not link.wanted_output


def test_what_was_called_unwritten_is_never_written() -> None:
    # Each of these ends the connection with words to the peer; before them went no request.
    endings: list[Callable[[Link], None]] = [
        lambda link: link.connection.abandon(partial(ClientClosed, "closed"), link.now),
        lambda link: link.feed(ff.settings_ack()),
        lambda link: link.feed(ff.frame(ff.PUSH_PROMISE, 4, 1, bytes(4))),
        lambda link: link.connection.lost(OSError("gone"), link.now),
        lambda link: link.wait(2),
    ]
    for end in endings:
        link = Link(pairs=None, settings_due=1)
        early = link.open(b"early")
        link.flush()
        late = link.open(b"late")
        upload = link.open(bytes(100_000))
        end(link)
        assert [failure(one).processed for one in (early, late, upload)] == [None, False, False]
        sent = link.sent()
        assert {frame.kind for frame in sent} <= {ff.GOAWAY}
        assert link.sent() == []


def test_a_lost_connection_says_why() -> None:
    for cause, reason in (
        (None, "closed by the peer"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (TimeoutError(), "TimeoutError"),
    ):
        link = Link()
        stream = link.open()
        link.flush()
        link.connection.lost(cause, link.now)
        error = failure(stream)
        assert isinstance(error, ConnectionLost)
        assert str(error).startswith(f"connection to {ORIGIN} lost: {reason}")
        assert error.__cause__ is cause


def test_a_connection_that_is_lost_twice_is_lost_once() -> None:
    link = Link()
    stream = link.open()
    link.connection.lost(None, link.now)
    error = failure(stream)
    link.connection.lost(OSError("later"), link.now)
    assert failure(stream) is error
    assert link.states.count(State.CLOSED) == 1


def test_a_connection_that_closed_by_itself_is_not_lost() -> None:
    link = Link()
    link.connection.drain(link.now)
    link.connection.lost(None, link.now)
    assert link.connection.failure is None
    assert link.states.count(State.CLOSED) == 1


def test_nobody_is_told_of_free_slots_on_a_connection_that_is_over() -> None:
    endings: list[Callable[[Link], None]] = [
        lambda link: link.connection.lost(None, link.now),
        lambda link: link.connection.abandon(partial(ClientClosed, "closed"), link.now),
        lambda link: link.feed(ff.settings_ack()),
        lambda link: link.feed(ff.goaway(0)),
    ]
    for end in endings:
        link = Link()
        streams = [link.open() for _ in range(3)]
        link.flush()
        end(link)
        assert all(stream.done for stream in streams)
        assert link.states[0] in {State.CLOSED, State.DRAINING}
        assert State.FREED not in link.states[link.states.index(State.CLOSED) :]


# A peer that is none.


@pytest.mark.parametrize("written", [True, False])
def test_an_answer_in_http1_names_its_first_line(written: bool) -> None:
    link = Link(pairs=None)
    stream = link.open()
    if written:
        link.flush()
    link.feed(b"HTTP/1.1 400 Bad")
    assert not stream.done
    link.feed(b" Request\r\nServer: x\r\n\r\n")
    error = failure(stream)
    assert isinstance(error, ConnectError)
    assert (
        "peer speaks HTTP/1.1 (first line 'HTTP/1.1 400 Bad Request'), "
        "HTTP/2 with prior knowledge was expected"
    ) in str(error)
    assert error.processed is (None if written else False)
    assert link.connection.closed


def test_an_answer_in_http1_without_its_end_is_told_at_eof() -> None:
    link = Link(pairs=None)
    stream = link.open()
    link.flush()
    link.feed(b"HTTP/1.0 426")
    link.connection.lost(None, link.now)
    assert "first line 'HTTP/1.0 426'" in str(failure(stream))
    assert isinstance(failure(stream), ConnectError)


def test_an_answer_in_http1_without_requests_is_kept_for_those_who_come() -> None:
    link = Link(pairs=None)
    link.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    make_error = link.connection.failure
    assert make_error is not None
    error = make_error(origin=ORIGIN, processed=False)
    assert isinstance(error, ConnectError)
    assert "HTTP/1.1 400 Bad Request" in str(error)


def test_settings_that_never_come_end_the_connection() -> None:
    link = Link(pairs=None, settings_due=2)
    written = link.open(b"x")
    link.flush()
    unwritten = link.open(b"y")
    link.wait(1.99)
    assert not written.done
    link.wait(0.01)
    assert isinstance(failure(written), ConnectTimeout)
    assert "no SETTINGS within connect_timeout" in str(failure(written))
    assert (failure(written).processed, failure(unwritten).processed) == (None, False)
    (goaway,) = link.sent()
    assert (goaway.kind, goaway.code) == (ff.GOAWAY, 4)
    assert link.connection.closed


def test_settings_that_come_in_time_stop_that_clock() -> None:
    link = Link(pairs=None, settings_due=2)
    stream = link.open()
    link.wait(1.9)
    link.feed(ff.settings())
    link.wait(20)
    assert not stream.done
    assert link.connection.ready


def written(link: Link) -> None:
    """Take what there is, as a transport does."""
    link.flush()


def test_a_connection_that_is_left_while_a_stream_is_opened_waits_for_its_end() -> None:
    # Nobody asks for a sign of life, so that a slot is free when the reset is written.
    link = Link(Http2Config(keep_alive_interval=None))
    connection = link.connection

    def leave(state: State) -> None:
        if state is State.FREED:
            connection.drain(link.now)

    given_up = link.open(upload=True)
    connection.cancel(given_up, link.now)
    connection._on_state = leave
    connection._flush = partial(written, link)
    stream = link.open(b"body")
    assert connection.draining
    assert not connection.closed
    link.feed(ff.headers(stream.stream_id, ff.OK, end_stream=True))
    assert succeeded(stream)
    assert connection.closed


def test_a_stream_is_not_opened_on_a_connection_that_closes_while_room_is_made_for_it() -> None:
    link = Link(Http2Config(keep_alive_interval=None))
    connection = link.connection

    def leave(state: State) -> None:
        if state is State.FREED:
            connection.drain(link.now)

    for given_up in [link.open(bytes(16_000)) for _ in range(4)]:
        connection.cancel(given_up, link.now)
    connection._on_state = leave
    connection._flush = partial(written, link)
    with pytest.raises(ConnectionLost) as caught:
        link.open(bytes(16_000))
    assert caught.value.processed is False
    assert connection.closed
