"""Windows that follow the estimator: by one SETTINGS for all streams, and by the rest of it."""

from __future__ import annotations

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.credit import RETRY
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import PLENTY, Link
from tests.http2.credit_rig import KIB, RTT, Peer
from tests.http2.frame_factory import Sent

pytestmark = pytest.mark.usefixtures("each_engine")

WINDOW = 256 * KIB
ADAPTIVE = Http2Config(
    initial_stream_window=WINDOW, initial_connection_window=4 * WINDOW, keep_alive_interval=None
)


def updates(sent: list[Sent]) -> list[int]:
    return [frame.stream for frame in sent if frame.kind == ff.WINDOW_UPDATE]


def test_a_window_that_is_used_up_grows_for_all_streams_by_one_settings_frame() -> None:
    peer = Peer(ADAPTIVE, 3)
    peer.round()
    (grown,) = peer.settings
    assert 1.5 * WINDOW <= grown <= 2 * WINDOW
    assert peer.room[3] == peer.room[5] == grown
    assert set(updates(peer.writes[-1])) <= {0, 1}
    peer.acknowledge()
    peer.check()
    assert peer.open().window.max_window_size == grown


def test_windows_double_with_each_round_trip_up_to_the_limit() -> None:
    peer = Peer(ADAPTIVE.replace(max_window=1_500_000), 1)
    for _ in range(8):
        peer.round()
        peer.acknowledge()
        peer.check()
    assert peer.initial == 1_500_000
    assert peer.streams[1].window.max_window_size == 1_500_000
    window = peer.link.connection._engine.connection_receive_window
    assert window.max_window_size == 1_500_000


def test_one_settings_frame_is_in_flight_and_the_next_waits_for_its_ack() -> None:
    peer = Peer(ADAPTIVE, 2)
    peer.slow = True
    peer.round()
    (first,) = peer.settings
    for _ in range(3):
        peer.round()
        assert peer.settings == [first]
    peer.acknowledge()
    peer.check()
    for _ in range(3):
        peer.round()
        peer.acknowledge()
    assert peer.initial > first
    peer.check()
    assert {each.window.max_window_size for each in peer.streams.values()} == {peer.initial}


def test_no_window_changes_where_windows_are_not_adaptive() -> None:
    config = ADAPTIVE.replace(adaptive_window=False)
    peer = Peer(config, 1)
    for _ in range(10):
        peer.round()
    peer.check()
    frames = [frame for sent in peer.writes for frame in sent]
    assert {frame.kind for frame in frames} <= {ff.HEADERS, ff.WINDOW_UPDATE, ff.SETTINGS}
    assert peer.initial == WINDOW
    assert peer.streams[1].window.max_window_size == WINDOW
    assert peer.room[0] + peer.link.connection._window.owed == 4 * WINDOW


def test_a_ping_goes_out_only_with_credit_and_one_at_a_time() -> None:
    peer = Peer(ADAPTIVE, 1)
    for _ in range(40):
        peer.send(1, 40 * KIB)
        peer.writes.append(peer.take())
        peer.link.wait(RTT)
    asked = [sent for sent in peer.writes if any(frame.kind == ff.PING for frame in sent)]
    assert len(asked) == 1
    assert updates(asked[0])
    peer.acknowledge()
    peer.link.wait(30)
    assert not peer.link.sent()


def test_the_ping_of_a_squeeze_goes_ahead_of_the_credit_and_of_all_that_it_brings() -> None:
    """The line carries two megabytes a second, and an ACK stands in it for a third of a second."""
    peer = Peer(ADAPTIVE, 1)
    bdp = peer.link.connection._credit._bdp
    assert bdp is not None
    asked_at = 0.0
    probes = []
    for _ in range(600):
        squeezed = bdp.squeeze is not None
        peer.send(1, 100 * KIB)
        sent = peer.take()
        kinds = [frame.kind for frame in sent if frame.kind == ff.PING or not frame.stream]
        if ff.PING in kinds:
            asked_at = peer.link.now
            if squeezed:
                probes.append(kinds)
        if peer.pings and peer.link.now >= asked_at + (RTT if squeezed else 0.3):
            peer.acknowledge()
        peer.link.wait(RTT)
    assert len(probes) >= 2
    for kinds in probes:
        assert (kinds[0], *set(kinds[1:])) == (ff.PING, ff.WINDOW_UPDATE)
    peer.check()


def test_the_ping_of_a_squeeze_counts_from_its_own_moment_when_memory_is_there_again() -> None:
    peer = Peer(ADAPTIVE, 2)
    link = peer.link
    credit = link.connection._credit
    bdp = credit._bdp
    assert bdp is not None
    bdp._path.add_rate(link.now, 1e9)
    bdp._begin_squeeze(link.now, 1e9)
    credit.press()
    for stream_id in peer.streams:
        link.feed(ff.data(stream_id, bytes(WINDOW // 2)))
    assert ff.PING not in [frame.kind for frame in link.sent()]
    link.wait(RETRY)
    assert not credit.pressed
    (ping,) = [frame for frame in link.sent() if frame.kind == ff.PING]
    link.now += RTT
    link.feed(ff.ping(ping.payload, ack=True))
    assert bdp.squeeze is None  # the round trip is the one that was known


def test_small_responses_bring_no_ping_and_no_credit() -> None:
    link = Link(ADAPTIVE)
    for number in range(20):
        stream = link.open(limit=PLENTY)
        link.flush()
        link.feed(
            ff.headers(stream.stream_id, ff.OK),
            ff.data(stream.stream_id, bytes(1000), end_stream=True),
        )
        link.now += 1
        assert link.sent() == [], number


def test_an_idle_connection_goes_back_to_where_it_began() -> None:
    peer = Peer(ADAPTIVE, 1)
    for _ in range(5):
        peer.round()
        peer.acknowledge()
    assert peer.initial > 4 * WINDOW
    peer.link.feed(ff.data(1, b"", end_stream=True))
    del peer.streams[1], peer.left[1]
    peer.take()
    settings = []
    for _ in range(60):
        peer.link.wait(1.0)
        peer.take()
        settings += peer.settings
        peer.acknowledge()
    assert settings == sorted(settings, reverse=True)
    assert settings[-1] == peer.initial == WINDOW
    assert peer.open().window.max_window_size == WINDOW


def test_a_smaller_target_takes_nothing_back_while_streams_are_open() -> None:
    peer = Peer(ADAPTIVE, 2)
    for _ in range(5):
        peer.round()
        peer.acknowledge()
    large = peer.initial
    room = peer.room[3]
    for _ in range(60):
        peer.link.wait(1.0)
        peer.take()
    assert (peer.initial, peer.room[3]) == (large, room)
    granted = peer.room[1]
    for _ in range(100):
        peer.link.wait(1.0)
        peer.send(1, 64 * KIB)
        peer.take()
    assert peer.room[1] < granted
    assert peer.streams[1].window.max_window_size == WINDOW
    peer.check()


def test_a_ping_of_the_keep_alive_is_the_one_that_is_in_flight() -> None:
    peer = Peer(ADAPTIVE.replace(keep_alive_interval=5.0), 1)
    peer.link.wait(5.0)
    peer.take()
    assert len(peer.pings) == 1
    peer.round()
    assert len(peer.pings) == 1
    peer.acknowledge()
    peer.round()
    assert len(peer.pings) == 1
