"""A connection without a loop: a clock of plain numbers, and the peer's frames as bytes.

The clock does what a transport does: it calls ``handle_timer`` at ``timer_at`` and not otherwise.
Nothing here uses the code under test to make or to read a frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from math import inf
from typing import Any

from hpack import Decoder

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import TransportError
from dynamo_h2.http2.connection import Connection, State
from dynamo_h2.http2.fast import FastEngine
from dynamo_h2.http2.headers import Field
from dynamo_h2.http2.memory import MemoryBudget
from dynamo_h2.http2.request import Request
from dynamo_h2.http2.stream import Need, Stream
from tests.http2 import frame_factory as ff
from tests.http2.frame_factory import Sent

ORIGIN = "http://worker:8000"
PLENTY = 1 << 30
SHUT = (ff.INITIAL_WINDOW, 0)
OPEN_WINDOWS = (ff.INITIAL_WINDOW, 2**31 - 1)


class Signal:
    """The least that can be waited for."""

    def __init__(self) -> None:
        self._done = False

    def done(self) -> bool:
        return self._done

    def cancel(self) -> None:
        """End it as a task does that is cancelled while it waits."""
        self._done = True

    def set_result(self, result: Any, /) -> None:  # noqa: ANN401 - as in asyncio
        assert not self._done, "set twice"
        assert result is None
        self._done = True

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


class Link:
    """A connection, its clock and its peer; the engine is the one behind `ff.Rig`.

    Args:
        config: The connection's.
        pairs: The peer's SETTINGS; None when they have not arrived yet.
        now: Where the clock starts, in seconds.
        jitter: The keep-alive's.
        settings_due: Seconds from the start within which the peer's SETTINGS have to come.
        memory: The budget of its client; None for one of its own.
    """

    def __init__(
        self,
        config: Http2Config | None = None,
        *,
        pairs: tuple[tuple[int, int], ...] | None = (),
        now: float = 1000.0,
        jitter: float = 0.0,
        settings_due: float = inf,
        memory: MemoryBudget | None = None,
    ) -> None:
        self.now = now
        self.states: list[State] = []
        engine = "fast" if ff.Rig.engine_class is FastEngine else "stock"
        self.connection = Connection(
            (config or Http2Config()).replace(engine=engine),
            origin=ORIGIN,
            on_output=self._on_output,
            flush=self._on_output,
            on_state=self._on_state,
            make_future=Signal,
            jitter=jitter,
            now=now,
            memory=memory,
        )
        self.wanted_output = False
        self._decoder = Decoder()
        self.connection.start(now, now + settings_due)
        self.first_flight = b"".join(self.connection.data_to_send(PLENTY, now))
        if pairs is not None:
            self.feed(ff.settings(*pairs), ff.settings_ack())
            assert [frame.kind for frame in self.sent()] == [ff.SETTINGS]
        self.states.clear()

    def _on_output(self) -> None:
        self.wanted_output = True

    def _on_state(self, state: State) -> None:
        self.states.append(state)

    # Our side.

    def open(
        self,
        data: bytes | memoryview | None = None,
        *fields: Field,
        method: str = "POST",
        **options: Any,  # noqa: ANN401 - those of Request
    ) -> Stream:
        """Start a request."""
        request = Request(ff.request(method), fields, data, **options)
        return self.connection.open_stream(request, self.now)

    def wait_for(self, stream: Stream, need: Need) -> Signal:
        """Wait as a caller does."""
        signal = self.connection.wait(stream, need, self.now)
        assert isinstance(signal, Signal)
        return signal

    def upload(self, stream: Stream, *chunks: bytes, end: bool = False) -> None:
        """Feed a body."""
        for chunk in chunks:
            self.connection.feed(stream, chunk, self.now)
        if end:
            self.connection.end_body(stream, self.now)

    # The wire.

    def feed(self, *frames: bytes) -> None:
        """Let bytes arrive."""
        self.connection.receive(b"".join(frames), self.now)

    def flush(self, budget: int = PLENTY) -> bytes:
        """Take the bytes of one write."""
        self.wanted_output = False
        return b"".join(self.connection.data_to_send(budget, self.now))

    def sent(self, budget: int = PLENTY) -> list[Sent]:
        """Take the frames of one write."""
        return ff.parse(self.flush(budget))

    def fields(self, sent: Sent) -> list[Field]:
        """Decode a HEADERS frame; each has to pass through here in order."""
        assert sent.flags & ff.END_HEADERS
        return [
            (bytes(name), bytes(value))
            for name, value in self._decoder.decode(sent.payload, raw=True)
        ]

    # Time.

    def wait(self, seconds: float) -> None:
        """Let time pass; the timer fires when it is due."""
        self.until(self.now + seconds)

    def wait_writing(self, seconds: float) -> None:
        """Let time pass, with a transport that takes all that it is given at once."""
        self.until(self.now + seconds, writing=True)

    def until(self, end: float, *, writing: bool = False) -> None:
        """Let time pass until ``end``."""
        connection = self.connection
        while connection.timer_at <= end:
            self.now = max(self.now, connection.timer_at)
            connection.handle_timer(self.now)
            if writing:
                self.flush()
            assert connection.timer_at > self.now, "the timer makes no progress"
        self.now = end


def kinds(frames: list[Sent]) -> list[tuple[int, int]]:
    """Type and stream of each frame."""
    return [(frame.kind, frame.stream) for frame in frames]


def resets(frames: list[Sent]) -> list[tuple[int, int]]:
    """Stream and code of each RST_STREAM."""
    return [(frame.stream, frame.code) for frame in frames if frame.kind == ff.RST_STREAM]


def credit(frames: list[Sent]) -> Counter[int]:
    """How much each stream was granted; 0 is the connection."""
    granted: Counter[int] = Counter()
    for frame in frames:
        if frame.kind == ff.WINDOW_UPDATE:
            granted[frame.stream] += int.from_bytes(frame.payload)
    return granted


def body(frames: list[Sent], stream: int) -> bytes:
    """What was sent as the body on one stream."""
    return b"".join(f.payload for f in frames if (f.kind, f.stream) == (ff.DATA, stream))


def ended(frames: list[Sent], stream: int) -> bool:
    """Whether END_STREAM was sent on a stream."""
    return any(
        f.stream == stream and f.kind in {ff.DATA, ff.HEADERS} and f.flags & ff.END_STREAM
        for f in frames
    )


def failure(stream: Stream) -> TransportError:
    """The error with which a stream ended."""
    assert stream.done
    assert isinstance(stream.error, TransportError)
    assert stream.error.origin == ORIGIN
    assert stream.error.stream_id == stream.stream_id
    return stream.error


def succeeded(stream: Stream) -> bool:
    """Whether a stream ended with a whole response."""
    return stream.done and stream.ended and stream.error is None
