"""Time: limits that start and stop, keep-alive, idle connections, and a timer that is always set.

The clock calls ``handle_timer`` when ``timer_at`` says so and at no other time: whatever is not
armed here would not happen.
"""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import KeepAliveTimeout, ReadTimeout, RequestTimeout, WriteTimeout
from dynamo_h2.http2.connection import LOOK_EVERY, State
from dynamo_h2.http2.deadline import TICKS_PER_SECOND
from dynamo_h2.http2.stream import Need, Stream
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import (
    OPEN_WINDOWS,
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

TICK = 1 / TICKS_PER_SECOND
QUIET = Http2Config(keep_alive_interval=None, pool_idle_timeout=86_400)
SLEEPY = Http2Config(keep_alive_while_idle=False, pool_idle_timeout=86_400)


def pings(link: Link) -> list[bytes]:
    """The payloads of the PINGs that are written now."""
    return [frame.payload for frame in link.sent() if frame.kind == ff.PING]


# The head.


def test_the_head_budget_holds_for_a_request_without_a_body() -> None:
    link = Link(QUIET)
    stream = link.open(deadline=link.now + 5, head_budget=5)
    link.wait(5 + 2 * TICK)
    assert type(failure(stream)) is RequestTimeout


def test_the_head_budget_pauses_while_the_body_is_out() -> None:
    link = Link(QUIET, pairs=(OPEN_WINDOWS,))
    stream = link.open(upload=True, deadline=link.now + 5, head_budget=5)
    for _ in range(10):
        link.wait(4)
        link.upload(stream, b"piece")
        link.flush()
    link.wait(30)
    assert not stream.done
    link.upload(stream, end=True)
    link.flush()
    link.wait(5 - TICK)
    assert not stream.done
    link.wait(3 * TICK)
    assert type(failure(stream)) is RequestTimeout


def test_the_head_budget_begins_when_the_last_byte_was_taken_and_not_when_it_was_fed() -> None:
    link = Link(QUIET, pairs=(SHUT,))
    stream = link.open(bytes(100), deadline=link.now + 5, head_budget=5)
    link.flush()
    link.wait(60)
    link.feed(ff.window_update(1, 100))
    link.flush()
    link.wait(4)
    assert not stream.done
    link.wait(1 + 2 * TICK)
    assert type(failure(stream)) is RequestTimeout


def test_the_head_budget_begins_after_trailers_alone() -> None:
    link = Link(QUIET)
    stream = link.open(trailers=[(b"a", b"b")], deadline=link.now + 5, head_budget=5)
    link.wait(5 + 2 * TICK)
    assert type(failure(stream)) is RequestTimeout


def test_the_head_ends_its_budget() -> None:
    for upload in (False, True):
        link = Link(QUIET)
        stream = link.open(upload=upload, deadline=link.now + 5, head_budget=5)
        link.feed(ff.headers(1, ff.OK))
        if upload:
            link.upload(stream, b"x", end=True)
            link.flush()
        link.wait(1000)
        assert not stream.done


def test_an_interim_response_does_not_end_the_head_budget() -> None:
    link = Link(QUIET)
    stream = link.open(deadline=link.now + 5, head_budget=5)
    link.wait(4)
    link.feed(ff.headers(1, (b":status", b"102")))
    link.wait(1 + 2 * TICK)
    assert type(failure(stream)) is RequestTimeout


def test_a_far_deadline_is_watched_only_when_it_comes_near() -> None:
    link = Link(QUIET)
    limit = 5.5 * LOOK_EVERY
    near, far = (link.open(deadline=link.now + each) for each in (LOOK_EVERY / 2, limit))
    assert [stream.tick > 0 for stream in (near, far)] == [True, False]
    link.wait(limit - LOOK_EVERY / 4)
    assert [stream.tick > 0 for stream in (near, far)] == [False, True]
    link.wait(LOOK_EVERY / 4 + 2 * TICK)
    assert type(failure(far)) is RequestTimeout


def test_requests_that_come_before_a_late_timer_do_not_put_deadlines_off() -> None:
    link = Link(QUIET)
    stream = link.open(deadline=link.now + 2.5 * LOOK_EVERY)
    for _ in range(4):
        # A busy loop: a task opens a request when the timer is due already, and has no turn yet.
        link.now = link.connection.timer_at + 0.01
        link.open(deadline=link.now + 5 * LOOK_EVERY)
        link.connection.handle_timer(link.now)
    assert type(failure(stream)) is RequestTimeout


def test_nobody_looks_at_deadlines_that_are_over() -> None:
    link = Link(QUIET)
    first, _endless = link.open(deadline=link.now + 50), link.open()
    assert link.connection.timer_at == link.now + LOOK_EVERY
    link.feed(answer(first.stream_id))
    link.wait(2 * LOOK_EVERY)
    assert link.connection.timer_at == inf


def test_the_deadline_does_not_pause_without_a_head_budget() -> None:
    link = Link(QUIET, pairs=(SHUT,))
    stream = link.open(bytes(100), deadline=link.now + 5)
    link.wait(5 + 2 * TICK)
    assert type(failure(stream)) is RequestTimeout


# Reading.


def test_read_timeout_runs_only_while_somebody_waits() -> None:
    link = Link(QUIET)
    stream = link.open(read_timeout=2)
    link.wait_for(stream, Need.HEAD)
    link.wait(100)
    link.feed(ff.headers(1, ff.OK), ff.data(1, b"x"))
    link.wait(100)
    assert stream.read() == b"x"
    link.wait(100)
    assert not stream.done
    signal = link.wait_for(stream, Need.DATA)
    link.wait(2 - TICK)
    assert not signal.done()
    link.wait(3 * TICK)
    assert signal.done()
    assert type(failure(stream)) is ReadTimeout


def test_every_chunk_starts_read_timeout_anew() -> None:
    link = Link(QUIET)
    stream = link.open(read_timeout=2)
    link.feed(ff.headers(1, ff.OK))
    for _ in range(10):
        signal = link.wait_for(stream, Need.DATA)
        link.wait(1.9)
        link.feed(ff.data(1, b"token"))
        assert signal.done()
        assert stream.read() == b"token"
    link.wait_for(stream, Need.DATA)
    link.wait(2 + 2 * TICK)
    assert type(failure(stream)) is ReadTimeout


def test_a_wait_that_was_given_up_is_not_timed() -> None:
    link = Link(QUIET)
    stream = link.open(read_timeout=2)
    link.feed(ff.headers(1, ff.OK))
    link.wait_for(stream, Need.DATA).cancel()
    link.wait(100)
    assert not stream.done
    link.feed(ff.data(1, b"late"))
    assert stream.read() == b"late"


@pytest.mark.parametrize("later", ["head budget", "upload"])
def test_read_timeout_is_watched_although_a_later_limit_is_watched_too(later: str) -> None:
    link = Link(QUIET, pairs=(SHUT,))
    if later == "upload":
        stream = link.open(bytes(100), read_timeout=2, write_timeout=50)
    else:
        stream = link.open(read_timeout=2, deadline=link.now + 50, head_budget=50)
    link.feed(ff.headers(1, ff.OK))
    link.flush()
    link.wait(1)
    link.wait_for(stream, Need.DATA)
    assert link.connection.timer_at <= link.now + 2 + TICK
    link.wait(2 + 2 * TICK)
    assert type(failure(stream)) is ReadTimeout


def test_waiting_again_asks_for_nothing_when_the_timer_is_early_enough() -> None:
    link = Link(QUIET)
    stream = link.open(read_timeout=60)
    link.feed(ff.headers(1, ff.OK))
    wanted = []
    for _ in range(3):
        link.wait_for(stream, Need.DATA)
        wanted.append(link.wanted_output)
        link.feed(ff.data(1, b"token"))
        stream.read()
        link.flush()
        link.wait(0.1)
    assert wanted == [True, False, False]


# Writing.


def test_write_timeout_runs_only_while_bytes_wait() -> None:
    link = Link(QUIET, pairs=((ff.INITIAL_WINDOW, 10),))
    stream = link.open(upload=True, write_timeout=2)
    link.wait(50)
    link.upload(stream, bytes(10))
    link.flush()
    link.wait(50)
    assert not stream.done
    link.upload(stream, b"one more")
    assert body(link.sent(), 1) == b""
    link.wait(2 - TICK)
    assert not stream.done
    link.wait(3 * TICK)
    assert type(failure(stream)) is WriteTimeout
    assert resets(link.sent()) == [(1, ff.CANCEL)]


def test_write_timeout_holds_when_the_transport_takes_nothing() -> None:
    link = Link(QUIET, pairs=(OPEN_WINDOWS,))
    stream = link.open(bytes(200_000), write_timeout=2)
    link.wait(2 + 2 * TICK)
    assert type(failure(stream)) is WriteTimeout


@given(
    limits=st.lists(st.floats(0.01, 30), min_size=1, max_size=20),
    start=st.floats(0, 1e7),
)
def test_every_deadline_passes_in_time(limits: list[float], start: float) -> None:
    link = Link(QUIET, now=start)
    streams = [link.open(deadline=start + limit) for limit in limits]
    seen: dict[int, float] = {}
    while len(seen) < len(streams):
        link.until(max(link.connection.timer_at, link.now))
        for number, stream in enumerate(streams):
            if stream.done:
                seen.setdefault(number, link.now)
    for number, limit in enumerate(limits):
        assert start + limit <= seen[number] <= start + limit + 1.01 * TICK


# Keep-alive.


def test_silence_is_asked_about_with_one_ping() -> None:
    link = Link()
    link.wait(29.9)
    assert pings(link) == []
    link.wait(0.2)
    assert link.wanted_output
    (payload,) = pings(link)
    link.wait(9)
    assert pings(link) == []
    link.feed(ff.ping(payload, ack=True))
    assert link.connection.rtt == pytest.approx(9.0)  # it was written after 30.1 s
    link.wait(29.9)
    assert pings(link) == []
    link.wait(0.2)
    assert len(pings(link)) == 1


def test_jitter_lengthens_the_interval_by_a_tenth_at_most() -> None:
    link = Link(jitter=1.0)
    link.wait(32.9)
    assert pings(link) == []
    link.wait(0.2)
    assert len(pings(link)) == 1


def test_any_received_byte_is_life() -> None:
    link = Link(Http2Config(pool_idle_timeout=86_400))
    for byte in ff.ping():
        link.wait(29)
        link.feed(bytes([byte]))  # not even a whole frame
        assert pings(link) == ([] if byte != ff.ping()[-1] else [b"12345678"])
    assert not link.connection.closed


def test_bytes_other_than_the_ack_keep_a_connection_alive() -> None:
    link = Link()
    stream = link.open()
    link.wait(30)
    assert len(pings(link)) == 1
    for _ in range(100):
        link.wait(9)
        link.feed(ff.headers(1, (b":status", b"102")) if link.now < 1100 else ff.ping())
        link.flush()
    assert not stream.done
    assert not link.connection.closed


def test_a_slow_peer_is_not_killed_in_ten_minutes() -> None:
    link = Link()
    stream = link.open()
    link.flush()
    asked = 0
    due: list[tuple[float, bytes]] = []
    for _ in range(600):
        link.wait(1)
        due += [(link.now + 5, payload) for payload in pings(link)]
        while due and due[0][0] <= link.now:
            link.feed(ff.ping(due.pop(0)[1], ack=True))
            asked += 1
    assert asked == 17
    assert not stream.done
    assert link.connection.rtt == 5
    link.feed(answer(1))
    assert succeeded(stream)


def test_a_dead_peer_is_found_within_interval_and_timeout() -> None:
    link = Link(jitter=0.5)
    stream = link.open()
    link.flush()
    link.wait_writing(31.5 + 10 - 0.1)
    assert not stream.done
    link.wait_writing(0.2)
    assert type(failure(stream)) is KeepAliveTimeout


def test_an_idle_connection_to_a_dead_peer_is_forgotten_too() -> None:
    link = Link()
    link.wait_writing(41)
    assert link.connection.dead
    assert link.states == [State.SUSPECT, State.CLOSED]
    assert not link.connection.usable


def test_a_paused_transport_is_no_silent_peer() -> None:
    link = Link(Http2Config(pool_idle_timeout=86_400))
    stream = link.open()
    link.flush()
    link.connection.reading_paused()
    link.wait(1000)
    assert pings(link) == []
    link.connection.reading_resumed(link.now)
    link.wait(0.9)
    assert pings(link) == []
    link.wait(0.2)
    assert len(pings(link)) == 1
    assert not stream.done


def test_a_pause_while_a_ping_is_in_flight_does_not_kill() -> None:
    link = Link()
    stream = link.open()
    link.wait(31)
    assert len(pings(link)) == 1
    link.connection.reading_paused()
    link.wait(1000)
    link.connection.reading_resumed(link.now)
    assert link.wanted_output
    link.wait(9)
    assert not stream.done
    link.feed(answer(1))
    assert succeeded(stream)


def test_without_while_idle_an_idle_connection_is_left_alone() -> None:
    link = Link(SLEEPY)
    link.wait(10_000)
    assert pings(link) == []
    assert not link.connection.closed


def test_without_while_idle_the_first_stream_after_long_silence_brings_a_ping_in_its_write() -> (
    None
):
    link = Link(SLEEPY)
    link.wait(1000)
    stream = link.open(b"x")
    assert kinds(link.sent()) == [(ff.PING, 0), (ff.HEADERS, 1), (ff.DATA, 1)]
    link.open(b"y")
    assert kinds(link.sent()) == [(ff.HEADERS, 3), (ff.DATA, 3)]
    link.wait(9.9)
    assert not stream.done
    link.wait(0.2)
    assert type(failure(stream)) is KeepAliveTimeout


def test_without_while_idle_the_first_stream_after_short_silence_brings_none() -> None:
    link = Link(SLEEPY)
    link.wait(29)
    link.open(b"x")
    assert pings(link) == []


def test_without_while_idle_a_peer_that_dies_with_a_stream_open_is_found_in_time() -> None:
    link = Link(SLEEPY)
    link.wait(10)
    stream = link.open(b"x")
    assert pings(link) == []
    link.wait(20.1)
    assert len(pings(link)) == 1
    link.wait(10)
    assert type(failure(stream)) is KeepAliveTimeout


def test_without_an_interval_there_are_no_pings() -> None:
    link = Link(QUIET)
    stream = link.open()
    link.wait(50_000)
    assert pings(link) == []
    assert not stream.done


# Idle connections.


def test_an_idle_connection_closes_with_goaway() -> None:
    link = Link(Http2Config(keep_alive_interval=None))
    link.wait(89.9)
    assert link.sent() == []
    link.wait(0.2)
    (goaway,) = link.sent()
    assert (goaway.kind, goaway.code) == (ff.GOAWAY, ff.NO_ERROR)
    assert link.states == [State.DRAINING, State.CLOSED]


def test_idle_time_counts_from_the_end_of_the_last_stream() -> None:
    link = Link(Http2Config(keep_alive_interval=None))
    link.wait(80)
    link.open()
    link.wait(200)
    assert link.connection.usable
    link.feed(answer(1))
    link.wait(89.9)
    assert link.connection.usable
    link.wait(0.2)
    assert link.connection.closed


def test_a_connection_without_anything_to_watch_has_its_idle_timer() -> None:
    link = Link(Http2Config(keep_alive_interval=None), now=500.0)
    assert link.connection.next_timer() == 590.0
    link.open()
    assert link.connection.next_timer() == inf


# The timer.


def act(link: Link, stream: Stream, what: str) -> None:
    """Let something happen on a stream, where it may."""
    begun = bool(stream.status) and not stream.ended
    match what:
        case "head" if not stream.status:
            link.feed(ff.headers(stream.stream_id, ff.OK))
        case "data" if begun:
            link.feed(ff.data(stream.stream_id, b"x"))
        case "end" if begun:
            link.feed(ff.data(stream.stream_id, end_stream=True))
        case "wait" if begun and not stream.waiting():
            link.wait_for(stream, Need.DATA)
        case "feed":
            link.upload(stream, bytes(60))
        case "cancel":
            link.connection.cancel(stream, link.now)
        case "credit":
            link.feed(ff.window_update(stream.stream_id, 50))


ACTS = ["open", "head", "data", "end", "wait", "feed", "cancel", "credit"]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(ACTS), st.integers(0, 3), st.floats(0, 20)), max_size=40
    ),
    while_idle=st.booleans(),
)
def test_the_timer_is_never_later_than_what_is_due(
    steps: list[tuple[str, int, float]], while_idle: bool
) -> None:
    config = Http2Config(keep_alive_while_idle=while_idle, pool_idle_timeout=50)
    link = Link(config, pairs=((ff.INITIAL_WINDOW, 100),))
    connection = link.connection
    for what, number, seconds in steps:
        link.wait(seconds)
        if connection.closed:
            break
        streams = list(connection.streams.values())
        if what == "open":
            link.open(
                upload=number > 1,
                deadline=link.now + 30 + seconds,
                head_budget=30.0 if number % 2 else None,
                read_timeout=5 + seconds,
                write_timeout=3 + seconds,
                limit=PLENTY if number == 3 else None,
            )
        elif streams:
            act(link, streams[number % len(streams)], what)
        link.flush()
        assert connection.timer_at <= connection.next_timer()
        for other in connection.streams.values():
            # What is due may be noticed a tick later, and no more than that.
            assert connection.timer_at <= other.due() + TICK
