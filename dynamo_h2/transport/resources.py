"""What all hosts of a pool share."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dynamo_h2.http2.memory import MemoryBudget
from dynamo_h2.transport.busy_poll import BusyPoll
from dynamo_h2.transport.calm import KeepAliveIntervals
from dynamo_h2.transport.retry import RetryBudget

if TYPE_CHECKING:
    from dynamo_h2.config import Http2Config
    from dynamo_h2.metrics import Counters
    from dynamo_h2.origin import Origin
    from dynamo_h2.transport.connect import Dialer
    from dynamo_h2.transport.protocol import ClientProtocol

# Dials under way at once, over all hosts: each takes a socket and, with TLS, milliseconds of CPU.
MAX_DIALS = 64


class Stray(Protocol):
    """A host that is not in the table of hosts."""

    @property
    def unused(self) -> bool:
        """Whether nothing is held, wanted or under way there."""

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way."""

    def shut(self) -> None:
        """End everything there."""


class HostKey(NamedTuple):
    """What a connection can be shared by.

    Args:
        origin: Scheme, host and port, or socket path.
        server_hostname: The name in the TLS handshake where it is not the origin's host.
    """

    origin: Origin
    server_hostname: str | None


class Resources:
    """What all hosts of a pool share; it belongs to one event loop.

    Args:
        config: Limits and times.
        dialer: Makes connections.
        counters: Where bytes and connections are counted.

    Attributes:
        retries: What retries of requests and dials have to be taken from.
        memory: What all connections may hold that was not taken yet.
        busy_poll: Keeps the loop from sleeping before an answer that is due; None lets it sleep.
        open: The connections whose sockets are open.
        strays: Hosts that were forgotten, and are used again by a request made before.
        closed: Whether the pool takes no more requests.
    """

    def __init__(self, config: Http2Config, dialer: Dialer, counters: Counters) -> None:
        self.loop = asyncio.get_running_loop()
        self.config = config
        self.dialer = dialer
        self.counters = counters
        self.dials = asyncio.Semaphore(MAX_DIALS)
        self.intervals = KeepAliveIntervals(config)
        self.retries = RetryBudget(counters, monotonic())
        self.memory = MemoryBudget(config.memory_budget)
        self.busy_poll = BusyPoll.up_to(config.busy_poll, counters)
        self.open: set[ClientProtocol] = set()
        self.strays: list[Stray] = []
        self.closed = False

    def strayed(self, host: Stray) -> None:
        """Keep account of a host that nobody else does."""
        if host not in self.strays:
            self.strays = [each for each in self.strays if not each.unused]
            self.strays.append(host)

    def opened(self, protocol: ClientProtocol) -> None:
        """Count a connection that was made, and keep account of it until it is closed."""
        self.counters.connections_opened += 1
        self.open.add(protocol)
        protocol.closed.add_done_callback(partial(self._lost, protocol))

    def _lost(self, protocol: ClientProtocol, _closed: asyncio.Future[None]) -> None:
        self.open.discard(protocol)
        self.counters.connections_closed += 1
