"""Windows that follow the estimator: by one SETTINGS for all streams, and by the rest of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.stream import Stream
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import PLENTY, Link, credit
from tests.http2.frame_factory import Sent

pytestmark = pytest.mark.usefixtures("each_engine")

KIB = 1024
WINDOW = 256 * KIB
RTT = 0.05
ADAPTIVE = Http2Config(
    initial_stream_window=WINDOW, initial_connection_window=4 * WINDOW, keep_alive_interval=None
)


class Peer:
    """A peer that keeps books of what it was granted, and uses all of it in one round trip."""

    def __init__(self, config: Http2Config = ADAPTIVE, streams: int = 1) -> None:
        self.link = Link(config, pairs=None)
        self.link.now += RTT
        self.link.feed(ff.settings(), ff.settings_ack())
        self.initial = config.stream_window
        self.room = Counter({0: config.connection_window})
        self.settings: list[int] = []
        self.pings: list[bytes] = []
        self.writes: list[list[Sent]] = []
        self.streams: dict[int, Stream] = {}
        for _ in range(streams):
            self.open()
        self.take()

    def open(self) -> Stream:
        stream = self.link.open()
        self.streams[stream.stream_id] = stream
        self.room[stream.stream_id] = self.initial
        self.link.feed(ff.headers(stream.stream_id, ff.OK))
        return stream

    def take(self) -> None:
        """Take what was written, and enter it in the books."""
        sent = self.link.sent()
        self.writes.append(sent)
        self.room += credit(sent)
        for frame in sent:
            if frame.kind == ff.SETTINGS and frame.payload:
                ((_, value),) = pairs(frame.payload)
                self.settings.append(value)
                for stream_id in self.streams:
                    self.room[stream_id] += value - self.initial
                self.initial = value
            elif frame.kind == ff.PING:
                self.pings.append(frame.payload)

    def acknowledge(self) -> None:
        """Answer what the last writes asked, a round trip after them."""
        if self.settings:
            self.link.feed(ff.settings_ack())
            self.settings.clear()
        for payload in self.pings:
            self.link.feed(ff.ping(payload, ack=True))
        self.pings.clear()

    def send(self, stream_id: int, size: int, *, read: bool = True) -> None:
        """Send DATA, as far as the windows allow; it is read as it comes."""
        size = min(size, self.room[0], self.room[stream_id])
        while size > 0:
            piece = min(size, 16 * KIB)
            size -= piece
            self.room[0] -= piece
            self.room[stream_id] -= piece
            self.link.feed(ff.data(stream_id, bytes(piece)))
            while read and self.streams[stream_id].read():
                pass

    def round(self, streams: Iterable[int] = (1,)) -> None:
        """Use up the windows of some streams within one round trip."""
        for stream_id in streams:
            self.send(stream_id, PLENTY)
        self.take()
        self.link.wait(RTT)

    def check(self) -> None:
        """What the peer may send is what we think that it may."""
        engine = self.link.connection._engine
        assert engine.connection_receive_window.current_window_size == self.room[0]
        for stream_id in self.streams:
            window = engine.stream_window(stream_id)
            assert window is not None
            assert window.current_window_size == self.room[stream_id]


def pairs(payload: bytes) -> list[tuple[int, int]]:
    return [
        (int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6]))
        for at in range(0, len(payload), 6)
    ]


def updates(sent: list[Sent]) -> list[int]:
    return [frame.stream for frame in sent if frame.kind == ff.WINDOW_UPDATE]


def test_a_window_that_is_used_up_grows_for_all_streams_by_one_settings_frame() -> None:
    peer = Peer(streams=3)
    peer.round()
    (grown,) = peer.settings
    assert 1.5 * WINDOW <= grown <= 2 * WINDOW
    assert peer.room[3] == peer.room[5] == grown
    assert set(updates(peer.writes[-1])) <= {0, 1}
    peer.acknowledge()
    peer.check()
    assert peer.open().window.max_window_size == grown


def test_windows_double_with_each_round_trip_up_to_the_limit() -> None:
    peer = Peer(ADAPTIVE.replace(max_window=1_500_000))
    for _ in range(8):
        peer.round()
        peer.acknowledge()
        peer.check()
    assert peer.initial == 1_500_000
    assert peer.streams[1].window.max_window_size == 1_500_000
    window = peer.link.connection._engine.connection_receive_window
    assert window.max_window_size == 1_500_000


def test_while_settings_are_in_flight_a_stream_is_granted_only_the_rest() -> None:
    peer = Peer(streams=2)
    peer.round()
    (first,) = peer.settings
    peer.round()  # no ACK: the peer has applied them, but says so late
    assert peer.settings == [first]
    stream = peer.streams[1]
    assert stream.window.max_window_size > WINDOW
    target = stream.window.max_window_size + first - WINDOW
    peer.acknowledge()
    peer.take()
    assert stream.window.max_window_size == target
    assert peer.settings == [target]
    peer.acknowledge()
    peer.check()
    assert peer.streams[3].window.max_window_size == target


def test_no_window_changes_where_windows_are_not_adaptive() -> None:
    config = ADAPTIVE.replace(adaptive_window=False)
    peer = Peer(config)
    for _ in range(10):
        peer.round()
    peer.check()
    frames = [frame for sent in peer.writes for frame in sent]
    assert {frame.kind for frame in frames} <= {ff.HEADERS, ff.WINDOW_UPDATE, ff.SETTINGS}
    assert peer.initial == WINDOW
    assert peer.streams[1].window.max_window_size == WINDOW
    assert peer.room[0] + peer.link.connection._window.owed == 4 * WINDOW


def test_a_ping_goes_out_only_with_credit_and_one_at_a_time() -> None:
    peer = Peer()
    for _ in range(40):
        peer.send(1, 40 * KIB)
        peer.take()
        peer.link.wait(RTT)
    asked = [sent for sent in peer.writes if any(frame.kind == ff.PING for frame in sent)]
    assert len(asked) == 1
    assert updates(asked[0])
    peer.acknowledge()
    peer.link.wait(30)
    assert not peer.link.sent()


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
    peer = Peer()
    for _ in range(5):
        peer.round()
        peer.acknowledge()
    assert peer.initial > 4 * WINDOW
    peer.link.feed(ff.data(1, b"", end_stream=True))
    del peer.streams[1]
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
    peer = Peer(streams=2)
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
    peer = Peer(ADAPTIVE.replace(keep_alive_interval=5.0))
    peer.link.wait(5.0)
    peer.take()
    assert len(peer.pings) == 1
    peer.round()
    assert len(peer.pings) == 1
    peer.acknowledge()
    peer.round()
    assert len(peer.pings) == 1
