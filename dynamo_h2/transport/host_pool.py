"""The connections to one host: who gets a slot, when another is dialled, when one goes.

1. A request takes a slot of the least loaded connection that has one, without waiting.
2. Where there is none, it waits in line, and one dial is started for all that wait (single flight).
3. A connection whose peer has not sent its SETTINGS yet counts as dialling: requests are written
   ahead on it, up to the assumed limit of 100 streams, and no other is dialled meanwhile.
4. When all streams are taken another connection is dialled, up to the limit for the host.
5. A slot that becomes free goes to the first in line in the same turn of the loop. It is reserved
   until that request uses it, so that nobody overtakes, and goes back if the request was cancelled.
6. A draining or closed connection leaves the list at once, and is never handed out again.
7. A request that was refused avoids the connection that refused it, as long as there may be others.
8. How many streams the host takes is remembered: no more are written ahead on its next connection.
9. A dial that fails fails all who wait: each gets an error of its own. Where there is another
   connection they wait for its slots instead, and no dial is tried for a second.
10. A suspect connection, whose peer owes us a sign of life, is left alone as long as another is
    there, or may be dialled: requests wait for that one's SETTINGS. When the dial fails, or there
    may be no other, the suspect one has to do. A single byte from its peer makes it good again.
"""

from __future__ import annotations

import asyncio
from functools import partial
from sys import maxsize
from time import monotonic
from typing import TYPE_CHECKING

from dynamo_h2.errors import ClientClosed, TransportError
from dynamo_h2.http2.connection import State
from dynamo_h2.transport.choice import Choice
from dynamo_h2.transport.dialling import Dialling
from dynamo_h2.transport.waiting import Limit, Line

if TYPE_CHECKING:
    from dynamo_h2.call import Times
    from dynamo_h2.http2.stream import Request, Stream
    from dynamo_h2.transport.common import Common, HostKey
    from dynamo_h2.transport.protocol import ClientProtocol

# How long a host that has connections is left alone after a dial that failed, in seconds.
DIAL_PAUSE = 1.0


