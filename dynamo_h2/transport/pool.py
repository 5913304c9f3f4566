"""The connections of a client, over all hosts: which hosts there are, and their end."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from dynamo_h2.errors import ClientClosed
from dynamo_h2.transport.common import Common
from dynamo_h2.transport.host_pool import HostPool
from dynamo_h2.transport.protocol import CLOSE_TIMEOUT

if TYPE_CHECKING:
    from dynamo_h2.config import Http2Config
    from dynamo_h2.metrics import Counters, Stats
    from dynamo_h2.transport.common import HostKey
    from dynamo_h2.transport.connect import Dialer

# For how long a host counts for the client's health after its last use, in seconds.
HEALTH_WINDOW = 60.0

# Hosts that were not used for HEALTH_WINDOW are looked for each time this many have been added.
FORGET_EVERY = 64


class Pool:
    """The connections of one client, over all hosts; it belongs to one event loop.

    Args:
        config: Limits and times.
        dialer: Makes connections.
        counters: Where bytes and connections are counted.
    """

    def __init__(self, config: Http2Config, dialer: Dialer, counters: Counters) -> None:
        self._common = Common(config, dialer, counters)
        self.loop = self._common.loop
        self._open = self._common.open
        self._hosts: dict[HostKey, HostPool] = {}

    def host(self, key: HostKey) -> HostPool:
        """The connections to one host.

        Raises:
            ClientClosed: The pool is closed.
        """
        host = self._hosts.get(key)
        if host is None:
            if self._common.closed:
                raise ClientClosed("client is closed", origin=str(key.origin), processed=False)
            if len(self._hosts) % FORGET_EVERY == FORGET_EVERY - 1:
                self._forget_unused()
            host = self._hosts[key] = HostPool(self._common, key)
        return host

    @property
    def healthy(self) -> bool:
        """Whether a host that was used lately has a connection, or its last dial did not fail."""
        if self._common.closed:
            return False
        since = monotonic() - HEALTH_WINDOW
        used = [host for host in self._hosts.values() if host.used_at >= since]
        return not used or any(host.connections or not host.failed for host in used)

    def stats(self) -> Stats:
        """A snapshot of the counters and of what is open now."""
        loads = [len(protocol.connection.streams) for protocol in self._open]
        return self._common.counters.snapshot(
            connections_active=sum(1 for load in loads if load),
            connections_idle=sum(1 for load in loads if not load),
            streams_in_flight=sum(loads),
            keep_alive_intervals=self._common.intervals.snapshot(),
        )

    async def close(self) -> None:
        """Close every connection and wait until their sockets are gone."""
        self._common.closed = True
        hosts = list(self._hosts.values())
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
        """Drop hosts that hold nothing and no longer count for the client's health."""
        since = monotonic() - HEALTH_WINDOW
        for key, host in list(self._hosts.items()):
            if host.unused and host.used_at < since:
                host.forgotten = True
                del self._hosts[key]
