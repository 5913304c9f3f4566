"""What the peer of one connection may send: the windows, and who decides about their sizes.

The rules:

1. The connection's credit returns when bytes arrive, a stream's when they are read or collected.
   A quarter of a window is granted at a time, see `ReceiveWindow`.
2. With ``adaptive_window`` the sizes follow the `BdpEstimator`: a stream's window is its target,
   the connection's the larger of that and of the configured one, or less while it is squeezed.
   Without, both stay as they were configured.
3. The connection's window grows by WINDOW_UPDATE. Streams grow by SETTINGS_INITIAL_WINDOW_SIZE,
   which moves all of them at once, new ones too; one SETTINGS is in flight. Only what it will not
   bring is granted to a stream by a WINDOW_UPDATE of its own, when it is granted something anyway.
4. Windows shrink by withholding credit. The setting follows when no stream is open.
5. A sample's PING goes out with what is granted: only after new DATA, and in the same write. It is
   the keep-alive's PING too, so that there is one in flight.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, cast

from h2.settings import SettingCodes

from dynamo_h2.http2.bdp import BdpEstimator
from dynamo_h2.http2.flow import GRANT_FRACTION

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamo_h2.config import Http2Config
    from dynamo_h2.http2.engine import Engine
    from dynamo_h2.http2.flow import ReceiveWindow
    from dynamo_h2.http2.keepalive import KeepAlive
    from dynamo_h2.http2.stream import ReceiveHalf, Stream


class Credit:
    """The receive windows of one connection.

    Args:
        engine: Where grants go out.
        streams: The connection's, by their identifiers.
        keep_alive: Whose PING is shared.
        config: The sizes that the windows begin with.
        on_change: Called when there is something to send, or an earlier timer.
        now: The present, in seconds.

    Attributes:
        unread: Bytes that wait for their readers.
        buffered: Bytes of bodies that are collected in memory.
        round_until: When a read with DATA is to call ``begin_round``, in seconds.
        due: Whether to ask ``wants_ping`` before the next write.
        timer_at: When to call ``tick``, in seconds.
        behind: Whether the peer's idea of a new stream's window is not what it should be.
    """

    __slots__ = (
        "_announced",
        "_bdp",
        "_came",
        "_config",
        "_connection_target",
        "_engine",
        "_keep_alive",
        "_on_change",
        "_streams",
        "_target",
        "_window",
        "behind",
        "buffered",
        "due",
        "round_until",
        "timer_at",
        "unread",
    )

    def __init__(
        self,
        engine: Engine,
        streams: dict[int, Stream],
        keep_alive: KeepAlive,
        config: Http2Config,
        on_change: Callable[[], None],
        now: float,
    ) -> None:
        self.unread = 0
        self.buffered = 0
        self.round_until = inf
        self.due = False
        self.timer_at = inf
        self.behind = False
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

    # Credit that returns.

    def returned(self, now: float) -> None:
        """Grant what is owed on the connection, a quarter of its window."""
        window = self._window
        self._came += window.owed
        increment = window.due(self._connection_target)
        if increment:
            rose = self._tell(now, 0, window, increment)
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
        target = self._target - self._under_way
        increment = window.due(target)
        rose = False
        if increment:
            now, stream_id = self._keep_alive.last_received, cast("Stream", stream).stream_id
            rose = self._tell(now, stream_id, window, increment)
            self.due = self._bdp is not None
        if rose:
            self._follow()
            target = self._target - self._under_way
        increment += window.grow(target)
        if increment:
            self._engine.grant(cast("Stream", stream).stream_id, increment)
            self._on_change()

    @property
    def _under_way(self) -> int:
        """Bytes by which the SETTINGS in flight will move every stream."""
        return self._announced - self._engine.local_settings.initial_window_size

    def _tell(self, now: float, stream_id: int, window: ReceiveWindow, increment: int) -> bool:
        """Tell the estimator of a grant; true when the windows are to grow."""
        bdp = self._bdp
        if bdp is None:
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
        """Whether a PING is to go with what is being written."""
        self.due = False
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

    def tick(self, now: float) -> None:
        """Give back what is not needed any more."""
        bdp = self._bdp
        assert bdp is not None
        bdp.total = self._came + self._window.owed
        if bdp.tick(now):
            self._follow()
        self.timer_at = bdp.next_timer()

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
        increment = self._window.grow(whole)
        if increment:
            self._engine.grant(0, increment)
        self.announce()
        self.timer_at = bdp.next_timer()
        self._on_change()

    def announce(self) -> None:
        """Tell the peer how large a stream's window is, if that may be told now."""
        target = self._target
        self.behind = target != self._announced
        if (
            self.behind
            and (target > self._announced or not self._streams)
            and not self._engine.failed
            and self._engine.change_settings({SettingCodes.INITIAL_WINDOW_SIZE: target})
        ):
            self._announced = target
            self.behind = False