class HostPool:
    """The connections to one host.

    Args:
        common: What all hosts of the pool share.
        key: Whom it leads to.
    """

    def __init__(self, common: Common, key: HostKey) -> None:
        self.key = key
        self.name = str(key.origin)
        self.used_at = monotonic()
        self.failed = False
        self.forgotten = False
        self.retries = common.retries
        self._common = common
        self._config = common.config
        self._choice = Choice()
        self.connections = self._choice.connections
        self._line = Line(common.loop, self.name, self._why_waiting)
        self._waiters = self._line.waiters
        self._dialling = Dialling(
            common, key, on_state=self._state, on_made=self._made, on_end=self._dialled
        )
        self._no_dial_before = 0.0
        self._capacity = maxsize  # of the latest connection that is ready, in streams

    @property
    def unused(self) -> bool:
        """Whether nothing is held, wanted or under way here."""
        return not (self.connections or self._waiters or self._dialling.task)

    @property
    def dial(self) -> asyncio.Task[None] | None:
        """The dial that is under way."""
        return self._dialling.task

    def try_open(
        self, request: Request, now: float, avoid: ClientProtocol | None = None
    ) -> tuple[ClientProtocol, Stream] | None:
        """Start a request at once; None when it has to wait for a slot.

        Args:
            request: What to send.
            now: The present, in seconds.
            avoid: The connection that has refused it.
        """
        if self._waiters:
            return None
        protocol = self._choose(avoid)
        if protocol is None:
            return None
        self.used_at = now
        return protocol, protocol.connection.open_stream(request, now)

    async def open(
        self, request: Request, times: Times, deadline: float, avoid: ClientProtocol | None = None
    ) -> tuple[ClientProtocol, Stream]:
        """Start a request as soon as there is a slot.

        Args:
            request: What to send.
            times: How long it may wait.
            deadline: When the request ends, in monotonic seconds.
            avoid: The connection that has refused it.

        Raises:
            TransportError: No slot in time, or no connection; ``processed`` is False.
        """
        began = self.used_at = monotonic()
        while True:
            protocol = await self._acquire(times, deadline, began, avoid)
            protocol.reserved -= 1
            connection = protocol.connection
            # The peer may have lowered its limit since the slot was handed out.
            if not connection.usable or len(connection.streams) < connection.capacity:
                now = self.used_at = monotonic()
                return protocol, connection.open_stream(request, now)

    def shut(self) -> None:
        """Fail who waits, stop dialling, and close every connection."""
        self._dialling.cancel()
        self._line.fail(ClientClosed("client is closed", origin=self.name, processed=False))
        message = "client was closed"
        for protocol in list(self.connections):
            protocol.close(partial(ClientClosed, message))

    # Waiting.

    async def _acquire(
        self, times: Times, deadline: float, began: float, avoid: ClientProtocol | None
    ) -> ClientProtocol:
        """Wait in line for a slot; it comes reserved."""
        if self._common.closed:
            raise ClientClosed("client is closed", origin=self.name, processed=False)
        waiter = self._line.join(avoid)
        self._serve()
        limit = Limit.of(times, deadline, began, connecting=not self.connections)
        try:
            return await self._line.wait(waiter, limit)
        except asyncio.CancelledError:
            # Handed a slot, or an error, in the same turn of the loop as the cancel.
            slot = waiter.slot
            if not slot.cancelled() and slot.exception() is None:
                slot.result().reserved -= 1
                self._settle()
            raise

    def _why_waiting(self) -> str:
        if self._choice.suspects and not self._choice.trusted():
            return "no sign of life on its connections"
        return "every stream is taken" if self.connections else "no connection yet"

    def _choose(self, avoid: ClientProtocol | None) -> ClientProtocol | None:
        """The connection for a request."""
        best = self._choice.least_loaded(avoid)
        return self._make_do(avoid) if best is None else best

    def _make_do(self, avoid: ClientProtocol | None) -> ClientProtocol | None:
        """What is left when no good connection has a free slot, and none can be had."""
        if self._choice.suspects and not self._awaits_another():
            best = self._choice.least_loaded_suspect(avoid)
            if best is not None:
                return best
        if avoid in self.connections and not self._may_grow():
            return self._choose(None)
        return None

    def _awaits_another(self) -> bool:
        """Whether a connection is on its way, or may be dialled."""
        suspects = self._choice.suspects
        return (
            self.dial is not None
            or self._may_grow()
            or not all(each.connection.ready or each in suspects for each in self.connections)
        )

    def _serve(self) -> None:
        """Hand free slots to those who wait, first come first served."""
        while (waiter := self._line.first()) is not None:
            protocol = self._choose(waiter.avoid)
            if protocol is None:
                self._grow()
                return
            self._line.hand(waiter, protocol)

    def _serve_from_suspects(self) -> None:
        """Hand out what suspect connections have: there is nothing better."""
        while (waiter := self._line.first()) is not None:
            protocol = self._choice.least_loaded_suspect(None)
            if protocol is None:
                return
            self._line.hand(waiter, protocol)

    def _settle(self) -> None:
        """Hand out what has become free, and let go of idle connections that are too many."""
        self._serve()
        if len(self.connections) > self._config.pool_max_idle_per_host:
            idle = [each for each in self.connections if not each.load and each.connection.ready]
            for protocol in idle[self._config.pool_max_idle_per_host :]:
                protocol.connection.drain(monotonic())

    # Dialling.

    def _may_grow(self) -> bool:
        """Whether the host may have another connection.

        Not while the peer takes no streams at all on one of them: it asks for patience, and would
        say the same on the next.
        """
        if self.connections and monotonic() < self._no_dial_before:
            return False
        return len(self.connections) < self._config.connection_limit and all(
            protocol.connection.capacity for protocol in self.connections
        )

    def _grow(self) -> None:
        """Dial for those who wait, unless a dial is under way or the host has all it may have."""
        if (
            self.dial is None
            and not self._common.closed
            and self._may_grow()
            and all(protocol.connection.ready for protocol in self.connections)
        ):
            self._dialling.start()

    def _made(self, protocol: ClientProtocol) -> None:
        """Take a new connection; its peer's SETTINGS are still to come."""
        protocol.connection.capacity = min(protocol.connection.capacity, self._capacity)
        self.connections.append(protocol)

    def _dialled(self, error: TransportError | None) -> None:
        if error is None:
            self._settle()
        elif isinstance(error, ClientClosed):
            self._line.fail(error)
        else:
            self._dial_failed(error)

    def _dial_failed(self, error: TransportError) -> None:
        self._dialling.give_up()
        self.failed = True
        self._serve_from_suspects()
        if self.connections:
            self._no_dial_before = monotonic() + DIAL_PAUSE
            self._serve()
        else:
            self._line.fail(error)

    # What connections report.

    def _state(self, protocol: ClientProtocol, state: State) -> None:
        if state is State.FREED:
            if self._waiters or not protocol.load:
                self._settle()
        elif state is State.READY:
            self._dialling.succeeded()
            self.failed = False
            self._capacity = protocol.connection.capacity
            self._settle()
        elif state is State.SUSPECT:
            self._choice.suspect(protocol)
        elif state is State.TRUSTED:
            self._choice.trust(protocol)
            self._settle()
        elif state is State.CALM_DOWN:
            interval = protocol.connection.keep_alive_interval
            self._common.intervals.lengthen(self.name, interval)
        else:
            self._remove(protocol)

    def _remove(self, protocol: ClientProtocol) -> None:
        if not self._choice.remove(protocol):
            return
        if protocol.connection.closed and not protocol.connection.ready:
            error = self._dialling.failed_early(protocol)
            if error is not None:
                self._dial_failed(error)
                return
        self._serve()
