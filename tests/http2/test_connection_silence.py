"""Silence on a connection: who is asked early, who is suspect, who asks for calm."""

from __future__ import annotations

from math import inf

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import KeepAliveTimeout, RequestTimeout
from dynamo_h2.http2.connection import State
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import PLENTY, Link, failure, kinds, succeeded
from tests.http2.test_connection import answer
from tests.http2.test_connection_time import QUIET, pings

pytestmark = pytest.mark.usefixtures("each_engine")

PATIENT = Http2Config(pool_idle_timeout=86_400)


def link_at_work() -> Link:
    """A link that has been idle for 10 s, and now has stream 1 open, whose head is out."""
    link = Link(PATIENT)
    link.wait(10)
    link.open()
    assert kinds(link.sent()) == [(ff.HEADERS, 1)]
    return link


def suspect_link() -> tuple[Link, bytes]:
    """A link whose peer is suspect since 250 ms, and the payload of the PING that it owes."""
    link = link_at_work()
    link.wait(1)
    (payload,) = pings(link)
    link.wait(0.5)
    assert link.states == [State.SUSPECT]
    assert link.connection.suspect
    return link, payload


# The early PING.


def test_a_request_without_a_byte_for_a_second_asks_once() -> None:
    link = link_at_work()
    link.wait(0.999)
    assert pings(link) == []
    link.wait(0.002)
    assert link.wanted_output
    (payload,) = pings(link)
    link.feed(ff.ping(payload, ack=True))
    link.wait(28)
    assert pings(link) == []
    link.wait(3)
    assert len(pings(link)) == 1  # that of the interval


def test_the_silence_of_a_connection_without_streams_does_not_count() -> None:
    link = Link(PATIENT)
    link.wait(10)
    assert pings(link) == []
    link.open()
    link.wait(0.999)
    assert pings(link) == []
    link.wait(0.002)
    assert len(pings(link)) == 1


def test_requests_that_follow_each_other_do_not_put_the_question_off() -> None:
    link = link_at_work()
    for _ in range(4):
        link.wait(0.24)
        link.open()
    assert pings(link) == []
    link.wait(0.05)
    assert len(pings(link)) == 1


def test_a_byte_for_another_request_puts_the_question_off() -> None:
    link = link_at_work()
    link.open()
    link.wait(0.9)
    link.feed(answer(3))
    link.wait(0.9)
    assert pings(link) == []
    link.wait(0.2)
    assert len(pings(link)) == 1


@pytest.mark.parametrize(
    ("frames", "again"),
    [
        (ff.headers(1, ff.OK), True),
        (ff.headers(1, (b":status", b"102")), True),
        (ff.ping(), False),
        (ff.settings(), False),
        (ff.window_update(0, 1), False),
        (ff.window_update(1, 1), False),
    ],
)
def test_only_headers_and_data_allow_another_question(frames: bytes, again: bool) -> None:
    link = link_at_work()
    link.wait(1)
    assert len(pings(link)) == 1
    link.wait(1)
    link.feed(frames)
    link.flush()
    link.wait(1.01)
    assert len(pings(link)) == 0  # one is in flight
    link = link_at_work()
    link.wait(1)
    link.feed(ff.ping(*pings(link), ack=True))
    link.wait(1)
    link.feed(frames)
    link.flush()
    link.wait(0.999)
    assert pings(link) == []
    link.wait(0.002)
    assert len(pings(link)) == again


def test_data_and_trailers_allow_another_question() -> None:
    link = link_at_work()
    link.open()
    for frames in (
        ff.headers(1, ff.OK),
        ff.data(1, b"x"),
        ff.headers(1, (b"a", b"b"), end_stream=True),
    ):
        link.feed(frames)
        link.flush()
        link.wait(1.001)
        (payload,) = pings(link)
        link.feed(ff.ping(payload, ack=True))
        link.wait(5)
        assert pings(link) == []


