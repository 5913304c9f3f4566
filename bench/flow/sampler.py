"""What the windows of a client of ours are, many times a second.

There is no public view of them: this reads the client's own objects, and changes nothing.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.flow.record import Points
    from dynamo_h2 import HttpRequestClient
    from dynamo_h2.transport.protocol import ClientProtocol

EVERY: Final = 0.02  # seconds
FIGURES: Final = ("window", "connection window", "granted", "unread", "rtt")


def protocols(client: HttpRequestClient) -> Iterator[ClientProtocol]:
    """Yields the open connections of a client."""
    pool = client._pool
    if pool is not None:
        yield from pool._open


def look(protocol: ClientProtocol) -> dict[str, float]:
    """Returns the figures of one connection, in bytes and seconds."""
    connection = protocol.connection
    whole = connection._engine.connection_receive_window
    streams = connection.streams.values()
    credit: Any = getattr(connection, "_credit", None)
    target = getattr(credit, "_target", None)
    if target is None:
        target = connection._engine.local_settings.initial_window_size
    return {
        "window": float(target),
        "connection window": float(whole.max_window_size),
        "granted": float(whole.current_window_size),
        "unread": float(sum(stream.unread for stream in streams)),
        "rtt": connection.rtt or 0.0,
    }


class Sampler:
    """Looks at the first connection of a client until it is stopped.

    Args:
        client: one of ours, or another, of which nothing is known.
        begun: the moment that counts as 0, in seconds of the monotonic clock.
    """

    def __init__(self, client: object, begun: float) -> None:
        self._client = cast("HttpRequestClient | None", getattr(client, "_client", None))
        self._begun = begun
        self.lines: dict[str, Points] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begins to look, if it is a client that can be looked at."""
        if type(self._client).__module__.startswith("dynamo_h2"):
            self.lines = {name: [] for name in FIGURES}
            self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stops."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        assert self._client is not None
        while True:
            for protocol in protocols(self._client):
                at = monotonic() - self._begun
                for name, value in look(protocol).items():
                    self.lines[name].append((at, value))
                break
            await asyncio.sleep(EVERY)
