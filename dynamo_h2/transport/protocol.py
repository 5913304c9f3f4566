"""The asyncio side of a connection: bytes in, one flush per turn of the loop, one timer.

Time is ``monotonic()``: the clock of a loop may be as coarse as a millisecond, which is many round
trips inside a data centre.

The transport's buffer is filled up to the high-water mark and at most one quantum over it: a PING
ACK or RST_STREAM never waits behind megabytes, and memory stays bounded however slow the peer is.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from dynamo_h2.http2.connection import Connection, State
from dynamo_h2.http2.engine import MAX_QUEUED_CONTROL
from dynamo_h2.transport.busy_poll import LoneRequests
from dynamo_h2.transport.early import EarlyTransport
from dynamo_h2.transport.sockets import has_ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamo_h2.config import Http2Config
    from dynamo_h2.errors import TransportError
    from dynamo_h2.http2.memory import MemoryBudget
    from dynamo_h2.metrics import Counters
    from dynamo_h2.transport.busy_poll import BusyPoll

# How much may lie in the transport (bytes) before body bytes wait in their streams.
HIGH_WATER = 262_144

# How much one flush writes (bytes) before other work of the loop has its turn.
FLUSH_LIMIT = 1_048_576

# Some loops read on as long as a read fills their buffer, and hand out megabytes before anyone can
# take them. After a read of this size (bytes) the others have their turn: what they free at once is
# used again at once, where megabytes would go back to the system and be asked for anew. Not so with
# TLS: its reads are short, and reading is never paused there. uvloop drops what came while it was
# when the peer's FIN comes right behind it.
LARGE_READ = 131_072

# A timer that fires this late (seconds) comes from a loop that was blocked or a machine that slept:
# what the peer sent in the meantime is read before anyone is declared late or dead.
LATE_TIMER = 0.05

# What the timers of some loops are rounded to, in seconds: less is no time at all.
TIMER_TICK = 0.001

# How often a connection is looked at before it is used again. A peer that closes behind each of its
# responses has often done so by then; the loop would find out only after the next request is out,
# which nobody may send again. A peer that was come back to so often keeps its connections.
LOOKS: Final = 8

# Turns of the loop after which the answer to a peer's first SETTINGS is written: behind the first
# the loop reads what is there, in the second those go on whom that has woken. Takes 3 calls and
# saves 26 of 419 µs per first answer; A/A ±9.7.
QUIET_TURNS: Final = 3

# How long a transport may take to write its last bytes before it is aborted, in seconds.
CLOSE_TIMEOUT = 1.0


class ClientProtocol(asyncio.Protocol):
    """Drives one ``Connection`` on one transport.

    Args:
        config: Limits, windows and times.
        origin: Whom it leads to, for messages.
        on_state: Called with this protocol and what changed.
        counters: Where bytes are counted.
        settings_due: When the peer's SETTINGS have to be here, in monotonic seconds.
        memory: What all connections of a client may hold; None gives this one a budget of its own.
        busy_poll: Keeps the loop from sleeping before an answer that is due; None lets it sleep.

    Attributes:
        young: How often `peer_left` is still to be asked before a request.
    """

    def __init__(
        self,
        config: Http2Config,
        origin: str,
        *,
        on_state: Callable[[ClientProtocol, State], None],
        counters: Counters,
        settings_due: float = inf,
        memory: MemoryBudget | None = None,
        busy_poll: BusyPoll | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._counters = counters
        self._transport: asyncio.Transport | None = None
        self._settings_due = settings_due
        self._paused = False
        self._reading = True
        self._tls = False
        self._large_read: float = LARGE_READ
        self._flush_handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_at = inf
        self._closing: asyncio.TimerHandle | None = None
        self._turn: asyncio.Handle | None = None
        self._later: asyncio.Handle | None = None
        self.closed: asyncio.Future[None] = loop.create_future()
        self.reserved = 0
        self.young = LOOKS
        self.connection = Connection(
            config,
            origin=origin,
            on_output=self.schedule_flush,
            flush=self.flush,
            on_state=partial(on_state, self),
            make_future=loop.create_future,
            jitter=random.random(),
            now=monotonic(),
            memory=memory,
        )
        self._lone: LoneRequests | None = None
        if busy_poll is not None:
            self._lone = LoneRequests(busy_poll, self.connection.streams)
            self.connection.on_lone = self._lone.written

    @property
    def load(self) -> int:
        """Streams in flight, slots of streams that were reset in silence, and those handed out."""
        connection = self.connection
        return len(connection.streams) + connection.resets.held + self.reserved

    def close(self, make_error: Callable[..., TransportError]) -> None:
        """Close at once: streams end with an error made by ``make_error``, the peer gets GOAWAY."""
        self.connection.abandon(make_error, monotonic())
        self.schedule_flush()

    def peer_left(self, now: float) -> bool:
        """Whether an idle connection has ended, which the loop has not found out; it drains then.

        Args:
            now: The present, in seconds.
        """
        self.young -= 1
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        socket = transport.get_extra_info("socket")
        if socket is None or not has_ended(socket):  # without a socket it is no loop's transport
            return False
        self.connection.drain(now)
        return True

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with the preface; it is written with the first requests, if there are any.

        Called once more where the first transport was an early one: then all goes on.
        """
        early = self._transport
        # uvloop's transports are no asyncio.Transport by class.
        self._transport = cast("asyncio.Transport", transport)
        # Some loops write at once only what is over the mark, the rest at the end of the turn.
        self._transport.set_write_buffer_limits(high=1)
        if isinstance(early, EarlyTransport):
            early.hand_over(self._transport)
            if self.connection.has_output:
                self.schedule_flush()
            return
        if transport.get_extra_info("ssl_object") is not None:
            self._tls = True
            self._large_read = inf
        self.connection.start(monotonic(), self._settings_due)
        self.schedule_flush()

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the connection, and see to its answers."""
        connection = self.connection
        self._counters.bytes_received += len(data)
        before, ready = len(connection.streams), connection.ready
        now = monotonic()
        lone = self._lone
        waited_for = lone is not None and lone.stream_id in connection.streams
        connection.receive(data, now)
        if waited_for and lone is not None and lone.stream_id not in connection.streams:
            lone.answered(now)
        # Where answers came, those who are woken by them often ask again: their requests go out
        # behind them in the same turn, with 0.44 polls for each request instead of 0.78, with 32 in
        # flight. The last stream leaves none to wait for: what comes next is written at once.
        if len(data) >= self._large_read:
            self._take_turns()
        if connection.has_output:
            if self._paused and connection.queued_control > MAX_QUEUED_CONTROL // 2:
                self._pause_reading()
            if not ready and connection.streams and connection.only_answers:
                self._flush_after(QUIET_TURNS)
            else:
                self.schedule_flush()
        elif (
            connection.closed
            or connection.timer_at < self._armed_at
            or 0 < len(connection.streams) < before
        ):
            self.schedule_flush()

    def eof_received(self) -> bool:
        """The peer sends nothing more: the connection is over."""
        self.connection.lost(None, monotonic())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Let every stream know, and stop the timers."""
        self.connection.lost(exc, monotonic())
        self._transport = None
        for handle in (self._flush_handle, self._timer, self._closing, self._turn, self._later):
            if handle is not None:
                handle.cancel()
        self._flush_handle = self._timer = self._closing = self._turn = self._later = None
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        """The transport's buffer is over the high-water mark."""
        self._paused = True

    def resume_writing(self) -> None:
        """The transport has room again."""
        self._paused = False
        self.flush()

    # Output and time.

    def schedule_flush(self) -> None:
        """Flush once in the coming turn of the loop, whatever is added until then."""
        if self._flush_handle is None and self._transport is not None:
            self._flush_handle = self._loop.call_soon(self.flush)

    def _flush_after(self, turns: int) -> None:
        """Write the answer to the peer's first SETTINGS after so many turns of the loop.

        Nobody waits for it, and it takes a system call: the response to a request that was written
        ahead may be here by then. What else is to be written meanwhile takes it along.
        """
        if turns:
            self._later = self._loop.call_soon(self._flush_after, turns - 1)
        else:
            self._later = None
            self.flush()

    def flush_last(self) -> None:
        """Flush after those who are to be woken up in the coming turn of the loop."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what there is, as far as the transport has room."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        transport = self._transport
        if transport is None:
            return
        connection = self.connection
        if not transport.is_closing():
            self._write(transport)
            if connection.closed:
                self._close_transport(transport)
        if connection.timer_at < self._armed_at:
            self._arm(connection.timer_at)

    def _write(self, transport: asyncio.Transport) -> None:
        connection = self.connection
        written = 0
        while not self._paused:
            # Looked at after each write: some loops call pause_writing only in the next turn.
            room = HIGH_WATER - transport.get_write_buffer_size()
            if room < 0:
                break
            buffers = connection.data_to_send(room + 1, monotonic())
            if not buffers:
                break
            if len(buffers) == 1:
                transport.write(buffers[0])
                size = len(buffers[0])
            else:
                transport.writelines(buffers)
                size = sum(map(len, buffers))
            self._counters.bytes_sent += size
            if not connection.has_output:
                break
            written += size
            if written >= FLUSH_LIMIT:
                self.schedule_flush()
                break
        if not self._reading and connection.queued_control <= MAX_QUEUED_CONTROL // 2:
            self._resume_reading(transport)

    def _close_transport(self, transport: asyncio.Transport) -> None:
        """Close once the last bytes are out; abort when the peer does not take them."""
        if self.connection.dead:
            transport.abort()
            return
        # Also when nothing is left to write: TLS waits for the peer's close_notify.
        self._closing = self._loop.call_later(CLOSE_TIMEOUT, transport.abort)
        transport.close()

    def _take_turns(self) -> None:
        """Read on in the next turn of the loop, when those who wait for this have taken it."""
        transport = self._transport
        if self._turn is None and self._reading and transport is not None:
            if not transport.is_closing():
                transport.pause_reading()
            self._turn = self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        """Let a peer that does not read wait; with TLS it goes on until it has asked too much."""
        transport = self._transport
        if self._reading and transport is not None and not (self._tls or transport.is_closing()):
            self._reading = False
            transport.pause_reading()
            self.connection.reading_paused()

    def _resume_reading(self, transport: asyncio.Transport) -> None:
        self._reading = True
        transport.resume_reading()
        self.connection.reading_resumed(monotonic())

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_at = when
        delay = max(when - monotonic(), TIMER_TICK)
        self._timer = self._loop.call_later(delay, self._on_timer, when)

    def _on_timer(self, due: float) -> None:
        now = monotonic()
        if now - due > LATE_TIMER:
            # Once more, right after the loop has read its sockets.
            self._timer = self._loop.call_later(TIMER_TICK, self._on_timer, inf)
            return
        self._armed_at = inf
        self._timer = None
        self.connection.handle_timer(now)
        self.flush()