def test_a_token_stream_that_never_pauses_for_a_second_is_never_asked_about() -> None:
    link = link_at_work()
    link.feed(ff.headers(1, ff.OK))
    for _ in range(200):
        link.wait(0.9)
        link.feed(ff.data(1, b"token"))
        assert pings(link) == []


def test_a_slow_round_trip_makes_the_question_later() -> None:
    link = Link(PATIENT, pairs=None)
    link.wait(0.5)
    link.feed(ff.settings(), ff.settings_ack())
    link.wait(10)
    link.open()
    link.flush()
    link.wait(1.999)
    assert pings(link) == []
    link.wait(0.002)
    assert len(pings(link)) == 1


def test_a_connection_that_waits_for_settings_is_not_asked() -> None:
    link = Link(PATIENT, pairs=None)
    link.open()
    link.wait(20)
    link.connection.cancel(link.open(), link.now)
    assert ff.PING not in [frame.kind for frame in link.sent()]
    link.feed(ff.settings())
    link.flush()
    link.wait(0.999)
    assert pings(link) == []
    link.wait(0.002)
    assert len(pings(link)) == 1


def test_without_keep_alive_nothing_is_asked_whatever_happens() -> None:
    link = Link(QUIET)
    link.wait(1)
    stream = link.open()
    link.wait(100)
    link.connection.cancel(stream, link.now)
    assert kinds(link.sent()) == [(ff.HEADERS, 1), (ff.RST_STREAM, 1)]


# The PING of a cancel.


def test_a_cancel_without_a_byte_since_the_request_carries_a_ping_in_its_write() -> None:
    link = link_at_work()
    link.wait(0.1)
    link.connection.cancel(link.connection.streams[1], link.now)
    assert kinds(link.sent()) == [(ff.RST_STREAM, 1), (ff.PING, 0)]
    link.wait(0.25)
    assert link.states == [State.FREED, State.SUSPECT]


def test_a_time_out_without_a_byte_since_the_request_carries_one_too() -> None:
    link = Link(PATIENT)
    link.wait(10)
    stream = link.open(deadline=link.now + 0.5)
    link.flush()
    link.wait(0.6)
    assert type(failure(stream)) is RequestTimeout
    assert kinds(link.sent()) == [(ff.RST_STREAM, 1), (ff.PING, 0)]


def test_a_storm_of_cancels_asks_once() -> None:
    link = link_at_work()
    for _ in range(50):
        link.wait(0.01)
        link.connection.cancel(link.open(), link.now)
    assert len(pings(link)) == 1


def test_a_storm_of_cancels_asks_once_although_pings_are_answered() -> None:
    link = link_at_work()
    asked = []
    for _ in range(50):
        link.wait(0.01)
        stream = link.open()
        link.wait(0.01)
        link.connection.cancel(stream, link.now)
        for payload in pings(link):
            link.feed(ff.ping(payload, ack=True))
            asked.append(payload)
    assert len(asked) == 1


def test_a_cancel_after_a_byte_on_the_connection_carries_none() -> None:
    link = link_at_work()
    link.wait(0.1)
    link.feed(ff.ping())
    link.flush()
    link.connection.cancel(link.connection.streams[1], link.now)
    assert kinds(link.sent()) == [(ff.RST_STREAM, 1)]


def test_a_cancel_on_a_connection_that_is_leaving_carries_none() -> None:
    link = link_at_work()
    link.wait(0.1)
    link.connection.drain(link.now)
    link.connection.cancel(link.connection.streams[1], link.now)
    assert kinds(link.sent()) == [(ff.RST_STREAM, 1), (ff.GOAWAY, 0)]


# Suspicion and death.


def test_a_peer_is_suspect_250_ms_after_the_ping_and_no_sooner() -> None:
    link = link_at_work()
    link.wait(1.249)
    assert not link.connection.suspect
    link.wait(0.002)
    assert link.states == [State.SUSPECT]
    assert link.connection.usable


