"""What becomes of a connection and its streams: their ends, their time limits, and what is left.

Whatever happens, on the wire, in time or on the caller's side, comes down to these few things: a
response is complete, a stream is given up, the connection takes no more of them, or it is over.
Those who find out stand on this: `Events` for what arrives, `Connection` for all else.
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING, cast

from h2.errors import ErrorCodes

from dynamo_h2.http2 import failures
from dynamo_h2.http2.credit import Credit
from dynamo_h2.http2.deadline import TICKS_PER_SECOND, Deadlines
from dynamo_h2.http2.engine import Engine
from dynamo_h2.http2.fast import FastEngine
from dynamo_h2.http2.flood import FloodGuard
from dynamo_h2.http2.keepalive import KeepAlive
from dynamo_h2.http2.memory import MemoryBudget
from dynamo_h2.http2.receiver import Receiver
from dynamo_h2.http2.resets import Resets
from dynamo_h2.http2.silence import Silence
from dynamo_h2.http2.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamo_h2.config import Http2Config
    from dynamo_h2.http2.engine_stream import EngineStream
    from dynamo_h2.http2.failures import MakeError
    from dynamo_h2.http2.stream import Future, Stream

# A complete response with such a status or above, redirects and errors, was not made out of the
# request's body, so that the rest of it is of no use.
_NOT_WANTED = 300


class State(Enum):
    """What a connection tells its pool."""

    READY = auto()
    """The peer's SETTINGS arrived."""
    FREED = auto()
    """A stream ended, or the peer allows more of them."""
    DRAINING = auto()
    """No new streams; those that are open go on."""
    SUSPECT = auto()
    """A PING stays without a sign of life: other connections are better for new streams."""
    TRUSTED = auto()
    """A byte came from a suspect peer."""
    CALM_DOWN = auto()
    """The peer said ENHANCE_YOUR_CALM: later connections are to ask less often."""
    CLOSED = auto()
    """Nothing is to be had from it any more."""


