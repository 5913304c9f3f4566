"""The connections of a client: which one a request goes to, when another is dialled, when one goes.

The rules for one host:

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
import copy
from collections import deque
from functools import partial
from math import inf
from sys import maxsize
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from dynamo_h2.errors import (
    ClientClosed,
    ConnectError,
    ConnectTimeout,
    PoolTimeout,
    RequestTimeout,
    TransportError,
)
from dynamo_h2.http2.connection import State
from dynamo_h2.transport.calm import KeepAliveIntervals
from dynamo_h2.transport.connect import dial_may_be_retried
from dynamo_h2.transport.protocol import CLOSE_TIMEOUT, ClientProtocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dynamo_h2.call import Times
    from dynamo_h2.config import Http2Config
    from dynamo_h2.http2.stream import Request, Stream
    from dynamo_h2.metrics import Counters, Stats
    from dynamo_h2.origin import Origin
    from dynamo_h2.transport.connect import Dialer

# Dials under way at once, over all hosts: each takes a socket and, with TLS, milliseconds of CPU.
MAX_DIALS = 64

# How long a host that has connections is left alone after a dial that failed, in seconds.
DIAL_PAUSE = 1.0

# For how long a host counts for the client's health after its last use, in seconds.
HEALTH_WINDOW = 60.0

# Hosts that were not used for HEALTH_WINDOW are looked for each time this many have been added.
FORGET_EVERY = 64


class HostKey(NamedTuple):
    """What a connection can be shared by.

    Args:
        origin: Scheme, host and port, or socket path.
        server_hostname: The name in the TLS handshake where it is not the origin's host.
    """

    origin: Origin
    server_hostname: str | None


class _Waiter(NamedTuple):
    """A request in line, and the connection that has refused it."""

    slot: asyncio.Future[ClientProtocol]
    avoid: ClientProtocol | None


class HostPool:
    """The connections to one host.

    Args:
        pool: Where it belongs.
        key: Whom it leads to.
    """

    def __init__(self, pool: Pool, key: HostKey) -> None:
        self.key = key
        self.name = str(key.origin)
        self.used_at = monotonic()
        self.failed = False
        self.forgotten = False
        self.connections: list[ClientProtocol] = []
        self._suspects: list[ClientProtocol] = []
        self._pool = pool
        self._config = pool.config
        self._loop = pool.loop
        self._waiters: deque[_Waiter] = deque()
        self.dial: asyncio.Task[None] | None = None
        self._failures = 0
        self._no_dial_before = 0.0
        self._capacity = maxsize  # of the latest connection that is ready, in streams

    @property
    def unused(self) -> bool:
        """Whether nothing is held, wanted or under way here."""
        return not (self.connections or self._waiters or self.dial)

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
        if self.dial is not None:
            self.dial.cancel()
        self._fail_waiters(ClientClosed("client is closed", origin=self.name, processed=False))
        message = "client was closed"
        for protocol in list(self.connections):
            protocol.close(partial(ClientClosed, message))

    # Waiting.

    async def _acquire(
        self, times: Times, deadline: float, began: float, avoid: ClientProtocol | None
    ) -> ClientProtocol:
        """Wait in line for a slot; it comes reserved."""
        if self._pool.closed:
            raise ClientClosed("client is closed", origin=self.name, processed=False)
        waiter: asyncio.Future[ClientProtocol] = self._loop.create_future()
        self._waiters.append(_Waiter(waiter, avoid))
        self._serve()
        timer = None if waiter.done() else self._watch(waiter, times, deadline, began)
        try:
            return await waiter
        except asyncio.CancelledError:
            # Handed a slot, or an error, in the same turn of the loop as the cancel.
            if not waiter.cancelled() and waiter.exception() is None:
                waiter.result().reserved -= 1
                self._settle()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _watch(
        self, waiter: asyncio.Future[ClientProtocol], times: Times, deadline: float, began: float
    ) -> asyncio.TimerHandle | None:
        """Let a waiter fail when the first of its limits passes."""
        kind: type[TransportError] = RequestTimeout
        when = deadline
        if began + times.pool_timeout < when:
            kind, when = PoolTimeout, began + times.pool_timeout
        connect = times.connect_timeout
        if connect is not None and not self.connections and began + connect < when:
            kind, when = ConnectTimeout, began + connect
        if when == inf:
            return None
        return self._loop.call_later(when - monotonic(), self._give_up, waiter, kind)

    def _give_up(self, waiter: asyncio.Future[ClientProtocol], kind: type[TransportError]) -> None:
        if not waiter.done():
            state = "every stream is taken" if self.connections else "no connection yet"
            if self._suspects and not self._trusted():
                state = "no sign of life on its connections"
            waiter.set_exception(
                kind(f"waited for {self.name}: {state}", origin=self.name, processed=False)
            )

    def _fail_waiters(self, error: TransportError) -> None:
        """Fail all who wait, each with a copy: a traceback belongs to one task."""
        waiters, self._waiters = self._waiters, deque()
        for waiter, _ in waiters:
            if not waiter.done():
                own = copy.copy(error)
                own.__cause__ = error.__cause__
                waiter.set_exception(own)

    def _choose(self, avoid: ClientProtocol | None) -> ClientProtocol | None:
        """The least loaded connection with a free slot."""
        best: ClientProtocol | None = None
        least = inf  # of the loads
        for protocol in self._trusted() if self._suspects else self.connections:
            load = protocol.load
            if load < least and load < protocol.connection.capacity and protocol is not avoid:
                best, least = protocol, load
        return self._make_do(avoid) if best is None else best

    def _trusted(self) -> list[ClientProtocol]:
        """While some are suspect: those whose peers are known to be there."""
        known = [each for each in self.connections if each.connection.ready]
        return [each for each in known if each not in self._suspects]

    def _make_do(self, avoid: ClientProtocol | None) -> ClientProtocol | None:
        """What is left when no good connection has a free slot, and none can be had."""
        if self._suspects and not self._awaits_another():
            best = _least_loaded(each for each in self._suspects if each is not avoid)
            if best is not None:
                return best
        if avoid in self.connections and not self._may_grow():
            return self._choose(None)
        return None

    def _awaits_another(self) -> bool:
        """Whether a connection is on its way, or may be dialled."""
        return (
            self.dial is not None
            or self._may_grow()
            or not all(each.connection.ready or each in self._suspects for each in self.connections)
        )

    def _serve(self) -> None:
        """Hand free slots to those who wait, first come first served."""
        waiters = self._waiters
        while waiters:
            waiter, avoid = waiters[0]
            if waiter.done():
                waiters.popleft()
                continue
            protocol = self._choose(avoid)
            if protocol is None:
                self._grow()
                return
            protocol.reserved += 1
            waiters.popleft()
            waiter.set_result(protocol)

    def _serve_from_suspects(self) -> None:
        """Hand out what suspect connections have: there is nothing better."""
        while self._waiters:
            protocol = _least_loaded(self._suspects)
            if protocol is None:
                return
            waiter, _ = self._waiters.popleft()
            if not waiter.done():
                protocol.reserved += 1
                waiter.set_result(protocol)

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
            and not self._pool.closed
            and self._may_grow()
            and all(protocol.connection.ready for protocol in self.connections)
        ):
            self.dial = self._loop.create_task(self._connect())
            self.dial.add_done_callback(self._dialled)

    def _dialled(self, task: asyncio.Task[None]) -> None:
        self.dial = None
        if task.cancelled():
            self._fail_waiters(ClientClosed("client is closed", origin=self.name, processed=False))
            return
        error = task.exception()
        if isinstance(error, TransportError):
            self._dial_failed(error)
        elif error is not None:
            failure = ConnectError(
                f"cannot connect to {self.name}: {error!r}", origin=self.name, processed=False
            )
            failure.__cause__ = error
            self._dial_failed(failure)
        else:
            self._settle()

    async def _connect(self) -> None:
        """Make one connection, with as many tries as the config allows."""
        while True:
            try:
                async with self._pool.dials:
                    await self._connect_once()
            except ConnectError as error:
                if self._failures >= self._config.connect_retries or not dial_may_be_retried(error):
                    raise
                self._failures += 1
            else:
                return

    async def _connect_once(self) -> None:
        timeout = self._config.connect_timeout
        settings_due = inf if timeout is None else monotonic() + timeout
        make = partial(
            ClientProtocol,
            self._pool.intervals.config_for(self.name),
            self.name,
            on_state=self._state,
            counters=self._pool.counters,
            settings_due=settings_due,
        )
        try:
            async with asyncio.timeout(timeout):
                protocol = await self._pool.dialer.dial(
                    self.key.origin, make, server_hostname=self.key.server_hostname
                )
        except TimeoutError as error:
            if isinstance(error, TransportError):
                raise
            raise ConnectTimeout(
                f"cannot connect to {self.name}: not connected within {timeout:g} s",
                origin=self.name,
                processed=False,
            ) from None
        self._pool.opened(protocol)
        if protocol.connection.closed:
            raise self._failure(protocol)
        protocol.connection.capacity = min(protocol.connection.capacity, self._capacity)
        self.connections.append(protocol)

    def _failure(self, protocol: ClientProtocol) -> ConnectError:
        """What to tell those who waited for a connection that ended before it was ready."""
        make_error = protocol.connection.failure
        cause = None if make_error is None else make_error(origin=self.name, processed=False)
        if isinstance(cause, ConnectError):
            return cause
        error = ConnectError(
            f"cannot connect to {self.name}: {cause or 'closed before its SETTINGS arrived'}",
            origin=self.name,
            processed=False,
        )
        error.__cause__ = cause
        return error

    def _dial_failed(self, error: TransportError) -> None:
        self._failures = 0
        self.failed = True
        self._serve_from_suspects()
        if self.connections:
            self._no_dial_before = monotonic() + DIAL_PAUSE
            self._serve()
        else:
            self._fail_waiters(error)

    # What connections report.

    def _state(self, protocol: ClientProtocol, state: State) -> None:
        if state is State.FREED:
            if self._waiters or not protocol.load:
                self._settle()
        elif state is State.READY:
            self._failures = 0
            self.failed = False
            self._capacity = protocol.connection.capacity
            self._settle()
        elif state is State.SUSPECT:
            if protocol in self.connections:
                self._suspects.append(protocol)
        elif state is State.TRUSTED:
            self._trust(protocol)
            self._settle()
        elif state is State.CALM_DOWN:
            self._pool.intervals.lengthen(self.name, protocol.connection.keep_alive_interval)
        else:
            self._remove(protocol)

    def _trust(self, protocol: ClientProtocol) -> None:
        if protocol in self._suspects:
            self._suspects.remove(protocol)

    def _remove(self, protocol: ClientProtocol) -> None:
        if protocol not in self.connections:
            return
        self.connections.remove(protocol)
        self._trust(protocol)
        if protocol.connection.closed and not protocol.connection.ready:
            error = self._failure(protocol)
            if self._failures >= self._config.connect_retries or not dial_may_be_retried(error):
                self._dial_failed(error)
                return
            self._failures += 1
        self._serve()


def _least_loaded(protocols: Iterable[ClientProtocol]) -> ClientProtocol | None:
    free = [each for each in protocols if each.load < each.connection.capacity]
    return min(free, key=lambda each: each.load, default=None)


class Pool:
    """The connections of one client, over all hosts; it belongs to one event loop.

    Args:
        config: Limits and times.
        dialer: Makes connections.
        counters: Where bytes and connections are counted.
    """

    def __init__(self, config: Http2Config, dialer: Dialer, counters: Counters) -> None:
        self.loop = asyncio.get_running_loop()
        self.config = config
        self.dialer = dialer
        self.dials = asyncio.Semaphore(MAX_DIALS)
        self.closed = False
        self.counters = counters
        self.intervals = KeepAliveIntervals(config)
        self._hosts: dict[HostKey, HostPool] = {}
        self._open: set[ClientProtocol] = set()

    def host(self, key: HostKey) -> HostPool:
        """The connections to one host.

        Raises:
            ClientClosed: The pool is closed.
        """
        host = self._hosts.get(key)
        if host is None:
            if self.closed:
                raise ClientClosed("client is closed", origin=str(key.origin), processed=False)
            if len(self._hosts) % FORGET_EVERY == FORGET_EVERY - 1:
                self._forget_unused()
            host = self._hosts[key] = HostPool(self, key)
        return host

    def opened(self, protocol: ClientProtocol) -> None:
        """Count a connection that was made, and keep account of it until it is closed."""
        self.counters.connections_opened += 1
        self._open.add(protocol)
        protocol.closed.add_done_callback(partial(self._lost, protocol))

    @property
    def healthy(self) -> bool:
        """Whether a host that was used lately has a connection, or its last dial did not fail."""
        if self.closed:
            return False
        since = monotonic() - HEALTH_WINDOW
        used = [host for host in self._hosts.values() if host.used_at >= since]
        return not used or any(host.connections or not host.failed for host in used)

    def stats(self) -> Stats:
        """A snapshot of the counters and of what is open now."""
        loads = [len(protocol.connection.streams) for protocol in self._open]
        return self.counters.snapshot(
            connections_active=sum(1 for load in loads if load),
            connections_idle=sum(1 for load in loads if not load),
            streams_in_flight=sum(loads),
            keep_alive_intervals=self.intervals.snapshot(),
        )

    async def close(self) -> None:
        """Close every connection and wait until their sockets are gone."""
        self.closed = True
        hosts = list(self._hosts.values())
        self._hosts.clear()
        for host in hosts:
            host.shut()
        dials = [host.dial for host in hosts if host.dial is not None]
        closing = [protocol.closed for protocol in self._open]
        for protocol in self._open:
            protocol.close(partial(ClientClosed, "client was closed"))
        if dials or closing:
            await asyncio.wait([*dials, *closing], timeout=2 * CLOSE_TIMEOUT)

    def _lost(self, protocol: ClientProtocol, _closed: asyncio.Future[None]) -> None:
        self._open.discard(protocol)
        self.counters.connections_closed += 1

    def _forget_unused(self) -> None:
        """Drop hosts that hold nothing and no longer count for the client's health."""
        since = monotonic() - HEALTH_WINDOW
        for key, host in list(self._hosts.items()):
            if host.unused and host.used_at < since:
                host.forgotten = True
                del self._hosts[key]
