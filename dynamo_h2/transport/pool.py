"""The connections of a client, over all hosts: which hosts there are, and their end."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from dynamo_h2.errors import ClientClosed
from dynamo_h2.transport.host_pool import HostPool
from dynamo_h2.transport.protocol import CLOSE_TIMEOUT
from dynamo_h2.transport.resources import Resources

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dynamo_h2.config import Http2Config
    from dynamo_h2.metrics import Counters, Stats
    from dynamo_h2.origin import Origin
    from dynamo_h2.transport.connect import Dialer
    from dynamo_h2.transport.resources import HostKey

# For how long a host counts for the client's health after its last use, in seconds.
HEALTH_WINDOW = 60.0

# Hosts that hold nothing are remembered for HEALTH_WINDOW while there are no more hosts than this.
REMEMBERED = 256

_logger = logging.getLogger("dynamo_h2")


class Pool:
    """The connections of one client, over all hosts; it belongs to one event loop.

    Args:
        config: Limits and times.
        dialer: Makes connections.
        counters: Where bytes and connections are counted.
    """

    def __init__(self, config: Http2Config, dialer: Dialer, counters: Counters) -> None:
        self._resources = Resources(config, dialer, counters)
        self.loop = self._resources.loop
        self._open = self._resources.open
        self._hosts: OrderedDict[HostKey, HostPool] = OrderedDict()

    def host(self, key: HostKey) -> HostPool:
        """The connections to one host.

        Raises:
            ClientClosed: The pool is closed.
        """
        host = self._hosts.get(key)
        if host is None:
            if self._resources.closed:
                raise ClientClosed("client is closed", origin=str(key.origin), processed=False)
            self._forget_unused()
            host = self._hosts[key] = HostPool(self._resources, key)
        return host

    @property
    def healthy(self) -> bool:
        """Whether a host that was used lately has a connection, or its last dial did not fail."""
        if self._resources.closed:
            return False
        since = monotonic() - HEALTH_WINDOW
        used = [host for host in self._hosts.values() if host.used_at >= since]
        return not used or any(host.connections or not host.failed for host in used)

    def stats(self) -> Stats:
        """A snapshot of the counters and of what is open now."""
        loads = [len(protocol.connection.streams) for protocol in self._open]
        return self._resources.counters.snapshot(
            connections_active=sum(1 for load in loads if load),
            connections_idle=sum(1 for load in loads if not load),
            streams_in_flight=sum(loads),
            keep_alive_intervals=self._resources.intervals.snapshot(),
        )

    async def warm_up(self, keys: Iterable[HostKey]) -> int:
        """Connect to hosts ahead of their first requests; how many have a connection then."""
        # Begun here and now: a host with nothing under way would be forgotten for the next one.
        errors = await asyncio.gather(*[self.host(key).warm_up() for key in keys])
        for error in errors:
            if error is not None:
                _logger.warning("warm_up: %s", error)
        return errors.count(None)

    async def drain(self, origin: Origin) -> None:
        """Leave the connections to an origin, and wait until they are closed."""
        name = str(origin)
        leaving = [each for each in self._open if each.connection.origin == name]
        now = monotonic()
        for protocol in leaving:
            protocol.connection.drain(now)
        if leaving:
            await asyncio.wait([protocol.closed for protocol in leaving])

    async def close(self) -> None:
        """Close every connection and wait until their sockets are gone."""
        self._resources.closed = True
        hosts = [*self._hosts.values(), *self._resources.strays]
        self._hosts.clear()
        for host in hosts:
            host.shut()
        tasks = [task for host in hosts for task in host.tasks]
        closing = [protocol.closed for protocol in self._open]
        for protocol in self._open:
            protocol.close(partial(ClientClosed, "client was closed"))
        if tasks or closing:
            await asyncio.wait([*tasks, *closing], timeout=2 * CLOSE_TIMEOUT)

    def _forget_unused(self) -> None:
        """Look at two hosts for each that is added: all have their turn, and those go that may.

        They hold nothing, and no longer count for the client's health, or are too many.
        """
        for _ in range(min(2, len(self._hosts))):
            key, host = next(iter(self._hosts.items()))
            old = host.used_at < monotonic() - HEALTH_WINDOW
            if host.unused and (old or len(self._hosts) > REMEMBERED):
                host.forgotten = True
                del self._hosts[key]
                self._resources.intervals.forget(host.name)
            else:
                self._hosts.move_to_end(key)
