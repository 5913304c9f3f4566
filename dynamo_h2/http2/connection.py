"""One HTTP/2 connection, sans I/O: bytes and the time go in, bytes and a timer come out.

It joins the parts: the engine (the protocol), the streams (what callers see), the scheduler (who
sends next), the receive windows, the deadlines and the keep-alive. It never reads a clock.
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from dynamo_h2.errors import LocalProtocolError
from dynamo_h2.http2 import failures
from dynamo_h2.http2.credit import Credit
from dynamo_h2.http2.deadline import TICKS_PER_SECOND, Deadlines
from dynamo_h2.http2.engine import Engine, NotHttp2
from dynamo_h2.http2.fast import FastEngine
from dynamo_h2.http2.flood import MAX_INFORMATIONAL, FloodGuard, Idle
from dynamo_h2.http2.flow import GRANT_FRACTION
from dynamo_h2.http2.frames import FrameType
from dynamo_h2.http2.keepalive import KeepAlive, Verdict
from dynamo_h2.http2.memory import MemoryBudget
from dynamo_h2.http2.resets import Resets
from dynamo_h2.http2.stream import Expired, Request, Stream
from dynamo_h2.http2.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamo_h2.config import Http2Config
    from dynamo_h2.http2.failures import MakeError
    from dynamo_h2.http2.headers import Field
    from dynamo_h2.http2.stream import Future

# Stream identifiers are not used again; a connection drains well before they end at 2**31 - 1.
LAST_STREAM_ID = 2**31 - 1 - 2_000

# A read of so many bytes may bring DATA that counts for the size of windows. Shorter ones
# are tokens and small answers, which are not to pay for that.
READ_WITH_DATA = 1_024

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


class Connection:
    """The client's side of one connection.

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
    """

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
        self.capacity = min(config.max_concurrent_streams, self._engine.peer_stream_limit)
        self._uploads = Uploads(
            self._engine, config.send_quantum, self.streams, make_future, self._body_sent, flush
        )
        self._deadlines: Deadlines[Stream] = Deadlines()
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

    # Opening and closing.

    def start(self, now: float, settings_due: float = inf) -> None:
        """Queue the preface; the peer's SETTINGS have to arrive by ``settings_due`` (seconds)."""
        self.now = self._started_at = now
        self._settings_due = settings_due
        self._credit.start()
        self._engine.initiate()
        self._changed()

    @property
    def has_output(self) -> bool:
        """Whether ``data_to_send`` may have something."""
        return self._engine.has_output or bool(self._last_words) or self._uploads.waiting

    @property
    def queued_control(self) -> int:
        """Answers to the peer (PING and SETTINGS ACKs, resets) that wait to be written."""
        return self._engine.queued_control

    @property
    def rtt(self) -> float | None:
        """The last measured round trip, in seconds."""
        return self._keep_alive.rtt

    @property
    def suspect(self) -> bool:
        """Whether a PING has stayed without a sign of life for longer than is usual."""
        return self._keep_alive.suspect

    @property
    def keep_alive_interval(self) -> float | None:
        """The silence after which a PING is due, in seconds, before it was lengthened at random."""
        return self._config.keep_alive_interval

    def drain(self, now: float) -> None:
        """Take no new streams; close when those that are open have ended."""
        self.now = now
        if self.usable:
            self.draining = True
            self.usable = False
            self._drain_at = inf
            self._on_state(State.DRAINING)
            self._close_when_drained()

    def open_stream(self, request: Request, now: float) -> Stream:
        """Start a request.

        Raises:
            ConnectionLost: The connection takes no more streams; ``processed`` is False.
        """
        if not self.usable or len(self.streams) + self.resets.held >= self.capacity:
            raise failures.no_more_streams(self.origin)
        self.now = now
        alone = not self.streams
        if alone:
            self._begin_work(now)
        if self._credit.watched:
            self._credit.opening(now)
        try:
            stream_id, sent = self._uploads.open(request)
        except ProtocolError as error:
            raise LocalProtocolError(str(error), origin=self.origin, processed=False) from error
        written = alone and sent and not self._credit.watched
        if written:
            # Before it is kept account of: the peer is at work meanwhile.
            self._flush()
        timer_was = self.timer_at
        window = self._engine.stream_window(stream_id)
        assert window is not None
        stream = Stream(
            stream_id,
            request,
            window,
            self._make_future,
            self._credit,
            now,
        )
        self.streams[stream_id] = stream
        if not sent:
            self._uploads.begin(stream, now)
            self._arm(stream)
        elif stream.deadline < inf:
            fires = self._deadlines.set(stream, stream.deadline)
            if fires < self.timer_at:
                self.timer_at = fires
        if stream_id > LAST_STREAM_ID:
            self.drain(now)
        if not written or self.timer_at < timer_was:
            self._on_output()
        return stream

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

    def wait_until(self, stream: Stream, now: float) -> None:
        """See to it that a stream's time limits are watched: somebody waits for it."""
        self.now = now
        if self._credit.watched:
            self._credit.wanted(stream)
        tick = stream.tick
        if tick and (
            not stream.status or tick / TICKS_PER_SECOND <= now + stream.request.read_timeout
        ):
            return  # what is watched already comes first
        if self.streams.get(stream.stream_id) is stream:
            before = self.timer_at
            self._arm(stream)
            if self.timer_at < before:
                self._on_output()

    # The request's body.

    def feed(self, stream: Stream, chunk: bytes | memoryview, now: float) -> None:
        """Queue a chunk of the body; see ``SendHalf.full`` for when to wait."""
        self.now = now
        if self._uploads.feed(stream, chunk, now):
            self._arm(stream)
            self._on_output()

    def end_body(self, stream: Stream, now: float) -> None:
        """Note that the body is complete."""
        self.now = now
        if self._uploads.end(stream):
            self._on_output()

    # Bytes and time.

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the peer; errors end up in the streams that they concern."""
        if self.closed:
            return
        self.now = now
        keep_alive = self._keep_alive
        keep_alive.last_received = now
        suspected = keep_alive.suspect
        keep_alive.suspect = False
        if now >= self._credit.round_until and len(data) >= READ_WITH_DATA:
            self._credit.begin_round(now)
        try:
            self._engine.receive(data)
        except NotHttp2 as error:
            self._fail_all(failures.not_http2(self.origin, error), error)
        except ProtocolError as error:
            self._fail_all(failures.broken_connection(self.origin, error), error, farewell=True)
        if suspected or self.resets.held:
            self._heard(suspected=suspected)

    def data_to_send(self, budget: int, now: float) -> list[bytes | memoryview]:
        """Take what is to be written now: everything queued, and body bytes up to ``budget``.

        What it returns counts as written, whatever the transport does with it.
        """
        if self.failure is not None:
            out, self._last_words = self._last_words, []
            return out
        if self._credit.due and self._credit.wants_ping(now):
            self._ping(now)
        out = self._uploads.run(budget, now)
        self._written_id = self._engine.highest_outbound_stream_id
        if self._keep_alive.unwritten:
            self._keep_alive.written(now)
            self.timer_at = min(self.timer_at, self.next_timer())
        if self.resets.unwritten and self.resets.written():
            self._on_state(State.FREED)
        return out

    def next_timer(self) -> float:
        """When ``handle_timer`` is to be called next, in seconds; infinite for never."""
        if self.closed:
            return inf
        when = min(
            self._settings_due,
            self._drain_at,
            self._credit.timer_at,
            self._deadlines.next(),
            self._keep_alive.next_timer(streams=self._awaits_peer),
        )
        if not self.streams:
            when = min(when, self.idle_since + self._config.pool_idle_timeout)
        return when

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self.now = now
        if self.closed:
            self.timer_at = inf
            return
        for stream in self._deadlines.expired(now):
            self._check_deadline(stream, now)
        if now >= self._settings_due:
            self._no_settings()
        if now >= self._credit.timer_at:
            self._credit.tick(now)
        self._ask_keep_alive(now)
        idle = not self.streams and now >= self.idle_since + self._config.pool_idle_timeout
        if idle or now >= self._drain_at:
            self.drain(now)
        self.timer_at = self.next_timer()

    def passed_over(self, stream_id: int) -> bool:
        """Whether the peer never looked at a stream that it refused.

        Either its GOAWAY says so, or the stream was opened before the peer could say how many of
        them it takes.
        """
        last = self._engine.peer_last_stream_id
        return stream_id <= self._ahead_id or (last is not None and stream_id > last)

    def reading_paused(self) -> None:
        """Note that the transport stopped reading."""
        self._keep_alive.pause()

    def reading_resumed(self, now: float) -> None:
        """Note that the transport reads again."""
        self._keep_alive.resume(now)
        for stream in self.streams.values():
            stream.last_read = now  # the peer may have spoken all the time
        self._changed()

    def lost(self, cause: BaseException | None, now: float) -> None:
        """Note that the transport is gone."""
        self.now = now
        if cause is None and not self.closed:
            try:
                self._engine.receive_eof()
            except NotHttp2 as error:
                self._fail_all(failures.not_http2(self.origin, error), error)
        self._fail_all(failures.lost(self.origin, cause, self._goaway), cause)

    def abandon(self, make_error: MakeError, now: float) -> None:
        """Close at once; every stream ends with an error made by ``make_error``."""
        self.now = now
        if not self.closed:
            self._engine.goaway(ErrorCodes.NO_ERROR)
            self._fail_all(make_error, None, farewell=True)

    # What the engine calls, once for each event.

    def on_settings(self, previous_initial_window: int) -> None:
        """The peer's SETTINGS were applied."""
        self._flood.count(Idle.SETTINGS, self.now)
        engine = self._engine
        self.capacity = min(self._config.max_concurrent_streams, engine.peer_stream_limit)
        self._uploads.peer_frame_size(engine.max_outbound_frame_size)
        if engine.remote_settings.initial_window_size > previous_initial_window:
            for stream in self.streams.values():
                self._uploads.window_opened(stream)
        if not self.ready:
            self.ready = True
            self._ahead_id = engine.highest_outbound_stream_id
            self._settings_due = inf
            self._answered()
            self._on_state(State.READY)
        else:
            self._on_state(State.FREED)

    def on_settings_ack(self) -> None:
        """The peer applied ours; the engine keeps account of what that changes."""
        rtt = None
        if self._started_at is not None:
            rtt, self._started_at = self.now - self._started_at, None
            self._keep_alive.settings_acknowledged(rtt)
        self._credit.settings_acknowledged(self.now, rtt)

    def on_head(self, stream_id: int, status: int, fields: list[Field], end_stream: bool) -> None:
        """The final head of a response."""
        if self._keep_alive.asked:
            self._answered()
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        if stream.request.head_budget is not None:
            stream.deadline = inf
        stream.feed_head(status, fields, self.now)
        if end_stream:
            self._response_ended(stream)
        else:
            self._arm(stream)

    def on_informational(self, stream_id: int, status: int, fields: list[Field]) -> None:
        """An interim response."""
        if self._keep_alive.asked:
            self._answered()
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        stream.informational += 1
        if stream.informational > MAX_INFORMATIONAL:
            message = f"more than {MAX_INFORMATIONAL} informational responses"
            self._engine.reset(stream_id, ErrorCodes.ENHANCE_YOUR_CALM)
            self.on_stream_error(stream_id, ErrorCodes.ENHANCE_YOUR_CALM, message)
            return
        callback = stream.request.on_informational
        if callback is not None:
            try:
                callback(status, fields)
            except Exception as error:  # the caller's own, handed to the caller
                self.fail(stream, error, self.now)

    def on_data(
        self, stream_id: int, data: bytes | memoryview, flow_length: int, end_stream: bool
    ) -> None:
        """A piece of a body."""
        if self._keep_alive.asked:
            self._answered()
        stream = self.streams.get(stream_id)
        size = len(data)
        if size and stream is not None:
            stream.feed_data(data, self.now)
        # Now that it is counted as unread: what is granted for it is credit once more.
        window = self._window
        window.owed += flow_length
        if window.owed * GRANT_FRACTION >= window.max_window_size:
            self._credit.returned(self.now)
        if stream is None:
            return
        limit = stream.limit
        if size:
            if limit is None:
                flow_length -= size  # owed when it is read
            elif stream.unread > limit:
                self.fail(stream, failures.too_large(self.origin, stream, limit), self.now)
                return
        elif not end_stream:
            self._flood.count(Idle.EMPTY_DATA, self.now)
        if end_stream:
            self._response_ended(stream)
        elif flow_length:
            stream.window.owed += flow_length
            self._credit.stream_returned(stream)

    def on_late_data(self, flow_length: int) -> None:
        """DATA for a stream that is gone: the connection's credit is still owed."""
        self._flood.count(Idle.LATE, self.now)
        self._window.owed += flow_length
        if self._window.owed * GRANT_FRACTION >= self._window.max_window_size:
            self._credit.returned(self.now)

    def on_late(self, frame_type: int) -> None:
        """A frame that says nothing new of a stream that is gone; a field block has cost more."""
        kind = Idle.IGNORED if frame_type == FrameType.HEADERS else Idle.LATE
        self._flood.count(kind, self.now)

    def on_trailers(self, stream_id: int, fields: list[Field]) -> None:
        """The trailers of a response, which end it."""
        if self._keep_alive.asked:
            self._answered()
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.trailers = fields
            self._response_ended(stream)

    def on_reset(self, stream_id: int, code: int) -> None:
        """The peer ended a stream."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        if not stream.ended:
            stream.fail(failures.reset_by_peer(self.origin, stream, code))
        self._finish(stream)

    def on_stream_error(self, stream_id: int, code: int, reason: str) -> None:
        """The peer broke a rule on one stream, which the engine has reset."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.fail(failures.broken_stream(self.origin, stream, code, reason))
            self._reset_sent()
            self._finish(stream)

    def on_window_update(self, stream_id: int) -> None:
        """The peer takes more."""
        self._flood.count(Idle.CREDIT, self.now)
        if stream_id:
            stream = self.streams.get(stream_id)
            if stream is not None:
                self._uploads.window_opened(stream)

    def on_ping(self) -> None:
        """The peer asked whether we are here; the answer is queued."""
        self._flood.count(Idle.PING, self.now)

    def on_ping_ack(self, payload: bytes) -> None:
        """The answer to a PING."""
        if self._keep_alive.acknowledged(payload, self.now):
            self._credit.ping_acknowledged(self.now)
        else:
            self._flood.count(Idle.IGNORED, self.now)
        self.timer_at = min(self.timer_at, self.next_timer())

    def on_goaway(self, last_stream_id: int, code: int, debug: bytes) -> None:
        """The peer is leaving: streams above ``last_stream_id`` were not and will not be seen."""
        self._flood.count(Idle.GOAWAY, self.now)
        if code == ErrorCodes.ENHANCE_YOUR_CALM:
            self._on_state(State.CALM_DOWN)
        self._goaway = failures.goaway_text(code, debug)
        # First, so that no slot which becomes free here is handed out.
        self.drain(self.now)
        for stream in [s for s in self.streams.values() if s.stream_id > last_stream_id]:
            stream.fail(failures.refused_by_goaway(self.origin, stream, self._goaway))
            self._engine.forget(stream.stream_id)
            self._finish(stream)

    def on_other(self, frame_type: int) -> None:
        """A frame that means nothing to us."""
        self._flood.count(Idle.IGNORED, self.now)

    # Inside.

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

    def _body_sent(self, stream: Stream) -> None:
        """Note that a body is out."""
        if stream.ended:
            self._finish(stream)
        elif stream.request.head_budget is not None and not stream.status:
            stream.deadline = self.now + stream.request.head_budget
            self._arm(stream)

    def _response_ended(self, stream: Stream) -> None:
        """Note that a response is complete; a body that is still going out goes on.

        Unless the response says that it did not work out: then nobody wants the rest.
        """
        stream.feed_end()
        send = stream.send
        if send is None or send.finished:
            self._finish(stream)
        elif stream.status >= _NOT_WANTED:
            self._engine.reset(stream.stream_id, ErrorCodes.NO_ERROR)
            self._reset_sent()
            self._finish(stream)
            self._on_output()
        else:
            send.progress_at = self.now  # the peer's moment to take more begins here
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
        if not self.streams:
            self.idle_since = self.now
            idle_due = self.now + self._config.pool_idle_timeout
            if idle_due < self.timer_at:
                self.timer_at = idle_due
                self._on_output()
            if self._credit.behind:
                self._credit.announce()
            self._close_when_drained()
        stream.feed_done()
        if not self.closed:
            self._on_state(State.FREED)

    def _close_when_drained(self) -> None:
        if self.draining and not self.streams and not self.closed:
            self.closed = True
            self._credit.close()
            self._engine.goaway(ErrorCodes.NO_ERROR)
            self._on_output()
            self._on_state(State.CLOSED)

    def _check_deadline(self, stream: Stream, now: float) -> None:
        """End a stream whose time is up, or watch it on."""
        expired = stream.overdue(now)
        if expired is None:
            self._arm(stream)
        elif expired is Expired.READ and self._keep_alive.paused:
            stream.last_read = now  # a silence of our own making
            self._arm(stream)
        elif expired is Expired.UPLOAD:
            self._engine.reset(stream.stream_id, ErrorCodes.NO_ERROR)
            self._reset_sent()
            self._finish(stream)
            self._on_output()
        else:
            self.fail(stream, failures.timed_out(self.origin, stream, expired), now)

    def _processed(self, stream: Stream) -> bool | None:
        """False while the stream's head was not handed to the transport, else unknown."""
        return None if stream.stream_id <= self._written_id else False

    def _ask_keep_alive(self, now: float) -> None:
        if self.closed:
            return
        verdict = self._keep_alive.verdict(now, streams=self._awaits_peer)
        if verdict is Verdict.PING:
            self._ping(now)
            self._on_output()
        elif verdict is Verdict.SUSPECT:
            self._on_state(State.SUSPECT)
        elif verdict is Verdict.DEAD:
            self.dead = True
            self._fail_all(failures.silent(self.origin, self._keep_alive.timeout), None)

    def _begin_work(self, now: float) -> None:
        """Watch a peer that had nothing to do: from the first stream on its silence counts."""
        keep_alive = self._keep_alive
        keep_alive.busy_since = now
        if now + keep_alive.ask_after < self.timer_at:
            self.timer_at = now + keep_alive.ask_after
        if not self._config.keep_alive_while_idle:
            if keep_alive.stream_opened(now):
                self._ping(now)
            self.timer_at = min(self.timer_at, keep_alive.next_timer(streams=True))

    def _ping(self, now: float) -> None:
        self._engine.ping(self._keep_alive.ping(now))
        self._credit.ping_written(now)
        self.timer_at = min(self.timer_at, self._keep_alive.next_timer(streams=True))

    def _answered(self) -> None:
        """Note that the peer is at work: its next silence may be asked about early again."""
        self._keep_alive.asked = False
        self.timer_at = min(self.timer_at, self._keep_alive.next_timer(streams=self._awaits_peer))

    @property
    def _awaits_peer(self) -> bool:
        """Whether the peer's silence matters to anyone."""
        return bool(self.streams or self.resets.held)

    def _keep_slot(self, stream: Stream, now: float) -> None:
        """Keep the slot of a stream that is reset, where the peer may be dead or does not read."""
        written = stream.stream_id <= self._written_id
        silent = self._keep_alive.silent_since(stream.opened_at)
        if silent or not written:
            self.resets.hold(written=written)
        if silent:
            full = len(self.streams) + self.resets.held > self.capacity
            if self._keep_alive.ask(again=full and self.ready):
                self._ping(now)

    def _reset_sent(self) -> None:
        """Count a RST_STREAM; the last one that may be sent is the connection's beginning end."""
        if not self.resets.spend(self.now):
            self.drain(self.now)

    def _heard(self, *, suspected: bool) -> None:
        """Give back what was withheld until the peer showed life."""
        freed = self.resets.heard()
        if not self.usable:
            return
        if suspected:
            self.timer_at = min(self.timer_at, self.next_timer())
            self._on_state(State.TRUSTED)
        if freed:
            self._on_state(State.FREED)

    def _no_settings(self) -> None:
        self._engine.goaway(ErrorCodes.SETTINGS_TIMEOUT)
        self._fail_all(failures.no_settings(self.origin), None, farewell=True)

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
