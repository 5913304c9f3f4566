"""What arrives on a connection, and what follows from it: one method for each event."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes

from dynamo_h2.http2 import failures
from dynamo_h2.http2.flood import MAX_INFORMATIONAL, Idle
from dynamo_h2.http2.flow import GRANT_FRACTION
from dynamo_h2.http2.frames import FrameType
from dynamo_h2.http2.lifecycle import Lifecycle, State

if TYPE_CHECKING:
    from dynamo_h2.http2.headers import Field


class Events(Lifecycle):
    """What the engine tells a connection, see `Receiver`."""

    __slots__ = ()

    def on_settings(self, previous_initial_window: int) -> None:
        """The peer's SETTINGS were applied."""
        self._flood.count(Idle.SETTINGS, self.now)
        engine = self._engine
        self.capacity = min(self._config.max_concurrent_streams, engine.peer_stream_limit)
        window = engine.remote_settings.stream_window
        self._uploads.peer_settings(engine.max_outbound_frame_size, window)
        if window > previous_initial_window:
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
        if end_stream:
            stream.status = status
            stream.fields = fields
            self._response_ended(stream)  # which wakes whoever waits
        else:
            stream.feed_head(status, fields, self.now)
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
