"""Streams that we reset: the slots that some of them keep, and how many a connection may have."""

from __future__ import annotations

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import ConnectionLost
from dynamo_h2.http2.connection import State
from dynamo_h2.http2.flood import MAX_INFORMATIONAL
from dynamo_h2.http2.stream import Stream
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import ORIGIN, Link, kinds, resets, succeeded
from tests.http2.test_connection import answer
from tests.http2.test_connection_time import QUIET, pings

pytestmark = pytest.mark.usefixtures("each_engine")

PATIENT = Http2Config(pool_idle_timeout=86_400, max_resets=10_000)
FEW = ((ff.MAX_STREAMS, 4),)


def silent_link(config: Http2Config = PATIENT) -> Link:
    """A link whose peer takes four streams, and has said nothing for 10 s."""
    link = Link(config, pairs=FEW)
    link.wait(10)
    return link


def give_up(link: Link, *, flush: bool = True) -> None:
    """Open a stream a while after the last byte, and give it up later."""
    link.wait(0.01)
    stream = link.open()
    if flush:
        link.flush()
    link.wait(0.01)
    link.connection.cancel(stream, link.now)


def full(link: Link) -> bool:
    """Whether the connection takes no stream now, though it would take some later."""
    assert link.connection.usable
    try:
        stream = link.open()
    except ConnectionLost as error:
        return error.processed is False
    link.feed(answer(stream.stream_id))
    return False


# Slots.


def test_a_storm_of_time_outs_puts_no_more_on_a_silent_connection_than_it_takes() -> None:
    link = silent_link()
    for _ in range(4):
        give_up(link)
    assert link.connection.streams == {}
    assert full(link)
    assert len([f for f in link.sent() if f.kind == ff.HEADERS]) == 0


def test_time_outs_are_held_against_a_silent_connection_as_cancels_are() -> None:
    link = silent_link()
    streams = [link.open(deadline=link.now + 0.5) for _ in range(4)]
    link.flush()
    link.wait(1)
    assert [type(stream.error).__name__ for stream in streams] == ["RequestTimeout"] * 4
    assert full(link)


def test_the_ack_of_the_ping_frees_the_slots_at_once() -> None:
    link = silent_link()
    stream = link.open()
    link.flush()
    link.connection.cancel(stream, link.now)
    frames = link.sent()
    assert kinds(frames) == [(ff.RST_STREAM, 1), (ff.PING, 0)]
    give_up(link)
    give_up(link)
    give_up(link)
    assert full(link)
    link.states.clear()
    link.feed(ff.ping(frames[1].payload, ack=True))
    assert link.states == [State.FREED]
    assert not full(link)


@pytest.mark.parametrize(
    "frames", [ff.ping(), ff.window_update(0, 1), b"\0", ff.settings()], ids=repr
)
def test_any_byte_frees_the_slots(frames: bytes) -> None:
    link = silent_link()
    for _ in range(4):
        give_up(link)
    link.flush()
    link.feed(frames)
    assert link.states[-1] is State.FREED
    link.open()


def test_a_stream_after_whose_head_a_byte_came_frees_its_slot_at_once() -> None:
    link = silent_link()
    for _ in range(10):
        stream = link.open()
        link.flush()
        link.wait(0.01)
        link.feed(ff.ping())
        link.connection.cancel(stream, link.now)
    assert link.connection.resets.held == 0


def test_a_peer_that_falls_silent_gets_no_more_than_twice_what_it_takes() -> None:
    """Streams that it showed life beside free their slots, those after its last byte do not."""
    link = Link(PATIENT, pairs=FEW)
    streams = [link.open() for _ in range(4)]
    link.flush()
    link.wait(0.01)
    link.feed(ff.headers(1, ff.OK))
    link.wait(0.01)
    for stream in streams:
        link.connection.cancel(stream, link.now)
    assert pings(link) == []
    give_up(link)
    (payload,) = pings(link)
    for _ in range(3):
        give_up(link)
    assert full(link)
    assert link.connection.resets.held == 4
    link.feed(ff.ping(payload, ack=True))
    assert not full(link)


def test_the_streams_that_go_on_count_beside_the_slots() -> None:
    link = silent_link()
    stream = link.open()
    give_up(link)
    give_up(link)
    give_up(link)
    assert full(link)
    link.flush()
    link.feed(answer(stream.stream_id))
    assert succeeded(stream)
    assert not full(link)


def test_a_cancel_that_takes_the_last_slot_asks_though_that_was_done() -> None:
    link = silent_link()
    give_up(link)
    (payload,) = pings(link)
    link.feed(ff.ping(payload, ack=True))
    for _ in range(3):
        give_up(link)
        assert pings(link) == []
    give_up(link)
    (payload,) = pings(link)
    assert full(link)
    link.feed(ff.ping(payload, ack=True))
    assert not full(link)


