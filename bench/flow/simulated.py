"""A connection, its peer and a clock of plain numbers: minutes that take no time.

The clock goes from one thing that is due to the next: a timer of the connection, or an answer of
the peer.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, PingFrame, SettingsFrame

from dynamo_h2.http2.connection import Connection, State
from dynamo_h2.http2.headers import build_head
from dynamo_h2.http2.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynamo_h2 import Http2Config
    from dynamo_h2.http2.stream import Future

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ALL: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side.

    Args:
        delay: seconds from a frame to the answer.
        dies_at: seconds after which it answers nothing.
    """

    delay: float
    dies_at: float = inf


@dataclass(slots=True)
class Found:
    """What happened, in seconds from the start.

    Args:
        pings: when PINGs were written.
        doubts: how many times the peer became suspect.
        suspect_at: when it last did.
        died_at: when it was given up; infinite for never.
        last_byte_at: when the last byte came from it.
        srtt: the smoothed round trip at the end.
    """

    pings: list[float] = field(default_factory=list)
    doubts: int = 0
    suspect_at: float = inf
    died_at: float = inf
    last_byte_at: float = 0.0
    srtt: float = 0.0

    def last_ping_before(self, when: float) -> float:
        """Returns when the last PING before a moment was written."""
        return max(at for at in self.pings if at <= when)


class Simulation:
    """One connection with one open request.

    Args:
        config: the client's.
        peer: the other side, which answers SETTINGS and PING, and each request with its head.
        jitter: of the keep-alive, 0 to 1.
    """

    def __init__(self, config: Http2Config, peer: Peer, *, jitter: float) -> None:
        self._peer = peer
        self._now = 0.0
        self._answers: list[tuple[float, int, bytes]] = []
        self._number = 0  # what is due at the same time keeps its order
        self._found = Found()
        self._connection = Connection(
            config,
            origin="http://peer",
            on_output=_ignore,
            flush=_ignore,
            on_state=self._on_state,
            make_future=_no_future,
            jitter=jitter,
            now=0.0,
        )

    def run(self, seconds: float) -> Found:
        """Lets so much time pass, or all until the peer is given up."""
        connection, found = self._connection, self._found
        connection.start(0.0)
        head = build_head("GET", "http", "peer", "/", ())
        connection.open_stream(Request(head), 0.0)
        self._write(PREFACE)
        while not connection.closed:
            due = self._answers[0][0] if self._answers else inf
            when = min(due, connection.timer_at)
            if when > seconds:
                break
            self._now = when
            if due <= when:
                found.last_byte_at = when
                connection.receive(heapq.heappop(self._answers)[2], when)
            else:
                connection.handle_timer(when)
            self._write()
        found.srtt = connection._keep_alive.srtt
        return found

    def _on_state(self, state: State) -> None:
        if state is State.SUSPECT:
            self._found.doubts += 1
            self._found.suspect_at = self._now
        elif state is State.CLOSED:
            self._found.died_at = self._now

    def _write(self, preface: bytes = b"") -> None:
        """Hands what the connection has to send to the peer, and its answers to the clock."""
        sent = b"".join(self._connection.data_to_send(ALL, self._now)).removeprefix(preface)
        for frame in _frames(sent):
            if isinstance(frame, PingFrame) and "ACK" not in frame.flags:
                self._found.pings.append(self._now)
            due = self._now + self._peer.delay
            if due < self._peer.dies_at:
                for answer in _answers(frame):
                    self._number += 1
                    heapq.heappush(self._answers, (due, self._number, answer.serialize()))


def _frames(data: bytes) -> Iterator[Frame]:
    view = memoryview(data)
    while view:
        frame, length = Frame.parse_frame_header(view[:9])
        frame.parse_body(view[9 : 9 + length])
        yield frame
        view = view[9 + length :]


def _answers(frame: Frame) -> Iterator[Frame]:
    """Yields what a peer says to a frame: ACKs, and a head and a byte for a request."""
    if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
        yield SettingsFrame(0)
        yield SettingsFrame(0, flags=["ACK"])
    elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
        yield PingFrame(0, frame.opaque_data, flags=["ACK"])
    elif isinstance(frame, HeadersFrame):
        block = Encoder().encode([(":status", "200")])
        yield HeadersFrame(frame.stream_id, block, flags=["END_HEADERS"])
        yield DataFrame(frame.stream_id, b"begun")


def _no_future() -> Future:
    raise AssertionError("nobody waits here")


def _ignore() -> None:
    """What there is to send is asked for after every step."""