class Lifecycle(Receiver):
    """The state of one connection, and the ends of its streams; what arrives is for a subclass.

    Args:
        config: Limits, windows and times.
        origin: Whom it leads to, for messages.
        on_output: Called when there is something to send, or an earlier timer.
        flush: Called when what there is to send should be written at once.
        on_state: Called with what changed.
        make_future: Makes a future, only when somebody waits.
        jitter: A number in 0…1, drawn once for this connection.
        now: The present, in seconds of a monotonic clock.
        memory: What all connections of a client may hold; None gives this one a budget of its own.

    Attributes:
        streams: Those that are open, by their identifiers.
        capacity: How many there may be at once; at most 100 until the peer's SETTINGS arrive.
        usable: Whether it takes new streams at all.
        resets: The streams that were reset: some of them keep their slots.
        on_lone: Called with its id, and the present in seconds, when a request was written whole
            on a connection that has no other.
    """

    __slots__ = (
        "_ahead_id",
        "_config",
        "_credit",
        "_deadlines",
        "_drain_at",
        "_engine",
        "_engine_streams",
        "_flood",
        "_flush",
        "_goaway",
        "_keep_alive",
        "_last_words",
        "_look_at",
        "_make_future",
        "_on_output",
        "_on_state",
        "_opening",
        "_output",
        "_settings_due",
        "_silence",
        "_started_at",
        "_uploads",
        "_window",
        "_written_id",
        "capacity",
        "closed",
        "dead",
        "draining",
        "failure",
        "idle_since",
        "now",
        "on_lone",
        "origin",
        "ready",
        "resets",
        "streams",
        "timer_at",
        "usable",
    )

    def __init__(
        self,
        config: Http2Config,
        *,
        origin: str,
        on_output: Callable[[], None],
        flush: Callable[[], None],
        on_state: Callable[[State], None],
        make_future: Callable[[], Future],
        jitter: float,
        now: float,
        memory: MemoryBudget | None = None,
    ) -> None:
        self.origin = origin
        self.streams: dict[int, Stream] = {}
        self.ready = False
        self.usable = True
        self.draining = False
        self.closed = False
        self.dead = False
        self.now = now
        self.idle_since = now
        self.timer_at = inf
        self.on_lone: Callable[[int, float], None] | None = None
        age = config.max_connection_age
        # 10 % earlier or later, so that those of the same age do not all leave at once.
        self._drain_at = inf if age is None else now + age * (0.9 + 0.2 * jitter)
        self.failure: MakeError | None = None
        self._config = config
        self._on_output = on_output
        self._flush = flush
        self._on_state = on_state
        self._make_future = make_future
        self._settings_due = inf
        self._started_at: float | None = None
        self._written_id = 0
        self._ahead_id = 0
        self._last_words: list[bytes | memoryview] = []
        self._goaway = ""
        self._engine = (FastEngine if config.engine == "fast" else Engine)(config, self)
        self._output = self._engine.output
        self._opening = False
        # The same dict as h2's, with the type of what is in it.
        self._engine_streams = cast("dict[int, EngineStream]", self._engine.streams)
        self.capacity = min(config.max_concurrent_streams, self._engine.peer_stream_limit)
        self._uploads = Uploads(
            self._engine,
            config.send_quantum,
            self.streams,
            make_future,
            self._body_sent,
            self._flush_first,
        )
        self._deadlines: Deadlines[Stream] = Deadlines()
        # When to look at those deadlines of whole requests that are not in there; -inf for never.
        self._look_at = -inf
        self._flood = FloodGuard(now)
        asks = config.keep_alive_interval is not None
        self.resets = Resets(config.max_resets, now, asks=asks)
        self._keep_alive = KeepAlive(
            config.keep_alive_interval,
            config.keep_alive_timeout,
            while_idle=config.keep_alive_while_idle,
            jitter=jitter,
            now=now,
            write_timeout=inf if config.write_timeout is None else config.write_timeout,
        )
        self._window = self._engine.connection_receive_window
        self._credit = Credit(
            self._engine,
            self.streams,
            self._keep_alive,
            config,
            memory or MemoryBudget(config.memory_budget),
            self._changed,
            now,
        )
        self._silence = Silence(
            self._engine,
            self.streams,
            self._keep_alive,
            self.resets,
            self._credit,
            while_idle=config.keep_alive_while_idle,
        )

    # Endings.

    def drain(self, now: float) -> None:
        """Take no new streams; close when those that are open have ended."""
        self.now = now
        if self.usable:
            self.draining = True
            self.usable = False
            self._drain_at = inf
            self._on_state(State.DRAINING)
            self._close_when_drained()

    def cancel(self, stream: Stream, now: float, code: int = ErrorCodes.CANCEL) -> None:
        """End a stream that nobody waits for any more, with RST_STREAM if it is still open."""
        self.now = now
        stream.drop()
        if self.streams.get(stream.stream_id) is stream:
            self._engine.reset(stream.stream_id, code)
            if self.usable:
                self._keep_slot(stream, now)
            self._reset_sent()
            self._finish(stream)
            self._on_output()

    def fail(self, stream: Stream, error: BaseException, now: float) -> None:
        """End a stream with ``error`` for whoever waits, and RST_STREAM(CANCEL) for the peer."""
        stream.fail(error)
        self.cancel(stream, now)

    def _response_ended(self, stream: Stream) -> None:
        """Note that a response is complete; a body that is still going out goes on.

        Unless the response says that it did not work out: then nobody wants the rest.
        """
        send = stream.send
        if send is None or send.finished:
            stream.ended = True
            self._finish(stream)  # which wakes whoever waits
            return
        stream.feed_end()
        if stream.status >= _NOT_WANTED:
            self._engine.reset(stream.stream_id, ErrorCodes.NO_ERROR)
            self._reset_sent()
            self._finish(stream)
            self._on_output()
        else:
            send.progress_at = self.now  # the peer's moment to take more begins here
            self._arm(stream)
            if self._credit.pressed:
                self._credit.finished(stream)

    def _body_sent(self, stream: Stream) -> None:
        """Note that a body is out."""
        if stream.ended:
            self._finish(stream)
        elif stream.request.head_budget is not None and not stream.status:
            stream.deadline = self.now + stream.request.head_budget
            self._arm(stream)

    def _finish(self, stream: Stream) -> None:
        """Forget a stream that has ended both ways."""
        del self.streams[stream.stream_id]
        if stream.tick:
            self._deadlines.discard(stream)
        if stream.send is not None:
            self._uploads.drop(stream)
        if stream.unread and stream.limit is not None:
            stream.handed_over()
        if self._credit.pressed:
            self._credit.finished(stream)
        if not self.streams:
            self.idle_since = self.now
            self._look_at = -inf
            idle_due = self.now + self._config.pool_idle_timeout
            if idle_due < self.timer_at:
                self.timer_at = idle_due
                self._on_output()
            if self._credit.behind:
                self._credit.announce()
            if self.draining:
                self._close_when_drained()
        stream.feed_done()
        if not self.closed:
            self._on_state(State.FREED)

    def _flush_first(self) -> None:
        """Write what is queued before a stream is opened.

        Raises:
            ConnectionLost: With that the last stream of a connection has ended that was leaving.
        """
        self._flush()
        if self.closed:
            raise failures.no_more_streams(self.origin)

    def _flush_opening(self) -> None:
        """Write the request of a stream that is being opened, and is not among the others yet."""
        self._opening = True
        try:
            self._flush()
        finally:
            self._opening = False

    def _close_when_drained(self) -> None:
        # A stream that is being opened is known to the engine first, unless it is written first.
        open_streams = self._opening or self._engine.open_streams
        if self.draining and not open_streams and not self.closed:
            self.closed = True
            self._credit.close()
            self._engine.goaway(ErrorCodes.NO_ERROR)
            self._on_output()
            self._on_state(State.CLOSED)

    def _fail_all(
        self,
        make_error: MakeError,
        cause: BaseException | None,
        *,
        farewell: bool = False,
    ) -> None:
        """Close; each stream ends with an error of its own that says whether it was written.

        Args:
            make_error: Makes the error of one stream.
            cause: What is behind them all.
            farewell: Whether the last frame that is queued is a GOAWAY that says why.
        """
        if self.closed:
            return
        self.closed = True
        self.usable = False
        self._settings_due = inf
        self.failure = make_error
        self._last_words = self._engine.take_output()
        if self._engine.highest_outbound_stream_id > self._written_id:
            # What is called unwritten must never be written.
            self._last_words = self._last_words[-1:] if farewell else []
        self._on_state(State.CLOSED)
        for stream in list(self.streams.values()):
            error = make_error(
                origin=self.origin,
                stream_id=stream.stream_id,
                processed=self._processed(stream),
            )
            error.__cause__ = cause
            stream.fail(error)
            self._finish(stream)
        self._credit.close()
        self._on_output()

    def _processed(self, stream: Stream) -> bool | None:
        """False while the stream's head was not handed to the transport, else unknown."""
        return None if stream.stream_id <= self._written_id else False

    def _reset_sent(self) -> None:
        """Count a RST_STREAM; the last one that may be sent is the connection's beginning end."""
        if not self.resets.spend(self.now):
            self.drain(self.now)

    def _keep_slot(self, stream: Stream, now: float) -> None:
        """Keep the slot of a stream that is reset, where the peer may be dead or does not read."""
        written = stream.stream_id <= self._written_id
        capacity = self.capacity if self.ready else inf
        asked = self._silence.keep_slot(stream, now, written=written, capacity=capacity)
        self.timer_at = min(self.timer_at, asked)

    # Time.

    def next_timer(self) -> float:
        """When ``handle_timer`` is to be called next, in seconds; infinite for never."""
        if self.closed:
            return inf
        when = min(
            self._settings_due,
            self._drain_at,
            self._credit.timer_at,
            self._deadlines.next(),
            self._silence.next_timer(),
        )
        if not self.streams:
            return min(when, self.idle_since + self._config.pool_idle_timeout)
        return when if self._look_at == -inf else min(when, self._look_at)

    def _changed(self) -> None:
        """Let the transport look at what there is to send and at the timer."""
        self.timer_at = min(self.timer_at, self.next_timer())
        self._on_output()

    def _arm(self, stream: Stream) -> None:
        """Watch a stream's next time limit, unless an earlier one is watched already."""
        when = stream.due()
        if when < inf and (not stream.tick or when < (stream.tick - 1) / TICKS_PER_SECOND):
            fires = self._deadlines.set(stream, when)
            if fires < self.timer_at:
                self.timer_at = fires

    def _answered(self) -> None:
        """Note that the peer is at work: its next silence may be asked about early again."""
        self.timer_at = min(self.timer_at, self._silence.answered())