def test_held_slots_are_asked_about_although_idle_connections_are_not() -> None:
    link = silent_link(PATIENT.replace(keep_alive_while_idle=False))
    give_up(link)
    (payload,) = pings(link)
    link.feed(ff.ping(payload, ack=True))
    give_up(link)
    link.flush()
    link.wait(30.1)
    (payload,) = pings(link)
    link.feed(ff.ping(payload, ack=True))
    link.wait(600)
    assert pings(link) == []


def test_a_peer_that_never_answers_is_dead_with_its_slots() -> None:
    link = silent_link()
    for _ in range(4):
        give_up(link)
    link.flush()
    link.wait(40)
    assert link.connection.dead
    assert link.states[-1] is State.CLOSED


def test_what_a_goaway_brings_is_not_handed_out() -> None:
    link = silent_link()
    for _ in range(4):
        give_up(link)
    link.states.clear()
    link.feed(ff.goaway(0))
    assert State.FREED not in link.states


# A peer that does not read.


def test_a_reset_that_is_not_written_keeps_its_slot_though_the_peer_goes_on_sending() -> None:
    link = silent_link()
    for _ in range(4):
        stream = link.open()
        link.wait(0.01)
        link.feed(ff.ping())
        link.connection.cancel(stream, link.now)
    assert full(link)
    link.feed(ff.ping())
    assert full(link)
    assert len(resets(link.sent())) == 4
    link.feed(ff.ping())
    assert not full(link)


def test_without_keep_alive_a_reset_frees_its_slot_once_it_is_written() -> None:
    link = silent_link(QUIET.replace(max_resets=10_000))
    for _ in range(4):
        give_up(link, flush=False)
    assert full(link)
    link.states.clear()
    link.flush()
    assert link.states == [State.FREED]
    for _ in range(20):
        give_up(link)
        link.flush()
    assert not full(link)


# The budget.


def drained(link: Link) -> bool:
    """Whether the connection takes no new streams for good."""
    return State.DRAINING in link.states and not link.connection.usable


def reset_by_cancel(link: Link, stream: Stream) -> None:
    link.connection.cancel(stream, link.now)


def reset_after_an_error(link: Link, _: Stream) -> None:
    link.feed(ff.headers(3, (b":status", b"none")))


def reset_for_interim_responses(link: Link, _: Stream) -> None:
    link.feed(ff.headers(3, (b":status", b"103")) * (MAX_INFORMATIONAL + 1))


def reset_after_an_early_response(link: Link, _: Stream) -> None:
    link.feed(ff.headers(3, (b":status", b"403"), end_stream=True))


def reset_after_an_upload_that_nobody_takes(link: Link, _: Stream) -> None:
    link.feed(ff.headers(3, ff.OK, end_stream=True))
    link.wait(2)


@pytest.mark.parametrize(
    "reset",
    [
        reset_by_cancel,
        reset_after_an_error,
        reset_for_interim_responses,
        reset_after_an_early_response,
        reset_after_an_upload_that_nobody_takes,
    ],
)
def test_each_kind_of_reset_is_counted_and_the_last_drains(reset: object) -> None:
    assert callable(reset)
    link = Link(Http2Config(max_resets=1))
    neighbour = link.open()
    stream = link.open(bytes(200_000))
    link.flush()
    reset(link, stream)
    assert len(resets(link.sent())) == 1
    assert drained(link)
    assert not link.connection.closed
    with pytest.raises(ConnectionLost, match=f"connection to {ORIGIN} takes no more streams"):
        link.open()
    link.feed(answer(neighbour.stream_id))
    assert succeeded(neighbour)
    assert [frame.kind for frame in link.sent()] == [ff.GOAWAY]
    assert link.connection.closed


def test_the_budget_is_two_hundred_and_ten_more_each_second() -> None:
    link = Link()
    count = 0
    while not drained(link):
        link.connection.cancel(link.open(), link.now)
        link.wait(0.001)
        link.feed(ff.ping())
        link.flush()
        count += 1
    assert 200 <= count <= 204


def test_a_reset_by_the_peer_and_a_stream_that_is_over_cost_nothing() -> None:
    link = Link(Http2Config(max_resets=1))
    first, second = link.open(), link.open()
    link.flush()
    link.feed(ff.rst(1, 2), answer(3))
    link.connection.cancel(first, link.now)
    link.connection.cancel(second, link.now)
    assert not drained(link)
    assert resets(link.sent()) == []
