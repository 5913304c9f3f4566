"""A peer that keeps books of what it was granted, and never sends a byte more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import inf

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.memory import MemoryBudget
from dynamo_h2.http2.stream import Stream
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import PLENTY, Link
from tests.http2.frame_factory import Sent

KIB = 1024
FRAME = 16 * KIB
RTT = 0.05


class Peer:
    """The server's side of a connection.

    SETTINGS are applied when they are taken off the wire, and acknowledged before any DATA that may
    depend on them (RFC 9113 §6.5.3). A ``slow`` peer looks at them when it is to acknowledge them.

    Args:
        config: The connection's.
        streams: How many to open.
        memory: The budget of its client.
    """

    def __init__(
        self, config: Http2Config, streams: int = 0, memory: MemoryBudget | None = None
    ) -> None:
        self.link = Link(config, pairs=None, memory=memory)
        self.initial = 65_535
        self.room = Counter({0: 65_535})
        self.slow = False
        self.settings: list[int] = []
        self.pings: list[bytes] = []
        self.streams: dict[int, Stream] = {}
        self.left: dict[int, float] = {}
        self.enter(ff.parse(self.link.first_flight))
        self.link.now += RTT
        self.link.feed(ff.settings())
        self.acknowledge()
        for _ in range(streams):
            self.open()
        self.writes = [self.take()]

    def open(
        self,
        *,
        limit: int | None = None,
        size: float = PLENTY,
        read_timeout: float = inf,
        upload: bool = False,
    ) -> Stream:
        """Begin a response of so many bytes; to an ``upload``, before its body has come."""
        stream = self.link.open(limit=limit, read_timeout=read_timeout, upload=upload)
        self.streams[stream.stream_id] = stream
        self.left[stream.stream_id] = size
        self.take()
        self.link.feed(ff.headers(stream.stream_id, ff.OK))
        return stream

    # What comes here.

    def take(self) -> list[Sent]:
        """Take what was written, and enter it in the books."""
        sent = self.link.sent()
        self.enter(sent)
        return sent

    def enter(self, sent: list[Sent]) -> None:
        for frame in sent:
            if frame.kind == ff.WINDOW_UPDATE:
                self.room[frame.stream] += int.from_bytes(frame.payload)
                assert self.room[frame.stream] < 2**31
            elif frame.kind == ff.HEADERS:
                self.room[frame.stream] = self.initial
            elif frame.kind == ff.RST_STREAM:
                self.left.pop(frame.stream, None)
            elif frame.kind == ff.SETTINGS and frame.payload:
                self.apply(dict(pairs(frame.payload))[ff.INITIAL_WINDOW])
            elif frame.kind == ff.PING and not frame.flags:
                self.pings.append(frame.payload)

    def apply(self, value: int) -> None:
        self.settings.append(value)
        if not self.slow:
            self.obey(value)

    def obey(self, value: int) -> None:
        for stream_id in self.room:
            if stream_id:
                self.room[stream_id] += value - self.initial
        self.initial = value

    # What goes from here.

    def acknowledge_settings(self) -> None:
        if self.settings:
            assert len(self.settings) == 1, "one SETTINGS is in flight"
            self.obey(self.settings.pop())
            self.link.feed(ff.settings_ack())

    def acknowledge(self) -> None:
        """Answer what the last writes asked."""
        self.acknowledge_settings()
        for payload in self.pings:
            self.link.feed(ff.ping(payload, ack=True))
        self.pings.clear()

    def send(self, stream_id: int, most: int = PLENTY, *, read: bool = True) -> int:
        """Send DATA, as far as the windows allow, to be read as it comes; gives how much."""
        if stream_id not in self.left:
            return 0
        if not self.slow:
            self.acknowledge_settings()
        total = int(max(min(most, self.room[0], self.room[stream_id], self.left[stream_id]), 0))
        size, stream = total, self.streams[stream_id]
        while size > 0:
            piece = min(size, FRAME)
            size -= piece
            self.room[0] -= piece
            self.room[stream_id] -= piece
            self.left[stream_id] -= piece
            end = not self.left[stream_id]
            self.link.feed(ff.data(stream_id, bytes(piece), end_stream=end))
            while read and stream.limit is None and stream.read():
                pass
        if not self.left[stream_id]:
            del self.left[stream_id]
        return total

    def round(self, streams: Iterable[int] = (1,)) -> None:
        """Use up the windows of some streams within one round trip."""
        for stream_id in streams:
            self.send(stream_id)
        self.writes.append(self.take())
        self.link.wait(RTT)

    def check(self) -> None:
        """At rest, what the peer may send is what we think that it may."""
        while self.settings:
            self.acknowledge()
            self.take()
        engine = self.link.connection._engine
        assert engine.connection_receive_window.current_window_size == self.room[0]
        for stream_id in self.left:
            window = engine.stream_window(stream_id)
            assert window is not None
            assert window.current_window_size == self.room[stream_id]


def pairs(payload: bytes) -> list[tuple[int, int]]:
    """The settings of a frame."""
    return [
        (int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6]))
        for at in range(0, len(payload), 6)
    ]