def test_four_round_trips_are_waited_for_where_that_is_more() -> None:
    link = Link(PATIENT, pairs=None)
    link.wait(0.1)
    link.feed(ff.settings(), ff.settings_ack())
    link.states.clear()
    link.wait(10)
    link.open()
    link.wait(1.399)
    assert link.states == []
    link.wait(0.002)
    assert link.states == [State.SUSPECT]


def test_an_answer_in_time_leaves_no_suspicion() -> None:
    link = link_at_work()
    link.wait(1)
    (payload,) = pings(link)
    link.wait(0.24)
    link.feed(ff.ping(payload, ack=True))
    link.wait(20)
    assert link.states == []


def test_any_byte_takes_a_suspect_back_at_once() -> None:
    link, _ = suspect_link()
    link.feed(ff.ping()[:1])  # not even a whole frame
    assert not link.connection.suspect
    assert link.states == [State.SUSPECT, State.TRUSTED]


def test_what_arrives_from_a_suspect_is_handled_before_it_is_taken_back() -> None:
    link, _ = suspect_link()
    stream = link.connection.streams[1]
    link.feed(answer(1))
    assert succeeded(stream)
    assert link.states == [State.SUSPECT, State.FREED, State.TRUSTED]


def test_a_suspect_that_says_goodbye_or_nonsense_is_not_taken_back() -> None:
    link, _ = suspect_link()
    link.feed(ff.goaway(1))
    assert link.states == [State.SUSPECT, State.DRAINING]
    link, _ = suspect_link()
    link.feed(ff.frame(ff.PING, 0, 0, b"short"))
    assert link.states == [State.SUSPECT, State.CLOSED]


def test_a_late_answer_ends_the_suspicion_and_is_a_sample_of_the_round_trip() -> None:
    link, payload = suspect_link()
    link.feed(ff.ping(payload, ack=True))
    assert link.connection.rtt == 0.5
    assert not link.connection.suspect


def test_an_early_ping_does_not_bring_death_forward() -> None:
    link, _ = suspect_link()  # the last byte came 11.5 s ago
    stream = link.connection.streams[1]
    link.wait(28.4)
    assert not stream.done
    link.wait(0.2)
    assert type(failure(stream)) is KeepAliveTimeout
    assert link.states == [State.SUSPECT, State.CLOSED]


def test_a_peer_that_dies_after_its_last_byte_is_found_in_the_same_time() -> None:
    link, _ = suspect_link()
    link.feed(ff.window_update(0, 1))
    stream = link.connection.streams[1]
    link.wait_writing(39.9)
    assert not stream.done
    link.wait_writing(0.2)
    assert type(failure(stream)) is KeepAliveTimeout


def test_a_peer_that_takes_five_seconds_for_a_ping_is_suspect_and_never_dead() -> None:
    link = Link(PATIENT)
    link.wait(1)
    stream = link.open(limit=PLENTY)
    link.flush()
    due = inf
    for _ in range(6000):
        link.wait(0.1)
        for payload in pings(link):
            due, owed = link.now + 5, payload
        if link.now >= due:
            due = inf
            link.feed(ff.ping(owed, ack=True))
    assert State.SUSPECT in link.states
    assert State.CLOSED not in link.states
    assert not stream.done


# Calm.


@pytest.mark.parametrize("debug", [b"too_many_pings", b""])
def test_a_goaway_that_asks_for_calm_is_told_before_the_connection_drains(debug: bytes) -> None:
    link = link_at_work()
    link.feed(ff.goaway(1, ff.ENHANCE_YOUR_CALM, debug))
    assert link.states == [State.CALM_DOWN, State.DRAINING]


def test_a_goaway_with_another_code_asks_for_nothing() -> None:
    link = link_at_work()
    link.feed(ff.goaway(1, ff.NO_ERROR, b"too_many_pings"))
    assert link.states == [State.DRAINING]
