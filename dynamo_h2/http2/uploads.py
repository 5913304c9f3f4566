"""The bodies of one connection on their way out: small ones with their heads, others in turns."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from dynamo_h2.http2.scheduler import Scheduler
from dynamo_h2.http2.stream import SendHalf

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamo_h2.http2.engine import Engine
    from dynamo_h2.http2.request import Request
    from dynamo_h2.http2.stream import Future, Stream

# A body of up to this size (bytes) goes out in one write with its head, past the scheduler: a small
# request never stands behind an upload. When as much as this is queued already it is flushed first,
# so that the peer is at work while more requests are made; only those that the transport does not
# take go through the scheduler.
DIRECT_BODY = 65_536


class Uploads:
    """What the streams of a connection have to send.

    Args:
        engine: Where the frames go.
        quantum: What a stream sends before it is another one's turn, in bytes.
        streams: The connection's, by their identifiers.
        make_future: Makes the future on which a producer waits for room.
        on_sent: Called with a stream whose body is out.
        flush: Called when enough is queued to be written at once.

    Attributes:
        rings: Those of the scheduler; empty where no body waits.
    """

    __slots__ = (
        "_direct",
        "_engine",
        "_flush",
        "_largest",
        "_make_future",
        "_on_sent",
        "_quantum",
        "_scheduler",
        "_streams",
        "rings",
    )

    def __init__(
        self,
        engine: Engine,
        quantum: int,
        streams: dict[int, Stream],
        make_future: Callable[[], Future],
        on_sent: Callable[[Stream], None],
        flush: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._quantum = quantum
        self._streams = streams
        self._make_future = make_future
        self._on_sent = on_sent
        self._flush = flush
        self._direct = 0
        self._scheduler: Scheduler[SendHalf] = Scheduler(quantum)
        self.rings = self._scheduler.rings
        # What a new stream takes in one frame; no peer takes less before its SETTINGS.
        self._largest = self._scheduler.frame_limit

    # A stream's body.

    def open(self, request: Request, flush: Callable[[], None] | None) -> tuple[int, bool]:
        """Send a head, and a small body with it.

        Args:
            request: What to send.
            flush: Writes what is queued, where that is to be done at once; not with a body that
                is still to come.

        Returns:
            The new stream's identifier, and whether nothing is left to be sent.

        Raises:
            ProtocolError: The engine takes no new stream.
        """
        data = request.data
        if data and not request.trailers:
            size = len(data)
            direct = self._direct + size
            if direct > DIRECT_BODY >= size:
                self._flush()
                direct = self._direct + size
            if (
                direct <= DIRECT_BODY
                and size <= self._largest
                and size <= self._engine.outbound_flow_control_window
            ):
                self._direct = direct
                own = bytes(data) if request.mutable else data
                return self._engine.send_request(request.head, request.fields, own, flush), True
        end = not (data or request.upload or request.trailers)
        stream_id = self._engine.open_stream(request.head, request.fields, end)
        if end and flush is not None:
            flush()
        return stream_id, end

    def begin(self, stream: Stream, now: float) -> None:
        """Give a body to the scheduler, or get ready for what will be fed."""
        request = stream.request
        send = stream.send = SendHalf(
            stream.stream_id,
            self._quantum,
            mutable=request.mutable,
            make_future=self._make_future,
            now=now,
            urgency=request.urgency,
        )
        send.trailers = request.trailers
        if request.head_budget is not None:
            stream.deadline = inf
        if not request.upload:
            if request.data:
                send.feed(request.data, now)
            self.end(stream)
            self._scheduler.add(send)

    def feed(self, stream: Stream, chunk: bytes | memoryview, now: float) -> bool:
        """Queue a chunk of a body; true when nothing was queued before."""
        send = stream.send
        if send is None or send.closed or not chunk:
            return False
        idle = not send.queued
        send.feed(chunk, now)
        if idle:
            self._scheduler.add(send)
        return idle

    def end(self, stream: Stream) -> bool:
        """Note that a body is complete; true when its end was sent at once."""
        send = stream.send
        if send is None or send.closed or send.ended:
            return False
        send.ended = True
        if send.queued:
            return False
        if send.trailers:
            self._engine.send_trailers(stream.stream_id, send.trailers)
        else:
            self._engine.send_body(stream.stream_id, b"", end_stream=True)
        self._on_sent(stream)
        return True

    def drop(self, stream: Stream) -> None:
        """Forget what a stream has to send."""
        send = stream.send
        if send is not None:
            self._scheduler.discard(send)
            send.close()

    def window_opened(self, stream: Stream) -> None:
        """Give a stream its turn again; one whose window is still shut leaves the ring by itself.

        The connection's window is not asked: the streams that wait for it stay in the ring.
        """
        if stream.send is not None:
            self._scheduler.add(stream.send)

    # All of them.

    @property
    def waiting(self) -> bool:
        """Whether a body could be sent on now."""
        return bool(self.rings) and self._engine.outbound_flow_control_window > 0

    def peer_settings(self, frame_size: int, window: int) -> None:
        """Follow the peer's MAX_FRAME_SIZE and INITIAL_WINDOW_SIZE, in bytes."""
        self._scheduler.peer_frame_size(frame_size)
        self._largest = min(self._scheduler.frame_limit, window)

    def run(self, budget: int, now: float) -> list[bytes | memoryview]:
        """Take what is queued, and body bytes up to about ``budget``."""
        out = self._engine.take_output()
        self._direct = 0
        if self.rings:
            room = budget - sum(map(len, out))
            if room > 0 and self._scheduler.run(self, room, now):
                out += self._engine.take_output()
        return out

    # What the scheduler calls.

    @property
    def connection_window(self) -> int:
        """Bytes that the peer will take on the whole connection."""
        return self._engine.outbound_flow_control_window

    def send_window(self, stream_id: int) -> int:
        """Bytes that the peer will take on one stream now."""
        return self._engine.send_window(stream_id)

    def send_body(self, sender: SendHalf, data: bytes | memoryview) -> None:
        """Queue bytes of a body, and the end of the stream with the last of them."""
        last = sender.ended and not sender.queued
        self._engine.send_body(sender.stream_id, data, end_stream=last and not sender.trailers)
        if last:
            stream = self._streams[sender.stream_id]
            if sender.trailers:
                self._engine.send_trailers(sender.stream_id, sender.trailers)
            self._on_sent(stream)
