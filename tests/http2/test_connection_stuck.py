"""Time on a connection whose peer does not read, or which we do not read ourselves."""

from __future__ import annotations

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import KeepAliveTimeout, ReadTimeout, RequestTimeout
from dynamo_h2.http2.connection import State
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import PLENTY, Link, failure
from tests.http2.test_connection_time import pings

pytestmark = pytest.mark.usefixtures("each_engine")


def test_a_ping_counts_from_when_it_is_written() -> None:
    """A peer that does not read is suspect at once, but it cannot answer what it was not sent."""
    link = Link(Http2Config(pool_idle_timeout=86_400))
    stream = link.open()
    link.flush()
    link.wait(31)
    link.wait(30)
    assert link.states == [State.SUSPECT]
    (payload,) = pings(link)
    link.wait(9.9)
    assert not stream.done
    link.feed(ff.ping(payload, ack=True))
    assert link.connection.rtt == pytest.approx(9.9)


def test_a_ping_that_was_written_late_kills_in_time() -> None:
    link = Link(Http2Config(pool_idle_timeout=86_400))
    stream = link.open()
    link.flush()
    link.wait(61)
    assert len(pings(link)) == 1
    link.wait(9.9)
    assert not stream.done
    link.wait(0.2)
    assert type(failure(stream)) is KeepAliveTimeout


@pytest.mark.parametrize(
    ("write_timeout", "after"), [(60, 90), (5, 40), (None, None)], ids=["longer", "shorter", "none"]
)
def test_a_ping_that_is_never_written_kills_once_nothing_was_taken_for_write_timeout(
    write_timeout: float | None, after: float | None
) -> None:
    link = Link(Http2Config(pool_idle_timeout=86_400, write_timeout=write_timeout))
    stream = link.open()
    link.flush()
    link.wait(29.9)
    link.wait(10_000 if after is None else after - 29.9 - 0.1)
    assert not stream.done
    if after is not None:
        link.wait(0.2)
        assert type(failure(stream)) is KeepAliveTimeout


def test_a_read_time_out_does_not_run_while_nothing_is_read() -> None:
    link = Link(Http2Config(pool_idle_timeout=86_400))
    stream = link.open(read_timeout=3, limit=PLENTY)
    link.flush()
    link.feed(ff.headers(1, ff.OK), ff.data(1, b"half"))
    link.connection.reading_paused()
    link.wait(100)
    assert not stream.done
    link.connection.reading_resumed(link.now)
    link.wait(2.9)
    assert not stream.done
    link.wait(0.2)
    assert type(failure(stream)) is ReadTimeout


def test_the_deadline_of_a_request_runs_though_nothing_is_read() -> None:
    link = Link()
    stream = link.open(deadline=link.now + 5, read_timeout=3, limit=PLENTY)
    link.flush()
    link.feed(ff.headers(1, ff.OK), ff.data(1, b"half"))
    link.connection.reading_paused()
    link.wait(5.1)
    assert type(failure(stream)) is RequestTimeout
