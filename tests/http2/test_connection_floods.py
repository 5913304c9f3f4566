"""A peer that keeps us busy: a burst passes, a flood ends the connection, and nobody is killed.

Each flood comes in many reads, each of which is answered, so that the bound on answers that are not
read has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import RemoteProtocolError
from dynamo_h2.http2.flood import ALLOWANCE, MAX_INFORMATIONAL, Idle
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import PLENTY, Link, failure, resets, succeeded
from tests.http2.test_connection import answer

pytestmark = pytest.mark.usefixtures("each_engine")

BATCH = 50
# For kinds of which so many are let pass that reads of a few frames would take too long.
LARGE_BATCH = 1_000

FLOODS: dict[str, tuple[Idle, bytes]] = {
    "ping": (Idle.PING, ff.ping()),
    "settings": (Idle.SETTINGS, ff.settings((ff.MAX_STREAMS, 100))),
    "empty settings": (Idle.SETTINGS, ff.settings()),
    "empty data": (Idle.EMPTY_DATA, ff.data(1)),
    "padding": (Idle.EMPTY_DATA, ff.padded_data(1, b"", 0)),
    "priority": (Idle.IGNORED, ff.frame(ff.PRIORITY, 0, 1, bytes(5))),
    "unknown type": (Idle.IGNORED, ff.frame(0xEE, 0, 0, b"what is this")),
    "altsvc": (Idle.IGNORED, ff.frame(ff.ALTSVC, 0, 0, bytes(2))),
    "ping ack": (Idle.IGNORED, ff.ping(ack=True)),
    "reset of a closed stream": (Idle.LATE, ff.rst(3)),
    "head for a closed stream": (Idle.IGNORED, ff.headers(3, ff.OK)),
    "credit": (Idle.CREDIT, ff.window_update(1, 1)),
    "credit of the connection": (Idle.CREDIT, ff.window_update(0, 1)),
    "goaway": (Idle.GOAWAY, ff.goaway(2**31 - 1)),
}


def begun() -> Link:
    """A link with a response under way on stream 1, and stream 3 cancelled."""
    link = Link()
    link.open(limit=PLENTY)
    cancelled = link.open()
    link.feed(ff.headers(1, ff.OK))
    link.flush()
    link.connection.cancel(cancelled, link.now)
    link.flush()
    return link


def flood(link: Link, frame: bytes, count: int, gap: float = 0.0) -> None:
    """Let that many frames arrive, in batches, ``gap`` seconds apart."""
    at_once = BATCH if count < LARGE_BATCH * BATCH else LARGE_BATCH
    for _ in range(count // at_once):
        link.feed(frame * at_once)
        link.flush()
        link.wait(gap)
    link.feed(frame * (count % at_once))


@pytest.mark.parametrize("name", FLOODS)
def test_a_burst_passes_and_a_flood_ends_the_connection(name: str) -> None:
    kind, frame = FLOODS[name]
    link = begun()
    stream = link.connection.streams[1]
    # The peer's first SETTINGS counted too.
    burst = ALLOWANCE[kind] - (kind is Idle.SETTINGS)
    flood(link, frame, burst)
    assert not link.connection.closed
    link.feed(frame)
    error = failure(stream)
    assert type(error) is RemoteProtocolError
    assert error.code == ff.ENHANCE_YOUR_CALM
    assert "within a second" in str(error)
    goaway = link.sent()[-1]
    assert (goaway.kind, goaway.code) == (ff.GOAWAY, ff.ENHANCE_YOUR_CALM)


@pytest.mark.parametrize("name", ["ping", "settings", "empty data"])
def test_a_steady_peer_below_the_rate_goes_on_for_ever(name: str) -> None:
    kind, frame = FLOODS[name]
    link = begun()
    flood(link, frame, 10 * ALLOWANCE[kind], gap=1.1 * BATCH / ALLOWANCE[kind])
    link.feed(ff.data(1, b"x", end_stream=True))
    assert not link.connection.closed


def test_an_empty_frame_that_ends_a_stream_is_no_flood() -> None:
    link = Link()
    for number in range(3 * ALLOWANCE[Idle.EMPTY_DATA]):
        link.open()
        link.flush()
        link.feed(answer(2 * number + 1))
    assert not link.connection.closed


def test_late_data_after_a_storm_of_cancels_is_no_flood() -> None:
    link = Link(Http2Config(max_resets=10_000))
    streams = [link.open() for _ in range(1000)]
    link.flush()
    for stream in streams:
        link.connection.cancel(stream, link.now)
    assert len(resets(link.sent())) == 1000
    for stream in streams:
        link.feed(ff.headers(stream.stream_id, ff.OK), ff.data(stream.stream_id, bytes(100)) * 50)
    link.feed(ff.ping())
    assert not link.connection.closed
    assert resets(link.sent()) == []


def test_late_data_without_end_is_a_flood() -> None:
    link = begun()
    link.connection.cancel(link.connection.streams[1], link.now)
    other = link.open()
    link.flush()
    frames = ff.data(1, b"x") * 1000
    for _ in range(ALLOWANCE[Idle.LATE] // 1000):
        link.feed(frames)
        link.flush()
    assert not link.connection.closed
    link.feed(ff.data(1, b"x"))
    assert failure(other).processed is None
    assert link.sent()[-1].code == ff.ENHANCE_YOUR_CALM


def test_interim_responses_are_counted_for_each_request() -> None:
    link = Link()
    streams = [link.open() for _ in range(20)]
    link.flush()
    for stream in streams:
        link.feed(ff.headers(stream.stream_id, (b":status", b"102")) * MAX_INFORMATIONAL)
    assert not any(stream.done for stream in streams)
    link.feed(*[answer(stream.stream_id) for stream in streams])
    assert all(succeeded(stream) for stream in streams)


def test_answers_that_are_not_read_are_bounded() -> None:
    link = begun()
    for count in range(1, 1001):
        link.feed(ff.ping())
        assert link.connection.queued_control == count
    link.feed(ff.ping())
    assert link.connection.closed
    assert link.sent()[-1].code == ff.ENHANCE_YOUR_CALM


def test_answers_that_are_written_are_no_longer_queued() -> None:
    link = begun()
    link.feed(ff.ping() * 10)
    assert link.connection.queued_control == 10
    assert len(link.sent()) == 10
    assert link.connection.queued_control == 0


@pytest.mark.parametrize(
    "after",
    [
        lambda link: link.feed(answer(1)),
        lambda link: link.feed(b"\x00" * 5000),
        lambda link: link.connection.lost(OSError("gone"), link.now),
        lambda link: link.connection.drain(link.now),
        lambda link: link.wait(1000),
    ],
)
def test_nothing_that_comes_after_a_connection_error_matters(
    after: Callable[[Link], None],
) -> None:
    link = begun()
    stream = link.connection.streams[1]
    link.feed(ff.settings_ack())
    error = failure(stream)
    link.connection.cancel(stream, link.now)
    assert len(link.sent()) == 1
    states = list(link.states)
    after(link)
    assert failure(stream) is error
    assert link.sent() == []
    assert link.states == states
    assert not link.connection.has_output
