"""Requests that are to go where others with the same key went.

1. The first request with a key goes where any request would go, and pins the key there.
2. Those after it go to that connection, as long as it takes requests and has room for them.
3. Where it is full, suspect or has refused the request, they go to another one, without moving the
   key: waiting would cost more than a cold cache does.
4. When the connection drains or ends, its keys are forgotten; their next requests pin them anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynamo_h2.call import Times
    from dynamo_h2.http2.request import Request
    from dynamo_h2.http2.stream import Stream
    from dynamo_h2.transport.host_pool import HostPool
    from dynamo_h2.transport.protocol import ClientProtocol


class PinnedHost:
    """A host as requests with one key see it.

    Args:
        host: The connections to it.
        key: What they have in common.
    """

    __slots__ = ("_host", "_key", "name", "retries")

    def __init__(self, host: HostPool, key: str) -> None:
        self._host = host
        self._key = key
        self.name = host.name
        self.retries = host.retries

    def try_open(
        self, request: Request, now: float, avoid: ClientProtocol | None = None
    ) -> tuple[ClientProtocol, Stream] | None:
        """Start a request at once; see `HostPool.try_open`."""
        host, key = self._host, self._key
        pinned = host.pins.get(key)
        if pinned is None:
            opened = host.try_open(request, now, avoid)
            if opened is not None:
                host.pin(key, opened[0])
            return opened
        opened = None if pinned is avoid else host.try_open_on(pinned, request, now)
        return opened or host.try_open(request, now, avoid)

    async def open(
        self, request: Request, times: Times, deadline: float, avoid: ClientProtocol | None = None
    ) -> tuple[ClientProtocol, Stream]:
        """Start a request as soon as there is a slot; see `HostPool.open`."""
        opened = await self._host.open(request, times, deadline, avoid)
        if self._host.pins.get(self._key) is None:
            self._host.pin(self._key, opened[0])
        return opened
