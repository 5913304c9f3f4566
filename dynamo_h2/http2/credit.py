"""What the peer of one connection may send: the windows, and who decides about their sizes.

The rules:

1. The connection's credit returns when bytes arrive, a stream's when they are read or collected.
   A quarter of a window is granted at a time, see `ReceiveWindow`.
2. With ``adaptive_window`` the sizes follow the `BdpEstimator`: a stream's window is its target,
   the connection's the larger of that and of the configured one, or less while it is squeezed.
   Without, both stay as they were configured.
3. The connection's window grows by WINDOW_UPDATE. Streams grow by SETTINGS_INITIAL_WINDOW_SIZE,
   which moves all of them at once, new ones too; one SETTINGS is in flight. What it has not brought
   to a stream from which credit was withheld comes with that stream's next WINDOW_UPDATE.
4. Windows shrink by withholding credit. The setting follows when no stream is open.
5. A sample's PING goes out with what is granted: only after new DATA, and in the same write; while
   the window is squeezed, ahead of it. It is the keep-alive's too, so that there is one in flight.
6. What the peer may send is leased from the client's `MemoryBudget`. A connection that gets no
   larger lease comes under *pressure*: it takes back what it has granted, by an
   INITIAL_WINDOW_SIZE of 0, and grants nothing until the ACK.
7. From then on only streams that are being read get anything, see `Rations`. When the budget has
   nothing left for them, they ask again every `RETRY` seconds.
8. When the connection holds little, and the budget has room for its whole window, all is as before.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, cast

from h2.settings import SettingCodes

from dynamo_h2.http2.bdp import BdpEstimator
from dynamo_h2.http2.flow import GRANT_FRACTION
from dynamo_h2.http2.memory import LEAST_WINDOW, PART
from dynamo_h2.http2.rations import Rations

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamo_h2.config import Http2Config
    from dynamo_h2.http2.engine import Engine
    from dynamo_h2.http2.flow import ReceiveWindow
    from dynamo_h2.http2.keepalive import KeepAlive
    from dynamo_h2.http2.memory import MemoryBudget
    from dynamo_h2.http2.stream import ReceiveHalf, Stream

# Under pressure, seconds between two looks at what the budget has.
RETRY = 0.05


class Credit:
    """The receive windows of one connection.

    Args:
        engine: Where grants go out.
        streams: The connection's, by their identifiers.
        keep_alive: Whose PING is shared.
        config: The sizes that the windows begin with.
        memory: What all connections of the client may hold.
        on_change: Called when there is something to send, or an earlier timer.
        now: The present, in seconds.

    Attributes:
        unread: Bytes that wait for their readers.
        buffered: Bytes of bodies that are collected in memory.
        round_until: When a read with DATA is to call ``begin_round``, in seconds.
        due: Whether to ask ``wants_ping`` before the next write.
        timer_at: When to call ``tick``, in seconds.
        behind: Whether the peer's idea of a new stream's window is not what it should be.
        watched: Whether new streams and readers that wait are to be told of.
        pressed: Whether memory is short.
        lease: What the budget has room for, in bytes.
    """

    __slots__ = (
        "_announced",
        "_bdp",
        "_came",
        "_config",
        "_connection_target",
        "_engine",
        "_keep_alive",
        "_memory",
        "_on_change",
        "_rations",
        "_streams",
        "_target",
        "_window",
        "behind",
        "buffered",
        "closed",
        "due",
        "lease",
        "pressed",
        "round_until",
        "timer_at",
        "unread",
        "watched",
    )

    def __init__(
        self,
        engine: Engine,
        streams: dict[int, Stream],
        keep_alive: KeepAlive,
        config: Http2Config,
        memory: MemoryBudget,
        on_change: Callable[[], None],
        now: float,
    ) -> None:
        self.unread = 0
        self.buffered = 0
        self.round_until = inf
        self.due = False
        self.timer_at = inf
        self.behind = False
        self.lease = 0
        self.pressed = self.watched = self.closed = False
        self._memory = memory
        self._rations = Rations(self, engine, streams, memory)
        self._engine = engine
        self._streams = streams
        self._keep_alive = keep_alive
        self._config = config
        self._on_change = on_change
        self._window = engine.connection_receive_window
        self._came = 0  # flow-controlled bytes, but for those that are owed
        self._target = self._announced = config.stream_window
        self._connection_target = config.connection_window
        self._bdp: BdpEstimator | None = None
        if config.adaptive_window:
            self._bdp = BdpEstimator(
                initial=config.stream_window, ceiling=config.max_window, now=now
            )

    def start(self) -> None:
        """Choose the windows of the first flight, by what there is room for."""
        wanted = self._window.max_window_size
        room = self._memory.join(self, max(wanted, LEAST_WINDOW))
        self._window.max_window_size = min(wanted, room)
        if not room:
            self._engine.begin_with_stream_window(0)
            self._announced = 0
            self.press()

    def close(self) -> None:
        """Nothing comes any more; what lies here may still be read."""
        self.closed = self.pressed = True
        self.timer_at = inf
        self._memory.leave(self)

    # Credit that returns.

    def returned(self, now: float) -> None:
        """Grant what is owed on the connection, a quarter of its window."""
        window = self._window
        if self.pressed:
            if self._rationed and self._grant_owed():
                self._on_change()
            return
        need = window.max_window_size + self.held
        if (need > self.lease and not self._memory.lease(self, need)) or (
            self.buffered * PART > self._memory.size and self._collects_several
        ):
            self._memory.press(self)
            return
        self._came += window.owed
        increment = window.due(self._connection_target)
        if self._squeezed and self._may_ping(now):
            self._engine.ping(self._keep_alive.ping(now))
            self.ping_written(now)
        if increment:
            rose = self._tell(now, 0, window, increment)
            if window.max_window_size < self._connection_target:
                increment += self._grow(self._connection_target)
            self._engine.grant(0, increment)
            if rose:
                self._follow()
        if self._bdp is not None:
            self.due = True
            if not increment:
                self._on_change()  # the window is being squeezed, and a PING waits for that

    def stream_returned(self, stream: ReceiveHalf) -> None:
        """Grant what is owed to a stream, when it is a quarter of its window."""
        window = stream.window
        if (
            window.owed * GRANT_FRACTION < window.max_window_size
            or stream.ended
            or stream.error is not None
        ):
            return
        if self.pressed:
            self.wanted(stream)
            return
        stream_id = cast("Stream", stream).stream_id
        increment = window.due(self._target - self._under_way)
        if increment:
            self.due = self._bdp is not None
            if self._tell(self._keep_alive.last_received, stream_id, window, increment):
                self._follow()
        increment += window.grow(min(self._target, self._announced) - self._under_way)
        if increment:
            self._engine.grant(stream_id, increment)
            self._on_change()

    @property
    def _under_way(self) -> int:
        """Bytes by which the SETTINGS in flight will move every stream."""
        return self._announced - self._engine.local_settings.stream_window

    def _tell(self, now: float, stream_id: int, window: ReceiveWindow, increment: int) -> bool:
        """Tell the estimator of a grant; true when the windows are to grow."""
        bdp = self._bdp
        if bdp is None or self.pressed:
            return False
        under_way = self._under_way if stream_id else 0
        bdp.total = self._came + self._window.owed
        return bdp.granted(
            now,
            stream_id,
            size=window.max_window_size + under_way,
            left=window.current_window_size + under_way,
            increment=increment,
            unread=self.unread,
        )

    # Samples.

    def begin_round(self, now: float) -> None:
        """Begin a round of the estimator, before the bytes of a read are counted."""
        bdp = self._bdp
        assert bdp is not None
        bdp.total = self._came + self._window.owed
        bdp.begin_round(now, self.unread)
        self.round_until = bdp.round_until

    def wants_ping(self, now: float) -> bool:
        """Whether a PING is to go with what is being written; looks at new streams, too."""
        self.due = False
        if self._rationed:
            self._feed_all()
        return not self._squeezed and self._may_ping(now)

    @property
    def _squeezed(self) -> bool:
        """Whether a PING is to go ahead of what is granted on the connection."""
        return self._bdp is not None and self._bdp.squeeze is not None and not self.pressed

    def _may_ping(self, now: float) -> bool:
        bdp, keep_alive = self._bdp, self._keep_alive
        if bdp is None or keep_alive.waiting or keep_alive.paused:
            return False
        bdp.total = self._came + self._window.owed
        return bdp.wants_ping(now, self._window.current_window_size)

    def ping_written(self, now: float) -> None:
        """Note that a PING goes out, whatever for."""
        bdp = self._bdp
        if bdp is not None:
            bdp.total = self._came + self._window.owed
            bdp.ping_written(now, self.unread)

    def ping_acknowledged(self, now: float) -> None:
        """Take the ACK of the last PING."""
        bdp = self._bdp
        if bdp is not None:
            bdp.total = self._came + self._window.owed
            if bdp.ping_acknowledged(now, self.unread):
                self._follow()
            self.round_until = bdp.round_until

    def settings_acknowledged(self, now: float, rtt: float | None) -> None:
        """Note that the peer applied our SETTINGS; the engine has moved the streams' windows.

        Args:
            now: The present, in seconds.
            rtt: What that took, in seconds; None where it is not to count.
        """
        bdp = self._bdp
        if bdp is not None and rtt is not None:
            bdp.round_trip(now, rtt)
            self.round_until = bdp.round_until
        if self.behind:
            self.announce()
        if self._rationed:
            self._feed_all()
        elif not self.pressed:
            for stream in self._streams.values():
                self.stream_returned(stream)  # what was owed while nothing could be granted

    def tick(self, now: float) -> None:
        """Give back what is not needed any more, and look whether there is more memory now."""
        bdp = self._bdp
        if bdp is not None:
            bdp.total = self._came + self._window.owed
            if bdp.tick(now):
                self._follow()
        if self.pressed:
            self._relax(now)
        if self._rationed:
            self._feed_all()
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        self.timer_at = inf if self._bdp is None else self._bdp.next_timer()
        if self.pressed and self._streams:
            self.timer_at = min(self.timer_at, now + RETRY)

    # Sizes.

    def _follow(self) -> None:
        """Let the windows have the sizes that the estimator wants."""
        bdp, config = self._bdp, self._config
        assert bdp is not None
        self._target = target = bdp.target
        whole = target if target < config.stream_window else max(target, config.connection_window)
        if bdp.squeeze is not None:
            whole = min(whole, bdp.squeeze)
        self._connection_target = whole
        increment = 0 if self.pressed else self._grow(whole)
        if increment:
            self._engine.grant(0, increment)
        self.announce()
        self.timer_at = min(self.timer_at, bdp.next_timer())
        self._on_change()

    def _grow(self, target: int) -> int:
        """Let the connection's window grow, as far as memory allows; gives the increment."""
        window = self._window
        target = min(target, self._memory.largest_window)
        more = target - window.max_window_size
        if more > 0 and self._memory.lease(self, window.max_window_size + self.held + more):
            return window.grow(target)
        return 0

    def announce(self) -> None:
        """Tell the peer how large a stream's window is, if that may be told now."""
        target = 0 if self.pressed else self._target
        self.behind = target != self._announced
        if (
            self.behind
            and (target > self._announced or self.pressed or not self._streams)
            and not self._engine.failed
            and self._engine.change_settings({SettingCodes.INITIAL_WINDOW_SIZE: target})
        ):
            self._announced = target
            self.behind = False

    # Memory.

    @property
    def held(self) -> int:
        """Bytes that were not taken yet."""
        return self.unread + self.buffered

    @property
    def gone(self) -> bool:
        """Whether nothing is here any more, nor will come."""
        return self.closed and not self.held

    @property
    def _rationed(self) -> bool:
        """Whether the peer has acknowledged that only streams which are read have a window."""
        return (
            self.pressed and not self._announced and not self._engine.local_settings.stream_window
        )

    @property
    def _collects_several(self) -> bool:
        return sum(stream.limit is not None for stream in self._streams.values()) > 1

    def reckon(self) -> int:
        """What the peer may send, and what was not taken yet, in bytes."""
        if self.closed:
            return self.held
        window = self._window
        whole = window.max_window_size
        if self._rationed:
            return self.held + min(whole - window.owed, self._rations.to_come)
        if self._streams or self.pressed:
            return self.held + whole - window.owed
        self.watched = True
        return self.held

    def press(self) -> None:
        """Take back what streams were granted, to grant it to those that are read."""
        if not self.pressed and not self.closed:
            self.pressed = self.watched = True
            if self._bdp is not None:
                self._bdp.pressed = True
            self.announce()
            self._set_timer(self._keep_alive.last_received)
            self._on_change()

    def opening(self, now: float) -> None:
        """Find room for a new stream's window; to be called before it is opened, if watched."""
        if self.pressed:
            self._relax(now)
        else:
            self.watched = False
            window = self._window
            if not self._memory.lease(self, window.max_window_size - window.owed + self.held):
                self._memory.press(self)
        if self.pressed:
            self.due = True
            self.timer_at = min(self.timer_at, now + RETRY)
            self._on_change()

    def wanted(self, stream: ReceiveHalf) -> None:
        """Feed a stream whose reader waits, or has taken bytes; to be called if watched."""
        if self._rationed:
            self._memory.lease(self, self.reckon(), reserve=True)
            if self._rations.feed(stream, self._target):
                self._on_change()

    def finished(self, stream: ReceiveHalf) -> None:
        """Keep nothing of a stream that is over; to be called under pressure."""
        self._memory.collected(stream)

    def _relax(self, now: float) -> None:
        """End the pressure, if there is room for the whole window."""
        window = self._window
        if self.behind or not self._memory.calm(self, window.max_window_size + self.held):
            return
        self.pressed = self.watched = False
        for stream in self._streams.values():
            self.finished(stream)
        if self._bdp is not None:
            self._bdp.pressed = False
        self.announce()
        if window.owed * GRANT_FRACTION >= window.max_window_size:
            self.returned(now)
        self._on_change()

    def _feed_all(self) -> None:
        """Feed every stream that is being read, and the connection."""
        self._memory.lease(self, self.reckon(), reserve=True)
        granted = self._grant_owed()
        if self._rations.feed_readers(self._target) or granted:
            self._on_change()

    def _grant_owed(self) -> bool:
        """Grant what is owed on the connection, by rations; true when there was something."""
        increment = self._rations.grant_owed()
        self._came += increment
        return bool(increment)
