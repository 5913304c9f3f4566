"""Who waits for a host: requests for a slot of its connections, first come first served.

Whoever waits does so until the first of its limits passes, and leaves the line in the moment in
which it stops waiting, for whatever reason: a line never holds more than those who wait.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from dynamo_h2.errors import ConnectTimeout, PoolTimeout, RequestTimeout

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection

    from dynamo_h2.call import Times
    from dynamo_h2.errors import TransportError
    from dynamo_h2.transport.protocol import ClientProtocol


class Limit(NamedTuple):
    """When somebody who waits has waited long enough.

    Args:
        when: Monotonic seconds; infinite for never.
        kind: The error that it is then.
    """

    when: float
    kind: type[TransportError]

    @classmethod
    def of(cls, times: Times, deadline: float, began: float, connecting: float) -> Limit:
        """The first limit of a request.

        Args:
            times: Those of its call.
            deadline: When the request ends, in monotonic seconds.
            began: When it began to wait, in monotonic seconds.
            connecting: Since when it waits for the host's first connection, in monotonic seconds;
                infinite where it does not.
        """
        limit = cls(deadline, RequestTimeout)
        if began + times.pool_timeout < limit.when:
            limit = cls(began + times.pool_timeout, PoolTimeout)
        connect = times.connect_timeout
        if connect is not None and connecting + connect < limit.when:
            limit = cls(connecting + connect, ConnectTimeout)
        return limit

    def patience(self, times: Times, usual: float | None, joined: float) -> float:
        """Until when somebody waits for the next try of a dial, in monotonic seconds.

        Args:
            times: Those of its call.
            usual: The config's ``connect_timeout``, in seconds.
            joined: When it began to wait, in monotonic seconds.
        """
        connect = usual if times.connect_timeout is None else times.connect_timeout
        return self.when if connect is None else min(self.when, joined + connect)


def own_copy(error: TransportError) -> TransportError:
    """A copy of an error that several are told: a traceback belongs to one task."""
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own


class Waiter:
    """A request in line.

    Args:
        slot: Brings a connection on which a slot is reserved.
        avoid: The connection that has refused the request.
        patience: Until when it waits for the next try of a dial, in monotonic seconds.
    """

    __slots__ = ("avoid", "patience", "slot")

    def __init__(
        self,
        slot: asyncio.Future[ClientProtocol],
        avoid: ClientProtocol | None,
        patience: float,
    ) -> None:
        self.slot = slot
        self.avoid = avoid
        self.patience = patience


class Line:
    """Those who wait for a slot of one host, and those who wait for a connection to it.

    Args:
        loop: Whose timers to use.
        name: The host, for messages.
        why: Tells what they wait for, for messages.
    """

    __slots__ = ("_arrivals", "_loop", "_name", "_why", "waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, why: Callable[[], str]) -> None:
        self._loop = loop
        self._name = name
        self._why = why
        # Ordered, and left from any place at once: a plain dict that is taken from at its front
        # gets slower with each that has left.
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()
        self._arrivals: set[asyncio.Future[TransportError | None]] = set()

    @property
    def connection_expected(self) -> bool:
        """Whether somebody waits for a connection rather than for a slot."""
        return bool(self._arrivals)

    def expect_connection(self) -> asyncio.Future[TransportError | None]:
        """Wait for a connection; done once there is one, with what stands against it."""
        arrival: asyncio.Future[TransportError | None] = self._loop.create_future()
        self._arrivals.add(arrival)
        arrival.add_done_callback(self._arrivals.discard)
        return arrival

    def connected(self, error: TransportError | None = None) -> None:
        """Tell those who wait for a connection that there is one, or why there is none."""
        arrivals, self._arrivals = self._arrivals, set()
        for arrival in arrivals:
            if not arrival.done():
                arrival.set_result(error)

    def join(self, avoid: ClientProtocol | None, patience: float) -> Waiter:
        """Stand at the end of the line; see `Waiter`."""
        waiter = Waiter(self._loop.create_future(), avoid, patience)
        self.waiters[waiter] = None
        return waiter

    def put_first(self, waiter: Waiter) -> None:
        """Let somebody stand before all others, who has had a slot already."""
        self.waiters.move_to_end(waiter, last=False)

    async def wait(self, waiter: Waiter, limit: Limit) -> ClientProtocol:
        """Wait for a slot.

        Raises:
            TransportError: The limit has passed, or there is no hope; ``processed`` is False.
        """
        timer = None
        if limit.when < inf and not waiter.slot.done():
            delay = limit.when - monotonic()
            timer = self._loop.call_later(delay, self._give_up, waiter, limit.kind)
        try:
            return await waiter.slot
        finally:
            self.waiters.pop(waiter, None)
            if timer is not None:
                timer.cancel()

    def first(self, refusing: Collection[ClientProtocol] = ()) -> Waiter | None:
        """Who is next, of those whom none of ``refusing`` has refused."""
        while self.waiters:
            waiter = next(iter(self.waiters))
            if not waiter.slot.done():
                break
            del self.waiters[waiter]
        for waiter in self.waiters:
            if waiter.avoid not in refusing and not waiter.slot.done():
                return waiter
        return None

    def hand(self, waiter: Waiter, protocol: ClientProtocol) -> None:
        """Give somebody a slot."""
        del self.waiters[waiter]
        protocol.reserved += 1
        waiter.slot.set_result(protocol)

    def fail(self, error: TransportError, until: float = inf) -> None:
        """Fail the requests that do not wait until then (seconds): everybody, without ``until``."""
        if until == inf:
            self.connected(error)
        for waiter in [each for each in self.waiters if each.patience < until or until == inf]:
            self.refuse(waiter, error)

    def refuse(self, waiter: Waiter, error: TransportError) -> None:
        """Fail one who waits."""
        del self.waiters[waiter]
        if not waiter.slot.done():
            waiter.slot.set_exception(own_copy(error))

    def _give_up(self, waiter: Waiter, kind: type[TransportError]) -> None:
        if not waiter.slot.done():
            self.waiters.pop(waiter, None)
            waiter.slot.set_exception(
                kind(f"waited for {self._name}: {self._why()}", origin=self._name, processed=False)
            )
