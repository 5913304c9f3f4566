"""grpc.aio against a gRPC server of its own, with bytes for messages."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import grpc.aio

from bench.grpc_server import method_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator


class GrpcClient:
    """A channel for each origin, and a callable for each method."""

    def __init__(self) -> None:
        self._channels: dict[str, Any] = {}
        self._calls: dict[str, tuple[Any, bytes]] = {}

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Returns the answer to one message."""
        call, _ = self._calls.get(url) or self._prepare(url, "unary_unary")
        reply: bytes = await call(body)
        return reply

    @contextlib.asynccontextmanager
    async def chunks(
        self, method: str, url: str, body: bytes = b""
    ) -> AsyncIterator[AsyncIterable[bytes]]:
        """Gives the iterator over the messages of the answer."""
        begin, query = self._calls.get(url) or self._prepare(url, "unary_stream")
        call = begin(query)
        try:
            yield call
        finally:
            call.cancel()  # nothing, if it is over

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """Yields the messages of the answer."""
        async with self.chunks(method, url, body) as messages:
            async for message in messages:
                yield message

    async def close(self) -> None:
        """Closes all connections."""
        for channel in self._channels.values():
            await channel.close()

    def _prepare(self, url: str, kind: str) -> tuple[Any, bytes]:
        parts = urlsplit(url)
        if parts.netloc not in self._channels:
            self._channels[parts.netloc] = grpc.aio.insecure_channel(parts.netloc)
        call = getattr(self._channels[parts.netloc], kind)(method_of(parts.path))
        self._calls[url] = (call, parts.query.encode())
        return self._calls[url]


async def open_client(in_flight: int) -> GrpcClient:
    """Makes the client."""
    return GrpcClient()
