"""What goes out on a connection under pressure: only what is sure to be taken.

Memory is short, the connection has taken back what it had granted, and the peer has acknowledged an
INITIAL_WINDOW_SIZE of 0 (see `Credit`). From then on:

1. Each stream that is being read (its reader waits, or has just taken bytes, or it is collected, or
   new) gets a small window of its own. So no stalled stream can use up the window of the
   connection, and one that is read goes on whatever the others do.
2. The connection's credit returns as far as there is memory for it, at least by a ration.
3. What the peer may send is the sum of these windows, where the connection's is larger.

How much a ration is, the `MemoryBudget` says; each is leased before it is granted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from dynamo_h2.http2.memory import CHUNK

if TYPE_CHECKING:
    from dynamo_h2.http2.engine import Engine
    from dynamo_h2.http2.memory import MemoryBudget, Tenant
    from dynamo_h2.http2.stream import ReceiveHalf, Stream


class Rations:
    """The small windows of one connection.

    Args:
        tenant: What the budget knows the connection as.
        engine: Where grants go out.
        streams: The connection's, by their identifiers.
        memory: What all connections of the client may hold.
    """

    __slots__ = ("_engine", "_memory", "_streams", "_tenant", "_window")

    def __init__(
        self, tenant: Tenant, engine: Engine, streams: dict[int, Stream], memory: MemoryBudget
    ) -> None:
        self._tenant = tenant
        self._engine = engine
        self._streams = streams
        self._memory = memory
        self._window = engine.connection_receive_window

    @property
    def to_come(self) -> int:
        """What the streams' windows let the peer send, in bytes."""
        windows = [stream.window.current_window_size for stream in self._streams.values()]
        return sum(each for each in windows if each > 0) + self._engine.data_to_come

    def grant_owed(self) -> int:
        """Grant what is owed on the connection, as far as memory allows; gives the increment."""
        tenant, window, memory = self._tenant, self._window, self._memory
        increment = window.owed
        if not memory.lease(tenant, tenant.reckon() + increment, reserve=True):
            increment = min(increment, memory.ration(tenant))
            if not memory.lease(tenant, tenant.reckon() + increment, reserve=True):
                return 0
        if increment:
            window.owed -= increment
            self._engine.grant(0, increment)
        return increment

    def feed_readers(self, most: int) -> bool:
        """Feed every stream that is being read; true when something is granted.

        Args:
            most: The largest window of a stream, in bytes.
        """
        fed = [
            self.feed(stream, most)
            for stream in self._streams.values()
            if stream.limit is not None or not stream.status or stream.waiting()
        ]
        return any(fed)

    def feed(self, stream: ReceiveHalf, most: int) -> bool:
        """Let a stream have a small window, as far as memory allows; true when that is granted.

        Args:
            stream: One that is being read.
            most: The largest window of a stream, in bytes.
        """
        window = stream.window
        unread = 0 if stream.limit is not None else stream.unread
        has = max(window.current_window_size, 0) + unread
        if stream.ended or stream.error is not None:
            return False
        tenant, memory = self._tenant, self._memory
        if stream.limit is not None:
            ration = memory.ration_of_body(tenant, stream, most)
        else:
            ration = memory.ration(tenant) if has * 2 <= CHUNK else 0
        increment = ration - unread - window.current_window_size
        if ration <= has * 2 or not memory.lease(tenant, tenant.lease + ration - has, reserve=True):
            return False
        window.max_window_size += increment - window.owed
        window.owed = 0
        self._engine.grant(cast("Stream", stream).stream_id, increment)
        return True
